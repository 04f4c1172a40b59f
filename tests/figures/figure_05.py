"""Figure 5: the events of a stream do not depend on how the network cut its bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from random import Random

from msgspec import Struct

from llm_client.codec import Decoder
from llm_client.errors import LLMError
from llm_client.stream import StreamEvent
from tests.decoding import pieces
from tests.figures.result import FigureResult
from tests.figures.splits import LONGEST, random_pieces, two_pieces, with_newlines
from tests.wire_protocols import all_streams

_FULL = 5_000_000
_SMALL_STEP = 197

Seen = tuple[list[StreamEvent], str]


class _Body(Struct, frozen=True):
    """A stream under one kind of line end, and what it says."""

    name: str
    decoder: Callable[[], Decoder]
    bytes: bytes
    expected: Seen


def run(full: bool) -> FigureResult:
    """All cuts in two with LF, CRLF and CR, byte by byte, and random cuts up to five million."""
    random = Random(5)
    failures: list[str] = []
    bodies = _bodies(failures)
    counts: Counter[str] = Counter()
    for body in bodies:
        step = 1 if full else _SMALL_STEP
        first = 0 if full else random.randrange(_SMALL_STEP)
        for parts in (*_fine(body.bytes), *two_pieces(body.bytes, step, first)):
            counts[body.name.partition(" ")[0]] += 1
            if _read(body.decoder, parts) != body.expected:
                failures.append(f"{body.name}: {list(map(len, parts))[:8]} differs")
    cases = counts.total()
    wanted = _FULL if full else cases + 500
    cases += _random_cuts(bodies, wanted - cases, random, failures)
    told = ", ".join(f"{name} {count}" for name, count in counts.items())
    return FigureResult(
        cases,
        tuple(failures[:100]),
        f"{len(bodies)} streams up to 16 kB with their kinds of line ends: all cuts in two and "
        f"byte by byte ({told}), and random cuts; identical events"
        + ("" if full else f" (every {_SMALL_STEP}th cut)"),
    )


def _bodies(failures: list[str]) -> list[_Body]:
    found: list[_Body] = []
    for protocol, number, stream in all_streams(LONGEST):
        decoder = protocol.codec().decoder
        plain = _read(decoder, [stream])
        for newline in protocol.newlines:
            name = f"{protocol.name} {number} {newline!r}"
            body = with_newlines(stream, newline)
            expected = _read(decoder, [body])
            if expected != plain:
                failures.append(f"{name}: its line ends change its events")
            found.append(_Body(name, decoder, body, expected))
    return found


def _fine(body: bytes) -> Iterable[Sequence[bytes]]:
    return (pieces(body, 1), pieces(body, 7))


def _random_cuts(bodies: list[_Body], count: int, random: Random, failures: list[str]) -> int:
    """Cuts into up to nine pieces; short streams more often, since they cost less."""
    short = sorted(bodies, key=lambda body: len(body.bytes))[: max(1, len(bodies) // 3)]
    for _ in range(max(0, count)):
        body = random.choice(short)
        parts = random_pieces(body.bytes, random, random.randint(2, 9))
        if _read(body.decoder, parts) != body.expected:
            failures.append(f"random cut of {body.name}: {list(map(len, parts))} differs")
    return max(0, count)


def _read(make: Callable[[], Decoder], parts: Sequence[bytes]) -> Seen:
    decoder = make()
    events: list[StreamEvent] = []
    try:
        for part in parts:
            events += decoder.feed(part)
        events += decoder.close()
    except LLMError as error:
        return events, f"{type(error).__name__}: {error.message}"
    return events, ""
