"""What the phases of one run share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llm_client.types import Message, Part, Text, Thinking, ToolCall, ToolResult
from power_loop.errors import HookError
from power_loop.events import RoundEnded, TextRepaired
from power_loop.hooks import MESSAGE_APPEND, ROUND_END, MessageAppend, RoundEnd
from power_loop.pipeline.ports import Ports
from power_loop.session.records import MessageAppended

__all__ = ["Progress", "append_messages", "end_round", "filtered", "repaired", "where"]


class Progress:
    """How far one run has come, beyond what its session knows.

    Attributes:
        limit: rounds granted so far; hooks may grant more.
        skipped: rounds that a hook left out; they count.
        recalled: memory has been asked.
        reasks: wrong outputs given back so far.
        completions: how often the end has been put to complete.decide.
        stop_reason: why a hook broke the batch off, if one did.
    """

    __slots__ = ("completions", "limit", "reasks", "recalled", "skipped", "stop_reason")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.skipped = 0
        self.recalled = False
        self.reasks = 0
        self.completions = 0
        self.stop_reason: str | None = None


def where(io: Ports) -> dict[str, Any]:
    """The fields that every hook context begins with."""
    s = io.session
    return {"session_id": s.id, "run_id": s.run or "", "round": s.round, "deps": io.deps}


async def filtered(io: Ports, message: Message) -> Message:
    """`message` as the message.append hooks leave it."""
    if not io.listens(MESSAGE_APPEND):
        return message
    result = await io.fire(MESSAGE_APPEND, MessageAppend(**where(io), message=message))
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


async def append_messages(
    io: Ports, messages: Sequence[Message], *, take: Sequence[str] = ()
) -> None:
    """Appends messages to the session, in order, as one unit."""
    records = [MessageAppended(await filtered(io, message)) for message in messages]
    await io.commit(*records, later=not take, take=take)


async def end_round(io: Ports, text: str, *, has_tools: bool) -> None:
    """Says that a round is over."""
    s = io.session
    io.emit(RoundEnded(s.round, s.run_usage))
    if io.listens(ROUND_END):
        context = RoundEnd(**where(io), response_text=text, has_tools=has_tools, usage=s.run_usage)
        await io.fire(ROUND_END, context)


# ── text that no provider takes ───────────────────────────────────────────────────────────────────


def repaired(io: Ports, source: str, parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """`parts` with characters replaced that no provider takes; an event says so."""
    if all(_sound(part) for part in parts):
        return parts
    counts = [0, 0]
    fixed = tuple([_fixed(part, counts) for part in parts])
    io.emit(TextRepaired(source, counts[0], counts[1]))
    return fixed


def _sound(part: Part) -> bool:
    match part:
        case Text() | Thinking():
            return _sound_text(part.text)
        case ToolCall():
            return _sound_text(part.arguments) and _sound_text(part.name)
        case ToolResult():
            return all(_sound(inner) for inner in part.content)
        case _:
            return True


def _sound_text(text: str) -> bool:
    if "\x00" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fixed(part: Part, counts: list[int]) -> Part:
    match part:
        case Text():
            return Text(_fixed_text(part.text, counts))
        case Thinking() if not _sound_text(part.text):
            # A signature vouches for the exact text, so it cannot outlive a change.
            return Thinking(_fixed_text(part.text, counts))
        case ToolCall():
            name, arguments = _fixed_text(part.name, counts), _fixed_text(part.arguments, counts)
            return ToolCall(part.id, name, arguments)
        case ToolResult():
            content = tuple([_fixed_content(inner, counts) for inner in part.content])
            return ToolResult(part.call_id, content, part.is_error)
        case _:
            return part


def _fixed_content(part: Any, counts: list[int]) -> Any:
    return Text(_fixed_text(part.text, counts)) if isinstance(part, Text) else part


def _fixed_text(text: str, counts: list[int]) -> str:
    if _sound_text(text):
        return text
    counts[0] += sum("\ud800" <= char <= "\udfff" for char in text)
    counts[1] += text.count("\x00")
    valid = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return valid.replace("\x00", "\u2400")
