"""How answers of Gemini end: well, cut off, filtered, refused, or with a call that is none."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from llm_client.codecs.gemini import GeminiCodec, gemini_codec
from llm_client.errors import (
    AuthenticationFailed,
    BadRequest,
    ContentFiltered,
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
    ToolUseFailed,
)
from llm_client.stream import Finished, ToolCallStarted, UsageReported
from llm_client.types import StopReason, Usage
from tests.decoding import accumulate
from tests.gemini_streams import (
    USAGE,
    answer,
    array,
    both,
    call,
    candidate,
    chunk,
    chunk_of,
    decode,
    read,
    sse,
    text,
)

NOTHING: list[Any] = [{}, {"role": "model"}, {"parts": None}, {"parts": []}, None]
"""Contents that hold no part."""


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("STOP", StopReason.END),
        (1, StopReason.END),
        ("MAX_TOKENS", StopReason.LENGTH),
        (2, StopReason.LENGTH),
        ("SAFETY", StopReason.CONTENT_FILTER),
        (3, StopReason.CONTENT_FILTER),
        ("RECITATION", StopReason.CONTENT_FILTER),
        ("BLOCKLIST", StopReason.CONTENT_FILTER),
        ("PROHIBITED_CONTENT", StopReason.CONTENT_FILTER),
        ("SPII", StopReason.CONTENT_FILTER),
        ("IMAGE_SAFETY", StopReason.CONTENT_FILTER),
        ("MODEL_ARMOR", StopReason.CONTENT_FILTER),
        ("OTHER", StopReason.OTHER),
        (5, StopReason.OTHER),
        ("LANGUAGE", StopReason.OTHER),
        ("A_WORD_OF_TOMORROW", StopReason.OTHER),
        (9, StopReason.OTHER),
    ],
)
def test_each_finish_reason_has_its_meaning_f04(word: str | int, reason: StopReason) -> None:
    """F04: with the provider's own word beside it; numbers too, as far as both services agree."""
    response = both(text("x"), finish=word)
    assert (response.stop_reason, response.raw_finish) == (reason, str(word))


def test_a_cut_off_answer_without_any_part_says_that_it_was_cut_off() -> None:
    """Thinking can use up the whole limit; a filter can withhold everything."""
    for word, reason in (
        ("MAX_TOKENS", StopReason.LENGTH),
        ("SAFETY", StopReason.CONTENT_FILTER),
    ):
        for content in NOTHING:
            ended: dict[str, Any] = {"content": content, "finishReason": word}
            assert decode(chunk_of(ended)).stop_reason is reason
            assert answer(chunk_of(ended)).parts == ()


@pytest.mark.parametrize("content", NOTHING)
@pytest.mark.parametrize("word", ["MALFORMED_FUNCTION_CALL", "TOO_MANY_TOOL_CALLS"])
def test_a_malformed_call_is_a_failure_of_its_own_f03(word: str, content: object) -> None:
    """F03: neither a crash nor an empty success; what the provider says is kept."""
    ended = {"content": content, "finishReason": word, "finishMessage": "Malformed call: f(x="}
    body = chunk_of(ended, usageMetadata=USAGE)
    with pytest.raises(ToolUseFailed) as found:
        decode(body)
    events, error = read([sse(chunk(text("I will")), body)])
    assert isinstance(error, ToolUseFailed)
    for one in (found.value, error):
        assert one.retryable
        assert one.code == word
        assert one.failed_generation == "Malformed call: f(x="
        assert "Malformed call" in one.message
    assert events[-1] == UsageReported(Usage(5, 7))
    assert accumulate(events).text == "I will"


def test_a_call_inside_a_malformed_answer_is_not_told() -> None:
    """F03: what the provider itself calls invalid must not be run."""
    broken = candidate(call("f", {"x": 1}), finish="MALFORMED_FUNCTION_CALL")
    events, error = read([sse(chunk_of(broken))])
    assert isinstance(error, ToolUseFailed)
    assert not [event for event in events if isinstance(event, ToolCallStarted | Finished)]
    with pytest.raises(ToolUseFailed):
        decode(chunk_of(broken))


def test_a_call_of_a_function_that_was_not_offered_is_a_call_like_any_other() -> None:
    """It is whole, and Gemini takes it back with "no such tool" as its result, after which the
    model goes on; the provider's word tells it apart."""
    response = both(call("list_files", {}, "c2ln"), finish="UNEXPECTED_TOOL_CALL")
    assert response.stop_reason is StopReason.TOOL_CALLS
    assert response.raw_finish == "UNEXPECTED_TOOL_CALL"
    assert [one.name for one in response.tool_calls] == ["list_files"]


def test_an_unexpected_call_that_is_not_there_is_a_failure() -> None:
    """F03, F02: nothing could answer it."""
    ended = candidate(finish="UNEXPECTED_TOOL_CALL", finishMessage="Unexpected tool call")
    for error in (read([sse(chunk_of(ended))])[1], _error_of(chunk_of(ended))):
        assert isinstance(error, ToolUseFailed)
        assert error.retryable


def test_an_empty_answer_that_ends_as_if_complete_is_a_failure() -> None:
    """F03: no empty success, and another try may succeed."""
    hollow: list[Any] = [{"parts": [{}]}, {"parts": [{"functionCall": {}}]}]
    for content in (*NOTHING, *hollow):
        body = chunk_of({"content": content, "finishReason": "STOP"})
        for error in (read([sse(body)])[1], _error_of(body)):
            assert isinstance(error, MalformedResponse)
            assert error.retryable


def test_an_answer_of_one_empty_text_is_the_models_own() -> None:
    """After a function's result there may be nothing to add."""
    assert both(text("")).parts == ()


def test_a_signature_that_was_not_sent_back_is_a_bad_request() -> None:
    """R05: asking again would not help."""
    error = _error_of(chunk_of(candidate(finish="MISSING_THOUGHT_SIGNATURE")))
    assert isinstance(error, BadRequest)
    assert not error.retryable
    assert isinstance(_error_of(chunk_of(candidate(finish="MALFORMED_RESPONSE"))), ServerError)


@pytest.mark.parametrize("extra", [{}, {"blockReasonMessage": "It violates a filter."}])
def test_a_prompt_that_was_blocked_is_an_error(extra: dict[str, str]) -> None:
    """With the reason; a prompt that was only rated is none."""
    body = {"promptFeedback": {"blockReason": "SAFETY", **extra}, "usageMetadata": USAGE}
    events, streamed = read([sse(body)])
    for error in (streamed, _error_of(body)):
        assert isinstance(error, ContentFiltered)
        assert error.code == "SAFETY"
        assert extra.get("blockReasonMessage", "") in error.message
    assert events == [UsageReported(Usage(5, 7))]
    rated: dict[str, Any] = {
        **chunk(text("x"), finish="STOP"),
        "promptFeedback": {"safetyRatings": []},
    }
    assert answer(rated).text == "x"


@pytest.mark.parametrize("finish", [None, "", "FINISH_REASON_UNSPECIFIED", 0])
def test_a_stream_without_a_reason_to_end_is_incomplete(finish: object) -> None:
    """S09: a connection that closes early, after text or after a whole call, is no end."""
    for part in (text("half"), call("f", {})):
        for body in (sse(chunk(part, finish=finish)), array(chunk(part, finish=finish))):
            events, error = read([body])
            assert isinstance(error, IncompleteStream)
            assert error.retryable
            assert not [event for event in events if isinstance(event, Finished)]
        _, error = read([sse(chunk(part, finish=finish), "[DONE]")])
        assert isinstance(error, IncompleteStream)
    with pytest.raises(IncompleteStream):
        decode([chunk(text("half"), finish=finish)])


def test_a_whole_body_is_complete_even_if_it_gives_no_reason() -> None:
    """Its JSON has come to its own end."""
    assert decode(chunk(text("x"))).stop_reason is StopReason.END


def test_a_cut_behind_the_end_loses_nothing() -> None:
    """S10: only counts could have followed."""
    body = sse(chunk(text("x"), finish="STOP"))
    more = sse({"usageMetadata": USAGE})
    for cut in range(len(more)):
        events, error = read([body + more[:cut]])
        assert error is None
        assert accumulate(events).text == "x"


def test_a_reason_on_every_chunk_does_not_end_the_answer_early() -> None:
    """Older models give one each time."""
    response = answer(chunk(text("a"), finish="STOP"), chunk(text("b"), finish="STOP"))
    assert response.text == "ab"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}, Overloaded),
        ({"code": 500, "message": "Internal error", "status": "INTERNAL"}, ServerError),
        ({"code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED"}, RateLimited),
        ({"code": 400, "message": "bad", "status": "INVALID_ARGUMENT"}, BadRequest),
    ],
)
def test_an_error_in_mid_stream_ends_it_with_its_type(
    error: dict[str, Any], kind: type[LLMError]
) -> None:
    """S04, S08: as an event or as an item of the array; nothing is complete."""
    for body in (
        sse(chunk(text("half")), {"error": error}),
        array(chunk(text("half")), {"error": error}),
        sse(chunk(text("half"))) + b"event: error\ndata: " + msgspec.json.encode({"error": error}),
    ):
        events, found = read([body])
        assert type(found) is kind
        assert accumulate(events).text == "half"
        assert not accumulate(events).raw_finish


def test_an_error_behind_the_end_takes_nothing_away() -> None:
    """The answer was whole."""
    response = answer(chunk(text("x"), finish="STOP"), {"error": {"code": 500}}, chunk(text("y")))
    assert response.text == "x"


@pytest.mark.parametrize(
    ("status", "error", "kind", "wait"),
    [
        (
            400,
            {"message": "API key not valid. Please pass a valid API key."},
            AuthenticationFailed,
            None,
        ),
        (403, {"message": "no access", "status": "PERMISSION_DENIED"}, PermissionDenied, None),
        (404, {"message": "models/x is not found", "status": "NOT_FOUND"}, NotFound, None),
        (
            400,
            {"message": "The input token count (9) exceeds the maximum number of tokens allowed."},
            ContextOverflow,
            None,
        ),
        (
            429,
            {
                "message": "You exceeded your current quota. Please retry in 48.9s.",
                "status": "RESOURCE_EXHAUSTED",
                "details": [{"@type": "google.rpc.RetryInfo", "retryDelay": "48s"}],
            },
            RateLimited,
            48.0,
        ),
        (429, {"message": "You exceeded your current quota"}, QuotaExhausted, None),
        (503, {"message": "The model is overloaded. Try again later."}, Overloaded, None),
        (504, {"message": "Deadline expired", "status": "DEADLINE_EXCEEDED"}, ServerError, None),
    ],
)
def test_a_refusal_has_its_type_and_its_wait_x13(
    status: int, error: dict[str, Any], kind: type[LLMError], wait: float | None
) -> None:
    """As an object and as a list of one; X13: an empty account is told from a rate."""
    codec = gemini_codec("vertex", "mine")
    for body in ({"error": {"code": status, **error}}, [{"error": {"code": status, **error}}]):
        found = codec.error(status, {}, msgspec.json.encode(body))
        assert type(found) is kind
        assert (found.status, found.retry_after, found.provider) == (status, wait, "mine")


def _error_of(body: Any) -> LLMError:
    with pytest.raises(LLMError) as found:
        GeminiCodec().decode(200, {}, msgspec.json.encode(body))
    return found.value


def test_a_count_that_a_later_chunk_leaves_out_still_holds() -> None:
    """Reasoning that was counted once has been billed."""
    first = {"promptTokenCount": 5, "thoughtsTokenCount": 3, "totalTokenCount": 8}
    last = {"promptTokenCount": 5, "candidatesTokenCount": 4, "totalTokenCount": 12}
    usage = answer(
        chunk(text("a"), usageMetadata=first), chunk(finish="STOP", usageMetadata=last)
    ).usage
    assert (usage.input_tokens, usage.output_tokens, usage.reasoning_tokens) == (5, 7, 3)
