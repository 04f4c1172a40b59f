"""Counts that grow with their transcript: a message is counted once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from llm_client.tokens.base import TokenEstimate
from llm_client.types import Audio, File, Image, Message, Part, Text, ToolResult, Transcript

__all__ = ["IncrementalCount"]


class _Sums:
    """Of a list of messages from some place on: the tokens of the first 0, 1, 2 … messages, and how
    many of those messages are not exact."""

    __slots__ = ("backing", "steps")

    def __init__(self, backing: list[Message]) -> None:
        self.backing = backing
        self.steps = [(0, 0)]


class IncrementalCount:
    """Sums the tokens of messages, each counted once by `measure`.

    A message is known again by its identity. Of a `Transcript` that has grown, only what is new
    is looked at. When a transcript is forgotten, so is every message that no other one has. Not
    safe for concurrent use by several threads.

    Args:
        measure: counts one message.
        messages: how many messages are remembered.
        size: how many bytes they may have together, about.
        transcripts: how many transcripts are remembered.
    """

    def __init__(
        self,
        measure: Callable[[Message], TokenEstimate],
        *,
        messages: int = 4096,
        size: int = 64 * 1024 * 1024,
        transcripts: int = 32,
    ) -> None:
        self._measure = measure
        self._most = messages
        self._most_bytes = size
        self._bytes = 0
        self._most_transcripts = transcripts
        self._messages: OrderedDict[int, tuple[Message, TokenEstimate]] = OrderedDict()
        self._sums: OrderedDict[tuple[int, int], _Sums] = OrderedDict()

    def message(self, message: Message) -> TokenEstimate:
        """Tokens of one message."""
        # An entry holds the message itself, so that its id cannot pass to another one.
        known = self._messages.get(id(message))
        if known is not None:
            self._messages.move_to_end(id(message))
            return known[1]
        count = self._measure(message)
        self._remember(message, count)
        return count

    def _remember(self, message: Message, count: TokenEstimate) -> None:
        kept = self._messages
        kept[id(message)] = (message, count)
        self._bytes += _size(message.parts)
        while len(kept) > self._most or (self._bytes > self._most_bytes and len(kept) > 1):
            _, (oldest, _) = kept.popitem(last=False)
            self._bytes -= _size(oldest.parts)

    def total(self, messages: Sequence[Message]) -> TokenEstimate:
        """Tokens of all of `messages`."""
        if not isinstance(messages, Transcript):
            return sum(map(self.message, messages), TokenEstimate(0, exact=True))
        steps = self._sums_of(messages).steps
        stable = messages.stop - messages.start
        for position in range(len(steps) - 1, stable):
            tokens, inexact = steps[-1]
            count = self.message(messages[position])
            steps.append((tokens + count.tokens, inexact + (not count.exact)))
        tokens, inexact = steps[stable]
        return sum(map(self.message, messages.tail), TokenEstimate(tokens, not inexact))

    def _sums_of(self, transcript: Transcript) -> _Sums:
        # The same holds for an entry and its list.
        key = (id(transcript.backing), transcript.start)
        sums = self._sums.pop(key, None) or _Sums(transcript.backing)
        self._sums[key] = sums
        if len(self._sums) > self._most_transcripts:
            self._sums.popitem(last=False)
            self._forget_what_left()
        return sums

    def _forget_what_left(self) -> None:
        there = {id(message) for sums in self._sums.values() for message in sums.backing}
        for key in self._messages.keys() - there:
            message, _ = self._messages.pop(key)
            self._bytes -= _size(message.parts)


def _size(parts: tuple[Part, ...]) -> int:
    """Bytes that `parts` hold, as far as it may be many."""
    size = 0
    for part in parts:
        match part:
            case Text():
                size += len(part.text)
            case Image() | Audio() | File():
                size += len(part.data or b"")
            case ToolResult():
                size += _size(part.content)
            case _:
                pass
    return size
