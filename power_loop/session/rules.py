"""What makes a record illegal in a phase that knows it: one function a record.

Each answers with the reason, or with None when the record is legal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llm_client.types import Message, ToolResult
from power_loop.session.outcome import (
    AwaitingApproval,
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
    MessageAppended,
    ModelAsked,
    ModelEnded,
    Recalled,
    Record,
    RunClosed,
    RunOpened,
    ToolSettled,
    ToolStarted,
    ViewChanged,
)
from power_loop.session.state import Phase, State
from power_loop.session.view import view_change_fault

__all__ = ["fault"]


def fault(state: State, record: Record) -> str | None:
    """Why `record` is illegal now, beyond what its phase says; None if it is legal."""
    return _CHECKS[type(record)](state, record)


def _check_opened(s: State, r: RunOpened) -> str | None:
    if r.run == s.last_run:
        return f"the run id {r.run!r} was used before"
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
    return _new_ids(s, *r.input)


def _can_go_on(s: State) -> bool:
    return s.last_outcome is not None and s.last_outcome.resumable


def _check_message(s: State, r: MessageAppended) -> str | None:
    if s.asked is not None:
        return "a model call is under way"
    if r.message.role == "assistant":
        if s.tail == "assistant":
            return "an assistant message follows an assistant message"
        if r.attempt is not None and r.attempt != s.last_attempt:
            return f"it is of attempt {r.attempt!r}, the last one is {s.last_attempt!r}"
    elif r.message.role not in ("user", "system"):
        return f"a message of role {r.message.role!r} cannot be appended"
    return _new_ids(s, r.message)


def _check_asked(s: State, r: ModelAsked) -> str | None:
    if s.asked is not None:
        return "a model call is under way"
    if r.round not in (s.round, s.round + 1):
        return f"round {r.round} does not follow round {s.round}"
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
    return None


def _check_settled(s: State, r: ToolSettled) -> str | None:
    match r.message.parts:
        case (ToolResult(call_id=call_id),) if r.message.role == "tool":
            pass
        case _:
            return "the message is not one tool result"
    call = s.open_calls.get(call_id)
    if call is None:
        return f"no call {call_id!r} is open"
    if r.how == "finished" and call.state not in ("started", "in_doubt", "answered"):
        return f"a call that is {call.state} cannot have finished"
    if r.how in ("interrupted", "unknown") and call.state not in ("started", "in_doubt"):
        return f"a call that is {call.state} was not interrupted"
    if r.how == "not_run" and call.state in ("started", "in_doubt"):
        return f"a call that is {call.state} has begun"
    if s.knows(r.message.id) or any(m.id == r.message.id for m in s.batch.values()):
        return f"the message id {r.message.id!r} was used before"
    return None


def _check_waiting(s: State, r: CallWaiting) -> str | None:
    call = s.open_calls.get(r.call_id)
    if call is None:
        return f"no call {r.call_id!r} is open"
    needed = "asked" if r.kind == "approval" else "started"
    if call.state != needed:
        return f"a call waits for {r.kind} from {needed!r}; it is {call.state}"
    if any(other.token == r.token for other in s.open_calls.values()):
        return f"the token {r.token!r} is taken"
    return None


def _check_answered(s: State, r: CallAnswered) -> str | None:
    call = s.open_calls.get(r.call_id)
    if call is None:
        return f"no call {r.call_id!r} is open"
    if call.state != "waiting" or call.token != r.token:
        return f"the call does not wait for {r.token!r}"
    return None


def _check_recalled(s: State, _: Recalled) -> str | None:
    return "a model call is under way" if s.asked is not None else None


def _check_view(s: State, r: ViewChanged) -> str | None:
    if s.asked is not None:
        return "a model call is under way"
    if r.note is not None and s.knows(r.note.id):
        return f"the message id {r.note.id!r} was used before"
    return view_change_fault(s.messages, r)


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
    if not isinstance(outcome, KeepsCallsOpen):
        return "calls are open" if s.open_calls else None
    return _suspension_fault(s, outcome)


def _suspension_fault(s: State, outcome: Outcome) -> str | None:
    if not s.open_calls:
        return "no call is open"
    states = {call.state for call in s.open_calls.values()}
    if isinstance(outcome, PendingTools):
        return "a call is running" if states & {"started", "answered"} else None
    if not isinstance(outcome, AwaitingApproval | WaitingForInput):
        return None
    waiting = {call.token for call in s.open_calls.values() if call.state == "waiting"}
    if not waiting or not set(outcome.tokens) <= waiting:
        return "its tokens are not what the calls wait for"
    return None if states <= {"waiting", "in_doubt"} else "a call neither waits nor is in doubt"


def _new_ids(s: State, *messages: Message) -> str | None:
    seen: set[str] = set()
    for message in messages:
        for id in (message.id, *[call.id for call in message.tool_calls]):
            if not id:
                return "an id is empty"
            if id in seen or s.knows(id):
                return f"the id {id!r} was used before"
            seen.add(id)
    return None


_CHECKS: Mapping[type[Record], Callable[[State, Any], str | None]] = {
    RunOpened: _check_opened,
    MessageAppended: _check_message,
    ModelAsked: _check_asked,
    ModelEnded: _check_ended,
    ToolStarted: _check_started,
    ToolSettled: _check_settled,
    CallWaiting: _check_waiting,
    CallAnswered: _check_answered,
    Recalled: _check_recalled,
    ViewChanged: _check_view,
    RunClosed: _check_closed,
}
