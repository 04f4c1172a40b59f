"""Where a view may be cut, and what stays in any case."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from llm_client.types import Message
from power_loop.runtime.compaction.base import ContextSize
from power_loop.session.pins import standing_pins
from power_loop.session.view import COMPACT_NOTE

__all__ = ["Cut", "cut_of", "stays"]

_SHARE_OF_FIRST = 4


def stays(view: Sequence[Message], size: ContextSize) -> frozenset[str]:
    """Ids of the messages that stay in the view, word for word, whatever leaves it.

    The run's task; what is pinned; system messages that stand before all others; and what the
    session began with, as long as it is no more than a quarter of what the prompt may have.
    """
    kept = {m.id for m in standing_pins(view)}
    kept |= {m.id for m in view if m.id in size.task}
    for message in view:
        if message.role == "system":
            kept.add(message.id)
        elif message.name != COMPACT_NOTE:
            break
    first = next((m for m in view if m.role == "user" and m.name != COMPACT_NOTE), None)
    if first is not None and size.count(first) <= size.limit // _SHARE_OF_FIRST:
        kept.add(first.id)
    said = {m.id for m in view if m.role in ("user", "system") and m.name != COMPACT_NOTE}
    return frozenset(kept & said)


class Cut(Struct, frozen=True):
    """A place to cut a view: the message at `at` is the first that stays as it is.

    `kept` are the messages before it that stay, `leaving` those that do not.
    """

    at: int
    kept: tuple[Message, ...]
    leaving: tuple[Message, ...]


def cut_of(view: Sequence[Message], size: ContextSize, note: int, exchanges: int) -> Cut | None:
    """Where to cut, so that a note of `note` tokens brings the prompt down to its aim.

    The last `exchanges` exchanges stay, each begun by the user. Where they are too large, or there
    are not so many, as many of the newest messages stay as fit, and never fewer than the last
    answer with its results. None if nothing can leave.
    """
    kept = stays(view, size)
    counts = [size.count(message) for message in view]
    room, wanted = size.aim - size.overhead - note, _exchange(view, exchanges)
    behind, ahead, leaves = sum(counts), 0, False
    found: int | None = None
    for at, message in enumerate(view):
        noted = message.name == COMPACT_NOTE
        if leaves and at >= wanted and message.role != "tool" and not noted:
            found = at
            if ahead + behind <= room:
                break
        behind -= counts[at]
        if message.id in kept:
            ahead += counts[at]
        elif not noted:
            leaves = True
    if found is None:
        return None
    before = view[:found]
    return Cut(
        found,
        tuple([message for message in before if message.id in kept]),
        tuple([message for message in before if message.id not in kept]),
    )


def _exchange(view: Sequence[Message], count: int) -> int:
    """Where the last `count` exchanges begin; 0 if there are not more."""
    begun = 0
    for at in range(len(view) - 1, 0, -1):
        message = view[at]
        if message.role != "user" or message.name == COMPACT_NOTE:
            continue
        if view[at - 1].role != "user":
            begun += 1
            if begun == count:
                return at
    return 0
