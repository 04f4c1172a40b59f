"""How Responses answers end: well, early, badly, or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from llm_client.errors import (
    BadRequest,
    ContentFiltered,
    IncompleteStream,
    LLMError,
    MalformedResponse,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    ServerError,
)
from llm_client.stream import Finished, TextDelta, UsageReported
from llm_client.types import StopReason
from tests.responses_streams import (
    CREATED,
    USAGE,
    answer,
    both,
    decode,
    end,
    event,
    function_call,
    message,
    read,
    said,
    sse,
    text,
    whole,
)

ITEM = {"type": "message", "id": "m", "content": [said("a")]}


@pytest.mark.parametrize(
    ("why", "expected"),
    [
        ("max_output_tokens", StopReason.LENGTH),
        ("content_filter", StopReason.CONTENT_FILTER),
        ("something new", StopReason.LENGTH),
        (None, StopReason.LENGTH),
    ],
)
def test_an_incomplete_answer_says_so(why: str | None, expected: StopReason) -> None:
    """F04: whatever cut it off, its end may be missing."""
    response = both(ITEM, status="incomplete", incomplete_details={"reason": why})
    assert response.stop_reason is expected
    assert response.raw_finish == "incomplete"
    assert response.truncated


def test_an_answer_that_is_done_says_so() -> None:
    """Under either of the words in use."""
    assert both(ITEM).stop_reason is StopReason.END
    assert decode(whole(ITEM, status="complete")).stop_reason is StopReason.END


@pytest.mark.parametrize("status", ["queued", "in_progress", "cancelled"])
def test_an_answer_in_the_background_is_not_taken_for_a_finished_one(status: str) -> None:
    """Nothing has been said yet; its id is there to ask for it later."""
    response = decode(whole(status=status))
    assert response.parts == ()
    assert response.stop_reason is StopReason.OTHER
    assert response.raw_finish == status
    assert response.response_id == "resp_1"


@pytest.mark.parametrize(
    "events",
    [
        [],
        [event("queued", response={"status": "queued"})],
        [*message("m", "Hello")],
        [*message("m", "Hello"), *function_call(1, "1", "f", "{}")],
    ],
)
def test_a_stream_without_its_end_is_no_answer(events: list[dict[str, Any]]) -> None:
    """S09: not even when all of its items are whole."""
    found, error = read([sse(CREATED, *events)])
    assert isinstance(error, IncompleteStream)
    assert not any(isinstance(one, Finished) for one in found)


def test_a_stream_of_nothing_is_no_answer() -> None:
    """S09: nor is one that only says that it is done."""
    for stream in (b"", b"\n\n", b": ping\n\n", sse("[DONE]")):
        assert isinstance(read([stream])[1], IncompleteStream)


def test_what_follows_the_end_takes_nothing_away() -> None:
    """S10: an error, noise, a cut in the next frame."""
    full = [CREATED, *message("m", "Hello"), end(usage=USAGE)]
    for behind in (b"data: [DONE]\n\n", b"event: error\ndata: {}\n\n", b"data: {", b"\xff"):
        events, error = read([sse(*full) + behind])
        assert error is None
        assert events == read([sse(*full)])[0]


def test_the_last_frame_may_lack_its_blank_line() -> None:
    """S02: the end is an end when the connection closes behind it."""
    stream = sse(CREATED, *message("m", "Hello"), end())
    assert read([stream.rstrip()]) == read([stream])


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ({"code": "server_error", "message": "oops"}, ServerError),
        ({"code": "rate_limit_exceeded", "message": "Try again in 2s."}, RateLimited),
        ({"code": "insufficient_quota", "message": "no credit"}, QuotaExhausted),
        ({"code": "invalid_prompt", "message": "no"}, BadRequest),
        (
            {
                "code": "invalid_prompt",
                "message": "your prompt was flagged as potentially violating our usage policy",
            },
            ContentFiltered,
        ),
        ({"code": "invalid_image_url", "message": "no"}, BadRequest),
        ({"code": "image_content_policy_violation", "message": "no"}, ContentFiltered),
        ({"code": "overloaded_error", "message": "busy"}, Overloaded),
        (None, ServerError),
    ],
)
def test_a_failed_answer_is_a_typed_error(
    report: dict[str, Any] | None, expected: type[LLMError]
) -> None:
    """S08: in every form in which an error can come, and what came before it stays."""
    begun = [CREATED, text(0, "Hel")]
    ends = [end("failed", error=report)]
    if report is not None:
        ends += [
            {"type": "error", "error": report, "sequence_number": 3},
            {"type": "error", "param": None, **report},
            {"type": "response.error", "error": report},
        ]
    for last in ends:
        events, error = read([sse(*begun, last)])
        assert type(error) is expected, last
        assert TextDelta("Hel") in events
    for body in (whole(status="failed", error=report), {"status": "failed", "error": report}):
        with pytest.raises(expected):
            decode(body)


def test_an_error_frame_is_one_under_its_name_too() -> None:
    """S04: whatever its data looks like, and wherever it stands."""
    flat = b'event: error\ndata: {"code":"rate_limit_exceeded","message":"later"}\n\n'
    for before in (b"", sse(CREATED), sse(CREATED, *message("m", "a"))):
        assert isinstance(read([before + flat])[1], RateLimited)


def test_tokens_of_a_failed_answer_are_told() -> None:
    """They may be billed all the same."""
    events, error = read([sse(CREATED, end("failed", error={"code": "server_error"}, usage=USAGE))])
    assert isinstance(error, ServerError)
    assert any(isinstance(one, UsageReported) for one in events)


def test_a_wait_named_in_an_error_is_kept() -> None:
    """In mid-stream there are no headers to say it."""
    report = {"code": "rate_limit_exceeded", "message": "Please try again in 1.5s."}
    _, error = read([sse(CREATED, end("failed", error=report))])
    assert isinstance(error, RateLimited)
    assert error.retry_after == 1.5


def test_a_body_that_holds_no_output_is_no_answer() -> None:
    """Another protocol's, most likely."""
    with pytest.raises(MalformedResponse, match="no output"):
        decode({"id": "c1", "choices": [{"message": {"content": "a"}}]})


def test_an_answer_of_nothing_is_an_answer() -> None:
    """The model may say nothing at all."""
    response = answer(CREATED, end(output=[]))
    assert response.parts == ()
    assert response.stop_reason is StopReason.END
