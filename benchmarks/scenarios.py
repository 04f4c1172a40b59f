"""What is measured: the parts of each scenario, their size and unit, and what is to be reached."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

__all__ = [
    "ANSWER",
    "FIGURES",
    "FULL",
    "LETTERS",
    "PARTS",
    "PIECE",
    "TINY",
    "FigureOf",
    "Sample",
    "Size",
    "WrongResult",
]

ANSWER = "It is 21 degrees and sunny in Rome, with a light wind from the sea."
PIECE = "Lorem ipsum"
"""Each chunk of a streamed answer brings this."""

LETTERS = "abcdefgh"
PARTS = ("a", "b", "c", "d", "e", "e.memory", "f", "g", "h")
"""What a worker can run. A part with a dot is measured in a fresh process each time."""


class WrongResult(Exception):
    """A run came to another result than it must; its time would mean nothing."""


class Sample(Struct, frozen=True):
    """One measured value: CPU of the whole process (all threads), and wall time where it is one."""

    value: float
    wall: float | None = None


class Size(Struct, frozen=True, kw_only=True):
    """How much work one repetition is.

    Attributes:
        repetitions: how often each side is measured.
        texts: a, sends of one round each.
        loops: b and c, sends in one repetition.
        rounds: b, rounds with one tool each.
        batches: c, rounds with `width` tools each.
        chunks: d, chunks of the streamed answer.
        sessions: e, sessions at the same time, of `steps` model calls each.
        history: f, messages that the long session already has.
        turns: f, turns measured.
        stored: g, turns of the stored session, of one tool call each.
    """

    repetitions: int
    texts: int
    loops: int
    rounds: int = 20
    batches: int = 10
    width: int = 8
    chunks: int = 5000
    sessions: int = 200
    steps: int = 5
    history: int = 2000
    turns: int = 20
    stored: int = 150

    def tools(self, part: str) -> Tools:
        """The shape of part b or c."""
        if part == "b":
            # The answer that ends it is a round as well.
            return Tools(f"tools:{self.rounds}:1", self.rounds, self.rounds + 1)
        calls = self.batches * self.width
        return Tools(f"tools:{self.batches}:{self.width}", calls, calls)


class Tools(Struct, frozen=True):
    """A run with tools: the model that asks for them, how many calls, what time is divided by."""

    model: str
    calls: int
    units: int


FULL = Size(repetitions=7, texts=100, loops=5)
TINY = Size(
    repetitions=1,
    texts=3,
    loops=1,
    rounds=3,
    batches=2,
    width=3,
    chunks=50,
    sessions=4,
    steps=3,
    history=60,
    turns=2,
    stored=20,
)


class FigureOf(Struct, frozen=True):
    """One row of the table, and the part that gives it."""

    part: str
    title: str
    unit: str
    bar: str


FIGURES: Mapping[str, FigureOf] = MappingProxyType(
    {
        "a": FigureOf("a", "one round of text, per round", "ms", "≤ 1.25x, ≤ 0.15 ms of its own"),
        "b": FigureOf(
            "b", "20 rounds of one tool, per round", "ms", "≤ 1.25x, ≤ 0.20 ms of its own"
        ),
        "c": FigureOf(
            "c", "10 rounds of 8 parallel tools, per call", "ms", "≤ 1.6x, ≤ 0.06 ms of its own"
        ),
        "d": FigureOf("d", "a streamed answer of 5,000 chunks, per chunk", "µs", "≤ 16 µs"),
        "e": FigureOf("e", "200 sessions at once, 5 rounds each, per round", "ms", "≤ 1.0x"),
        "e.memory": FigureOf("e.memory", "… memory at the peak, per session", "KiB", "≤ 40 KiB"),
        "f": FigureOf("f", "a turn on a long history, per message of it", "µs", "≤ 2 µs"),
        "f.round10": FigureOf("f", "… that turn at round 10", "ms", "≤ 0.3 ms of its own"),
        "f.round1000": FigureOf("f", "… that turn at round 1,000", "ms", "≤ 0.3 ms of its own"),
        "g": FigureOf("g", "a turn of a session in SQLite", "ms", "≤ 0.6 ms of its own"),
        "g.growth": FigureOf("g", "… turn 150 against turn 1", "x", "≤ 2.5x"),
        "g.storage": FigureOf("g", "… the database after 150 turns", "KiB", "≤ 200 KiB"),
        "h.import": FigureOf("h", "cold start: the import", "ms", "≤ 50 ms"),
        "h.client": FigureOf("h", "cold start: with a client built", "ms", "≤ 1.1x"),
    }
)
