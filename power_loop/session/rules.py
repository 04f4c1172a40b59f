"""What makes a record illegal in a phase that knows it: one function a record.

Each answers with the reason, or with None when the record is legal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from llm_client.types import Message, ToolResult
from power_loop.session.outcome import (
    ApprovalExpired,
    AwaitingApproval,
    BudgetExhausted,
    Completed,
    Crashed,
    KeepsCallsOpen,
    Outcome,
    PendingTools,
    WaitingForInput,
)
from power_loop.session.records import (
    CallAnswered,
    CallWaiting,
    Decided,
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
from power_loop.session.state import Phase, State, result_id
from power_loop.session.view import COMPACT_NOTE, rewind_fault, shape_fault, view_change_fault

__all__ = ["fault"]


def fault(state: State, record: Record) -> str | None:
    """Why `record` is illegal now, beyond what its phase says; None if it is legal."""
    return _CHECKS[type(record)](state, record)


def _check_opened(s: State, r: RunOpened) -> str | None:
    if not r.run or s.knows(r.run):
        return f"the run id {r.run!r} is empty or was used before"
    if r.resumes is not None:
        if r.input:
            return "a resumed run takes no input"
        if r.resumes != s.last_run:
            return f"it resumes {r.resumes!r}, but the last run is {s.last_run!r}"
        if not s.open_calls and not _can_go_on(s):
            return "the last run has nothing to resume"
        return None
    if s.open_calls:
        return "calls are open: it must resume the last run"
    if not r.input:
        return "a run needs input, or a run to resume"
    if any(message.role not in ("user", "system") for message in r.input):
        return "input consists of user and system messages"
    return _entry_fault(s, *r.input)


def _can_go_on(s: State) -> bool:
    return s.last_outcome is not None and s.last_outcome.resumable


def _check_configured(s: State, r: ModelConfigured) -> str | None:
    if s.asked is not None:
        return "a model call is under way"
    return "it is configured like this already" if r == s.configured else None


def _check_message(s: State, r: MessageAppended) -> str | None:
    if s.asked is not None:
        return "a model call is under way"
    if r.message.role == "assistant":
        if s.tail == "assistant":
            return "an assistant message follows an assistant message"
        if r.attempt is not None and r.attempt != s.last_attempt:
            return f"it is of attempt {r.attempt!r}, the last one is {s.last_attempt!r}"
        if r.attempt is not None and r.message.tool_calls and not s.last_attempt_ok:
            return f"it has calls, but its attempt {r.attempt!r} did not end well"
    elif r.message.role not in ("user", "system"):
        return f"a message of role {r.message.role!r} cannot be appended"
    return _entry_fault(s, r.message)


def _check_asked(s: State, r: ModelAsked) -> str | None:
    if s.asked is not None:
        return "a model call is under way"
    if r.round not in (s.round, s.round + 1):
        return f"round {r.round} does not follow round {s.round}"
    if r.purpose and r.round != s.round:
        return f"a call for {r.purpose} opens no round"
    if s.phase is Phase.SETTLE and not r.purpose:
        return "the model has answered"
    if not r.attempt or s.knows(r.attempt):
        return f"the attempt id {r.attempt!r} is empty or was used before"
    return None


def _check_ended(s: State, r: ModelEnded) -> str | None:
    if s.asked is None or s.asked.attempt != r.attempt:
        return f"no attempt {r.attempt!r} is under way"
    return None


def _check_started(s: State, r: ToolStarted) -> str | None:
    call = s.open_calls.get(r.call_id)
    if call is None:
        return f"no call {r.call_id!r} is open"
    # From `started`: the tool failed and is tried again within its run.
    if call.state not in ("asked", "granted", "started", "in_doubt"):
        return f"the call is {call.state}"
    if r.attempt != call.attempt + 1:
        return f"attempt {r.attempt} does not follow attempt {call.attempt}"
    before = call.started
    if before is not None and _what_runs(before) != _what_runs(r):
        return "another attempt runs the same tool with the same arguments and key"
    return None


def _what_runs(r: ToolStarted) -> tuple[str, str, str]:
    return r.name, r.arguments, r.idempotency_key


def _check_settled(s: State, r: ToolSettled) -> str | None:
    match r.message.parts:
        case (ToolResult(call_id=call_id),) if r.message.role == "tool":
            pass
        case _:
            return "the message is not one tool result"
    call = s.open_calls.get(call_id)
    if call is None:
        return f"no call {call_id!r} is open"
    if r.how == "finished" and not call.may_have_finished:
        return f"a call that is {call.state} cannot have finished"
    if r.how in ("interrupted", "unknown") and not call.begun:
        return f"a call that is {call.state} was not interrupted"
    if r.how in ("not_run", "denied", "skipped") and call.begun:
        return f"a call that is {call.state} has begun, so it was not {r.how}"
    id = r.message.id
    # Its own has been kept for it since the call was made.
    if id != result_id(call_id) and (not id or s.knows(id)):
        return f"the message id {id!r} is empty or was used before"
    return None


_MAY_WAIT: Mapping[str, tuple[str, ...]] = {
    # One in doubt may wait for leave to be run again, one with a leave for another.
    "approval": ("asked", "granted", "in_doubt"),
    # Before it has begun, a hook asks in place of the tool.
    "input": ("asked", "started"),
    "child": ("started",),
}


def _check_waiting(s: State, r: CallWaiting) -> str | None:
    call = s.open_calls.get(r.call_id)
    if call is None:
        return f"no call {r.call_id!r} is open"
    tried_again = r.kind == "approval" and call.state == "started" and call.failed
    if call.state not in _MAY_WAIT[r.kind] and not tried_again:
        return (
            f"a call waits for {r.kind} from {' or '.join(_MAY_WAIT[r.kind])}; it is {call.state}"
        )
    if not r.token or s.knows(r.token):
        return f"the token {r.token!r} is empty or was used before"
    return None


def _check_answered(s: State, r: CallAnswered) -> str | None:
    call = s.open_calls.get(r.call_id)
    if call is None:
        return f"no call {r.call_id!r} is open"
    if call.state != "waiting" or call.token != r.token:
        return f"the call does not wait for {r.token!r}"
    if call.kind == "approval" and r.answer not in ("approve", "deny", "expired"):
        return f"{r.answer!r} is no answer to a request for approval"
    return None


def _check_decided(s: State, r: Decided) -> str | None:
    if s.asked is not None:
        return "a model call is under way"
    return None if r.at and r.what else "it says neither where nor what was decided"


def _check_recalled(s: State, r: Recalled) -> str | None:
    if s.asked is not None:
        return "a model call is under way"
    if any(message.role not in ("user", "system") for message in r.messages):
        return "memory brings up user and system messages"
    return next(filter(None, map(shape_fault, r.messages)), None)


def _check_view(s: State, r: ViewChanged) -> str | None:
    if s.asked is not None:
        return "a model call is under way"
    if r.note is not None and (not r.note.id or s.knows(r.note.id)):
        return f"the message id {r.note.id!r} is empty or was used before"
    return view_change_fault(s.messages, r)


def _check_rewound(s: State, r: Rewound) -> str | None:
    if r.at < 1:
        return f"there is no record {r.at}"
    unknown = [message.id for message in r.restored if not s.knows(message.id)]
    if unknown:
        return f"the message {unknown[0]!r} was never in the session"
    return rewind_fault(s.messages, r)


def _check_forked(_: State, r: Forked) -> str | None:
    if not r.source or r.at < 1:
        return f"record {r.at} of session {r.source!r} cannot have been copied"
    return None


def _check_closed(s: State, r: RunClosed) -> str | None:
    outcome = r.outcome
    if r.run != s.run:
        return f"the open run is {s.run!r}"
    if isinstance(outcome, Crashed):
        return None
    if s.asked is not None:
        return "a model call is under way"
    if isinstance(outcome, Completed) and s.phase is not Phase.SETTLE:
        return "a run completes with an answer, from phase SETTLE"
    if isinstance(outcome, BudgetExhausted):
        # What a session below could not pay for is carried on with more.
        below = all(c.kind == "child" and c.state == "waiting" for c in s.open_calls.values())
        return None if below else "calls are open that are not worked on in a session below"
    if not isinstance(outcome, KeepsCallsOpen):
        return "calls are open" if s.open_calls else None
    return _suspension_fault(s, outcome)


def _suspension_fault(s: State, outcome: Outcome) -> str | None:
    if not s.open_calls:
        return "no call is open"
    states = {call.state for call in s.open_calls.values()}
    if isinstance(outcome, PendingTools):
        if not outcome.call_ids or not set(outcome.call_ids) <= set(s.open_calls):
            return "its calls are not the open ones"
        return "a call is running" if states & {"started", "answered"} else None
    if isinstance(outcome, ApprovalExpired):
        return "a call is running" if "started" in states else None
    if not isinstance(outcome, AwaitingApproval | WaitingForInput):
        return None
    waiting = {call.token for call in s.open_calls.values() if call.state == "waiting"}
    if any(call.kind == "child" for call in s.open_calls.values() if call.state == "waiting"):
        # The child knows what it waits for.
        waiting |= set(outcome.tokens)
    if not outcome.tokens or not set(outcome.tokens) <= waiting:
        return "its tokens are not what the calls wait for"
    return None if states <= {"waiting", "in_doubt"} else "a call neither waits nor is in doubt"


def _entry_fault(s: State, *messages: Message) -> str | None:
    seen: set[str] = set()
    for message in messages:
        if message.name == COMPACT_NOTE:
            return f"the name {COMPACT_NOTE!r} is kept for the note of a changed view"
        why = shape_fault(message)
        if why is not None:
            return why
        for id in _ids(message):
            if not id:
                return "an id is empty"
            if id in seen or s.knows(id):
                return f"the id {id!r} was used before"
            seen.add(id)
    return None


def _ids(message: Message) -> Iterator[str]:
    yield message.id
    for call in message.tool_calls:
        yield call.id
        # Its result will need an id as well; without one, a run could not be closed.
        yield result_id(call.id) if call.id else ""


_CHECKS: Mapping[type[Record], Callable[[State, Any], str | None]] = {
    RunOpened: _check_opened,
    ModelConfigured: _check_configured,
    MessageAppended: _check_message,
    ModelAsked: _check_asked,
    ModelEnded: _check_ended,
    ToolStarted: _check_started,
    ToolSettled: _check_settled,
    CallWaiting: _check_waiting,
    CallAnswered: _check_answered,
    Decided: _check_decided,
    Recalled: _check_recalled,
    ViewChanged: _check_view,
    Rewound: _check_rewound,
    Forked: _check_forked,
    RunClosed: _check_closed,
}
