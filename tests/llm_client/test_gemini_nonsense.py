"""What is no answer of Gemini at all: a typed error, never a crash, never half an answer."""

from __future__ import annotations

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_client.codecs.gemini import GeminiCodec
from llm_client.errors import LLMError, MalformedResponse, Overloaded
from llm_client.stream import Finished, TextDelta
from llm_client.types import LLMResponse
from tests.decoding import accumulate, pieces
from tests.gemini_streams import answer, chunk, decode, read, sse, text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"<html><body>502 Bad Gateway</body></html>",
        b"upstream connect error",
        b"[]",
        b"[null]",
        b"[5]",
        b"null",
        b"{}",
        b'"text"',
        b"[" * 100_000 + b"]" * 100_000,
        b'{"candidates":[]}',
        b'{"candidates":null}',
        b'{"candidates":5}',
        b'{"candidates":[null]}',
        b'{"candidates":[{"content":5}]}',
        b'{"candidates":[{"content":{"parts":5}}]}',
        b'{"candidates":[{"content":{"parts":[null]}}]}',
        b'{"candidates":[{"content":{"parts":[{"text":5}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"functionCall":5}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":5}}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"functionCall":{"args":{"a":1}}}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"text":"x"}]},"finishReason":{}}]}',
        b'{"candidates":[{"content":{"parts":[{"text":"x"}]},"finishReason":true}]}',
        b'{"candidates":[{"content":{"parts":[{"inlineData":{"data":"\xc3\xa9"}}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"inlineData":{"data":"a"}}]}}]}',
        b'{"candidates":[{"content":' + b"[" * 900 + b"]" * 900 + b"}]}",
    ],
)
def test_a_body_that_is_no_answer_is_a_typed_error(body: bytes) -> None:
    """S29, A07: never a crash; short, with the status and what it begins with."""
    with pytest.raises(LLMError) as found:
        decode(body)
    assert found.value.status == 200
    assert len(str(found.value)) < 900
    for parts in ([body], pieces(body, 4096), [sse(body.decode())]):
        events, error = read(parts)
        assert isinstance(error, LLMError)
        assert not [event for event in events if isinstance(event, Finished)]


def test_a_body_sent_where_a_stream_was_asked_for_is_read() -> None:
    """Some proxies collect the stream; a refusal comes so, too."""
    body = msgspec.json.encode(chunk(text("Hello"), finish="STOP"))
    for parts in ([body], pieces(body, 5), [b"  \n", body]):
        events, error = read(parts)
        assert error is None
        assert accumulate(events).text == "Hello"
    _, error = read([b'{"error":{"message":"Overloaded","code":503}}'])
    assert isinstance(error, Overloaded)


def test_a_stream_sent_where_a_body_was_asked_for_is_read() -> None:
    """As events, and as the array that it is without `alt=sse`."""
    assert decode(sse(chunk(text("Hello"), finish="STOP"))).text == "Hello"
    assert decode([chunk(text("Hel")), chunk(text("lo"), finish="STOP")]).text == "Hello"


_GROUNDED = (
    '{"candidates":[{"content":{"parts":[{"text":"x"}]},"groundingMetadata":{"groundingChunks":[5],'
    '"groundingSupports":[5,{"groundingChunkIndices":["a",-1,0]}]}}]}'
)


@pytest.mark.parametrize(
    "payload",
    [
        '{"candidates":[{"content":{"parts":[{"text":"x"}]},"avgLogprobs":NaN}]}',
        '{"candidates":[{"content":{"parts":[{"text":"x"}]},"index":null}]}',
        '{"candidates":[{"content":{"parts":[{"text":"x","thoughtSignature":5}]}}]}',
        '{"candidates":[{"content":{"parts":[{"text":"x"}]},"groundingMetadata":[5]}]}',
        '{"candidates":[{"content":{"parts":[{"text":"x"}]},"citationMetadata":{"citations":[5,{}]}}]}',
        _GROUNDED,
        '{"candidates":[{"content":{"parts":[{"text":"x"}]}}],"createTime":' + "9" * 5000 + "}",
        '{"candidates":[{"content":{"parts":[{"text":"x"}]}}],"responseId":5,"modelVersion":null}',
        '{"candidates":[{"content":{"parts":[{"text":"x"}]}}],"usageMetadata":5,"error":null}',
        '{"candidates":[{"content":{"parts":[{"text":"x"}]}}],"promptFeedback":7}',
    ],
)
def test_nonsense_beside_the_answer_does_not_spoil_it(payload: str) -> None:
    """A07: NaN, endless integers, missing or odd fields that nobody needs."""
    assert answer(payload, chunk(finish="STOP")).text == "x"


def test_empty_events_and_comments_are_passed_over() -> None:
    """S28: proxies keep the connection alive with them."""
    body = b": ping\n\ndata:\n\n" + sse(chunk(text("x"), finish="STOP"))
    events, error = read([body])
    assert error is None
    assert accumulate(events).text == "x"


def test_half_a_surrogate_is_replaced_and_not_handed_out() -> None:
    """No store could keep it."""
    odd = '{"candidates":[{"content":{"parts":[{"text":"a\\ud83d"},{"text":"\\ud83d\\ude00"}]}}]}'
    assert answer(odd, chunk(finish="STOP")).text == "a\ufffd😀"


def test_an_error_behind_good_events_is_raised_after_them() -> None:
    """The events of one read of the network must not depend on what else it brought."""
    decoder = GeminiCodec().decoder()
    events = list(decoder.feed(sse(chunk(text("x")), "nonsense")))
    assert events[-1] == TextDelta("x")
    assert decoder.done
    for _ in range(2):
        with pytest.raises(MalformedResponse):
            decoder.close()


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "candidates",
                    "content",
                    "parts",
                    "text",
                    "thought",
                    "thoughtSignature",
                    "functionCall",
                    "name",
                    "args",
                    "partialArgs",
                    "jsonPath",
                    "willContinue",
                    "inlineData",
                    "data",
                    "mimeType",
                    "finishReason",
                    "groundingMetadata",
                    "groundingChunks",
                    "groundingSupports",
                    "promptFeedback",
                    "blockReason",
                    "usageMetadata",
                    "promptTokenCount",
                    "index",
                    "error",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(_ANY, min_size=1, max_size=3))
def test_any_json_is_an_answer_or_a_typed_error(values: list[object]) -> None:
    """Wrong types in every field, streamed and whole."""
    chunks = [msgspec.json.encode(value).decode() for value in values]
    for stream in (sse(*chunks), sse(chunk(text("x")), *chunks, chunk(finish="STOP"))):
        events, error = read([stream])
        ended = bool(events) and isinstance(events[-1], Finished)
        assert ended == (error is None), "a stream ends with its end or with an error, not both"
    for one in [*chunks, f"[{','.join(chunks)}]"]:
        with suppress(LLMError):
            assert isinstance(decode(one.encode()), LLMResponse)
