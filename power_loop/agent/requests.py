"""What a call waits for, as whoever is to answer sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from power_loop.session.records import CallWaiting

__all__ = ["ApprovalRequest", "InputRequest", "request_of"]


class ApprovalRequest(Struct, frozen=True):
    """A call may run once somebody has allowed just this.

    Attributes:
        token: names the request, for `approve` and `deny`; it is good for one answer.
        session_id, run_id, call_id: whose call it is, and the run in which it was asked for.
        tool, arguments: what is to run; the arguments are the JSON text of an object.
        args_hash: tells these arguments from others, whatever their spelling.
        reason: why it is asked for.
        by: the handler that asks.
        version, world: of its rule, and what it has seen of the world. If either has changed when
            the call is to run, the approval is worth nothing.
        created, expires: seconds since the epoch; None if it can be answered for ever.
        end_on_denial: whether a no ends the run.
    """

    token: str
    session_id: str
    run_id: str
    call_id: str
    tool: str
    arguments: str
    args_hash: str
    reason: str
    by: str
    version: str
    world: str
    created: float
    expires: float | None
    end_on_denial: bool


class InputRequest(Struct, frozen=True):
    """A question, whose answer becomes the result of a call.

    Attributes:
        token: names the question, for `answer`; it is good for one answer.
        session_id, run_id, call_id: whose call it is, and the run in which it was asked.
        tool: what the call is of.
        question: in words. A model may have written it.
        schema: the JSON Schema of the answer; None where any text will do.
        by: the handler that asks, or the tool itself.
        created: seconds since the epoch.
    """

    token: str
    session_id: str
    run_id: str
    call_id: str
    tool: str
    question: str
    schema: Mapping[str, Any] | None
    by: str
    created: float


def request_of(
    waiting: CallWaiting, session_id: str, run_id: str
) -> ApprovalRequest | InputRequest | None:
    """What is waited for; None where it is not for people."""
    match waiting.kind:
        case "approval":
            return ApprovalRequest(
                waiting.token,
                session_id,
                run_id,
                waiting.call_id,
                waiting.name,
                waiting.arguments,
                waiting.args_hash,
                waiting.reason,
                waiting.by,
                waiting.version,
                waiting.world,
                waiting.created,
                waiting.expires,
                waiting.end_on_denial,
            )
        case "input":
            return InputRequest(
                waiting.token,
                session_id,
                run_id,
                waiting.call_id,
                waiting.name,
                waiting.reason,
                msgspec.json.decode(waiting.schema) if waiting.schema else None,
                waiting.by,
                waiting.created,
            )
        case "child":
            return None
