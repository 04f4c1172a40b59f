"""A transcript as text, for a model to read as data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from llm_client.parts import compaction_text
from llm_client.types import Audio, File, Image, Message, Opaque, Part, Text, ToolCall, ToolResult
from power_loop.session.view import COMPACT_NOTE

__all__ = ["clipped", "framed", "rendered", "summary_in", "unclosed"]

_BEGINS, _ENDS = "<summary>\n", "\n</summary>"

_PER_MESSAGE = (4000, 1000, 250, 60)
"""Characters that a message may have, at most; the next where all would be too long."""


def clipped(text: str, limit: int) -> str:
    """`text` with its middle left out if it is longer than `limit` characters."""
    if len(text) <= limit:
        return text
    head, tail = limit * 2 // 3, limit // 3
    return f"{text[:head]} […{len(text) - head - tail} characters…] {text[-tail:] if tail else ''}"


def unclosed(text: str, tag: str) -> str:
    """`text` without anything that a reader could take for the end of the element `tag`."""
    return re.sub(rf"<(?=\s*/\s*{tag})", "[", text, flags=re.IGNORECASE)


def framed(summary: str) -> str:
    """A summary as it stands in a note; nothing in it ends its frame."""
    return f"{_BEGINS}{unclosed(summary, 'summary')}{_ENDS}"


def summary_in(note: str) -> str:
    """The summary that a note begins with; "" if it begins with none."""
    inside, end, _ = note.removeprefix(_BEGINS).partition(_ENDS)
    return inside if end and note.startswith(_BEGINS) else ""


def rendered(messages: Sequence[Message], limit: int) -> str:
    """`messages` as text of at most about `limit` characters, one paragraph each.

    Where that is too little for all of them, first long ones lose their middle, then the middle of
    the whole is left out. A note of what had left before is never shortened.
    """
    lines: list[str] = []
    for bound in _PER_MESSAGE:
        lines = [_line(message, bound) for message in messages]
        if sum(map(len, lines)) + 2 * len(lines) <= limit:
            return "\n\n".join(lines)
    return _without_middle(lines, limit)


def _without_middle(lines: Sequence[str], limit: int) -> str:
    room, head, tail = limit, 0, len(lines)
    # From both ends; the newest are worth more.
    while head < tail:
        newest = (head + len(lines) - tail) % 3 != 0
        line = lines[tail - 1] if newest else lines[head]
        if len(line) > room:
            break
        room -= len(line) + 2
        head, tail = (head, tail - 1) if newest else (head + 1, tail)
    gap = [f"[… {tail - head} messages left out …]"] if tail > head else []
    return "\n\n".join([*lines[:head], *gap, *lines[tail:]])


def _line(message: Message, bound: int) -> str:
    if message.name == COMPACT_NOTE:
        return f"[what was before]\n{message.text}"
    return f"[{message.role}] " + "\n".join(_told(message.parts, bound))


def _told(parts: Iterable[Part], bound: int) -> Iterable[str]:
    for part in parts:
        match part:
            case Text():
                yield clipped(part.text, bound)
            case ToolCall():
                yield f"calls {part.name}({clipped(part.arguments, bound)})"
            case ToolResult():
                failed = "failed: " if part.is_error else "gave: "
                yield failed + clipped(part.text, bound)
            case Image() | Audio() | File():
                yield f"({type(part).__name__.lower()})"
            case Opaque() if text := compaction_text(part):
                # All that the provider knows of what was before: as good as a note of ours.
                yield f"[what was before] {text}"
            case _:
                pass
