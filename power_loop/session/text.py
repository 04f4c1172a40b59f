"""Text that no provider takes and no store can hold, and what stands in for it.

Lone surrogates become U+FFFD, NUL becomes U+2400.
"""

from __future__ import annotations

from typing import TypeVar

from msgspec import Struct
from msgspec.structs import asdict, replace

from llm_client.types import (
    Audio,
    CachePoint,
    File,
    Image,
    Message,
    Opaque,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)

__all__ = [
    "is_sound",
    "is_sound_message",
    "repaired_part",
    "repaired_result",
    "repaired_strings",
    "repaired_text",
]

S = TypeVar("S", bound=Struct)


def is_sound(part: Part) -> bool:
    """Whether all text of `part` can be stored and sent."""
    match part:
        case Text():
            return _sound(part.text) and _seal_is_sound(part) and not _unsound_citations(part)
        case ToolCall():
            fields = (part.id, part.name, part.arguments)
            return all(map(_sound, fields)) and _seal_is_sound(part)
        case Thinking() | Image():
            return _fields_are_sound(part) and _seal_is_sound(part)
        case ToolResult():
            return all(map(is_sound, part.content))
        case _:
            return _fields_are_sound(part)


def is_sound_message(message: Message) -> bool:
    """Whether all text of `message` can be stored and sent."""
    meta = message.meta or {}
    return (
        all(map(is_sound, message.parts))
        and _fields_are_sound(message)
        and all(map(_sound, (*meta, *meta.values())))
    )


def repaired_text(text: str, counts: list[int] | None = None) -> str:
    """`text` in a form that is sound; adds to `counts` how many surrogates and NULs it held."""
    if _sound(text):
        return text
    if counts is not None:
        counts[0] += sum("\ud800" <= char <= "\udfff" for char in text)
        counts[1] += text.count("\x00")
    valid = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return valid.replace("\x00", "\u2400")


def repaired_part(part: Part, counts: list[int]) -> Part:
    """`part` in a form that is sound; adds to `counts` as `repaired_text` does."""
    match part:
        case ToolResult():
            return repaired_result(part, counts)
        case _ if is_sound(part):
            return part
        case Text():
            cited = tuple([repaired_strings(one, counts) for one in part.citations])
            return Text(repaired_text(part.text, counts), cited)
        case Thinking() | ToolCall() | Image():
            # A seal vouches for the exact part, so it cannot outlive a change.
            return repaired_strings(replace(part, seal=None), counts)
        case Audio() | File() | Opaque() | CachePoint():
            return repaired_strings(part, counts)


def repaired_result(result: ToolResult, counts: list[int] | None = None) -> ToolResult:
    """`result` in a form that is sound; adds to `counts` as `repaired_text` does."""
    if is_sound(result):
        return result
    content = tuple([repaired_strings(part, counts) for part in result.content])
    return ToolResult(result.call_id, content, result.is_error)


def repaired_strings(value: S, counts: list[int] | None = None) -> S:
    """`value` with those of its fields that are strings in a form that is sound; adds to `counts`
    as `repaired_text` does.
    """
    unsound = {
        name: repaired_text(held, counts)
        for name, held in asdict(value).items()
        if isinstance(held, str) and not _sound(held)
    }
    return replace(value, **unsound) if unsound else value


def _seal_is_sound(part: Text | Thinking | Image | ToolCall) -> bool:
    return part.seal is None or _fields_are_sound(part.seal)


def _unsound_citations(part: Text) -> bool:
    return bool(part.citations) and not all(map(_fields_are_sound, part.citations))


def _fields_are_sound(value: Struct) -> bool:
    held = asdict(value).values()
    return all(_sound(each) for each in held if isinstance(each, str))


def _sound(text: str) -> bool:
    if "\x00" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
