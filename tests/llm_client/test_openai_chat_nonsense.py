"""What is no answer at all: a typed error, never a crash, never half an answer."""

from __future__ import annotations

import msgspec
import pytest

from llm_client.codecs.openai_chat import OpenAIChatCodec
from llm_client.errors import (
    LLMError,
    MalformedResponse,
    Overloaded,
)
from llm_client.stream import Finished, StreamEvent, TextDelta
from tests.chat_streams import answer, chunk, decode, read, sse, whole
from tests.decoding import accumulate, pieces


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"<html><body>502 Bad Gateway</body></html>",
        b"upstream connect error",
        b"[]",
        b"null",
        b"{}",
        b'"text"',
        b"[" * 100_000 + b"]" * 100_000,
        b'{"choices":[]}',
        b'{"choices":null}',
        b'{"choices":[null]}',
        b'{"choices":[{"message":null}]}',
        b'{"choices":[{"message":{"content":5}}]}',
        b'{"choices":[{"message":{"content":"x","tool_calls":{}}}]}',
        b'{"choices":[{"message":{"content":"x","tool_calls":[null]}}]}',
        b'{"choices":[{"message":{"tool_calls":[{"function":{"name":5}}]}}]}',
        b'{"choices":[{"message":{"content":"x"},"finish_reason":5}]}',
        b'{"choices":[{"message":{"content":"x","refusal":5}}]}',
        b'{"choices":[{"message":{"content":' + b"[" * 900 + b"]" * 900 + b"}}]}",
    ],
)
def test_a_body_that_is_no_answer_is_a_typed_error(body: bytes) -> None:
    """S29, A07: never a crash; short, with the status and what it begins with."""
    with pytest.raises(LLMError) as found:
        decode(body)
    assert isinstance(found.value, MalformedResponse)
    assert found.value.status == 200
    assert len(str(found.value)) < 900
    events, error = read([body])
    assert isinstance(error, LLMError)
    assert events == [] or not isinstance(events[-1], Finished)


def test_a_page_of_a_proxy_is_quoted_in_short() -> None:
    """S29: whoever reads the error must see what it was."""
    page = b"<!DOCTYPE html><html><title>Sign in to the network</title>" + b" " * 5000
    for error in (read([page])[1], read(pieces(page, 7))[1]):
        assert isinstance(error, MalformedResponse)
        assert "Sign in to the network" in error.message


def test_a_body_sent_where_a_stream_was_asked_for_is_read() -> None:
    """Some servers ignore `stream`; a refusal comes so, too."""
    body = msgspec.json.encode(whole({"content": "Hello"}))
    for parts in ([body], pieces(body, 5), [b"  \n", body]):
        events, error = read(parts)
        assert error is None
        assert accumulate(events).text == "Hello"
    _, error = read([b'{"error":{"message":"Overloaded","code":503}}'])
    assert isinstance(error, Overloaded)


def test_a_stream_sent_where_a_body_was_asked_for_is_read() -> None:
    """Some servers always stream."""
    assert decode(sse(chunk({"content": "Hello"}), chunk(finish="stop"))).text == "Hello"


@pytest.mark.parametrize(
    "payload",
    [
        "not json",
        "[]",
        "null",
        "5",
        '{"choices":5}',
        '{"choices":[5]}',
        '{"choices":[{"delta":5}]}',
        '{"choices":[{"delta":{"content":{}}}]}',
        '{"choices":[{"delta":{"tool_calls":"x"}}]}',
        '{"choices":[{"delta":{"tool_calls":["x"]}}]}',
        '{"choices":[{"delta":{"tool_calls":[{"function":{"name":{}}}]}}]}',
        '{"choices":[{"delta":{},"finish_reason":{}}]}',
        "[" * 100_000,
        '{"choices":' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
)
def test_a_chunk_that_makes_no_sense_is_a_typed_error(payload: str) -> None:
    """Wrong types, no JSON, nested without end."""
    with pytest.raises(MalformedResponse):
        answer(chunk({"content": "x"}), payload, chunk(finish="stop"))


@pytest.mark.parametrize(
    "payload",
    [
        '{"choices":[{"index":0,"delta":{"content":"x"},"logprobs":NaN}]}',
        '{"choices":[{"index":0,"delta":{"content":"x"}}],"usage":{"cost":-Infinity}}',
        '{"choices":[{"index":0,"delta":{"content":"x"}}],"created":' + "9" * 5000 + "}",
        '{"choices":[{"index":null,"delta":{"content":"x"}}]}',
        '{"choices":[{"delta":{"content":"x"}}],"id":5,"model":null}',
        '{"choices":[{"index":0,"delta":{"content":"x","tool_calls":[]}}],"unknown":[{}]}',
    ],
)
def test_nonsense_beside_the_answer_does_not_spoil_it(payload: str) -> None:
    """A07: NaN, infinities, endless integers, missing or odd fields that nobody needs."""
    assert answer(payload, chunk(finish="stop")).text == "x"


def test_a_refused_stream_stays_refused() -> None:
    """Feeding on after an error gives the same error, not half an answer."""
    decoder = OpenAIChatCodec().decoder()
    with pytest.raises(MalformedResponse):
        decoder.feed(b"data: nonsense\n\n")
    assert decoder.done
    with pytest.raises(MalformedResponse):
        decoder.feed(sse(chunk({"content": "x"}, "stop")))
    with pytest.raises(MalformedResponse):
        decoder.close()


def test_an_error_behind_good_events_is_raised_after_them() -> None:
    """The events of one read of the network must not depend on what else it brought."""
    decoder = OpenAIChatCodec().decoder()
    events: list[StreamEvent] = list(
        decoder.feed(sse(chunk({"content": "x"}), "nonsense", done=False))
    )
    assert events[-1] == TextDelta("x")
    assert decoder.done
    with pytest.raises(MalformedResponse):
        decoder.close()


def test_unusual_chunks_are_read_the_same_before_and_after_usual_ones() -> None:
    """The fast path gives up after a few; that must not show."""
    odd = {
        "index": 0,
        "delta": {"content": "o", "thinking": ""},
        "finish_reason": None,
        "usage": None,
    }
    usual = chunk({"content": "u"})
    response = answer(*([{"choices": [odd]}, usual] * 5), chunk(finish="stop"))
    assert response.text == "ou" * 5
    assert (
        answer(*([usual] * 5), *([{"choices": [odd]}] * 5), chunk(finish="stop")).text
        == "u" * 5 + "o" * 5
    )
