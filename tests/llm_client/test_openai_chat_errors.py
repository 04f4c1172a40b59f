"""From a provider's refusal to a typed error that says what to do."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from llm_client.codecs.openai_chat import OpenAIChatCodec, chat_dialect
from llm_client.errors import (
    AuthenticationFailed,
    BadRequest,
    ContentFiltered,
    ContextOverflow,
    LLMError,
    NotFound,
    Overloaded,
    PermissionDenied,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    ServerError,
    ToolUseFailed,
)
from llm_client.retry import GiveUp, RetryIn, RetryPolicy


def refused(
    status: int, body: object = b"", headers: dict[str, str] | None = None, now: float | None = None
) -> LLMError:
    """The error for an answer of `status` with `body`."""
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    clock = None if now is None else lambda: now
    codec = OpenAIChatCodec(chat_dialect("acme"), now=clock)
    return codec.error(status, headers or {}, data)


def saying(message: str, **fields: Any) -> dict[str, Any]:
    """An error body in OpenAI's shape."""
    return {"error": {"message": message, **fields}}


@pytest.mark.parametrize(
    ("status", "expected", "retryable"),
    [
        (400, BadRequest, False),
        (401, AuthenticationFailed, False),
        (402, QuotaExhausted, False),
        (403, PermissionDenied, False),
        (404, NotFound, False),
        (405, NotFound, False),
        (408, ServerError, True),
        (409, ServerError, True),
        (413, BadRequest, False),
        (422, BadRequest, False),
        (425, ServerError, True),
        (429, RateLimited, True),
        (498, Overloaded, True),
        (500, ServerError, True),
        (502, ServerError, True),
        (503, Overloaded, True),
        (504, ServerError, True),
        (520, ServerError, True),
        (529, Overloaded, True),
        (302, BadRequest, False),
        (100, BadRequest, False),
    ],
)
def test_a_status_alone_decides_where_the_body_says_nothing(
    status: int, expected: type[ProviderError], retryable: bool
) -> None:
    """Empty, a page, or JSON of no known shape; X13, S29: only some are worth another try."""
    for body in (
        b"",
        b"<html><h1>Bad</h1></html>",
        b"{}",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"[" * 99_999,
    ):
        error = refused(status, body)
        assert type(error) is expected
        assert error.retryable is retryable
        assert (error.status, error.provider) == (status, "acme")


OVERFLOWS = [
    "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens",
    "Your input exceeds the context window of this model",
    "prompt too long; exceeded max context length by 1119046 tokens (ref: x)",
    "prompt is too long: 213462 tokens > 200000 maximum",
    "request (20031 tokens) exceeds the available context size (4096 tokens), try increasing it",
    "the request exceeds the available context size, try increasing it",
    "This model's maximum prompt length is 131072 but the request contains 537812 tokens",
    "Please reduce the length of the messages or completion.",
    "Input length 131393 exceeds the maximum allowed input length of 131040 tokens.",
    "The input (5000 tokens) is longer than the model's context length (4096 tokens).",
    "The number of tokens to keep from the initial prompt is greater than the context length",
    "Requested token count exceeds the model's maximum context length of 131072 tokens",
    "invalid params, context window exceeds limit (2013)",
    "Invalid request: Your request exceeded model token limit: 262144 (requested: 291351)",
    "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum",
    "tokens in request more than max tokens allowed",
    "Prompt exceeds max length",
    "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 30720]",
    "The input token count (1250074) exceeds the maximum number of tokens allowed (1048576).",
    "Input is too long for requested model.",
    "Request too large for model `x` on tokens per minute (TPM): Limit 6000, Requested 7000",
    (
        "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5000. "
        "Try using a shorter prompt"
    ),
    (
        "too many tokens: total number of tokens (prompt and prediction) cannot exceed 2048 - "
        "received 6354. Try using a shorter prompt or a smaller max_tokens value."
    ),
]


@pytest.mark.parametrize("message", OVERFLOWS)
@pytest.mark.parametrize("status", [400, 413, 422, 500])
def test_a_prompt_that_is_too_long_is_known_by_every_vendors_words(
    message: str, status: int
) -> None:
    """K01: compaction helps, another try does not."""
    error = refused(status, saying(message, type="invalid_request_error"))
    assert type(error) is ContextOverflow
    assert not error.retryable
    assert "compact" in error.message


@pytest.mark.parametrize(
    "code",
    ["context_length_exceeded", "exceed_context_size_error", "model_context_window_exceeded"],
)
def test_a_prompt_that_is_too_long_is_known_by_its_code(code: str) -> None:
    """K01: in `code` or in `type`."""
    assert type(refused(400, saying("?", code=code))) is ContextOverflow
    assert type(refused(400, saying("?", type=code))) is ContextOverflow


@pytest.mark.parametrize(
    "message",
    [
        "Invalid 'messages[3]'. Content blocks are expected to be either text or image_url type.",
        "'max_tokens' must be at most 4096",
        "The context of your question is unclear",
        "Unknown parameter: 'response_format'.",
    ],
)
def test_other_bad_requests_are_not_taken_for_an_overflow(message: str) -> None:
    """K01: compacting would not help."""
    assert type(refused(400, saying(message, type="invalid_request_error"))) is BadRequest


LEARN_MORE = "Visit https://platform.openai.com/account/rate-limits to learn more."


@pytest.mark.parametrize(
    "model", ["gpt-4", "gpt-4.1-2025-04-14 (for limit gpt-4.1)", "o3", "chatgpt-4o-latest"]
)
def test_a_request_beyond_the_rate_itself_is_an_overflow(model: str) -> None:
    """K01: waiting never helps, whatever page on rate limits it names."""
    message = (
        f"Request too large for {model} in organization org-x on tokens per min (TPM): Limit 10000,"
        " Requested 20000. The input or output tokens must be reduced in order to run successfully."
        f" {LEARN_MORE}"
    )
    error = refused(429, saying(message, code="rate_limit_exceeded", type="tokens"))
    assert type(error) is ContextOverflow
    assert not error.retryable


@pytest.mark.parametrize(
    "message",
    [
        (
            "Rate limit reached for gpt-4 in organization org-x on tokens per min (TPM): Limit "
            f"10000, Used 8554, Requested 3082. Please try again in 9.816s. {LEARN_MORE}"
        ),
        (
            "Rate limit reached for gpt-4 in organization org-x on requests per min. Limit: 3 / "
            f"min. Please try again in 20s. {LEARN_MORE}"
        ),
        (
            "This request would exceed the rate limit for your organization of 20,000 input tokens "
            "per minute. For details, refer to: https://docs.anthropic.com/en/api/rate-limits. "
            "Please reduce the prompt length or the maximum tokens requested, or try again later."
        ),
    ],
)
def test_a_rate_limit_that_names_the_same_page_is_one(message: str) -> None:
    """Waiting helps."""
    assert type(refused(429, saying(message, code="rate_limit_exceeded"))) is RateLimited


def test_a_rate_limit_that_speaks_of_tokens_is_no_overflow() -> None:
    """Waiting helps there."""
    message = (
        "Rate limit reached for gpt-4 on tokens per min. Limit: 10000. Please try again in 6s."
    )
    error = refused(429, saying(message, code="rate_limit_exceeded", type="tokens"))
    assert type(error) is RateLimited
    assert error.retry_after == 6


@pytest.mark.parametrize("kind", ["image", "audio"])
def test_a_model_without_eyes_is_no_failure_of_its_server(kind: str) -> None:
    """llama.cpp says it under status 500; another try is refused as well."""
    message = (
        f"{kind} input is not supported - hint: if this is unexpected, you may need to provide the "
        "mmproj"
    )
    error = refused(500, saying(message, type="server_error", code=500))
    assert type(error) is BadRequest
    assert not error.retryable
    assert "FittingMedia" in error.message


@pytest.mark.parametrize("status", [400, 402, 403, 429])
@pytest.mark.parametrize(
    "body",
    [
        saying(
            "You exceeded your current quota, please check your plan.", code="insufficient_quota"
        ),
        saying("?", type="insufficient_quota"),
        saying("?", type="exceeded_current_quota_error"),
        saying("Insufficient Balance"),
        saying("Your credit balance is too low to access the API."),
        {"code": "Arrearage", "message": "Access denied, your account is in arrears."},
        saying("This request requires more credits, or fewer max_tokens."),
    ],
)
def test_used_up_money_is_told_apart_from_going_too_fast(status: int, body: object) -> None:
    """X13: under whatever status; retrying it only hides the cause."""
    error = refused(status, body)
    assert type(error) is QuotaExhausted
    assert not error.retryable
    assert isinstance(RetryPolicy().decide(error, 1, 0.0, 0.0), GiveUp)


def test_a_quota_that_comes_back_in_seconds_is_a_rate_limit() -> None:
    """Google says "quota" for both, and names the seconds where waiting helps."""
    message = "You exceeded your current quota, please check your plan. Please retry in 21.5s."
    error = refused(429, saying(message, status="RESOURCE_EXHAUSTED", code=429))
    assert type(error) is RateLimited
    assert error.retry_after == 21.5


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, saying("API key not valid. Please pass a valid API key."), AuthenticationFailed),
        (400, saying("?", code="invalid_api_key"), AuthenticationFailed),
        (403, saying("?", type="authentication_error"), AuthenticationFailed),
        (400, saying("The requested model 'x' does not exist.", code="model_not_found"), NotFound),
        (400, saying("foo/bar is not a valid model ID", code=400), NotFound),
        (404, saying("?", code="DeploymentNotFound"), NotFound),
        (
            400,
            {"object": "error", "message": "Invalid model: x", "type": "invalid_model"},
            NotFound,
        ),
        (429, saying("?", type="engine_overloaded_error"), Overloaded),
        (500, saying("The server is currently overloaded with other requests."), Overloaded),
        (503, saying("Loading model", type="unavailable_error", code=503), Overloaded),
        (400, saying("?", code="content_filter"), ContentFiltered),
        (400, saying("?", innererror={"code": "ResponsibleAIPolicyViolation"}), ContentFiltered),
        (400, {"code": "DataInspectionFailed", "message": "Input may contain…"}, ContentFiltered),
        (400, saying("?", code="tool_use_failed", failed_generation="<f>"), ToolUseFailed),
        (200, saying("?", code=429), RateLimited),
        (422, {"detail": [{"loc": ["body"], "msg": "extra fields"}]}, BadRequest),
        (500, [saying("backend", code=500)], ServerError),
        (429, {"error": "slow down"}, RateLimited),
        (400, {"message": "plain", "code": 3051}, BadRequest),
        (400, {"errors": [{"message": "first"}]}, BadRequest),
    ],
)
def test_the_body_decides_before_the_status(
    status: int, body: object, expected: type[ProviderError]
) -> None:
    """One cause comes under several statuses, in many shapes."""
    assert type(refused(status, body)) is expected


def test_an_error_says_what_to_do_what_the_provider_said_and_which_request_it_was() -> None:
    """In one line, with the provider's code and its id of the request."""
    error = refused(
        404,
        saying("The model `x` does not exist", code="model_not_found"),
        {"X-Request-ID": "req_9"},
    )
    assert (error.code, error.request_id, error.status) == ("model_not_found", "req_9", 404)
    assert str(error) == (
        "acme: no such model, or this key cannot see it; check the model's name and the base "
        "address. It says: The model `x` does not exist (status 404, code 'model_not_found', "
        "request req_9)"
    )


def test_the_words_of_a_provider_behind_a_router_are_kept() -> None:
    """OpenRouter's own message says only "Provider returned error"."""
    body = saying("Provider returned error", code=429, metadata={"raw": "gemini is rate-limited"})
    assert "gemini is rate-limited" in refused(429, body).message
    nested = saying("Provider returned error", metadata={"raw": {"error": "Insufficient Balance"}})
    assert type(refused(502, nested)) is QuotaExhausted


def test_what_the_model_wrote_is_kept_when_the_provider_refuses_its_call_a09() -> None:
    """A09."""
    error = refused(400, saying("?", code="tool_use_failed", failed_generation="<function=f>"))
    assert isinstance(error, ToolUseFailed)
    assert error.failed_generation == "<function=f>"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"Retry-After": "3"}, 3.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "259200"}, 259200.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "NaN"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9.0),
        (
            {
                "retry-after": "Wed, 21 Oct 2015 07:28:30 GMT",
                "date": "Wed, 21 Oct 2015 07:28:00 GMT",
            },
            30.0,
        ),
        (
            {
                "retry-after": "Wed, 21 Oct 2015 07:28:00 GMT",
                "date": "Wed, 21 Oct 2015 07:29:00 GMT",
            },
            0.0,
        ),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT"}, 10.0),
        ({"retry-after": "Wed, 99 Oct 2015 07:28:30 GMT"}, None),
        ({"retry-after": "Wed, 21 Foo 2015 07:28:30 GMT"}, None),
    ],
)
def test_every_form_of_retry_after_has_a_meaning(
    headers: dict[str, str], expected: float | None
) -> None:
    """X04: zero is no absence, nonsense no number, a date is relative to the answer's own."""
    assert refused(429, b"", headers, now=1445412500.0).retry_after == expected


def test_a_date_without_any_clock_is_not_guessed() -> None:
    """X04: nobody asked for the time here."""
    assert refused(429, b"", {"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT"}).retry_after is None


def test_a_wait_of_days_is_reported_and_not_waited_for() -> None:
    """X02: the policy gives up instead of sleeping."""
    policy = RetryPolicy()
    error = refused(429, b"", {"retry-after": "259200"})
    assert policy.decide(error, 1, 0.0, 0.0) == GiveUp("retry_after_too_long")
    assert policy.decide(refused(429, b"", {"retry-after": "0"}), 1, 0.0, 0.0) == RetryIn(0.5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Please try again in 20ms.", 0.02),
        ("Please try again in 6m0s.", 360.0),
        ("try again in 1h2m3.5s", 3723.5),
        ("Please retry after 26 seconds.", 26.0),
        ("Try again in 5 minutes", None),
        ("try again later", None),
    ],
)
def test_a_wait_that_is_only_in_the_text_is_found(text: str, expected: float | None) -> None:
    """OpenAI and Azure say it in the message alone; headers come first."""
    assert refused(429, saying(text)).retry_after == expected
    assert refused(429, saying(text), {"retry-after": "7"}).retry_after == 7


CANARIES = [
    "sk-proj-abcdefghijklmnop",
    "gsk_abcdefghijklmnop",
    "AIzaSyA1234567890",
    "hf_abcdefghijkl",
    "xai-abcdefghijkl",
    "sk-ab/cd+ef/ghijklmnop==",
    "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl",
]


@pytest.mark.parametrize("key", [*CANARIES, "plain-secret-0815"])
def test_a_key_that_the_provider_quotes_is_not_repeated(key: str) -> None:
    """Z10: 401s quote the key they refuse."""
    for message in (
        f"Incorrect API key provided: {key}. See the docs.",
        f"Your api key: {key} is bad",
    ):
        error = refused(401, saying(message))
        told = f"{error!s}{error!r}{error.__dict__}"
        assert key not in told
        assert key[-9:] not in told
        assert type(error) is AuthenticationFailed


@pytest.mark.parametrize("key", CANARIES)
def test_a_key_in_any_other_text_is_not_repeated_either(key: str) -> None:
    """Z10: a proxy's page, a header that is echoed."""
    error = refused(502, f"<p>Authorization: Bearer {key}</p> {key}".encode())
    assert key not in f"{error!s}{error!r}{error.__dict__}"


def test_a_long_body_is_cut_to_an_excerpt() -> None:
    """An error is logged; a megabyte is not."""
    error = refused(500, b"x" * 1_000_000)
    assert len(error.message) < 700


def test_text_that_is_no_unicode_can_still_be_logged() -> None:
    """A lone surrogate in a message would break every log file."""
    error = refused(400, b'{"error":{"message":"bad \\ud83d","code":"c\\ud83d"}}')
    assert str(error).encode()
