"""How an answer of Chat Completions ends: well, in an error, or not at all."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from llm_client.codecs.openai_chat import OpenAIChatCodec
from llm_client.errors import (
    ContentFiltered,
    IncompleteStream,
    LLMError,
    Overloaded,
    ProviderError,
    ServerError,
    ToolUseFailed,
)
from llm_client.stream import Finished
from llm_client.types import (
    StopReason,
    ToolCall,
    Usage,
)
from tests.chat_streams import answer, both, call, calls, chunk, decode, read, sse, whole
from tests.decoding import accumulate, pieces


@pytest.mark.parametrize(
    ("finish", "with_call", "expected"),
    [
        ("stop", False, StopReason.END),
        ("stop", True, StopReason.TOOL_CALLS),
        ("eos", False, StopReason.END),
        ("tool_calls", True, StopReason.TOOL_CALLS),
        ("tool_calls", False, StopReason.END),
        ("function_call", False, StopReason.END),
        ("length", False, StopReason.LENGTH),
        ("length", True, StopReason.LENGTH),
        ("model_length", False, StopReason.LENGTH),
        ("content_filter", False, StopReason.CONTENT_FILTER),
        ("sensitive", True, StopReason.CONTENT_FILTER),
        ("something_new", False, StopReason.OTHER),
        ("something_new", True, StopReason.OTHER),
        (None, False, StopReason.END),
        (None, True, StopReason.TOOL_CALLS),
    ],
)
def test_every_word_for_the_end_has_a_meaning(
    finish: str | None, with_call: bool, expected: StopReason
) -> None:
    """F02: a wish for tools without a call is a plain end. F04: a limit is never a natural end.
    F05: a tool that the provider ran itself leaves no call to loop on."""
    message: dict[str, Any] = {"content": "x"}
    if with_call:
        message["tool_calls"] = [call(0, "a", "f", "{}")]
    response = both(message, finish)
    assert (response.stop_reason, response.raw_finish) == (expected, finish)


def test_a_call_cut_off_by_the_limit_is_marked_as_truncated() -> None:
    """A03: its arguments are not to be trusted."""
    response = answer(calls(call(0, "a", "f", '{"path": "/tm')), chunk(finish="length"))
    assert response.truncated
    assert response.tool_calls == (ToolCall("a", "f", '{"path": "/tm'),)


def test_a_named_stop_sequence_is_told_apart_from_the_end() -> None:
    """vLLM says which one it met."""
    last: dict[str, Any] = {"index": 0, "finish_reason": "stop", "stop_reason": "###"}
    response = answer(chunk({"content": "x"}), {"choices": [last]})
    assert response.stop_reason is StopReason.STOP_SEQUENCE


@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n", b"\n\ndata: [DO", b"\n\ndata: {", b"\n\n: x"])
def test_an_answer_whose_end_was_said_is_complete_however_the_bytes_end(end: bytes) -> None:
    """S10: the connection may be cut inside the accounting that follows the finish reason."""
    body = sse(chunk({"content": "x"}), chunk(finish="stop"), done=False)
    events, error = read([body[:-2] + end])
    assert error is None
    assert accumulate(events).stop_reason is StopReason.END


@pytest.mark.parametrize(
    "body",
    [
        sse(chunk({"content": "x"}), done=False),
        sse(calls(call(0, "a", "f", "{}")), done=False),
        sse(chunk({"content": "x"}, ""), done=False),
        sse(chunk({"content": "x"}), done=False) + b"data: [DO",
        sse(chunk({"content": "x"}), done=False) + sse(chunk(finish="stop"))[:30],
        b"",
        b": ping\n\n",
        b"data: [DONE]\n\n",
    ],
)
def test_a_stream_that_ends_without_its_end_is_incomplete(body: bytes) -> None:
    """S09: a clean close is no natural stop."""
    events, error = read([body])
    assert isinstance(error, IncompleteStream)
    assert error.retryable
    assert not any(isinstance(event, Finished) for event in events)


def test_an_end_marker_without_a_finish_reason_is_an_end() -> None:
    """Snowflake and Kimi never name a reason."""
    assert answer(chunk({"content": "4"})).stop_reason is StopReason.END
    assert answer(calls(call(0, "a", "f", "{}"))).stop_reason is StopReason.TOOL_CALLS


def test_the_end_is_the_last_event_and_nothing_is_read_behind_it() -> None:
    """Usage and the like come before it, so that a reader may leave at once."""
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    decoder = OpenAIChatCodec().decoder()
    body = sse(chunk({"content": "x"}, "stop"), {"choices": [], "usage": usage})
    events = decoder.feed(body + b"data: not JSON\n\n")
    assert isinstance(events[-1], Finished)
    assert accumulate(events).usage == Usage(1, 2)
    assert decoder.done
    assert decoder.feed(b"data: {") == decoder.close() == []


@pytest.mark.parametrize(
    "frame",
    [
        b'event: error\ndata: {"error":{"message":"Overloaded","type":"overloaded_error"}}\n\n',
        b'data: {"error":{"message":"Overloaded","code":"overloaded_error"}}\n\n',
        b'data: {"error":"the server is busy","choices":[]}\n\n',
        b'error: {"error":{"message":"model is overloaded"}}\n\n',
        b'data: {"object":"error","message":"no capacity","code":503}\n\n',
        b'data: {"detail":"no capacity"}\n\n',
        b"event: error\ndata: no capacity\n\n",
        b'data: {"error":{"message":"Overloaded","code":503}}',
    ],
)
def test_an_error_frame_is_a_typed_error_wherever_it_stands(frame: bytes) -> None:
    """S04, S08: at the start, in the middle, with or without an event name."""
    for before in (b"", sse(chunk({"content": "x"}), done=False)):
        body = before + frame
        events, error = read([body])
        assert isinstance(error, Overloaded)
        assert error.retryable
        assert error.provider == "compatible"
        assert not any(isinstance(event, Finished) for event in events)
        assert read(pieces(body, 1))[0] == events


def test_an_error_after_the_end_takes_nothing_away() -> None:
    """Recorded from OpenRouter: finish "length", then an error "Token limit reached"."""
    usage = {"prompt_tokens": 43, "completion_tokens": 10}
    response = answer(
        chunk({"reasoning": "We need"}, "length"),
        {"error": {"code": 400, "message": "Token limit reached"}, "choices": [], "usage": usage},
    )
    assert (response.stop_reason, response.usage) == (StopReason.LENGTH, Usage(43, 10))


@pytest.mark.parametrize(
    ("finish", "kind"),
    [
        ("error", ServerError),
        ("network_error", ServerError),
        ("insufficient_system_resource", Overloaded),
    ],
)
def test_a_finish_reason_that_is_a_failure_is_an_error(finish: str, kind: type[LLMError]) -> None:
    """Not an answer that merely stopped."""
    with pytest.raises(kind) as found:
        answer(chunk({"content": "x"}), chunk(finish=finish))
    assert found.value.retryable
    with pytest.raises(kind):
        decode(whole({"content": "x"}, finish))


def test_a_call_that_the_provider_found_invalid_carries_what_the_model_wrote() -> None:
    """A09: Groq checks calls itself, under status 400 and in mid-stream."""
    error = {
        "message": "Tool call validation failed",
        "type": "invalid_request_error",
        "code": "tool_use_failed",
        "failed_generation": '{"name": "f"}',
        "status_code": 400,
    }
    _, found = read([b"event: error\ndata: " + msgspec.json.encode({"error": error}) + b"\n\n"])
    assert isinstance(found, ToolUseFailed)
    assert (found.failed_generation, found.code) == ('{"name": "f"}', "tool_use_failed")
    assert not found.retryable


def test_an_error_in_a_body_of_status_200_is_an_error() -> None:
    """Azure's prompt filter answers so, among others."""
    with pytest.raises(ContentFiltered) as found:
        decode({"error": {"message": "filtered", "code": "content_filter", "status": 400}})
    assert found.value.request_id == "req_1"
    with pytest.raises(ProviderError):
        decode({"error": {"message": "?"}, "choices": None})


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_a_plain_body_behind_a_byte_order_mark_is_read(size: int) -> None:
    """Also where a stream was asked for, however the bytes are cut."""
    body = b"\xef\xbb\xbf" + msgspec.json.encode(whole({"content": "Hi"}))
    events, error = read(pieces(body, size))
    assert error is None
    assert accumulate(events).text == "Hi"
