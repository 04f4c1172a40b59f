"""Chunks that came together are made into one for the engine: the body stays the same."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_client.transport.chunks import ChunkMerger

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def chunk(body: bytes) -> bytes:
    """`body` as one chunk."""
    return b"%x\r\n%b\r\n" % (len(body), body)


def read(pieces: Sequence[bytes]) -> tuple[list[bytes], str]:
    """What h11 makes of an answer: its pieces of body, and how it ended."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="POST", target="/", headers=[("host", "a")]))
    connection.send(h11.EndOfMessage())
    bodies: list[bytes] = []
    try:
        for piece in pieces:
            connection.receive_data(piece)
            while True:
                event = connection.next_event()
                if isinstance(event, h11.Data):
                    bodies.append(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage):
                    return bodies, "end"
                elif event in (h11.NEED_DATA, h11.PAUSED):
                    break
    except h11.RemoteProtocolError as error:
        return bodies, str(error)
    return bodies, "more"


def merged(pieces: Sequence[bytes]) -> list[bytes]:
    """What is passed on for `pieces`."""
    merger = ChunkMerger()
    return [merger.merge(piece) for piece in pieces]


def split(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """`data`, cut at each of `cuts`."""
    places = [0, *sorted({cut % len(data) for cut in cuts} - {0}), len(data)]
    return [data[a:b] for a, b in pairwise(places)]


BODIES = st.lists(
    st.one_of(st.binary(min_size=1, max_size=40), st.just(b"\r\n"), st.just(b"5\r\n"))
)
ODD = [b"\r\n", b"\n", b"1", b"1\n", b";x", b"+1\r\nd\r\n", b"0_1\r\nd\r\n", b"1\r\nabc"]
WIRE = st.lists(st.sampled_from([HEAD, LAST, chunk(b"a"), chunk(b"bc"), *ODD]))
CUTS = st.lists(st.integers(0, 2000), max_size=30)


@given(bodies=BODIES, cuts=CUTS)
def test_the_body_is_the_same_however_it_was_chunked_and_cut(
    bodies: list[bytes], cuts: list[int]
) -> None:
    """Bodies that look like chunks themselves, cuts in sizes and line ends: nothing is lost."""
    pieces = split(HEAD + b"".join(map(chunk, bodies)) + LAST, cuts)
    found, end = read(merged(pieces))
    assert (b"".join(found), end) == (b"".join(bodies), "end")


@given(wire=WIRE, cuts=CUTS)
def test_what_is_not_http_is_judged_by_the_engine_as_before(
    wire: list[bytes], cuts: list[int]
) -> None:
    """Neither is something accepted that was refused, nor the other way round."""
    pieces = split(HEAD + b"".join(wire), cuts)
    before, end = read(pieces)
    after, end_after = read(merged(pieces))
    assert end_after == end
    # Of a read that is refused in the end, less may have been passed on before.
    assert b"".join(before).startswith(b"".join(after))
    assert end not in ("end", "more") or b"".join(after) == b"".join(before)


@given(bodies=BODIES, cuts=CUTS)
def test_nothing_is_held_back(bodies: list[bytes], cuts: list[int]) -> None:
    """After each read the same is known of the body as without the merger."""
    pieces = split(HEAD + b"".join(map(chunk, bodies)) + LAST, cuts)
    passed = merged(pieces)
    for count in range(1, len(pieces) + 1):
        assert b"".join(read(passed[:count])[0]) == b"".join(read(pieces[:count])[0])


def test_chunks_of_one_read_become_one() -> None:
    """That is what it is for."""
    pieces = [HEAD + chunk(b"one, "), chunk(b"two, ") + chunk(b"three") + LAST]
    assert read(merged(pieces))[0] == [b"one, ", b"two, three"]


def test_a_chunk_cut_by_a_read_does_not_end_the_merging() -> None:
    """Long answers are cut in the middle of a chunk, or of its size, again and again."""
    wire = b"".join(chunk(b"%d, " % number) for number in range(1000)) + LAST
    for length in range(100, 140):
        pieces = [HEAD, *[wire[at : at + length] for at in range(0, len(wire), length)]]
        assert len(read(merged(pieces))[0]) < len(read(pieces)[0]) * 0.5


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx-transfer-encoding: chunked\r\ncontent-length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\ncontent-length: 6\n\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n",
    ],
)
def test_a_body_without_chunks_is_passed_on_as_it_came(head: bytes) -> None:
    """Even if it looks like chunks."""
    wire = head + chunk(b"a")
    assert merged([wire]) == [wire]
    assert read([wire]) == ([chunk(b"a")], "end")
