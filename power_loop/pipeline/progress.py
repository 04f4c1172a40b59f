"""What the phases of one run share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from llm_client.types import Message, Part, ToolResult
from power_loop.errors import HookError
from power_loop.events import RoundEnded, TextRepaired
from power_loop.hooks import MESSAGE_APPEND, ROUND_END, MessageAppend, RoundEnd
from power_loop.pipeline.ports import Ports
from power_loop.session.records import MessageAppended, ToolSettled
from power_loop.session.text import is_sound, repaired_part

__all__ = [
    "Progress",
    "append_messages",
    "arguments_fault",
    "end_round",
    "filtered",
    "filtered_results",
    "repaired",
    "where",
    "with_own_id",
]


class Progress:
    """How far one run has come, beyond what its session knows.

    Attributes:
        limit: rounds granted so far; hooks may grant more.
        skipped: rounds in which a hook kept the model from being asked; they count.
        deferred: messages of session.start that must wait for the results of a resumed batch.
        recalled: memory has been asked.
        reasks: wrong outputs given back so far.
        completions: how often the end has been put to complete.decide.
        stop_reason: why a hook broke the batch off, if one did.
        suspended: all that this run can do about its open calls has been done.
    """

    __slots__ = (
        "completions",
        "deferred",
        "limit",
        "reasks",
        "recalled",
        "skipped",
        "stop_reason",
        "suspended",
    )

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.skipped = 0
        self.deferred: tuple[Message, ...] = ()
        self.recalled = False
        self.reasks = 0
        self.completions = 0
        self.stop_reason: str | None = None
        self.suspended = False


def where(io: Ports) -> dict[str, Any]:
    """The fields that every hook context begins with."""
    s = io.session
    return {"session_id": s.id, "run_id": s.run or "", "round": s.round, "deps": io.deps}


async def filtered(io: Ports, message: Message, *, opens: str | None = None) -> Message:
    """`message` as the message.append hooks leave it; `opens` is the run that it is to open."""
    if not io.listens(MESSAGE_APPEND):
        return message
    place = where(io)
    if opens is not None:
        place |= {"run_id": opens, "round": 0}
    result = await io.fire(MESSAGE_APPEND, MessageAppend(**place, message=message))
    changed = result.message
    if _identity(changed) != _identity(message):
        raise HookError(
            f"a handler of {MESSAGE_APPEND.name} changed the id, role, calls or results of message "
            f"{message.id!r}; it may change text, images and files only"
        )
    return changed


def _identity(message: Message) -> tuple[object, ...]:
    results = [part.call_id for part in message.parts if isinstance(part, ToolResult)]
    return message.id, message.role, message.tool_calls, results


async def filtered_results(io: Ports, settled: Sequence[ToolSettled]) -> list[ToolSettled]:
    """Settlements with their messages as the message.append hooks leave them."""
    return [ToolSettled(await filtered(io, one.message), one.how) for one in settled]


def with_own_id(io: Ports, message: Message) -> Message:
    """`message`, under a new id if the session knows its own: callers and hooks reuse values."""
    known = not message.id or io.session.knows(message.id)
    return replace(message, id=io.new_id()) if known else message


async def append_messages(
    io: Ports, messages: Sequence[Message], *, take: Sequence[str] = ()
) -> None:
    """Appends messages to the session, in order, as one unit."""
    records: list[MessageAppended] = []
    for message in messages:
        own = with_own_id(io, message)
        if any(own.id == record.message.id for record in records):
            own = replace(own, id=io.new_id())
        records.append(MessageAppended(await filtered(io, own)))
    await io.commit(*records, later=not take, take=take)


async def end_round(io: Ports, text: str, *, has_tools: bool) -> None:
    """Says that a round is over."""
    s = io.session
    io.emit(RoundEnded(s.round, s.run_usage))
    if io.listens(ROUND_END):
        context = RoundEnd(**where(io), response_text=text, has_tools=has_tools, usage=s.run_usage)
        await io.fire(ROUND_END, context)


# ── what must not run, what must not be sent ─────────────────────────────────────────────────────


def arguments_fault(arguments: str) -> str | None:
    """Why a call must not run with these arguments; None if it may. Empty ones stand for `{}`."""
    if not arguments.strip():
        return None
    try:
        value = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        return f"the arguments are not valid JSON ({str(error)[:120]})"
    if not isinstance(value, dict):
        return f"the arguments are not a JSON object but {type(value).__name__}"
    return None


def repaired(io: Ports, source: str, parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """`parts` with characters replaced that no provider takes; an event says so."""
    if all(map(is_sound, parts)):
        return parts
    counts = [0, 0]
    fixed = tuple([repaired_part(part, counts) for part in parts])
    io.emit(TextRepaired(source, counts[0], counts[1]))
    return fixed
