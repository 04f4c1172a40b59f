"""Ways to cut and to end a stream of bytes, for the figures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from random import Random

import msgspec

from llm_client.codecs._json import as_dict, as_list
from tests.chat_streams import built_streams, recorded_streams

LONGEST = 16_000
NEWLINES = (("LF", b"\n"), ("CRLF", b"\r\n"), ("CR", b"\r"))

_DATA = re.compile(rb"^data: ?(.*?)\r*$", re.MULTILINE)


def streams() -> list[bytes]:
    """All streams of at most 16 kB, with LF as line end: recorded ones where there is a corpus."""
    found = [*built_streams(), *recorded_streams(LONGEST)]
    return [stream.replace(b"\r\n", b"\n") for stream in found]


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


def positive_end(stream: bytes) -> int | None:
    """Where the answer in `stream` is first complete, found without any decoder of ours: behind the
    chunk with a finish reason, or behind the end marker. None if it never is."""
    for match in _DATA.finditer(stream):
        payload = match.group(1)
        if payload == b"[DONE]":
            return match.end(1)
        try:
            chunk = as_dict(msgspec.json.decode(payload))
        except msgspec.DecodeError:
            continue
        if chunk.get("error"):
            return None
        if any(as_dict(choice).get("finish_reason") for choice in as_list(chunk.get("choices"))):
            return match.end(1)
    return None
