"""One value of every type that is stored or published, with each field set to something."""

from __future__ import annotations

from llm_client.types import (
    Audio,
    File,
    Image,
    Message,
    Opaque,
    OutputSchema,
    Seal,
    StopReason,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
)
from power_loop.events import (
    CompactionFailed,
    CompactionRejected,
    DeltasDropped,
    FallbackTaken,
    HookFailed,
    MemoryFailed,
    PrefixChanged,
    ReconcileFailed,
    ResponderFailed,
    RetryScheduled,
    RoundEnded,
    RoundStarted,
    SpillFailed,
    Stamped,
    TextDelta,
    TextRepaired,
    ThinkingDelta,
    ToolCallDelta,
    ToolEmitted,
    ToolLeftBehind,
    ToolProgress,
    Transient,
)
from power_loop.session.outcome import (
    ApprovalDenied,
    ApprovalExpired,
    AwaitingApproval,
    BudgetExhausted,
    Cancelled,
    Completed,
    Crashed,
    Degraded,
    Failed,
    GoalReached,
    NoProgress,
    Outcome,
    PendingTools,
    PlanFailed,
    RoundLimit,
    Stopped,
    WaitingForInput,
)
from power_loop.session.records import (
    CallAnswered,
    CallWaiting,
    Decided,
    ErrorInfo,
    Forked,
    MessageAppended,
    ModelAsked,
    ModelConfigured,
    ModelEnded,
    Recalled,
    Record,
    Rewound,
    RunClosed,
    RunOpened,
    ToolSettled,
    ToolStarted,
    ViewChanged,
)
from power_loop.session.spent import Spent

__all__ = ["OUTCOMES", "RECORDS", "STAMPED", "TRANSIENTS"]

_PARTS = (
    Text("Grüße 🎈"),
    Thinking("hm", Seal("anthropic", "sig", "th_1", "summary"), redacted=True),
    Image(b"\x89PNG", None, "image/png", "low"),
    Audio(b"RIFF", "wav", "au1", "hello"),
    File(b"%PDF", None, "f1", "a.pdf", "application/pdf"),
    Opaque("openai", "reasoning", '{"id":"rs_1"}'),
)

RECORDS: dict[str, Record] = {
    "run_opened": RunOpened(
        "r1",
        (Message("user", _PARTS, id="m1", name="ada", meta={"via": "cli"}),),
        None,
        "key-1",
        ("parent", "c0"),
        {"rounds": 24.0},
    ),
    "run_opened, resumed": RunOpened("r2", resumes="r1"),
    "model_configured": ModelConfigured(
        "gpt-5",
        "Be kind.",
        (ToolSpec("read", "Reads.", {"type": "object"}, True),),
        False,
        4096,
        0.5,
        OutputSchema("answer", {"type": "integer"}, False, "a number"),
        "low",
        "5m",
        150_000,
    ),
    "message_appended, steered": MessageAppended(
        Message("user", (Text("wait"),), id="m4"), item="i1", when_idle=True
    ),
    "message_appended": MessageAppended(
        Message("assistant", (ToolCall("c1", "read", '{"path":"a"}'),), id="m2"), "t1"
    ),
    "model_asked": ModelAsked("t1", 1, "gpt-5", 4096, "abc123", 1024, 0.25, "compaction"),
    "model_ended": ModelEnded(
        "t1",
        "ok",
        Usage(10, 20, 3, 4, 5, 6),
        True,
        StopReason.TOOL_CALLS,
        "tool_calls",
        "gpt-5-2026",
        cost=0.125,
    ),
    "model_ended, failed": ModelEnded(
        "t2",
        "failed",
        measured=False,
        partial="so f",
        error=ErrorInfo("ServerError", "it broke (status 500)", True, 500, 1.5),
    ),
    "tool_started": ToolStarted("c1", "read", '{"path":"a"}', "s1/c1", "abc123", 2),
    "tool_settled": ToolSettled(
        Message("tool", (ToolResult("c1", (Text("out"),), True),), id="c1.result"), "interrupted"
    ),
    "call_waiting": CallWaiting(
        "c1",
        "approval",
        "k1",
        "it deletes",
        "remove",
        '{"path":"a"}',
        "abc123",
        "guard",
        "v2",
        "world1",
        1700000000.0,
        1700003600.0,
        True,
    ),
    "call_waiting, for an answer": CallWaiting(
        "c3", "input", "k3", "which one?", by="pick", schema='{"type":"integer"}'
    ),
    "call_waiting, for a child": CallWaiting("c2", "child", "s1/c2"),
    "call_answered": CallAnswered("c1", "k1", "approve", "ada", "go on", '{"path":"b"}', "def456"),
    "call_answered, by a child": CallAnswered(
        "c2", "s1/c2", "", spent=Spent(1, 2, 3, 4, 5, 6, 0.5, 7.5, 6.5)
    ),
    "decided": Decided("tool.before", "guard", "skip", "not today", "c1"),
    "recalled": Recalled((Message("user", (Text("you like tea"),), id="m3"),), front=True),
    "view_changed": ViewChanged(
        "m9",
        Message("user", (Text("so far"),), id="m8", name="compact_note"),
        {"m9": (Text("short"),)},
        ("m1", "m4"),
        "summary",
        9000,
        3000,
    ),
    "rewound": Rewound(7, 1, (Message("user", (Text("so far"),), id="m8", name="compact_note"),)),
    "forked": Forked("s0", 12),
    "run_closed": RunClosed("r1", Completed("done"), 2.5, 1.5, Spent(1, 2)),
}

OUTCOMES: dict[str, Outcome] = {
    "completed": Completed("done"),
    "goal_reached": GoalReached("no test fails"),
    "stopped": Stopped("by a hook"),
    "round_limit": RoundLimit(24, "half done"),
    "budget_exhausted": BudgetExhausted("run.tokens", "9 of 10 are used"),
    "no_progress": NoProgress("same call three times"),
    "plan_failed": PlanFailed("no plan"),
    "awaiting_approval": AwaitingApproval(("k1", "k2")),
    "approval_denied": ApprovalDenied("k1"),
    "approval_expired": ApprovalExpired("k1"),
    "waiting_for_input": WaitingForInput(("k1",)),
    "pending_tools": PendingTools(("c1",)),
    "cancelled": Cancelled("by the user"),
    "degraded": Degraded("ServerError: 503", 3),
    "failed": Failed("ValueError", "bad"),
    "crashed": Crashed(),
}

TRANSIENTS: dict[str, Transient] = {
    "round_started": RoundStarted(1),
    "round_ended": RoundEnded(1, Usage(10, 20)),
    "text_delta": TextDelta("t1", "Hel"),
    "thinking_delta": ThinkingDelta("t1", "hm"),
    "tool_call_delta": ToolCallDelta("t1", 0, "c1", "read", '{"pa'),
    "tool_emitted": ToolEmitted("c1", "saved", {"path": "a.txt"}),
    "tool_progress": ToolProgress("c1", "halfway", 0.5, {"lines": 7}),
    "retry_scheduled": RetryScheduled("t1", 0.5, "ServerError", "it broke"),
    "fallback_taken": FallbackTaken("m", "n", "ServerError", "it broke"),
    "hook_failed": HookFailed("llm.before", "audit", "ValueError", "bad"),
    "tool_left_behind": ToolLeftBehind("c1", "pay"),
    "reconcile_failed": ReconcileFailed("c1", "pay", "TimeoutError", "no answer"),
    "spill_failed": SpillFailed("c1", "read", "StoreFull", "no space is left"),
    "responder_failed": ResponderFailed("c1", "k1", "AnswerRefused", "another token"),
    "text_repaired": TextRepaired("tool", 1, 2),
    "prefix_changed": PrefixChanged("compaction", "messages[3]"),
    "compaction_rejected": CompactionRejected("summary", "the summary is empty"),
    "compaction_failed": CompactionFailed("nothing may leave the view"),
    "memory_failed": MemoryFailed("recall", "NoteMemory", "TimeoutError", "it took too long"),
    "deltas_dropped": DeltasDropped(17),
}

STAMPED: dict[str, Stamped] = {
    "a record": Stamped("s1", 7, 0, "s1", 9, 1700000000.25, "r1", 2, RECORDS["call_answered"]),
    "a transient event": Stamped(
        "s1/c1", 7, 3, "s1", 0, 1700000000.5, "r1", 2, TRANSIENTS["text_delta"]
    ),
}
