"""Server-sent events: the same events however the bytes are cut and the lines end."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_client.errors import MalformedResponse
from llm_client.sse import SSEParser
from tests.decoding import pieces


def parse(*parts: bytes) -> list[tuple[str, bytes]]:
    """All events of a stream that comes in `parts`."""
    parser = SSEParser()
    return [event for part in parts for event in parser.feed(part)] + parser.close()


STREAM = (
    b'data: {"a":1}\n\n: comment\n\nevent: note\ndata: one\ndata: two\nid: 7\nretry: 10\n\n'
    b"data:tight\n\n\n\ndata\n\ndata: \xe2\x80\xa8 \xc3\xa9 \xf0\x9f\x8c\x8d\n\ndata: last"
)
EVENTS = [
    ("", b'{"a":1}'),
    ("note", b"one\ntwo"),
    ("", b"tight"),
    ("", b""),
    ("", b"\xe2\x80\xa8 \xc3\xa9 \xf0\x9f\x8c\x8d"),
    ("", b"last"),
]


def test_events_are_cut_at_blank_lines_and_fields_are_read_as_the_standard_says() -> None:
    """Names, several data lines, missing spaces, comments, unknown fields, an unterminated end."""
    assert parse(STREAM) == EVENTS


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_every_cut_into_two_pieces_gives_the_same_events(newline: bytes) -> None:
    """S02: a line, an event, a CRLF and a UTF-8 character may all be cut by the network."""
    stream = STREAM.replace(b"\n", newline)
    for cut in range(len(stream) + 1):
        assert parse(stream[:cut], stream[cut:]) == EVENTS, cut


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_small_pieces_give_the_same_events_s02(size: int, newline: bytes) -> None:
    """S02: byte by byte is only the worst case of a slow network."""
    assert parse(*pieces(STREAM.replace(b"\n", newline), size)) == EVENTS


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"data: x", b":", b"event: e"])), st.data())
def test_no_cut_of_any_stream_changes_its_events(parts: list[bytes], data: st.DataObject) -> None:
    """S02: an invariant of the parser, whatever the server writes."""
    stream = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=4)))
    edges = [0, *cuts, len(stream)]
    split = [stream[start:end] for start, end in pairwise(edges)]
    assert parse(*split) == parse(stream)


def test_an_event_is_given_out_as_soon_as_its_blank_line_has_come() -> None:
    """A stream with CR alone must not be held back for an LF that never comes."""
    for newline in (b"\n", b"\r\n", b"\r"):
        assert SSEParser().feed(b"data: x" + newline + newline) == [("", b"x")]


def test_a_byte_order_mark_is_skipped_at_the_start_only() -> None:
    """However it is cut; anywhere else those bytes are data."""
    mark = b"\xef\xbb\xbf"
    stream = mark + b"data: " + mark + b"x\n\n"
    for cut in range(len(stream) + 1):
        assert parse(stream[:cut], stream[cut:]) == [("", mark + b"x")]


def test_line_separators_of_unicode_do_not_end_a_line() -> None:
    """U+2028, U+2029, U+0085 and vertical tab may stand in a JSON string."""
    text = "a\u2028b\u2029c\u0085d\x0be".encode()
    assert parse(b"data: " + text + b"\n\n") == [("", text)]


def test_comments_and_pings_produce_nothing_s28() -> None:
    """S28: they keep the connection awake, and say nothing to the reader."""
    assert parse(b": OPENROUTER PROCESSING\n\n: keep-alive\n\nevent: ping\n\n") == []


def test_an_event_larger_than_the_limit_is_refused_whole_and_in_pieces() -> None:
    """A server that never ends an event must not fill the memory."""
    for parts in ([b"data: " + b"x" * 200 + b"\n\n"], [b"data: "] + [b"x" * 10] * 20):
        parser = SSEParser(limit=100)
        with pytest.raises(MalformedResponse, match="larger than 100 bytes"):
            for part in parts:
                parser.feed(part)


def test_an_event_of_exactly_the_limit_is_accepted_however_it_is_cut() -> None:
    """The limit must not depend on the cut either."""
    stream = b"data: " + b"x" * 94 + b"\n\n"
    for size in (1, 3, len(stream)):
        parser = SSEParser(limit=100)
        found = [event for part in pieces(stream, size) for event in parser.feed(part)]
        assert found == [("", b"x" * 94)]


def test_many_events_together_may_exceed_the_limit_of_one() -> None:
    """The limit is on an event, not on what one read of the network brings."""
    assert len(SSEParser(limit=20).feed(b"data: x\n\n" * 50)) == 50


def test_an_error_field_is_an_error_event() -> None:
    """Recorded from a llama.cpp server, which reports failures in mid-stream so."""
    assert parse(b'data: x\n\nerror: {"a":1}\n\n') == [("", b"x"), ("error", b'{"a":1}')]


def test_an_indented_field_is_not_a_field() -> None:
    """The standard allows no space before a name; the vendor's SDK ignores such a line, too."""
    assert parse(b" data: x\n\ndata: y\n\n") == [("", b"y")]


def test_the_bytes_of_a_slow_event_are_joined_once() -> None:
    """A megabyte that comes byte by byte takes time in proportion to its length."""
    parser = SSEParser()
    assert parser.feed(b"data: ") == []
    for _ in range(100_000):
        assert parser.feed(b"x") == []
    assert parser.feed(b"\n\n") == [("", b"x" * 100_000)]
