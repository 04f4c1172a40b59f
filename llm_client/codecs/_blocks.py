"""Encoded transcripts that grow: a round costs the same at the tenth message and at the
ten-thousandth.

A conversation keeps what it has encoded as sealed blocks of about 64 KiB and an open tail. The next
request of the same conversation encodes only its new messages; whether its beginning is still the
same is decided by identity of the list, or of each message, never by comparing contents.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from llm_client.types import Message, Transcript

__all__ = ["Conversation", "ConversationCache"]

S = TypeVar("S")

_SEAL_AT = 64 * 1024

Step = Callable[[S, Message, int], tuple[S, Sequence[bytes]]]
"""Encodes one message: from the state before it, the message and its position, the state after it
and the JSON values it becomes. Raises LocalProtocolError if it may not stand there."""


class _Block(Generic[S]):
    __slots__ = ("data", "end", "state")

    def __init__(self, data: bytes, end: int, state: S) -> None:
        self.data = data
        self.end = end
        self.state = state


class Conversation(Generic[S]):
    """The encoded messages of one conversation. `state` is the state after the last one."""

    __slots__ = (
        "_blocks",
        "_count",
        "_first",
        "_marks",
        "_messages",
        "_sealed",
        "_size",
        "_tail",
        "state",
    )

    def __init__(self, first: S) -> None:
        self._first = first
        self._messages: Sequence[Message] = ()
        self._blocks: list[_Block[S]] = []
        self._tail: list[bytes] = []
        self._marks: list[tuple[int, int, S]] = []
        """For each message of the tail, what the tail and the state were before it."""
        self._size = 0
        self._sealed = 0
        self._count = 0
        self.state = first

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._size + self._sealed

    def update(self, messages: Sequence[Message], step: Step[S]) -> list[bytes]:
        """The pieces that, one after the other, are the JSON values of `messages`, comma-separated.

        Raises:
            LocalProtocolError: from `step`; the conversation must then be thrown away.
        """
        self._rewind(self._common(messages))
        state = self.state
        for position, message in enumerate(messages[self._count :], self._count):
            self._marks.append((len(self._tail), self._size, state))
            state, values = step(state, message, position)
            for value in values:
                self._tail.append(value)
                self._size += len(value) + 1
            if self._size >= _SEAL_AT:
                self._seal(position + 1, state)
        self.state = state
        self._count = len(messages)
        self._messages = _snapshot(messages)
        pieces = [block.data for block in self._blocks]
        if self._tail:
            pieces.append(self._joined())
        return pieces

    def _common(self, messages: Sequence[Message]) -> int:
        """How many of the encoded messages `messages` begins with."""
        old = self._messages
        if isinstance(old, Transcript) and isinstance(messages, Transcript):
            if old.backing is messages.backing and old.start == messages.start:
                return min(self._count, len(messages))
        elif old is messages and isinstance(messages, tuple):
            return self._count
        common = 0
        for before, now in zip(old, messages, strict=False):
            if before is not now:
                break
            common += 1
        return common

    def _rewind(self, common: int) -> None:
        """Forgets what lies behind the first `common` messages; where they end inside a sealed
        block, that block too."""
        if common == self._count:
            return
        while self._blocks and self._blocks[-1].end > common:
            self._sealed -= len(self._blocks.pop().data)
            self._marks.clear()
        last = self._blocks[-1] if self._blocks else None
        sealed = last.end if last else 0
        if common - sealed < len(self._marks):
            length, self._size, self.state = self._marks[common - sealed]
            del self._tail[length:], self._marks[common - sealed :]
            self._count = common
            return
        self._tail.clear()
        self._size = 0
        self._count = sealed
        self.state = last.state if last else self._first

    def _seal(self, end: int, state: S) -> None:
        data = self._joined()
        self._blocks.append(_Block(data, end, state))
        self._sealed += len(data)
        self._tail.clear()
        self._marks.clear()
        self._size = 0

    def _joined(self) -> bytes:
        joined = b",".join(self._tail)
        return b"," + joined if self._blocks else joined


def _snapshot(messages: Sequence[Message]) -> Sequence[Message]:
    if isinstance(messages, Transcript):
        # Another slice object over the same list: the caller's may be of any subclass or be
        # changed.
        return Transcript(messages.backing, messages.start, messages.stop)
    return messages if isinstance(messages, tuple) else tuple(messages)


class ConversationCache(Generic[S]):
    """The most recently used conversations by key, at most `entries` of them and `limit` bytes."""

    __slots__ = ("_entries", "_kept", "_limit", "_new", "_sizes", "_total")

    def __init__(self, new: Callable[[], Conversation[S]], entries: int, limit: int) -> None:
        self._new = new
        self._entries = entries
        self._limit = limit
        self._kept: OrderedDict[str, Conversation[S]] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._total = 0

    def __len__(self) -> int:
        return len(self._kept)

    def take(self, key: str) -> Conversation[S]:
        """Takes the conversation out; `put` it back when it is whole again."""
        found = self._kept.pop(key, None)
        self._total -= self._sizes.pop(key, 0)
        return self._new() if found is None else found

    def put(self, key: str, conversation: Conversation[S]) -> None:
        """Keeps the conversation as the most recently used one."""
        size = conversation.size
        self._kept[key] = conversation
        self._sizes[key] = size
        self._total += size
        while len(self._kept) > self._entries or (
            self._total > self._limit and len(self._kept) > 1
        ):
            oldest, _ = self._kept.popitem(last=False)
            self._total -= self._sizes.pop(oldest)
