"""What is no answer of the Messages protocol at all: a typed error, never a crash."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_client.codecs.anthropic import AnthropicCodec
from llm_client.errors import IncompleteStream, LLMError, MalformedResponse
from llm_client.stream import Finished
from tests.anthropic_streams import STOP, answer, decode, end, read, sse, start, text, whole
from tests.decoding import pieces


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"<html><body>502 Bad Gateway</body></html>",
        b"[]",
        b"null",
        b"{}",
        b'"text"',
        b"[" * 100_000 + b"]" * 100_000,
        b'{"choices":[{"message":{"content":"x"}}]}',
        b'{"content":5}',
        b'{"content":[5]}',
        b'{"content":[null]}',
        b'{"content":[{"type":"text","text":5}]}',
        b'{"content":[{"type":"thinking","thinking":[]}]}',
        b'{"content":[{"type":"thinking","thinking":"x","signature":5}]}',
        b'{"content":[{"type":"redacted_thinking","data":{}}]}',
        b'{"content":[{"type":"tool_use","id":"a"}]}',
        b'{"content":[{"type":"tool_use","id":5,"name":"f"}]}',
        b'{"content":[{"type":"tool_use","id":"a","name":{}}]}',
        b'{"content":[],"stop_reason":5}',
    ],
)
def test_a_body_that_is_no_answer_is_a_typed_error(body: bytes) -> None:
    """S29: never a crash; short, with the status and what it begins with."""
    with pytest.raises(LLMError) as found:
        decode(body)
    assert isinstance(found.value, MalformedResponse)
    assert found.value.status == 200
    assert len(str(found.value)) < 900
    events, error = read([body])
    assert isinstance(error, LLMError)
    assert events == [] or not isinstance(events[-1], Finished)


@pytest.mark.parametrize(
    "payload",
    [
        "not json",
        "[]",
        "null",
        "5",
        '{"type":"message_start","message":5}',
        '{"type":"content_block_start","index":1}',
        '{"type":"content_block_start","index":1,"content_block":[]}',
        '{"type":"content_block_start","index":1,"content_block":{"type":"text","text":{}}}',
        '{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"a"}}',
        '{"type":"content_block_delta","index":0}',
        '{"type":"content_block_delta","index":0,"delta":[]}',
        '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":{}}}',
        '{"type":"content_block_delta","index":9,"delta":{"type":"input_json_delta"}}',
        '{"type":"message_delta","delta":{"stop_reason":{}}}',
        "[" * 100_000,
        '{"type":' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
)
def test_a_frame_that_makes_no_sense_is_a_typed_error(payload: str) -> None:
    """Wrong types, no JSON, nested without end."""
    with pytest.raises(MalformedResponse):
        answer(start(), text(0, "x")[:-1], payload, end(), STOP)


@pytest.mark.parametrize(
    "payload",
    [
        "{}",
        '{"type":null}',
        '{"type":5,"index":"x"}',
        '{"type":"ping","cost":NaN}',
        '{"type":"content_block_stop","index":77}',
        '{"type":"content_block_delta","index":77,"delta":{"type":"signature_delta"}}',
        '{"type":"content_block_delta","index":77,"delta":{"type":[]}}',
        '{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta"}}',
        '{"type":"message_delta","delta":{"stop_reason":null},"usage":{"output_tokens":-1}}',
        '{"type":"message_delta","usage":{"output_tokens":' + "9" * 5000 + "}}",
        '{"type":"message_delta","delta":5,"usage":[]}',
    ],
)
def test_nonsense_beside_the_answer_does_not_spoil_it(payload: str) -> None:
    """A07: odd fields that nobody needs, counts that are none, endless integers."""
    response = answer(start(), text(0, "x")[:-1], payload, end(usage=None), STOP)
    assert response.text == "x"
    assert response.usage.output_tokens == 1


def test_single_surrogates_are_replaced_and_pairs_are_joined() -> None:
    """Nothing that is no Unicode comes out; everything else of the text is kept."""
    odd = '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"%s"}}'
    response = answer(
        start(), text(0, "a")[:-1], odd % "b\\ud83d", odd % "\\ud83d\\ude00", end(), STOP
    )
    assert response.text == "ab\ufffd😀"


def test_a_body_sent_where_a_stream_was_asked_for_is_read_and_the_other_way_round() -> None:
    """Some servers ignore `stream`."""
    body = msgspec.json.encode(whole({"type": "text", "text": "Hello"}))
    for parts in ([body], pieces(body, 5), [b"  \n", body]):
        events, error = read(parts)
        assert error is None
        assert isinstance(events[-1], Finished)
    assert decode(sse(start(), text(0, "Hello"), end(), STOP)).text == "Hello"


def test_a_stream_of_another_protocol_is_no_answer() -> None:
    """A wrong base address must not look like an empty answer."""
    chunk = '{"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}'
    _, error = read([sse(chunk, "[DONE]")])
    assert isinstance(error, IncompleteStream)


def test_a_refused_stream_stays_refused() -> None:
    """Feeding on after an error gives the same error, not half an answer."""
    decoder = AnthropicCodec().decoder()
    with pytest.raises(MalformedResponse):
        decoder.feed(sse("nonsense"))
    assert decoder.done
    with pytest.raises(MalformedResponse):
        decoder.feed(sse(start(), text(0, "x"), end(), STOP))
    with pytest.raises(MalformedResponse):
        decoder.close()


_VALUES: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
_KINDS = st.sampled_from(
    [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "ping",
        "error",
        "text",
        "thinking",
        "tool_use",
        "text_delta",
        "thinking_delta",
        "input_json_delta",
        "signature_delta",
        "citations_delta",
    ]
)
_FIELDS = st.sampled_from(
    [
        "index",
        "message",
        "content_block",
        "delta",
        "usage",
        "content",
        "text",
        "thinking",
        "name",
        "id",
        "input",
        "partial_json",
        "signature",
        "stop_reason",
        "stop_details",
        "citation",
    ]
)


def _frame(kind: str, fields: dict[str, object]) -> dict[str, object]:
    return {"type": kind, "index": 0, **fields}


def _frames(values: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.builds(_frame, _KINDS, st.dictionaries(_FIELDS, values, max_size=3))


@given(st.lists(_frames(_VALUES | _frames(_VALUES | _frames(_VALUES))), max_size=6))
def test_no_frames_whatever_make_the_decoder_crash(frames: list[object]) -> None:
    """An answer or a typed error, and nothing is finished that was not ended."""
    body = b"".join(b"data: " + msgspec.json.encode(frame) + b"\n\n" for frame in frames)
    events, error = read([body])
    assert isinstance(error, LLMError | None)
    if error is None:
        assert isinstance(events[-1], Finished)
