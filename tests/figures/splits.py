"""Ways to cut a stream of bytes, for the figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

LONGEST = 16_000


def with_newlines(stream: bytes, newline: bytes) -> bytes:
    """`stream` with other line ends."""
    return stream if newline == b"\n" else stream.replace(b"\n", newline)


def random_pieces(stream: bytes, random: Random, count: int) -> list[bytes]:
    """`stream` cut into `count` pieces at random places."""
    edges = [0, *sorted(random.randint(0, len(stream)) for _ in range(count - 1)), len(stream)]
    return [stream[edges[i] : edges[i + 1]] for i in range(count)]


def two_pieces(stream: bytes, step: int, first: int) -> Iterator[Sequence[bytes]]:
    """`stream` cut in two at every `step`-th place from `first` on."""
    for place in range(first, len(stream) + 1, step):
        yield stream[:place], stream[place:]
