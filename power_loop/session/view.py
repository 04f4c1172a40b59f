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
    "SUMMARISED",
    "changed_view",
    "full_history",
    "links_of",
    "rewind_fault",
    "shape_fault",
    "view_change_fault",
    "was_said",
]

COMPACT_NOTE = "compact_note"
"""The `name` of the one message that stands for what has left the view."""

POLICY_META = "policy"
"""The key of a message's `meta` under which stands the policy that has said it."""

OUTPUT_META = "output"
"""The key of a result's `meta` under which stands what its tool wants done with it when the view is
to be shortened: "preserve", so that it is left alone, or "summarise", so that it is replaced by a
summary before the model is asked again."""

SUMMARISED = "[a summary of "
"""What the text of a result begins with whose summary stands in its place."""

ARTIFACT_META = "artifact"
"""The key of a result's `meta` under which stands the handle of the whole text, if that is kept."""


def was_said(message: Message) -> bool:
    """Whether somebody has said `message` to the agent: not a policy or an extension, and it does
    not stand for what has left the view."""
    told = message.name == COMPACT_NOTE or POLICY_META in (message.meta or {})
    return message.role == "user" and not told


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
        return (
            None if note is None and not change.kept else "a note, or what is kept, without a cut"
        )
    start = _index(messages, change.cut)
    if start is None:
        return f"the cut {change.cut!r} is not in the view"
    if messages[start].role == "tool":
        return f"the cut {change.cut!r} falls between a call and its result"
    why = _kept_fault(messages[:start], change.kept)
    if why is not None or note is None:
        return why
    if note.role not in ("user", "system") or note.name != COMPACT_NOTE:
        return f"a note is a user or system message named {COMPACT_NOTE!r}"
    if any(message.name == COMPACT_NOTE for message in messages[start:]):
        return "the cut keeps the old note beside the new one"
    return shape_fault(note)


def _kept_fault(leaving: Sequence[Message], kept: Sequence[str]) -> str | None:
    """Why `kept` of the messages before a cut cannot stay without the others."""
    if not kept:
        return None
    staying = [message for message in leaving if message.id in kept]
    if [message.id for message in staying] != list(kept):
        return "what is kept is not before the cut, in order"
    if any(message.role not in ("user", "system") for message in staying):
        return "what is kept is said by the assistant or a tool"
    if any(message.name == COMPACT_NOTE for message in staying):
        return "the old note is kept"
    return None


def _replacement_fault(messages: Sequence[Message], change: ViewChanged) -> str | None:
    if not change.replaced:
        return None
    head, tail = _split(messages, change)
    kept = {message.id: message for message in (*head, *tail)}
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
    head, tail = _split(messages, change)
    if change.note is not None:
        head.append(change.note)
    if not change.replaced:
        return head + tail
    return [
        replace(message, parts=change.replaced[message.id])
        if message.id in change.replaced
        else message
        for message in (*head, *tail)
    ]


def _split(messages: Sequence[Message], change: ViewChanged) -> tuple[list[Message], list[Message]]:
    """The messages that are kept before the cut, and those from it on."""
    if change.cut is None:
        return [], list(messages)
    start = _index(messages, change.cut)
    assert start is not None
    kept = frozenset(change.kept)
    head = [message for message in messages[:start] if message.id in kept] if kept else []
    return head, list(messages[start:])


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
