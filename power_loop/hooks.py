"""Every hook point, its context and what a handler may answer. Reading this is reading the loop.

A handler is a function, synchronous or not, of one frozen context. It answers with None (go on),
with `replace(context, …)` where the point has fields that may be rewritten, or with a directive
where the point has some. Handlers run in their order, each seeing the context the one before it
left; the first directive wins. A point without handlers costs nothing: no context is built.

    send ─ session.start
      └─ round ─ round.start ─ memory.recalled ─ compact.before ─ compact.after
           │    llm.before ─ (attempts) ─ llm.error │ llm.after
           │    round.decide ─ tools.batch.before
           │       └─ each call: tool.before ─ approval.requested │ tool.error ─ tool.after
           │    tools.batch.after
           └─── round.end
         complete.decide ─ session.end                    message.append: for every message
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, Literal

from msgspec import Struct
from msgspec.structs import replace
from typing_extensions import TypeVar

from llm_client.errors import LLMError
from llm_client.types import LLMRequest, LLMResponse, Message, ToolCall, ToolResult, Usage
from power_loop.directives import (
    Break,
    Continue,
    Diverted,
    HookEnding,
    RequestInput,
    Retry,
    ShortCircuit,
    Skip,
    Suspend,
)
from power_loop.session.outcome import Outcome
from power_loop.session.spent import Spent

__all__ = [
    "APPROVAL_REQUESTED",
    "COMPACT_AFTER",
    "COMPACT_BEFORE",
    "COMPLETE_DECIDE",
    "LLM_AFTER",
    "LLM_BEFORE",
    "LLM_ERROR",
    "MEMORY_RECALLED",
    "MESSAGE_APPEND",
    "POINTS",
    "ROUND_DECIDE",
    "ROUND_END",
    "ROUND_START",
    "SESSION_END",
    "SESSION_START",
    "TOOLS_BATCH_AFTER",
    "TOOLS_BATCH_BEFORE",
    "TOOL_AFTER",
    "TOOL_BEFORE",
    "TOOL_ERROR",
    "ApprovalRequested",
    "Break",
    "CompactAfter",
    "CompactBefore",
    "CompleteDecide",
    "Continue",
    "Diverted",
    "HookContext",
    "HookEnding",
    "HookPoint",
    "LlmAfter",
    "LlmBefore",
    "LlmErrorRaised",
    "MemoryRecalled",
    "MessageAppend",
    "RequestInput",
    "Retry",
    "RoundDecide",
    "RoundEnd",
    "RoundStart",
    "SessionEnd",
    "SessionStart",
    "ShortCircuit",
    "Skip",
    "Suspend",
    "ToolAfter",
    "ToolBefore",
    "ToolErrorRaised",
    "ToolsBatchAfter",
    "ToolsBatchBefore",
    "replace",
]

DepsT = TypeVar("DepsT", default=Any)
C = TypeVar("C")
R = TypeVar("R")


# ── contexts: fields above the line are read-only, those after `# may be rewritten` are not ───────


class HookContext(Struct, Generic[DepsT], frozen=True, kw_only=True):
    """What every handler is told. `deps` is what the caller of `send` passed.

    `depth` is how far the run is below another one, whose call of a sub-agent it works for; 0 for a
    run of its own.
    """

    session_id: str
    run_id: str
    round: int
    deps: DepsT
    depth: int = 0


class SessionStart(HookContext[DepsT], frozen=True, kw_only=True):
    """A run has opened. Messages added to `append` are durable."""

    messages: Sequence[Message]
    append: tuple[Message, ...] = ()  # may be rewritten


class SessionEnd(HookContext[DepsT], frozen=True, kw_only=True):
    """A run has closed with `outcome`: it is in the store."""

    outcome: Outcome
    final_text: str
    messages: Sequence[Message]


class RoundStart(HookContext[DepsT], frozen=True, kw_only=True):
    """A round begins. Messages added to `append` are durable. A skipped round counts.

    `spent` is what has been used since the task's input, `polling` the names of the tools that say
    that they are called again and again on purpose.
    """

    messages: Sequence[Message]
    spent: Spent = Spent()
    polling: frozenset[str] = frozenset()
    append: tuple[Message, ...] = ()  # may be rewritten


class RoundEnd(HookContext[DepsT], frozen=True, kw_only=True):
    """A round is over. `usage` and `spent` are what has been used since the task's input."""

    response_text: str
    has_tools: bool
    usage: Usage
    spent: Spent = Spent()


class LlmBefore(HookContext[DepsT], frozen=True, kw_only=True):
    """The model is about to be asked. A rewritten request holds for this call and is not stored."""

    request: LLMRequest  # may be rewritten


class LlmAfter(HookContext[DepsT], frozen=True, kw_only=True):
    """The model has answered. Break keeps the answer's text and drops its calls."""

    request: LLMRequest
    response: LLMResponse  # may be rewritten


class LlmErrorRaised(HookContext[DepsT], frozen=True, kw_only=True):
    """A model call has failed for good, after `attempts` attempts. Retry counts once a round."""

    request: LLMRequest
    error: LLMError
    attempts: int


class RoundDecide(HookContext[DepsT], frozen=True, kw_only=True):
    """The model asks for tools. Skip answers every call with its output."""

    tool_calls: tuple[ToolCall, ...]
    assistant_text: str


class CompleteDecide(HookContext[DepsT], frozen=True, kw_only=True):
    """The run is about to end for `reason` (completed, round_limit). `fire_count` counts from 1."""

    reason: str
    final_text: str
    fire_count: int


class ToolsBatchBefore(HookContext[DepsT], frozen=True, kw_only=True):
    """The calls of one answer are about to run. Skip answers every call with its output."""

    tool_calls: tuple[ToolCall, ...]


class ToolsBatchAfter(HookContext[DepsT], frozen=True, kw_only=True):
    """All calls of one answer have settled; `results` are in call order."""

    results: tuple[ToolResult, ...]


class ToolBefore(HookContext[DepsT], frozen=True, kw_only=True):
    """A call is about to run. `name` and `arguments` (JSON text) say what really runs.

    `messages` is the view, with the answer that holds the call at its end; `polling` as in
    `RoundStart`.
    An `attempt` over 1 runs again what had begun when its process died: a rewrite is not taken
    then, and a Skip tells the model that the outcome is unknown.
    """

    call: ToolCall
    name: str  # may be rewritten
    arguments: str  # may be rewritten
    attempt: int = 1
    messages: Sequence[Message] = ()
    polling: frozenset[str] = frozenset()


class ToolAfter(HookContext[DepsT], frozen=True, kw_only=True):
    """A call has run. Break cancels its unfinished siblings and ends the run."""

    call: ToolCall
    name: str
    arguments: str
    result: ToolResult  # may be rewritten


class ToolErrorRaised(HookContext[DepsT], frozen=True, kw_only=True):
    """A tool raised `error`. Skip gives the model its output instead; Retry runs the call again."""

    call: ToolCall
    name: str
    arguments: str
    error: Exception


class CompactBefore(HookContext[DepsT], frozen=True, kw_only=True):
    """The view is about to be compacted: the prompt is too large."""

    messages: Sequence[Message]


class CompactAfter(HookContext[DepsT], frozen=True, kw_only=True):
    """The view has been compacted, by the strategy `by`.

    The tokens are those of the whole prompt, as counted.
    """

    messages: Sequence[Message]
    messages_before: int
    messages_after: int
    by: str = ""
    tokens_before: int = 0
    tokens_after: int = 0


class MessageAppend(HookContext[DepsT], frozen=True, kw_only=True):
    """A message is about to be stored. A rewritten one keeps its id, role, calls and results."""

    message: Message  # may be rewritten


class MemoryRecalled(HookContext[DepsT], frozen=True, kw_only=True):
    """Memory has brought up `recalled`. Skip drops all of it."""

    recalled: tuple[Message, ...]  # may be rewritten


class ApprovalRequested(HookContext[DepsT], frozen=True, kw_only=True):
    """A call waits for an approval; `token` names the request."""

    call: ToolCall
    token: str
    reason: str


# ── points ────────────────────────────────────────────────────────────────────────────────────────


class HookPoint(Generic[C, R]):
    """A place in the loop where handlers run: handlers take a `C` and return an `R` or None.

    `rewrites` are the fields of the context that a handler may change, `directives` the directives
    it may return, `on_error` what a failing handler does unless it was registered otherwise: `skip`
    leaves it out, with an event; `close` gives the directive that forbids.
    """

    __slots__ = ("context", "directives", "name", "on_error", "rewrites")

    def __init__(
        self,
        name: str,
        context: type[C],
        rewrites: tuple[str, ...] = (),
        directives: tuple[type[R], ...] = (),
        on_error: Literal["skip", "close"] = "skip",
    ) -> None:
        self.name = name
        self.context = context
        self.rewrites = rewrites
        self.on_error: Literal["skip", "close"] = on_error
        self.directives: tuple[type[Any], ...] = directives

    def __repr__(self) -> str:
        return f"<hook point {self.name}>"


SESSION_START: HookPoint[SessionStart, SessionStart] = HookPoint(
    "session.start", SessionStart, ("append",)
)
SESSION_END: HookPoint[SessionEnd, None] = HookPoint("session.end", SessionEnd)
ROUND_START: HookPoint[RoundStart, RoundStart | Break | Skip] = HookPoint(
    "round.start", RoundStart, ("append",), (Break, Skip)
)
ROUND_END: HookPoint[RoundEnd, None] = HookPoint("round.end", RoundEnd)
LLM_BEFORE: HookPoint[LlmBefore, LlmBefore | ShortCircuit | Break] = HookPoint(
    "llm.before", LlmBefore, ("request",), (ShortCircuit, Break)
)
LLM_AFTER: HookPoint[LlmAfter, LlmAfter | Break] = HookPoint(
    "llm.after", LlmAfter, ("response",), (Break,)
)
LLM_ERROR: HookPoint[LlmErrorRaised, ShortCircuit | Retry | Break] = HookPoint(
    "llm.error", LlmErrorRaised, (), (ShortCircuit, Retry, Break)
)
ROUND_DECIDE: HookPoint[RoundDecide, Skip | Break] = HookPoint(
    "round.decide", RoundDecide, (), (Skip, Break)
)
COMPLETE_DECIDE: HookPoint[CompleteDecide, Continue] = HookPoint(
    "complete.decide", CompleteDecide, (), (Continue,)
)
TOOLS_BATCH_BEFORE: HookPoint[ToolsBatchBefore, Skip] = HookPoint(
    "tools.batch.before", ToolsBatchBefore, (), (Skip,)
)
TOOLS_BATCH_AFTER: HookPoint[ToolsBatchAfter, None] = HookPoint(
    "tools.batch.after", ToolsBatchAfter
)
TOOL_BEFORE: HookPoint[ToolBefore, ToolBefore | Skip | Suspend | RequestInput | Break] = HookPoint(
    "tool.before",
    ToolBefore,
    ("name", "arguments"),
    (Skip, Suspend, RequestInput, Break),
    on_error="close",
)
TOOL_AFTER: HookPoint[ToolAfter, ToolAfter | Break] = HookPoint(
    "tool.after", ToolAfter, ("result",), (Break,)
)
TOOL_ERROR: HookPoint[ToolErrorRaised, Skip | Retry] = HookPoint(
    "tool.error", ToolErrorRaised, (), (Skip, Retry)
)
COMPACT_BEFORE: HookPoint[CompactBefore, Skip] = HookPoint(
    "compact.before", CompactBefore, (), (Skip,)
)
COMPACT_AFTER: HookPoint[CompactAfter, None] = HookPoint("compact.after", CompactAfter)
MESSAGE_APPEND: HookPoint[MessageAppend, MessageAppend] = HookPoint(
    "message.append", MessageAppend, ("message",)
)
MEMORY_RECALLED: HookPoint[MemoryRecalled, MemoryRecalled | Skip] = HookPoint(
    "memory.recalled", MemoryRecalled, ("recalled",), (Skip,)
)
APPROVAL_REQUESTED: HookPoint[ApprovalRequested, None] = HookPoint(
    "approval.requested", ApprovalRequested
)

POINTS: tuple[HookPoint[Any, Any], ...] = (
    SESSION_START,
    SESSION_END,
    ROUND_START,
    ROUND_END,
    LLM_BEFORE,
    LLM_AFTER,
    LLM_ERROR,
    ROUND_DECIDE,
    COMPLETE_DECIDE,
    TOOLS_BATCH_BEFORE,
    TOOLS_BATCH_AFTER,
    TOOL_BEFORE,
    TOOL_AFTER,
    TOOL_ERROR,
    COMPACT_BEFORE,
    COMPACT_AFTER,
    MESSAGE_APPEND,
    MEMORY_RECALLED,
    APPROVAL_REQUESTED,
)
