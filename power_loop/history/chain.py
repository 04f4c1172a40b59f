"""A session's records in words: what was decided, by whom, and what went otherwise than planned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from llm_client.types import StopReason, ToolResult
from power_loop.events import Stamped, is_record
from power_loop.history.explanation import Step, StepKind
from power_loop.history.words import amount, clock, counted, cut, lasted
from power_loop.hooks import POINTS
from power_loop.session.outcome import Crashed, status_of
from power_loop.session.records import (
    CallAnswered,
    CallWaiting,
    Decided,
    ErrorInfo,
    Forked,
    MessageAppended,
    ModelAsked,
    ModelEnded,
    Purpose,
    Recalled,
    Record,
    Rewound,
    RunClosed,
    RunOpened,
    Settlement,
    ToolSettled,
    ToolStarted,
    ViewChanged,
)
from power_loop.session.view import POLICY_META

__all__ = ["Chain", "decider", "told_error"]

_Told = tuple[StepKind, str] | tuple[StepKind, str, str]

_POINTS = frozenset([point.name for point in POINTS])
_PLAIN = (StopReason.END, StopReason.TOOL_CALLS)


def decider(decided: Decided) -> str:
    """Who has decided: `hook tool.before guard`, `policy:RequireApproval at tool.before`."""
    at, by = cut(decided.at), cut(decided.by)
    if not by:
        return at
    if decided.at not in _POINTS:
        return f"{at} ({by})"
    # A policy has a handler of its own for rounds, which `at` says already.
    policy = by.startswith("policy:")
    return f"{by.removesuffix(':round')} at {at}" if policy else f"hook {at} {by}"


def told_error(error: ErrorInfo) -> str:
    """An error with its status, once: `ServerError (503): try later`."""
    message = cut(error.message)
    known = error.status is None or str(error.status) in message
    status = "" if known else f" ({error.status})"
    return f"{cut(error.type)}{status}: {message}" if message else f"{cut(error.type)}{status}"


class Chain:
    """The steps of a session, while its records are read from the first one on.

    Attributes:
        steps: what has been told so far.
        below: how sessions below this one stand, by id; empty for those that nobody knows.
        names: the tools of calls, by call id.
        waits: what calls have waited for, by token.
        opened_at: when the newest run opened.
        asked: the model call that is under way, and since when.
        failed: the one that had failed just before, and when.
        doing: what the newest run was doing when its process died.
    """

    def __init__(self, below: Mapping[str, str]) -> None:
        self.below = below
        self.steps: list[Step] = []
        self.names: dict[str, str] = {}
        self.waits: dict[str, CallWaiting] = {}
        self.opened_at = 0.0
        self.asked: tuple[float, ModelAsked] | None = None
        self.failed: tuple[float, ModelAsked] | None = None
        self.doing = ""

    def see(self, each: Stamped, doing: str) -> None:
        """Takes the next record in; `doing` says what a run was doing that it ends."""
        self.doing = doing
        record = each.event
        assert is_record(record)
        tell = _TELL.get(type(record))
        told: _Told | None = None if tell is None else tell(self, record, each.at)
        if told is not None:
            call_id = told[2] if len(told) == 3 else ""
            self.steps.append(Step(each.seq, each.at, each.round, told[0], told[1], call_id))

    def tool(self, call_id: str) -> str:
        """The tool of a call, as it is told."""
        return cut(self.names.get(call_id) or "?", 60)


# ── runs ──────────────────────────────────────────────────────────────────────────────────────────


def _opened(c: Chain, record: RunOpened, at: float) -> _Told:
    c.opened_at, c.asked, c.failed = at, None, None
    if record.resumes is not None:
        text = f"run {record.run} carries {record.resumes} on"
    else:
        text = f"run {record.run} opened with {counted(len(record.input), 'message')}"
    if record.parent is not None:
        session, call = record.parent
        text += f", for call {cut(call)} of session {cut(session)}"
    limits = ", ".join([f"{cut(n)} {amount(n, v)}" for n, v in record.limits.items()])
    return "run", f"{text}; limits: {limits}" if limits else text


def _closed(c: Chain, record: RunClosed, at: float) -> _Told:
    text = f"run {record.run} ended {status_of(record.outcome)}, "
    text += f"{lasted(c.opened_at, at)} after it had opened"
    if isinstance(record.outcome, Crashed):
        text += f", while {c.doing}"
        c.asked = None
    return "end", text


def _rewound(_c: Chain, record: Rewound, _: float) -> _Told:
    return "history", f"the session was rewound to what it was after record {record.at}"


def _forked(c: Chain, record: Forked, _: float) -> _Told:
    c.asked = None
    source = cut(record.source)
    return "history", f"all before is a copy of session {source}, to its record {record.at}"


# ── the model ─────────────────────────────────────────────────────────────────────────────────────


def _model_asked(c: Chain, record: ModelAsked, at: float) -> _Told | None:
    c.asked = at, record
    if record.purpose:
        return None
    before, c.failed = c.failed, None
    if before is None or before[1].round != record.round:
        return None
    if before[1].model != record.model:
        return "model", f"model {cut(record.model)} is asked in place of {cut(before[1].model)}"
    return "model", f"model {cut(record.model)} is asked again, {lasted(before[0], at)} later"


def _model_ended(c: Chain, record: ModelEnded, at: float) -> _Told:
    asked, c.asked = c.asked, None
    model = "?" if asked is None else cut(asked[1].model)
    took = "" if asked is None else f" after {lasted(asked[0], at)}"
    void = "; the text that had arrived is void" if record.partial else ""
    if asked is not None and asked[1].purpose:
        return "model", _aside_ended(asked[1], record, took)
    match record.status:
        case "ok":
            return "model", f"model {model} answered{took}, {_used(record)}{_stopped(record)}"
        case "failed":
            if asked is not None:
                c.failed = at, asked[1]
            why = "" if record.error is None else f": {told_error(record.error)}"
            return "model", f"model {model} failed{took}{why}{void}"
        case "cancelled":
            return "model", f"the call of model {model} was stopped{took}"
        case _:
            return "model", f"nobody saw how the call of model {model} ended{void}"


def _aside_ended(asked: ModelAsked, record: ModelEnded, took: str) -> str:
    what = f"model {cut(asked.model)}, asked for {_PURPOSES[asked.purpose]},"
    match record.status:
        case "ok":
            return f"{what} answered{took}, {_used(record)}"
        case "failed":
            why = "" if record.error is None else f": {told_error(record.error)}"
            return f"{what} failed{took}{why}"
        case "cancelled":
            return f"{what} was not waited for to its end"
        case _:
            return f"{what} was under way when its process died"


# ── messages and the view ─────────────────────────────────────────────────────────────────────────


def _message(c: Chain, record: MessageAppended, _: float) -> _Told | None:
    message = record.message
    c.names.update({call.id: call.name for call in message.tool_calls})
    if message.role == "assistant":
        if (message.meta or {}).get("interrupted"):
            return "message", "the answer was broken off by a message that could not wait"
        return None
    text = cut(message.text, 80)
    if not record.item:
        policy = (message.meta or {}).get(POLICY_META)
        if policy is not None:
            return "decision", f"policy:{cut(policy)} told the model: {text}"
        return "message", f"a {message.role} message was added by a hook or the loop: {text}"
    when = " that had waited for the end" if record.when_idle else ""
    return "message", f"a message{when} came in: {text}"


def _recalled(_c: Chain, record: Recalled, _: float) -> _Told:
    return "view", f"memory brought up {counted(len(record.messages), 'message')}"


def _view(_c: Chain, record: ViewChanged, _: float) -> _Told:
    told: list[str] = []
    if record.cut is not None:
        instead = "" if record.note is None else "; a note takes its place"
        told.append(f"what stands before message {cut(record.cut)} left the view{instead}")
    if record.replaced:
        told.append(f"{counted(len(record.replaced), 'message')} have a shorter form")
    what = "; ".join(told) or "the view changed"
    if record.by:
        sizes = f"from {record.before:,} tokens to {record.after:,}"
        return "view", f"compaction by {cut(record.by)} took the prompt {sizes}: {what}"
    return "view", what


# ── calls ─────────────────────────────────────────────────────────────────────────────────────────


def _started(c: Chain, record: ToolStarted, _: float) -> _Told | None:
    asked = c.names.get(record.call_id)
    c.names[record.call_id] = record.name
    name = cut(record.name, 60)
    if record.attempt > 1:
        return "tool", f"tool {name} is run again, attempt {record.attempt}", record.call_id
    if asked is not None and asked != record.name:
        return "tool", f"a hook had tool {name} run in place of {cut(asked)}", record.call_id
    return None


def _settled(c: Chain, record: ToolSettled, _: float) -> _Told | None:
    (result,) = record.message.parts
    assert isinstance(result, ToolResult)
    name = c.tool(result.call_id)
    if record.how == "finished":
        # What it gave is for the model; here it may be somebody's secret.
        failed = f"tool {name} ended with an error"
        return ("tool", failed, result.call_id) if result.is_error else None
    text = f"tool {name} {_SETTLED[record.how]}"
    if record.how == "not_run":
        text += f": {cut(result.text.removeprefix('[not run]'))}"
    return "tool", text, result.call_id


def _waiting(c: Chain, record: CallWaiting, _: float) -> _Told:
    c.waits[record.token] = record
    name, token = c.tool(record.call_id), cut(record.token)
    by = f" by {cut(record.by)}" if record.by else ""
    why = f": {cut(record.reason)}" if record.reason else ""
    match record.kind:
        case "approval":
            until = clock(record.expires or 0.0)
            text = f"approval {token} of tool {name} is asked for{by}{why}"
            return "approval", f"{text}; until {until}" if until else text, record.call_id
        case "input":
            text = f"question {token} is asked{by} for tool {name}{why}"
            return "question", text, record.call_id
        case _:
            return "child", f"session {token} was opened by tool {name}", record.call_id


def _answered(c: Chain, record: CallAnswered, _: float) -> _Told:
    waited = c.waits.get(record.token)
    kind = "approval" if waited is None else waited.kind
    token, call_id = cut(record.token), record.call_id
    if kind == "child":
        used = "" if record.spent is None else f", having used {record.spent.tokens:,} tokens"
        how = f"ended {c.below[record.token]}" if record.token in c.below else "came to its end"
        return "child", f"session {token} {how}{used}", call_id
    by = f" by {cut(record.by)}" if record.by else ""
    note = f": {cut(record.note)}" if record.note else ""
    if kind == "input":
        return "question", f"question {token} was answered{by}{note}", call_id
    edited = ", with other arguments" if record.arguments else ""
    what = _ANSWERED.get(record.answer, cut(record.answer))
    return "approval", f"approval {token} {what}{edited}{by}{note}", call_id


def _decided(_c: Chain, record: Decided, _: float) -> _Told:
    why = f": {cut(record.reason)}" if record.reason else ""
    return "decision", f"{decider(record)}: {cut(record.what)}{why}", record.call_id


def _used(ended: ModelEnded) -> str:
    tokens = (ended.usage.input_tokens, ended.usage.output_tokens)
    sent, given = ("?" if each is None else f"{each:,}" for each in tokens)
    cost = f", {amount('cost', ended.cost)}" if ended.cost else ""
    return f"{sent} tokens in, {given} out{cost}"


def _stopped(ended: ModelEnded) -> str:
    reason = ended.stop_reason
    if reason is None or reason in _PLAIN:
        return ""
    return f"; it stopped for {reason.value}"


_PURPOSES: Mapping[Purpose, str] = MappingProxyType(
    {
        "compaction": "a summary of what was to leave the view",
        "memory": "what is worth remembering",
        "output": "a summary of a tool's output",
    }
)
_SETTLED: Mapping[Settlement, str] = MappingProxyType(
    {
        "interrupted": "was stopped before it had finished",
        "not_run": "was not run",
        "unknown": "was running when its process died: its outcome is unknown",
        "denied": "was not run: a person did not allow it",
        "skipped": "was not run: something else answered in its place",
    }
)
_ANSWERED: Mapping[str, str] = MappingProxyType(
    {"approve": "was given", "deny": "was denied", "expired": "expired"}
)

_TELL: Mapping[type[Record], Callable[[Chain, Any, float], _Told | None]] = MappingProxyType(
    {
        RunOpened: _opened,
        RunClosed: _closed,
        Rewound: _rewound,
        Forked: _forked,
        ModelAsked: _model_asked,
        ModelEnded: _model_ended,
        MessageAppended: _message,
        Recalled: _recalled,
        ViewChanged: _view,
        ToolStarted: _started,
        ToolSettled: _settled,
        CallWaiting: _waiting,
        CallAnswered: _answered,
        Decided: _decided,
    }
)
