"""When to try again, and with which model, as pure functions of what happened. Nobody sleeps here.

One law for the whole program: `RetryPolicy.decide` is asked after each failed attempt and answers
with the seconds to wait, or with the reason why it gives up. Then `FallbackPolicy` says whether
another model is asked. The loop of power_loop follows both, and so do the wrappers `Retrying` and
`Fallback` for those who use this package alone.
"""

from __future__ import annotations

from math import isfinite
from typing import TypeVar

from msgspec import Struct

from llm_client.errors import (
    LLMError,
    NotFound,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    RemoteProtocolError,
    ServerError,
    Timeout,
    TransportError,
)

__all__ = ["FallbackPolicy", "GiveUp", "RetryIn", "RetryPolicy", "RetryRule"]

T = TypeVar("T")

MOST_DOUBLINGS = 64
"""Beyond this a backoff has long reached its maximum, and a float would overflow one day."""


class RetryIn(Struct, frozen=True):
    """Try again after `seconds`."""

    seconds: float


class GiveUp(Struct, frozen=True):
    """Do not try again, because of `reason`."""

    reason: str


class RetryRule(Struct, frozen=True, kw_only=True):
    """What holds for errors of one class in place of the policy's own settings; None leaves them.

    Attributes:
        error: the class; errors of its subclasses are meant too.
        max_attempts: after this many attempts, of whatever kind, such an error is final.
        initial: as in `RetryPolicy`.
        maximum: as in `RetryPolicy`.
        retry_after_cap: as in `RetryPolicy`.

    Raises:
        ValueError: a setting that cannot be; names it.
    """

    error: type[LLMError]
    max_attempts: int | None = None
    initial: float | None = None
    maximum: float | None = None
    retry_after_cap: float | None = None

    def __post_init__(self) -> None:
        _check_numbers(self.max_attempts, self.initial, self.maximum, self.retry_after_cap)


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """Exponential backoff with jitter, under a total deadline.

    Attributes:
        max_attempts: attempts in all, the first included; at least 1.
        initial: seconds before the second attempt, doubled for each later one.
        maximum: no backoff is longer than this, in seconds.
        total: seconds from the first attempt after which no new one begins; None for no bound.
        retry_after_cap: a provider that asks for a longer wait than this is not waited for.
        jitter: a wait is lengthened by up to this share of itself. Never shortened: a provider's
            Retry-After is a lower bound, and workers told the same instant must spread out.
        retry_sent_timeouts: also retry when the request had been sent but no answer came in time.
            The provider may have done, and billed, the work.
        give_up_on: errors of these classes are final, whatever they say of themselves.
        per_error: other settings for some classes of errors; the first rule that fits holds.

    Raises:
        ValueError: a setting that cannot be; names it.
    """

    max_attempts: int = 3
    initial: float = 0.5
    maximum: float = 8.0
    total: float | None = 60.0
    retry_after_cap: float = 30.0
    jitter: float = 0.25
    retry_sent_timeouts: bool = True
    give_up_on: tuple[type[LLMError], ...] = ()
    per_error: tuple[RetryRule, ...] = ()

    def __post_init__(self) -> None:
        _check_numbers(self.max_attempts, self.initial, self.maximum, self.retry_after_cap)
        if not (self.jitter >= 0 and isfinite(self.jitter)):
            raise ValueError(f"jitter must be a finite number from 0, is {self.jitter}")
        if self.total is not None and not self.total > 0:
            raise ValueError(f"total must be positive or None, not {self.total}")

    def decide(
        self, error: LLMError, attempt: int, elapsed: float, random: float
    ) -> RetryIn | GiveUp:
        """What to do after attempt number `attempt` (from 1) failed with `error`.

        `elapsed` is the time since the first attempt began, in seconds; `random` a number in
        [0, 1) that places this worker in the jitter.
        """
        if not error.retryable:
            return GiveUp("not_retryable")
        if isinstance(error, self.give_up_on):
            return GiveUp("given_up_on")
        rule = next((rule for rule in self.per_error if isinstance(error, rule.error)), None)
        if attempt >= _either(rule and rule.max_attempts, self.max_attempts):
            return GiveUp("attempts_used_up")
        if isinstance(error, Timeout) and error.sent and not self.retry_sent_timeouts:
            return GiveUp("may_have_been_billed")
        told = _told(error)
        if told > _either(rule and rule.retry_after_cap, self.retry_after_cap):
            return GiveUp("retry_after_too_long")
        initial = _either(rule and rule.initial, self.initial)
        maximum = _either(rule and rule.maximum, self.maximum)
        backoff = min(maximum, initial * 2.0 ** min(attempt - 1, MOST_DOUBLINGS))
        wait = max(backoff, told) * (1 + self.jitter * random)
        if self.total is not None and elapsed + wait > self.total:
            return GiveUp("deadline")
        return RetryIn(wait)


class FallbackPolicy(Struct, frozen=True, kw_only=True):
    """Which further models are asked when one has failed for good, and after which errors.

    Attributes:
        models: names of further models of the same service, in the order in which they are asked.
        on: errors of these classes pass the request on; any other is final. By default those after
            which another model may do better: it is busy, broken, out of quota, or not there.

    Raises:
        ValueError: a model without a name, or one that is named twice.
    """

    models: tuple[str, ...] = ()
    on: tuple[type[LLMError], ...] = (
        RateLimited,
        QuotaExhausted,
        Overloaded,
        ServerError,
        NotFound,
        TransportError,
        RemoteProtocolError,
    )

    def __post_init__(self) -> None:
        if not all(self.models) or len(set(self.models)) < len(self.models):
            raise ValueError(f"models must be different names, are {self.models!r}")

    def passes_on(self, error: LLMError) -> bool:
        """Whether another model is to be asked after `error`."""
        return isinstance(error, self.on)


def _told(error: LLMError) -> float:
    """The seconds that the provider asked to wait; what is no time at all was not said."""
    told = error.retry_after
    return told if told is not None and told >= 0 else 0.0


def _either(special: T | None, general: T) -> T:
    return general if special is None else special


def _check_numbers(
    max_attempts: int | None,
    initial: float | None,
    maximum: float | None,
    retry_after_cap: float | None,
) -> None:
    if max_attempts is not None and max_attempts < 1:
        raise ValueError(f"max_attempts must be at least 1, not {max_attempts}")
    for name, value in (("initial", initial), ("maximum", maximum)):
        if value is not None and not (value >= 0 and isfinite(value)):
            raise ValueError(f"{name} must be a finite number from 0, is {value}")
    if retry_after_cap is not None and not retry_after_cap >= 0:
        raise ValueError(f"retry_after_cap must not be negative, is {retry_after_cap}")
