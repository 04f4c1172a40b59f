"""What a transcript has come to: a fold that goes on where it had been."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from llm_client.types import Message, Transcript

__all__ = ["Followed"]

T = TypeVar("T")

_SESSIONS = 256
"""Of so many, the state is kept; of an older one the view is read again. They are as many as a loop
keeps folded."""


class Followed(Generic[T]):
    """A fold over the views of sessions.

    What it comes to is what `step` makes of the view from its first message to its last: the same
    in another process, after a crash, and in a replay. A view that has only grown is read on, so a
    round costs the same in a long session; after a compaction or a rewind it is another list, and
    is read from its beginning.
    """

    def __init__(self, start: T, step: Callable[[T, Message], T]) -> None:
        """`start` is what an empty view comes to. States are never changed, only replaced."""
        self._start = start
        self._step = step
        self._known: dict[str, tuple[Transcript, T]] = {}

    def of(self, session_id: str, messages: Sequence[Message]) -> T:
        """What the view of a session has come to."""
        read, state = 0, self._start
        known = self._known.pop(session_id, None)
        if known is not None and isinstance(messages, Transcript) and _grew(known[0], messages):
            read, state = len(known[0]), known[1]
        for at in range(read, len(messages)):
            state = self._step(state, messages[at])
        if isinstance(messages, Transcript):
            while len(self._known) >= _SESSIONS:
                del self._known[next(iter(self._known))]
            self._known[session_id] = messages, state
        return state


def _grew(old: Transcript, new: Transcript) -> bool:
    return old.backing is new.backing and old.start == new.start and old.stop <= new.stop
