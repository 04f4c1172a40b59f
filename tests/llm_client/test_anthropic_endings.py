"""How answers of the Messages protocol end, well or badly."""

from __future__ import annotations

import pytest

from llm_client.codecs.anthropic import AnthropicCodec
from llm_client.errors import (
    AuthenticationFailed,
    BadRequest,
    ContextOverflow,
    IncompleteStream,
    LLMError,
    MalformedResponse,
    NotFound,
    Overloaded,
    PermissionDenied,
    QuotaExhausted,
    RateLimited,
    ServerError,
)
from llm_client.stream import Finished, TextDelta
from llm_client.types import StopReason, Text
from tests.anthropic_streams import (
    OVERLOADED,
    PING,
    STOP,
    Frame,
    answer,
    block,
    call,
    decode,
    end,
    read,
    sse,
    start,
    text,
    thinking,
    whole,
)
from tests.decoding import accumulate, pieces


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("end_turn", StopReason.END),
        ("max_tokens", StopReason.LENGTH),
        ("model_context_window_exceeded", StopReason.LENGTH),
        ("stop_sequence", StopReason.STOP_SEQUENCE),
        ("pause_turn", StopReason.PAUSE),
        ("compaction", StopReason.PAUSE),
        ("refusal", StopReason.REFUSAL),
        ("sunset", StopReason.OTHER),
        ("tool_use", StopReason.END),
    ],
)
def test_each_word_for_an_end_has_its_reason(raw: str, reason: StopReason) -> None:
    """F02, F04: an announced call that never comes is a plain end; a cut-off answer says so."""
    streamed = answer(start(), text(0, "x"), end(raw), STOP)
    assert (streamed.stop_reason, streamed.raw_finish) == (reason, raw)
    told = decode(whole({"type": "text", "text": "x"}, reason=raw))
    assert (told.stop_reason, told.raw_finish) == (reason, raw)


@pytest.mark.parametrize("raw", ["tool_use", "end_turn", "pause_turn"])
def test_an_answer_with_calls_waits_for_their_results(raw: str) -> None:
    """Whatever it says: sent back without results it would be refused."""
    assert answer(start(), call(0, "a", "f"), end(raw), STOP).stop_reason is StopReason.TOOL_CALLS


def test_a_refusal_says_why() -> None:
    """The provider's explanation is the refusal."""
    details = {"type": "refusal", "category": "cyber", "explanation": "Not this."}
    response = answer(start(), text(0, "x"), end("refusal", stop_details=details), STOP)
    assert (response.stop_reason, response.refusal) == (StopReason.REFUSAL, "Not this.")
    told = decode(whole(reason="refusal", stop_details=details))
    assert (told.refusal, told.parts) == ("Not this.", ())


def test_a_call_that_the_output_limit_cut_off_stays_cut_off() -> None:
    """A03: nobody may take half its arguments for all of them."""
    response = answer(start(), call(0, "a", "f", '{"x": "ha'), end("max_tokens"), STOP)
    assert response.truncated
    assert response.tool_calls[0].arguments == '{"x": "ha'
    empty = answer(start(), call(0, "a", "f")[0], end("max_tokens"), STOP)
    assert empty.tool_calls[0].arguments == ""


def test_a_whole_answer_without_a_reason_has_ended() -> None:
    """The body is complete; some servers leave the word out."""
    assert decode(whole({"type": "text", "text": "x"}, reason=None)).stop_reason is StopReason.END


# ── cut off ───────────────────────────────────────────────────────────────────────────────────────


def test_a_stream_that_stops_before_the_models_end_is_no_answer() -> None:
    """S09: at every cut before the stop reason."""
    body = sse(start(), thinking(0, "a", signature="s"), text(1, "b"), end(), STOP)
    complete = body.index(b"end_turn")
    for cut in range(complete):
        _, error = read([body[:cut]])
        assert isinstance(error, IncompleteStream), cut


def test_a_stream_that_is_cut_after_the_models_end_is_whole() -> None:
    """S10: the connection breaks in the bytes of the last frame; asking again would be a waste."""
    body = sse(start(), text(0, "x"), end(), STOP)
    expected, _ = read([body])
    complete = body.index(b"event: message_stop")
    for cut in range(complete, len(body)):
        assert read([body[:cut]]) == (expected, None)


def test_the_word_done_is_no_end_of_this_protocol() -> None:
    """A proxy that adds it to a broken stream must not make it whole."""
    _, error = read([sse(start(), text(0, "x"), "[DONE]")])
    assert isinstance(error, IncompleteStream)
    assert answer(start(), text(0, "x"), end(), STOP, "[DONE]").text == "x"


def test_the_streams_own_end_counts_where_the_model_gave_no_reason() -> None:
    """Some servers say nothing else."""
    assert answer(start(), text(0, "x"), STOP).stop_reason is StopReason.END
    _, error = read([sse(STOP)])
    assert isinstance(error, IncompleteStream)


def test_blocks_that_never_ended_are_closed_at_the_end() -> None:
    """A cut by the output limit may leave the last one open."""
    response = answer(
        start(),
        text(0, "x")[:-1],
        thinking(1, "y", signature="s")[:-1],
        block(2, "odd")[:-1],
        end("max_tokens"),
        STOP,
    )
    assert [type(part).__name__ for part in response.parts] == ["Text", "Thinking", "Opaque"]


# ── errors in the stream ──────────────────────────────────────────────────────────────────────────


def error(kind: str, message: str = "it failed") -> Frame:
    """An error frame."""
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_9"}


@pytest.mark.parametrize(
    ("kind", "message", "expected"),
    [
        ("overloaded_error", "Overloaded", Overloaded),
        ("api_error", "Internal server error", ServerError),
        ("timeout_error", "too slow", ServerError),
        ("rate_limit_error", "too fast", RateLimited),
        ("invalid_request_error", "messages: odd", BadRequest),
        ("request_too_large", "32 MB", BadRequest),
        ("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum", ContextOverflow),
        ("invalid_request_error", "Your credit balance is too low to go on", QuotaExhausted),
        ("authentication_error", "invalid x-api-key", AuthenticationFailed),
        ("permission_error", "not yours", PermissionDenied),
        ("not_found_error", "model: claude-9", NotFound),
        ("billing_error", "pay first", QuotaExhausted),
    ],
)
def test_an_error_in_the_stream_is_the_error_that_its_type_names_s07(
    kind: str, message: str, expected: type[LLMError]
) -> None:
    """S04, S07, S08: the status was 200 when it began, so the type decides, with a name or not."""
    named = sse(start(), text(0, "x"), error(kind, message))
    unnamed = named.replace(b"event: error\n", b"")
    for body in (named, unnamed):
        events, found = read([body])
        assert type(found) is expected
        assert found is not None
        assert found.retryable is expected.retryable
        assert (found.code, found.request_id, found.provider) == (kind, "req_9", "anthropic")
        assert TextDelta("x") in events
        assert not any(isinstance(event, Finished) for event in events)


def test_an_error_is_raised_after_the_good_events_of_the_same_bytes() -> None:
    """However the network cut them."""
    body = sse(start(), text(0, "x"), OVERLOADED)
    expected = read([body])
    assert isinstance(expected[1], Overloaded)
    assert expected[0][-1] == TextDelta("x")
    assert read(pieces(body, 3))[0] == expected[0]


@pytest.mark.parametrize("late", [OVERLOADED, "nonsense", "[]", {"type": "message_delta"}, PING])
def test_what_comes_after_the_models_end_takes_nothing_away(late: Frame | str) -> None:
    """S10: an error in the place of the last frame, or bytes that are none."""
    for body in (
        sse(start(), text(0, "x"), end(), late),
        sse(start(), text(0, "x"), end(), late, STOP),
    ):
        events, failure = read([body])
        assert failure is None
        assert accumulate(events).parts == (Text("x"),)


def test_errors_of_a_body_are_told_from_answers() -> None:
    """In the form of other protocols as well, which the local server uses."""
    loading = {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}
    for body, status in ((error("overloaded_error"), 200), (loading, 503)):
        with pytest.raises(Overloaded) as found:
            decode(body)
        assert found.value.status == status
    refused = AnthropicCodec().error(
        529, {"request-id": "req_1", "retry-after": "3"}, b'{"type":"error","error":{}}'
    )
    assert isinstance(refused, Overloaded)
    assert (refused.retry_after, refused.request_id) == (3.0, "req_1")


# ── two beginnings ────────────────────────────────────────────────────────────────────────────────


def test_a_beginning_that_comes_twice_before_anything_is_said_is_one() -> None:
    """S22: some proxies send the first frame again."""
    response = answer(start(), start(input_tokens=99), text(0, "ok"), end(), STOP)
    assert (response.text, response.response_id) == ("ok", "msg_1")


def test_a_second_answer_in_the_middle_of_the_first_is_an_error() -> None:
    """S22: no text is doubled, and no call of two halves is run."""
    broken = [
        *thinking(0, "one", signature="s"),
        *call(1, "a", "f", '{"value": "Spark')[:-1],
        start("msg_2"),
        *thinking(0, "two", signature="t"),
        *call(1, "b", "f", '{"value": "whole"}'),
    ]
    events, failure = read([sse(start(), broken, end("tool_use"), STOP)])
    assert isinstance(failure, MalformedResponse)
    assert failure.retryable
    assert not any(isinstance(event, Finished) for event in events)
