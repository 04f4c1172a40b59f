"""When to try again, as a pure function of what happened. Nobody sleeps here.

One law for the whole program: `RetryPolicy.decide` is asked after each failed attempt and answers
with the seconds to wait, or with the reason why it gives up.
"""

from __future__ import annotations

from msgspec import Struct

from llm_client.errors import LLMError, Timeout

__all__ = ["GiveUp", "RetryIn", "RetryPolicy"]


class RetryIn(Struct, frozen=True):
    """Try again after `seconds`."""

    seconds: float


class GiveUp(Struct, frozen=True):
    """Do not try again, because of `reason`."""

    reason: str


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
    """

    max_attempts: int = 3
    initial: float = 0.5
    maximum: float = 8.0
    total: float | None = 60.0
    retry_after_cap: float = 30.0
    jitter: float = 0.25
    retry_sent_timeouts: bool = True

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts must be at least 1, not {self.max_attempts}")
        for name in ("initial", "maximum", "retry_after_cap", "jitter"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, is {getattr(self, name)}")
        if self.total is not None and self.total <= 0:
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
        if attempt >= self.max_attempts:
            return GiveUp("attempts_used_up")
        if isinstance(error, Timeout) and error.sent and not self.retry_sent_timeouts:
            return GiveUp("may_have_been_billed")
        wait = min(self.maximum, self.initial * 2 ** (attempt - 1))
        if error.retry_after is not None:
            if error.retry_after > self.retry_after_cap:
                return GiveUp("retry_after_too_long")
            wait = max(wait, error.retry_after)
        wait *= 1 + self.jitter * random
        if self.total is not None and elapsed + wait > self.total:
            return GiveUp("deadline")
        return RetryIn(wait)
