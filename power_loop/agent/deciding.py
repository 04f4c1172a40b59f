"""What a host may decide about open calls when it resumes, checked at the edge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast

from llm_client.types import ToolResult, ToolSpec
from power_loop import tools as door
from power_loop.errors import SessionPendingError, ToolError, UsageError
from power_loop.pipeline.plan import Verdict
from power_loop.session.machine import OpenCall, Session
from power_loop.session.outcome import Crashed
from power_loop.tools.base import Result, Tool

__all__ = ["Decision", "check_decided", "pending_error", "verdicts"]

Decision = Literal["rerun", "unknown"] | Result
"""What a host may decide about a call that is in doubt: to run it again, under the same idempotency
key; that the model is told that its outcome is unknown; or what it came to. A `Result` also settles
a call of a tool that this program runs itself."""

_WORDS = ("rerun", "unknown")


def verdicts(
    session: Session, decisions: Mapping[str, Decision], tools: Mapping[str, Tool | ToolSpec]
) -> dict[str, Verdict]:
    """Decisions as a run takes them.

    Raises:
        UsageError: one is none, is for a call that is not open, or does not fit what the call has
            been through.
    """
    found: dict[str, Verdict] = {}
    for call_id, decision in decisions.items():
        call = session.open_calls.get(call_id)
        if call is None:
            raise UsageError(
                f"no call {call_id!r} of session {session.id!r} is open; "
                f"open: {', '.join(map(repr, session.open_calls)) or 'none'}"
            )
        found[call_id] = _verdict(session, call, decision, tools)
    return found


def _verdict(
    session: Session,
    call: OpenCall,
    decision: Decision,
    tools: Mapping[str, Tool | ToolSpec],
) -> Verdict:
    call_id = call.call.id
    if not isinstance(decision, Result):
        if cast("object", decision) not in _WORDS:
            raise UsageError(
                f"the decision about call {call_id!r} is 'rerun', 'unknown' or a Result, "
                f"not a value of type {type(decision).__name__}"
            )
        if not _in_doubt(session, call):
            raise UsageError(
                f"call {call_id!r} is not in doubt but {_words(call)}, so {decision!r} is no "
                "decision about it"
            )
        name = _name(call)
        if decision == "rerun" and not isinstance(tools.get(name), Tool):
            raise UsageError(
                f"call {call_id!r} cannot be run again: there is no tool {name!r} that this loop "
                "runs; pass it, or decide 'unknown' or a Result"
            )
        return decision
    if not _in_doubt(session, call) and not _is_the_hosts(session, call, tools):
        raise UsageError(
            f"call {call_id!r} is {_words(call)}, so a Result is no decision about it; it is one "
            "for a call in doubt, or of a tool that this program runs itself"
        )
    try:
        output = door.result_output(decision, _name(call))
    except ToolError as error:
        raise UsageError(f"the result of call {call_id!r} is none: {error}") from error
    return ToolResult(call_id, output.content, output.is_error)


def pending_error(session: Session, undecided: Sequence[str] = ()) -> SessionPendingError:
    """The error that says what is open in a session."""
    calls = session.open_calls
    lost = [id for id, c in calls.items() if c.lost or _in_doubt(session, c)]
    begun = [id for id, c in calls.items() if c.begun and id not in lost]
    return SessionPendingError(
        session.id,
        open=[id for id, c in calls.items() if not c.begun],
        begun=begun,
        in_doubt=lost,
        undecided=undecided,
    )


def check_decided(
    session: Session, decisions: Mapping[str, Decision], tools: Mapping[str, Tool | ToolSpec]
) -> None:
    """Raises SessionPendingError: a call is in doubt that only the host can decide about."""
    undecided = [
        id
        for id, call in session.open_calls.items()
        if id not in decisions
        and _in_doubt(session, call)
        and not _decides(session, tools.get(_name(call)))
    ]
    if undecided:
        raise pending_error(session, undecided)


def _decides(session: Session, tool: Tool | ToolSpec | None) -> bool:
    """Whether the tool itself says what is to become of a call in doubt, or may."""
    if tool is None or isinstance(tool, ToolSpec):
        return False
    if tool.idempotent:
        return True
    # A run that has ended regularly with a call in doubt has asked the tool, in vain.
    asked = session.run is None and not isinstance(session.last_outcome, Crashed)
    return tool.reconcile is not None and not asked


def _in_doubt(session: Session, call: OpenCall) -> bool:
    """Whether a call is in doubt; the open run of a session that is ours now has died."""
    return call.state == "in_doubt" or (session.run is not None and call.state == "started")


def _is_the_hosts(session: Session, call: OpenCall, tools: Mapping[str, Tool | ToolSpec]) -> bool:
    """Whether a call that may begin is one of a tool that this program runs itself."""
    if call.state not in ("asked", "granted"):
        return False
    # A run that ended regularly has run all others; hooks may have changed whose tool it is.
    left = session.run is None and not isinstance(session.last_outcome, Crashed)
    return left or isinstance(tools.get(_name(call)), ToolSpec)


def _name(call: OpenCall) -> str:
    return call.call.name if call.started is None else call.started.name


def _words(call: OpenCall) -> str:
    match call.state:
        case "waiting" if call.kind == "approval":
            return f"waiting for an approval (answers=[approve({call.token!r})])"
        case "waiting":
            return f"waiting for {call.token!r}"
        case "answered":
            return "answered"
        case "granted":
            return "approved"
        case _:
            return "not begun"
