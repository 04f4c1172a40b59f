"""From a provider's refusal to a typed error: one table for every protocol.

A refusal is classified by what the body says first and by the status second, because the same cause
comes under different statuses (a used-up quota under 400, 402, 403 and 429) and different causes
under the same one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from msgspec import Struct, structs

from llm_client.codecs._error_report import ErrorReport, read_error_body, read_error_value
from llm_client.codecs._retry_after import retry_after
from llm_client.errors import (
    AuthenticationFailed,
    BadRequest,
    ContentFiltered,
    ContextOverflow,
    NotFound,
    Overloaded,
    PermissionDenied,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    ServerError,
    ToolUseFailed,
)

__all__ = ["error_from_body", "error_from_value", "request_id"]

_REQUEST_ID_HEADERS = (
    "x-request-id",
    "request-id",
    "apim-request-id",
    "x-ms-request-id",
    "x-amzn-requestid",
    "mistral-correlation-id",
    "x-ds-trace-id",
    "cf-ray",
)
_REQUEST_IDS = frozenset(_REQUEST_ID_HEADERS)


class _Cause(Struct, frozen=True):
    """One cause: the error it becomes, the codes and the wording that give it away, what to do."""

    error: type[ProviderError]
    advice: str
    words: frozenset[str] = frozenset()
    text: str | None = None
    unless: str | None = None
    """Wording that makes `text` mean something else."""

    def fits(self, report: ErrorReport) -> bool:
        if self.words & report.words:
            return True
        if self.text is None or not _matches(self.text, report.message):
            return False
        return self.unless is None or not _matches(self.unless, report.message)


def _matches(pattern: str, text: str) -> bool:
    # Compiled when the first error comes, not at import: `re` keeps what it has compiled.
    return re.search(pattern, text, re.IGNORECASE) is not None


def _any_of(*patterns: str) -> str:
    return "|".join(f"(?:{pattern})" for pattern in patterns)


_TOO_LONG = _any_of(
    r"maximum context length",  # OpenAI, DeepSeek, vLLM, OpenRouter
    r"context[_ ]length[_ ]exceeded",
    r"exceed\w* (?:the )?(?:model'?s? )?(?:max\w* )?context (?:length|window|size|limit)",
    r"exceeds the available context size",  # llama.cpp
    r"context window exceeds",  # MiniMax
    r"exceed_context_size",  # llama.cpp
    r"context size has been exceeded",
    r"input \(\d+ tokens\) is too large to process",  # llama.cpp of a text to embed, as a 500
    r"prompt (?:is )?too long",  # Anthropic, Ollama
    r"prompt exceeds (?:the |max)",  # Zhipu
    r"input is too long",  # Bedrock
    r"maximum prompt length is \d",  # xAI
    r"reduce the length of the (?:messages|prompt|input)",  # Groq
    r"input token count.{0,40}exceeds",  # Gemini
    r"exceeds the maximum number of tokens",
    r"exceeds (?:the )?maximum allowed input length",  # Poolside
    r"exceeded model token limit",  # Moonshot
    r"tokens in request more than max tokens allowed",  # Zhipu
    r"too large for model with \d+ maximum",  # Mistral
    r"(?:longer|greater) than the (?:model'?s )?context length",  # SGLang, Together, LM Studio
    r"context (?:the )?overflows",  # LM Studio
    r"range of input length should be",  # DashScope
    # Groq, OpenAI: one request beyond the rate itself
    r"request too large for (?:model|(?:ft:)?(?:chat)?gpt|codex|o\d)",
    r"total number of tokens .{0,40}cannot exceed \d",  # Cohere
    r"increasing context size",  # llama.cpp in mid-stream
)

_CAUSES = (
    _Cause(
        ToolUseFailed,
        "the model wrote a tool call that the provider found invalid; ask again, or simplify the "
        "tool's schema",
        frozenset({"tool_use_failed"}),
    ),
    _Cause(
        ContentFiltered,
        "the provider's content filter refused the request; change what is asked",
        frozenset(
            {
                "content_filter",
                "content_policy_violation",
                "moderation_blocked",
                "image_content_policy_violation",
                "responsibleaipolicyviolation",
                "data_inspection_failed",
                "datainspectionfailed",
            }
        ),
        _any_of(
            r"content management policy",
            r"content exists risk",
            r"considered high risk",
            r"flagged as potentially violating",  # OpenAI
        ),
    ),
    _Cause(
        ContextOverflow,
        "the prompt does not fit into the model's context window; shorten or compact the "
        "transcript, or choose a model with a larger one",
        frozenset(
            {
                "context_length_exceeded",
                "exceed_context_size_error",
                "model_context_window_exceeded",
                "context_window_exceeded",
            }
        ),
        _TOO_LONG,
        # In an address, OpenAI's page on rate limits, it says nothing.
        _any_of(r"(?<!/)rate.?limit", r"too many requests", r"throttl"),
    ),
    _Cause(
        QuotaExhausted,
        "the account's quota or credit is used up; waiting does not help, see the provider's "
        "billing page",
        frozenset(
            {
                "insufficient_quota",
                "insufficient_balance",
                "insufficient_credits",
                "billing_hard_limit_reached",
                "billing_not_active",
                "billing_error",
                "exceeded_current_quota_error",
                "arrearage",
            }
        ),
        _any_of(
            r"exceeded your current quota",
            r"insufficient (?:account )?(?:balance|credits?|quota|funds)",
            r"credit balance is too low",
            r"requires more credits",
            r"account is (?:overdue|in arrears|in good standing)",
        ),
        _any_of(r"retry in \d"),
    ),
    _Cause(
        AuthenticationFailed,
        "the key is missing, wrong or revoked; check the provider's API key setting",
        frozenset(
            {
                "invalid_api_key",
                "authentication_error",
                "invalid_authentication_error",
                "incorrect_api_key_error",
                "unauthenticated",
            }
        ),
        _any_of(
            r"(?:incorrect|invalid|wrong) api[ -]?key",
            r"api[ -]?key not valid",
            r"api[ -]?key (?:is )?(?:missing|invalid|expired)",
        ),
    ),
    _Cause(
        PermissionDenied,
        "the key may not do this; check its rights, project and region",
        frozenset({"permission_error"}),  # Anthropic
    ),
    _Cause(
        NotFound,
        "no such model, or this key cannot see it; check the model's name and the base address",
        frozenset(
            {
                "model_not_found",
                "deploymentnotfound",
                "invalid_model",
                "model_not_supported",
                "not_found_error",  # Anthropic
            }
        ),
        _any_of(
            r"model `?'?[\w./:\-]+'?`? (?:does not exist|not found|is not found)",
            r"is not a valid model id",
            r"unknown model\b",
        ),
    ),
    _Cause(
        BadRequest,
        "the model takes no attachments of this kind; put FittingMedia around the service to have "
        "them told in words, or choose a model that takes them",
        text=r"(?:image|audio|video) input is not supported",  # llama.cpp, under status 500
    ),
    _Cause(
        Overloaded,
        "the provider has no capacity just now; try again later, or use another model",
        frozenset(
            {"overloaded_error", "engine_overloaded_error", "model_overloaded", "overloaded"}
        ),
        _any_of(
            r"(?:is|are) (?:currently |temporarily )?overloaded",
            r"server is busy",
            r"service is too busy",
            r"no capacity",
            r"loading model",
        ),
    ),
    _Cause(
        RateLimited,
        "too many requests or tokens for this key; wait, or lower the rate",
        frozenset(
            {
                "rate_limit_exceeded",
                "rate_limit_error",
                "rate_limit_reached_error",
                "resource_exhausted",
                "too_many_requests",
            }
        ),
    ),
)

_BY_STATUS: Mapping[int, tuple[type[ProviderError], str]] = {
    401: (AuthenticationFailed, "the key is missing, wrong or revoked; check the API key setting"),
    402: (QuotaExhausted, "the account has no credit left; see the provider's billing page"),
    403: (PermissionDenied, "the key may not do this; check its rights, project and region"),
    404: (NotFound, "no such model or address; check the model's name and the base address"),
    405: (NotFound, "the address takes no such request; check the base address"),
    408: (ServerError, "the provider gave up waiting; try again"),
    409: (ServerError, "the provider reports a conflict; try again"),
    413: (BadRequest, "the request is too large; send fewer or smaller images and files"),
    425: (ServerError, "the provider was not ready for the request; try again"),
    429: (RateLimited, "too many requests or tokens for this key; wait, or lower the rate"),
    498: (Overloaded, "the provider has no capacity just now; try again later"),
    503: (Overloaded, "the provider has no capacity just now; try again later"),
    529: (Overloaded, "the provider has no capacity just now; try again later"),
}


def request_id(headers: Mapping[str, str]) -> str | None:
    """The provider's id of a request, from the answer's headers."""
    # Looked at once: every answer comes through here, and most have none of these headers.
    ids = {
        lower: value for name, value in headers.items() if (lower := name.lower()) in _REQUEST_IDS
    }
    return next((ids[name] for name in _REQUEST_ID_HEADERS if ids.get(name)), None)


def error_from_body(
    provider: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    now: Callable[[], float] | None = None,
) -> ProviderError:
    """The typed error for an answer that is an error.

    `now` (seconds since 1970) is asked only where Retry-After is a date and there is no `Date`.
    """
    report = read_error_body(body)
    wait = retry_after(headers, now)
    if wait is not None:
        report = structs.replace(report, retry_after=wait)
    if report.request_id is None:
        report = structs.replace(report, request_id=request_id(headers))
    return _classified(provider, status, report)


def error_from_value(provider: str, value: object, status: int | None = None) -> ProviderError:
    """The typed error for an error object inside an answer or a stream that began well."""
    return _classified(provider, status, read_error_value(value))


def _classified(provider: str, status: int | None, report: ErrorReport) -> ProviderError:
    fine = status is None or 200 <= status < 300
    effective = report.status if fine else status
    kind, advice = _kind(effective, report)
    said = f" It says: {report.message}" if report.message else ""
    error = kind(
        f"{provider}: {advice}.{said}",
        retry_after=report.retry_after,
        status=status if status is not None else report.status,
        code=report.code,
        request_id=report.request_id,
        provider=provider,
    )
    if isinstance(error, ToolUseFailed):
        error.failed_generation = report.failed_generation
    return error


def _kind(status: int | None, report: ErrorReport) -> tuple[type[ProviderError], str]:
    for cause in _CAUSES:
        if cause.fits(report):
            return cause.error, cause.advice
    known = _BY_STATUS.get(status) if status is not None else None
    if known is not None:
        return known
    if status is not None and status < 400:
        return BadRequest, f"unexpected status {status}; check the base address"
    if (status is not None and status < 500) or _names_bad_request(report):
        return BadRequest, "the provider refused the request"
    return ServerError, "the provider failed; try again"


_BAD_REQUESTS = frozenset(
    {
        "request_too_large",  # Anthropic
        "invalid_request_error",
        "badrequesterror",
        "invalid_argument",
        # What Responses says of a request that it had begun to answer.
        "invalid_prompt",
        "invalid_image",
        "invalid_image_format",
        "invalid_base64_image",
        "invalid_image_url",
        "invalid_image_mode",
        "image_too_large",
        "image_too_small",
        "image_parse_error",
        "image_file_too_large",
        "image_file_not_found",
        "unsupported_image_media_type",
        "empty_image_file",
        "failed_to_download_image",
    }
)


def _names_bad_request(report: ErrorReport) -> bool:
    return bool(report.words & _BAD_REQUESTS)
