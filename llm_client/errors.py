"""Everything that can go wrong with a model call, sorted by whose fault it is.

    LLMError
    ├─ CallerError                  this program asked for something impossible
    │  ├─ ConfigError               a setting is missing or wrong; names it
    │  ├─ ExceedsLimit              larger than a rate limit of this program ever lets through
    │  ├─ LocalProtocolError        the transcript is illegal for the provider; names the rule
    │  └─ UnsupportedFeature        the model or protocol cannot do what was asked
    ├─ ProviderError                the provider answered, and the answer is an error
    │  ├─ AuthenticationFailed      no or wrong key
    │  ├─ PermissionDenied          the key may not do this
    │  ├─ NotFound                  no such model or address
    │  ├─ BadRequest                refused as malformed
    │  │  └─ ContextOverflow        the prompt is larger than the model's window
    │  ├─ ContentFiltered           a filter refused the prompt
    │  ├─ ToolUseFailed             the provider itself found the model's tool call invalid
    │  ├─ RateLimited               too fast; retry_after says when
    │  ├─ QuotaExhausted            the money or quota is used up; retrying is pointless
    │  ├─ Overloaded                the provider has no capacity just now
    │  └─ ServerError               5xx and the like
    ├─ TransportError               the answer did not arrive
    │  ├─ ConnectFailed             before anything was sent
    │  ├─ ConnectionLost            after the request had been sent, at least in part
    │  └─ Timeout                   a deadline passed; `phase` says which
    └─ RemoteProtocolError          what arrived is not what the protocol promises
       ├─ MalformedResponse         not decodable
       └─ IncompleteStream          ended before its positive end

No message, repr or attribute ever holds a key, and response bodies are cut to an excerpt.
"""

from __future__ import annotations

import re
from typing import Literal

__all__ = [
    "AuthenticationFailed",
    "BadRequest",
    "CallerError",
    "ConfigError",
    "ConnectFailed",
    "ConnectionLost",
    "ContentFiltered",
    "ContextOverflow",
    "ExceedsLimit",
    "IncompleteStream",
    "LLMError",
    "LocalProtocolError",
    "MalformedResponse",
    "NotFound",
    "Overloaded",
    "PermissionDenied",
    "Phase",
    "ProviderError",
    "QuotaExhausted",
    "RateLimited",
    "RemoteProtocolError",
    "ServerError",
    "Timeout",
    "ToolUseFailed",
    "TransportError",
    "UnsupportedFeature",
    "excerpt",
    "may_have_been_billed",
    "redact",
]

EXCERPT_LIMIT = 500

Phase = Literal["connect", "write", "first_byte", "idle", "total", "pool"]


_KEY_LIKE = r"""(?ix)
    \b(?:sk|pk|rk|gsk|xai|pplx|csk|hf|r8|nvapi|fw|tgp)[-_][\w*.\-/+]{4,}=*   # vendors' prefixes
    | \bAIza[\w\-]{8,}
    | \beyJ[\w\-]{6,}(?:\.[\w\-]+)*                                             # JSON web tokens
    | (?<=bearer\ )[\w\-.~+/*]{6,}=*
    | (?<=api\ key\ provided:\ )\S+?(?=[.,;]?(?:\s|$))
    | (?<=api\ key:\ )\S+?(?=[.,;]?(?:\s|$))
    """


def excerpt(text: str, limit: int = EXCERPT_LIMIT) -> str:
    """`text` on one line, cut to `limit` characters with a word about what was left out."""
    flat = " ".join(text[: limit * 4].split())
    if len(flat) <= limit and len(text) <= limit * 4:
        return flat
    return f"{flat[:limit]}… ({len(text)} characters in all)"


def redact(text: str) -> str:
    """`text` without anything that looks like a key: providers quote the one they refuse."""
    return re.sub(_KEY_LIKE, "[key]", text)


class LLMError(Exception):
    """Base of all errors of this package.

    Attributes:
        message: what went wrong and what to do, one sentence or two.
        retryable: the same request may succeed later.
        retry_after: seconds the provider asked to wait, None if it did not say.
        status: the HTTP status, None if there was none.
        code: the provider's own error code.
        request_id: the provider's id of the request, to quote to its support.
        provider: who was asked.
        after_output: part of the answer had already been handed out.
        sent: the request had (or may have) reached the provider, so it may have been billed.
    """

    retryable = False

    def __init__(
        self,
        message: str,
        *,
        retryable: bool | None = None,
        retry_after: float | None = None,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        provider: str | None = None,
        sent: bool = True,
    ) -> None:
        super().__init__(message)
        self.message = message
        if retryable is not None:
            self.retryable = retryable
        self.retry_after = retry_after
        self.status = status
        self.code = code
        self.request_id = request_id
        self.provider = provider
        self.after_output = False
        self.sent = sent

    def __str__(self) -> str:
        facts = [
            f"status {self.status}" if self.status is not None else "",
            f"code {self.code!r}" if self.code else "",
            f"request {self.request_id}" if self.request_id else "",
        ]
        known = ", ".join(fact for fact in facts if fact)
        return f"{self.message} ({known})" if known else self.message


class CallerError(LLMError):
    """The calling program asked for something that cannot work; nothing was sent."""

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=False)


class ConfigError(CallerError):
    """A setting is missing or wrong."""


class ExceedsLimit(CallerError):
    """The request is larger than a rate limit of this program ever lets through."""


class LocalProtocolError(CallerError):
    """The transcript would be refused by the provider. `rule` names the rule it breaks."""

    def __init__(self, message: str, *, rule: str) -> None:
        super().__init__(f"{message} (rule {rule})")
        self.rule = rule


class UnsupportedFeature(CallerError):
    """The model or its protocol cannot do what the request asks for."""


class ProviderError(LLMError):
    """The provider answered with an error."""


class AuthenticationFailed(ProviderError):
    """The key is missing, wrong or revoked."""


class PermissionDenied(ProviderError):
    """The key is valid, but may not do this."""


class NotFound(ProviderError):
    """The model or the address does not exist, or the key cannot see it."""


class BadRequest(ProviderError):
    """The provider refused the request as malformed."""


class ContextOverflow(BadRequest):
    """The prompt does not fit into the model's context window."""


class ContentFiltered(ProviderError):
    """The provider's content filter refused the prompt."""


class ToolUseFailed(ProviderError):
    """The provider validated the model's tool call and found it invalid.

    `failed_generation` is what the model had written, where the provider tells.
    """

    failed_generation: str | None = None


class RateLimited(ProviderError):
    """Too many requests or tokens per unit of time."""

    retryable = True


class QuotaExhausted(ProviderError):
    """The account has no quota or money left. Not retryable: waiting does not help."""


class Overloaded(ProviderError):
    """The provider has no capacity at the moment."""

    retryable = True


class ServerError(ProviderError):
    """The provider failed."""

    retryable = True


class TransportError(LLMError):
    """The answer did not arrive."""

    retryable = True


class ConnectFailed(TransportError):
    """No connection could be made; the request was not sent."""


class ConnectionLost(TransportError):
    """The connection broke after the request had been sent, at least in part."""


class Timeout(TransportError):
    """A deadline passed. `seconds` is how long it was, `phase` which one: to `connect`, to `write`
    the request, until the `first_byte` of the answer, between two pieces of it (`idle`), for the
    whole call (`total`), or for a connection of the `pool` to become free."""

    def __init__(self, message: str, *, phase: Phase, seconds: float, sent: bool = True) -> None:
        super().__init__(message, sent=sent)
        self.phase: Phase = phase
        self.seconds = seconds


class RemoteProtocolError(LLMError):
    """What arrived is not what the protocol promises."""

    retryable = True


class MalformedResponse(RemoteProtocolError):
    """The body cannot be decoded."""


class IncompleteStream(RemoteProtocolError):
    """The stream ended before its positive end: what arrived is not an answer."""


_TURNED_AWAY = (
    AuthenticationFailed,
    PermissionDenied,
    NotFound,
    RateLimited,
    QuotaExhausted,
    Overloaded,
)
"""Answers of a provider that has not begun to work on the request."""


def may_have_been_billed(error: LLMError) -> bool:
    """Whether a request that failed with `error` may cost something: it had been sent, and the
    provider did not turn it away at once."""
    if error.after_output:
        return True
    if isinstance(error, BadRequest) and not isinstance(error, ContextOverflow):
        return False
    return error.sent and not isinstance(error, _TURNED_AWAY)
