"""Messages that are to stay in the view, verbatim, whatever else leaves it."""

from __future__ import annotations

from collections.abc import Sequence

from llm_client.types import Message

__all__ = ["PINNED_META", "standing_pins"]

PINNED_META = "pinned"
"""The key of a message's `meta` that pins the message. What stands under it is the pin's name: a
later pin of the same name stands in for it. Those named "" stand for themselves."""


def standing_pins(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The pinned messages of users and the system that nothing later stands in for, in order."""
    found: list[Message] = []
    seen: set[str] = set()
    for at in range(len(messages) - 1, -1, -1):
        message = messages[at]
        name = None if message.meta is None else message.meta.get(PINNED_META)
        if name is None or name in seen or message.role not in ("user", "system"):
            continue
        if name:
            seen.add(name)
        found.append(message)
    return tuple(reversed(found))
