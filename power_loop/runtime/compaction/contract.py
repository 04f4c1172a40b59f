"""What must hold of a view that has been made smaller."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import MsgspecError, json

from llm_client.types import Audio, File, Image, Message, Text, ToolResult
from power_loop.runtime.compaction.base import ContextSize
from power_loop.runtime.compaction.cuts import stays
from power_loop.session.records import ViewChanged
from power_loop.session.text import is_sound, is_sound_message
from power_loop.session.view import COMPACT_NOTE, changed_view, links_of, view_change_fault

__all__ = ["broken", "shrunk"]


def shrunk(view: Sequence[Message], change: ViewChanged, size: ContextSize) -> int:
    """Tokens that the view has after `change`, which must be legal."""
    return sum(map(size.count, changed_view(view, change)))


def broken(view: Sequence[Message], change: ViewChanged, size: ContextSize) -> str | None:
    """What `change` breaks; None if it keeps to the contract.

    Calls and results stay together, in a view that is legal; what must stay is there word for word;
    there is one note, in place; what stands ahead of the first message that leaves or changes is
    the same; and the view is smaller than it was. Whether it is small enough is another question.
    """
    why = _form_fault(change) or view_change_fault(view, change)
    if why is not None:
        return why
    after = changed_view(view, change)
    return (
        _shape_fault(after, change)
        or _links_fault(after)
        or _lost(view, after, size)
        or _note_fault(after, change)
        or _prefix_fault(view, after)
        or _size_fault(view, after, size)
    )


def _form_fault(change: ViewChanged) -> str | None:
    """Strategies are foreign code: what a log could not hold would cost its session all of it."""
    if not change.by:
        return "it does not say which strategy it is of"
    try:
        json.decode(json.encode(change), type=ViewChanged)
    except (MsgspecError, TypeError, ValueError) as error:
        return f"no log can hold it: {error}"
    parts = [part for new in change.replaced.values() for part in new]
    if change.note is not None and not is_sound_message(change.note):
        return "the note, or its stamp, holds what no provider takes"
    return None if all(map(is_sound, parts)) else "a shorter form holds what no provider takes"


def _shape_fault(after: Sequence[Message], change: ViewChanged) -> str | None:
    for message in after:
        if message.id in change.replaced and message.role != "assistant":
            fitting = ToolResult if message.role == "tool" else Text | Image | Audio | File
            if not all(isinstance(part, fitting) for part in message.parts):
                return f"the new form of {message.id!r} has parts that its role does not"
    return None


def _links_fault(view: Sequence[Message]) -> str | None:
    waiting: set[str] = set()
    for message in view:
        calls, results = links_of(message.parts)
        if waiting and not results:
            return f"the message {message.id!r} stands between a call and its result"
        if not waiting.issuperset(results):
            return f"the message {message.id!r} has the result of a call that is gone"
        waiting.difference_update(results)
        waiting.update([call_id for call_id, _ in calls])
    return "a call is left without its result" if waiting else None


def _lost(view: Sequence[Message], after: Sequence[Message], size: ContextSize) -> str | None:
    there, must_stay = {message.id: message for message in after}, stays(view, size)
    for message in view:
        if message.id in must_stay and there.get(message.id) is not message:
            return f"the message {message.id!r} must stay as it is, and does not"
    return None


def _note_fault(after: Sequence[Message], change: ViewChanged) -> str | None:
    notes = [message for message in after if message.name == COMPACT_NOTE]
    if change.note is None:
        return "messages leave without a note" if change.cut is not None else None
    if len(notes) != 1:
        return f"there are {len(notes)} notes"
    texts = [part.text for part in change.note.parts if isinstance(part, Text)]
    return None if "".join(texts).strip() else "the note is empty"


def _prefix_fault(view: Sequence[Message], after: Sequence[Message]) -> str | None:
    """Before the first message that is gone or another, nothing may have moved."""
    there = {id(message) for message in after}
    for before, now in zip(view, after, strict=False):
        if id(before) not in there:
            return None
        if before is not now:
            return "what stands ahead of the cut has changed"
    return None


def _size_fault(view: Sequence[Message], after: Sequence[Message], size: ContextSize) -> str | None:
    had, has = sum(map(size.count, view)), sum(map(size.count, after))
    return None if has < had else f"it would have {has} tokens, no fewer than the {had} it had"
