"""The codecs without a network: what a message costs to write, and a piece of text to read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from types import MappingProxyType

import msgspec
from msgspec import Struct

from benchmarks.clients.conversation import MESSAGES, ours
from benchmarks.measuring import Watch, expect
from benchmarks.scenarios import PIECE
from benchmarks.table import number
from benchmarks.wire import STREAMS
from llm_client.codec import Codec
from llm_client.protocols import codec_for
from llm_client.stream import Finished, StreamEvent, TextDelta
from llm_client.types import LLMRequest, Message, Transcript

__all__ = ["FULL", "TINY", "CodecRow", "CodecSize", "as_json", "as_table", "measure_codecs"]

_CODECS = MappingProxyType(
    {
        "chat": ("openai_chat", "openai"),
        "responses": ("openai_responses", "openai"),
        "messages": ("anthropic_messages", "anthropic"),
        "gemini": ("gemini", "gemini"),
        "cohere": ("cohere_chat", "cohere"),
        "ollama": ("ollama_native", "ollama"),
    }
)
_READ = 64 * 1024
"""Bytes that a socket gives at once, when much is there."""

AGAIN = 2.0
"""µs that a message of the history may cost with one more turn."""

DELTA = 3.0
"""µs that a piece of text may cost."""

_TITLES = (
    "µs of CPU",
    "a message sent first",
    "… with one more turn",
    "… and with a `cache_key`",
    "a piece of text, alone",
    "… among many",
)


class CodecRow(Struct, frozen=True, kw_only=True):
    """CPU of one protocol's codec, in µs: the median of the repetitions.

    Attributes:
        first: a message of a long history, encoded for the first time.
        again: a message of that history, when one more turn follows.
        keyed: the same, where the request has a `cache_key`.
        alone: a piece of text whose event comes alone.
        together: a piece of text whose event comes with many others.
    """

    protocol: str
    first: float
    again: float
    keyed: float
    alone: float
    together: float


class CodecSize(Struct, frozen=True):
    """How much work one repetition is: turns of four messages each, and pieces of text."""

    repetitions: int
    turns: int
    chunks: int


FULL = CodecSize(repetitions=7, turns=500, chunks=5000)
TINY = CodecSize(repetitions=1, turns=5, chunks=20)


def measure_codecs(size: CodecSize) -> list[CodecRow]:
    """Measures all codecs.

    Raises:
        WrongResult: an answer was not read as it was written, or a message is missing in a body.
    """
    return [_measured(name, size) for name in _CODECS]


def _measured(name: str, size: CodecSize) -> CodecRow:
    turns, chunks = size.turns, size.chunks
    codec = codec_for(*_CODECS[name])
    events = STREAMS[name](chunks)
    whole = b"".join(events)
    reads = [whole[at : at + _READ] for at in range(0, len(whole), _READ)]

    def median_of(once: Callable[[], float]) -> float:
        once()
        return median([once() for _ in range(size.repetitions)])

    return CodecRow(
        protocol=name,
        first=median_of(lambda: _first(codec, turns)),
        again=median_of(lambda: _again(codec, turns, None)),
        keyed=median_of(lambda: _again(codec, turns, "conversation")),
        alone=median_of(lambda: _read(codec, events, chunks)),
        together=median_of(lambda: _read(codec, reads, chunks)),
    )


def _history(turns: Iterable[int]) -> list[Message]:
    return [message for turn in turns for message in ours(turn)]


def _encode(codec: Codec, messages: list[Message], key: str | None) -> float:
    watch = Watch()
    request = LLMRequest(Transcript(messages), model="mock", cache_key=key)
    encoded = codec.encode(request, stream=False)
    sample = watch.sample(len(messages), 1e6)
    found = b"".join(encoded.body).count(b"What is the weather")
    expect(found, len(messages) // MESSAGES, "questions in the body")
    return sample.value


def _first(codec: Codec, turns: int) -> float:
    return _encode(codec, _history(range(turns)), None)


def _again(codec: Codec, turns: int, key: str | None) -> float:
    messages = _history(range(turns))
    _encode(codec, messages, key)
    messages += ours(turns)
    return _encode(codec, messages, key)


def _read(codec: Codec, pieces: Sequence[bytes], chunks: int) -> float:
    decoder = codec.decoder()
    events: list[StreamEvent] = []
    watch = Watch()
    for piece in pieces:
        events += decoder.feed(piece)
    events += decoder.close()
    sample = watch.sample(chunks, 1e6)
    text = "".join([event.text for event in events if isinstance(event, TextDelta)])
    expect(text, PIECE * chunks, "the text")
    expect(isinstance(events[-1], Finished), True, "the end")
    return sample.value


def as_table(rows: Sequence[CodecRow]) -> str:
    """A Markdown table. What misses its aim is bold."""
    lines = [f"| {' | '.join(_TITLES)} |", "|---" * len(_TITLES) + "|"]
    aims: Mapping[str, float] = {"again": AGAIN, "keyed": AGAIN, "alone": DELTA, "together": DELTA}
    for row in rows:
        values = msgspec.structs.asdict(row)
        shown = [
            f"**{number(value)}**" if value > aims.get(name, value) else number(value)
            for name, value in values.items()
            if name != "protocol"
        ]
        lines.append(f"| {row.protocol} | {' | '.join(shown)} |")
    lines.append(f"| aim | – | ≤ {AGAIN:g} | ≤ {AGAIN:g} | ≤ {DELTA:g} | ≤ {DELTA:g} |")
    return "\n".join(lines)


def as_json(rows: Sequence[CodecRow]) -> bytes:
    """`{"rows": [{"protocol", "first", "again", "keyed", "alone", "together"}]}`."""
    return msgspec.json.format(msgspec.json.encode({"rows": rows}))
