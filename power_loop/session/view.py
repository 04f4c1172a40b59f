"""What a change of view may do, and what it makes of the messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from llm_client.types import Message, Part, ToolCall, ToolResult
from power_loop.session.records import (
    MessageAppended,
    Rewound,
    RunOpened,
    ToolSettled,
    ViewChanged,
)

__all__ = [
    "ARTIFACT_META",
    "COMPACT_NOTE",
    "OUTPUT_META",
    "POLICY_META",
    "changed_view",
    "full_history",
    "links_of",
    "rewind_fault",
    "shape_fault",
    "view_change_fault",
]

COMPACT_NOTE = "compact_note"
"""The `name` of the one message that stands for what has left the view."""

POLICY_META = "policy"
"""The key of a message's `meta` under which stands the policy that has said it."""

OUTPUT_META = "output"
"""The key of a result's `meta` under which stands what its tool wants done with it when the view is
to be shortened: "preserve", so that it is left alone, or "summarise", so that it is replaced by a
summary before the model is asked again."""

ARTIFACT_META = "artifact"
"""The key of a result's `meta` under which stands the handle of the whole text, if that is kept."""


def shape_fault(message: Message) -> str | None:
    """Why `message` fits into no transcript; None if it does."""
    if not message.parts:
        return f"the message {message.id!r} has no parts"
    calls, results = links_of(message.parts)
    if calls and message.role != "assistant":
        return f"the message {message.id!r} has calls, but is not the assistant's"
    if results and message.role != "tool":
        return f"the message {message.id!r} has results, but is not a tool's"
    return None


def view_change_fault(messages: Sequence[Message], change: ViewChanged) -> str | None:
    """Why `change` must not be applied to `messages`; None if it may be."""
    return _cut_fault(messages, change) or _replacement_fault(messages, change)


def _cut_fault(messages: Sequence[Message], change: ViewChanged) -> str | None:
    note = change.note
    if change.cut is None:
        return None if note is None else "a note without a cut"
    start = _index(messages, change.cut)
    if start is None:
        return f"the cut {change.cut!r} is not in the view"
    first = messages[start]
    if first.role == "tool":
        return f"the cut {change.cut!r} falls between a call and its result"
    if note is None:
        return None
    if note.role not in ("user", "system") or note.name != COMPACT_NOTE:
        return f"a note is a user or system message named {COMPACT_NOTE!r}"
    if first.name == COMPACT_NOTE:
        return "the cut keeps the old note beside the new one"
    return shape_fault(note)


def _replacement_fault(messages: Sequence[Message], change: ViewChanged) -> str | None:
    if not change.replaced:
        return None
    start = 0 if change.cut is None else _index(messages, change.cut) or 0
    kept = {message.id: message for message in messages[start:]}
    for message_id, parts in change.replaced.items():
        message = kept.get(message_id)
        if message is None:
            return f"the replaced message {message_id!r} does not stay in the view"
        if not parts or links_of(parts) != links_of(message.parts):
            return f"the new form of {message_id!r} does not keep its calls or results"
    return None


def rewind_fault(messages: Sequence[Message], change: Rewound) -> str | None:
    """Why `change` must not be applied to `messages`; None if it may be."""
    if not 0 <= change.keep <= len(messages):
        return f"the view has {len(messages)} messages, not {change.keep}"
    view = [*messages[: change.keep], *change.restored]
    if not view:
        return "nothing would be left in the view"
    if len({message.id for message in view}) < len(view):
        return "a message would be in the view twice"
    open_calls: set[str] = set()
    for message in view:
        calls, results = links_of(message.parts)
        if (open_calls and not results) or not open_calls.issuperset(results):
            return f"the message {message.id!r} would stand between a call and its result"
        open_calls.difference_update(results)
        open_calls.update([call_id for call_id, _ in calls])
    return "calls would be left without their results" if open_calls else None


def _index(messages: Sequence[Message], id: str) -> int | None:
    return next((i for i, message in enumerate(messages) if message.id == id), None)


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


def full_history(records: Iterable[object]) -> tuple[Message, ...]:
    """All messages there ever were, also those that have left the view, in order."""
    messages: list[Message] = []
    for record in records:
        match record:
            case RunOpened():
                messages.extend(record.input)
            case MessageAppended() | ToolSettled():
                messages.append(record.message)
            case _:
                pass
    return tuple(messages)


def links_of(parts: Sequence[Part]) -> tuple[list[tuple[str, str]], list[str]]:
    """The calls of `parts`, by id and name, and the ids of the calls whose results they are."""
    calls = [(part.id, part.name) for part in parts if isinstance(part, ToolCall)]
    results = [part.call_id for part in parts if isinstance(part, ToolResult)]
    return calls, results
