"""With which records a run opens, and what forbids it."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from llm_client.types import Message, Text
from power_loop.agent.deciding import pending_error
from power_loop.agent.requests import ApprovalRequest, InputRequest, request_of
from power_loop.errors import NothingToResume
from power_loop.session.closing import closing_calls
from power_loop.session.machine import CallState, OpenCall, Phase, Session
from power_loop.session.outcome import Cancelled, Crashed
from power_loop.session.records import (
    CallWaiting,
    MessageAppended,
    Record,
    RunClosed,
    RunOpened,
)
from power_loop.session.spent import Spent
from power_loop.session.state import child_id

__all__ = [
    "PendingCall",
    "abandonment",
    "after_crash",
    "for_input",
    "for_resume",
    "pending_calls",
    "waited_for",
    "works_below",
]


class PendingCall(Struct, frozen=True):
    """A call of a session without a result.

    Attributes:
        name, arguments: what had begun; before that, what the model asked for.
        state: `asked` was not begun, `waiting` waits for an answer to `token`, `started` is running
            or was when its process died, `in_doubt` had begun when its run ended.
        attempt: how often it has been begun.
        idempotency_key: under which it was begun, for asking whoever was to do the work; "" before.
        request: what exactly it waits for, if it is for a person.
        session_id: the session it is a call of: one of those below, perhaps.
    """

    call_id: str
    name: str
    arguments: str
    state: CallState
    attempt: int
    token: str
    idempotency_key: str = ""
    request: ApprovalRequest | InputRequest | None = None
    session_id: str = ""


def pending_calls(session: Session) -> tuple[PendingCall, ...]:
    """The session's open calls, in call order."""
    return tuple([_pending(session, call) for call in session.open_calls.values()])


def _pending(session: Session, call: OpenCall) -> PendingCall:
    waiting, begun = call.waiting, call.started
    what = call.call if begun is None else begun
    return PendingCall(
        call.call.id,
        what.name,
        what.arguments,
        call.state,
        call.attempt,
        call.token,
        "" if begun is None else begun.idempotency_key,
        None if waiting is None else request_of(waiting, session.id, call.waits_in),
        session.id,
    )


def works_below(session: Session, call: OpenCall) -> bool:
    """Whether an open call is worked on in a session below this one. A copy has calls of the
    original's, which waits for them still.
    """
    return call.kind == "child" and call.token == child_id(session.id, call.call.id)


def waited_for(session: Session) -> dict[str, CallWaiting]:
    """What calls of the session wait for, by token."""
    calls = session.open_calls.values()
    return {call.token: call.waiting for call in calls if call.waiting is not None}


def for_input(
    session: Session,
    run_id: str,
    message: Message,
    limits: Mapping[str, float],
    *,
    parent: tuple[str, str] | None = None,
) -> tuple[Record, ...]:
    """A run that takes `message`. `parent` is the call, with its session, that it works for.

    Raises:
        SessionPendingError: calls are open.
    """
    if session.open_calls:
        raise pending_error(session)
    opened = RunOpened(run_id, (message,), parent=parent, limits=dict(limits))
    return (*after_crash(session), opened)


def for_resume(
    session: Session, run_id: str, limits: Mapping[str, float], go_on: Message
) -> tuple[Record, ...]:
    """A run that carries the last one on; `go_on` is said where that one had ended with a text.

    Raises:
        NothingToResume: no run was interrupted, or the last one ended for good.
    """
    crash = after_crash(session)
    last = session.run or session.last_run
    if last is None:
        raise NothingToResume(f"session {session.id!r} has had no run; send a message", session.id)
    outcome = session.last_outcome
    if not crash and not session.open_calls and outcome is not None and not outcome.resumable:
        raise NothingToResume(
            f"the last run of session {session.id!r} ended {outcome}; {outcome.recommended_action}",
            session.id,
        )
    opened = RunOpened(run_id, resumes=last, limits=dict(limits))
    ended_with_text = not crash and not session.open_calls and session.tail == "assistant"
    return (*crash, opened, MessageAppended(go_on)) if ended_with_text else (*crash, opened)


def abandonment(
    session: Session, run_id: str, reason: str, unheard: Spent | None = None
) -> tuple[Record, ...]:
    """The records that give all open calls up; empty if none is open and no run was interrupted.

    `unheard` is what sessions below these calls have used.
    """
    crash = after_crash(session)
    if not session.open_calls:
        return crash
    last = session.run or session.last_run
    settled = closing_calls(session, {}, f"It was given up: {reason}", died=bool(crash))
    closed = RunClosed(run_id, Cancelled(reason), unheard=unheard)
    return (*crash, RunOpened(run_id, resumes=last), *settled, closed)


def after_crash(session: Session) -> tuple[Record, ...]:
    """What closes a run whose process has died: the open run of a session that is ours now."""
    if session.phase in (Phase.IDLE, Phase.SUSPENDED) or session.run is None:
        return ()
    return (RunClosed(session.run, Crashed()),)


def text_message(text: str, message_id: str) -> Message:
    """A user message of the library's own."""
    return Message("user", (Text(text),), id=message_id)
