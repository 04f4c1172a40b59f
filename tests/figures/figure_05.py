"""Figure 5: the events of a stream do not depend on how the network cut its bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random

from llm_client.codecs.openai_chat import COMPATIBLE, OpenAIChatCodec
from llm_client.errors import LLMError
from llm_client.stream import StreamEvent
from tests.chat_streams import pieces
from tests.figures.chat_splits import (
    NEWLINES,
    random_pieces,
    streams,
    two_pieces,
    with_newlines,
)
from tests.figures.result import FigureResult

_FULL = 5_000_000
_SMALL_STEP = 97
_CODEC = OpenAIChatCodec(COMPATIBLE)

Seen = tuple[list[StreamEvent], str]


def run(full: bool) -> FigureResult:
    """All cuts in two with LF, CRLF and CR, byte by byte, and random cuts up to five million."""
    random = Random(5)
    failures: list[str] = []
    cases = 0
    found = streams()
    for number, stream in enumerate(found):
        for name, newline in NEWLINES:
            body = with_newlines(stream, newline)
            expected = _read([body])
            if newline != b"\n" and expected != _read([stream]):
                failures.append(f"stream {number}: {name} changes its events")
            step = 1 if full else _SMALL_STEP
            first = 0 if full else random.randrange(_SMALL_STEP)
            for parts in (*_fine(body), *two_pieces(body, step, first)):
                cases += 1
                if _read(parts) != expected:
                    failures.append(f"stream {number} {name}: {list(map(len, parts))[:8]} differs")
    wanted = _FULL if full else cases + 500
    cases += _random_cuts(found, wanted - cases, random, failures)
    return FigureResult(
        cases,
        tuple(failures[:100]),
        f"{len(found)} streams up to 16 kB: all cuts in two with LF, CRLF and CR, byte by byte, "
        "and random cuts; identical events" + ("" if full else f" (every {_SMALL_STEP}th cut)"),
    )


def _fine(body: bytes) -> Iterable[Sequence[bytes]]:
    return (pieces(body, 1), pieces(body, 7))


def _random_cuts(found: list[bytes], count: int, random: Random, failures: list[str]) -> int:
    """Cuts into up to nine pieces; short streams more often, since they cost less."""
    short = sorted(found, key=len)[: max(1, len(found) // 3)]
    bodies = [with_newlines(stream, newline) for stream in short for _, newline in NEWLINES]
    expected = [_read([body]) for body in bodies]
    for _ in range(max(0, count)):
        place = random.randrange(len(bodies))
        parts = random_pieces(bodies[place], random, random.randint(2, 9))
        if _read(parts) != expected[place]:
            failures.append(f"random cut of stream {place}: {list(map(len, parts))} differs")
    return max(0, count)


def _read(parts: Sequence[bytes]) -> Seen:
    decoder = _CODEC.decoder()
    events: list[StreamEvent] = []
    try:
        for part in parts:
            events += decoder.feed(part)
        events += decoder.close()
    except LLMError as error:
        return events, f"{type(error).__name__}: {error.message}"
    return events, ""
