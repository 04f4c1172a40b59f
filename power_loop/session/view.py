"""What a change of view may do, and what it makes of the messages."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from llm_client.types import Message, Part, ToolCall, ToolResult
from power_loop.session.records import ViewChanged

__all__ = ["COMPACT_NOTE", "changed_view", "view_change_fault"]

COMPACT_NOTE = "compact_note"
"""The `name` of the one message that stands for what has left the view."""


def view_change_fault(messages: Sequence[Message], change: ViewChanged) -> str | None:
    """Why `change` must not be applied to `messages`; None if it may be."""
    ids = {message.id: message for message in messages}
    if change.cut is None and change.note is not None:
        return "a note without a cut"
    if change.cut is not None:
        first = ids.get(change.cut)
        if first is None:
            return f"the cut {change.cut!r} is not in the view"
        if first.role == "tool":
            return f"the cut {change.cut!r} falls between a call and its result"
    if change.note is not None and (
        change.note.role not in ("user", "system") or change.note.name != COMPACT_NOTE
    ):
        return f"a note is a user or system message named {COMPACT_NOTE!r}"
    for message_id, parts in change.replaced.items():
        message = ids.get(message_id)
        if message is None:
            return f"the replaced message {message_id!r} is not in the view"
        if not parts or _links(parts) != _links(message.parts):
            return f"the new form of {message_id!r} does not keep its calls or results"
    return None


def changed_view(messages: Sequence[Message], change: ViewChanged) -> list[Message]:
    """The messages after `change`, as a new list."""
    kept = list(messages)
    if change.cut is not None:
        start = next(i for i, message in enumerate(kept) if message.id == change.cut)
        kept = kept[start:]
    if change.replaced:
        kept = [
            replace(message, parts=change.replaced[message.id])
            if message.id in change.replaced
            else message
            for message in kept
        ]
    return [change.note, *kept] if change.note is not None else kept


def _links(parts: Sequence[Part]) -> tuple[list[tuple[str, str]], list[str]]:
    calls = [(part.id, part.name) for part in parts if isinstance(part, ToolCall)]
    results = [part.call_id for part in parts if isinstance(part, ToolResult)]
    return calls, results
