"""So many requests and tokens a minute, whoever asks."""

from __future__ import annotations

import time
from collections import OrderedDict
from math import inf, isfinite

import anyio

from llm_client.errors import ExceedsLimit, RateLimited
from llm_client.waiting import WAITING
from llm_client.wrappers._around import Clock, Sleep

__all__ = ["RateLimiter", "Reservation"]

ROUNDING = 1e-9
"""The share of an allowance that may be missing: sums of seconds are never quite exact."""


class _Bucket:
    """A minute's allowance that fills evenly. It may be overdrawn, and is then filled up first."""

    __slots__ = ("_at", "_clock", "_level", "_rate", "capacity")

    def __init__(self, per_minute: float, clock: Clock) -> None:
        self.capacity = max(1.0, per_minute)
        self._rate = per_minute / 60
        self._level = self.capacity
        self._clock = clock
        self._at = clock()

    def wait(self, need: float) -> float:
        """Seconds until `need` is there, 0 if it is. It may be more than the bucket ever holds."""
        now = self._clock()
        self._level = min(self.capacity, self._level + max(0.0, now - self._at) * self._rate)
        self._at = now
        missing = need - self._level
        return 0.0 if missing <= ROUNDING * self.capacity else missing / self._rate

    def add(self, amount: float) -> None:
        """Puts back, or takes out what is negative."""
        self._level += amount


class _Waiter:
    __slots__ = ("scope", "tokens")

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.scope: anyio.CancelScope | None = None


class RateLimiter:
    """An allowance of requests and tokens per minute, shared by all who reserve from it.

    Allowances fill evenly, up to that of one minute, as those of the providers do: after a quiet
    minute a whole minute's worth may go out at once. Whoever came first goes first. Waiting can be
    cancelled at once, and costs nobody his place or his tokens.

    For one event loop at a time.

    Args:
        requests_per_minute: None for no limit.
        tokens_per_minute: None for no limit.
        max_wait: nobody waits for longer than so many seconds; None for no bound.
        clock: seconds on a clock that only goes forward.
        sleep: how a wait is waited for.

    Raises:
        ValueError: a limit that is not a finite number over 0; names it.
    """

    def __init__(
        self,
        *,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        max_wait: float | None = 60.0,
        clock: Clock = time.monotonic,
        sleep: Sleep = anyio.sleep,
    ) -> None:
        for name, limit in (
            ("requests_per_minute", requests_per_minute),
            ("tokens_per_minute", tokens_per_minute),
        ):
            if limit is not None and not (limit > 0 and isfinite(limit)):
                raise ValueError(f"{name} must be a finite number over 0, is {limit}")
        if max_wait is not None and not max_wait >= 0:
            raise ValueError(f"max_wait must not be negative, is {max_wait}")
        self._requests = _bucket(requests_per_minute, clock)
        self._tokens = _bucket(tokens_per_minute, clock)
        self._max_wait = inf if max_wait is None else max_wait
        self._clock = clock
        self._sleep = sleep
        self._queue: OrderedDict[_Waiter, None] = OrderedDict()
        self._queued_tokens = 0

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._queue)

    @property
    def counts_tokens(self) -> bool:
        """Whether tokens are limited at all."""
        return self._tokens is not None

    async def reserve(self, tokens: int = 0) -> Reservation:
        """Waits until one request of `tokens` tokens may go out.

        Raises:
            ExceedsLimit: so many tokens are never there.
            RateLimited: it would take, or took, longer than `max_wait`; nothing was reserved.
        """
        if self._tokens is not None and tokens > self._tokens.capacity:
            raise ExceedsLimit(
                f"a request of {tokens} tokens can never go out: {self._tokens.capacity:.0f} are "
                "allowed in a minute; make it smaller, or raise tokens_per_minute"
            )
        if self._queue or self._wait(1, tokens) > 0:
            with WAITING.get()():
                await self._wait_in_line(tokens)
        self._add(-1, -tokens)
        return Reservation(self, tokens)

    def put_back(self, requests: int, tokens: int) -> None:
        """Gives back what was reserved and not used; takes more if `tokens` is negative."""
        self._add(requests, tokens)
        self._wake_first()

    async def _wait_in_line(self, tokens: int) -> None:
        waiter = _Waiter(tokens)
        until = self._clock() + self._max_wait
        wait = self._wait(len(self._queue) + 1, self._queued_tokens + tokens)
        if wait > self._max_wait:
            raise self._too_long(wait)
        self._queue[waiter] = None
        self._queued_tokens += tokens
        try:
            while (wait := self._turn_of(waiter)) > 0:
                left = until - self._clock()
                if left <= 0:
                    raise self._too_long(wait)
                with anyio.CancelScope() as waiter.scope:
                    await self._pause(min(wait, left))
                waiter.scope = None
        finally:
            del self._queue[waiter]
            self._queued_tokens -= tokens
            self._wake_first()

    def _turn_of(self, waiter: _Waiter) -> float:
        """Seconds until `waiter` may go; without end while others are before him."""
        return self._wait(1, waiter.tokens) if next(iter(self._queue)) is waiter else inf

    async def _pause(self, seconds: float) -> None:
        await (anyio.sleep_forever() if seconds == inf else self._sleep(seconds))

    def _wake_first(self) -> None:
        first = next(iter(self._queue), None)
        if first is not None and first.scope is not None:
            first.scope.cancel()

    def _too_long(self, wait: float) -> RateLimited:
        told = "" if wait == inf else f" of {wait:.1f} s"
        return RateLimited(
            f"this program's own rate limit would make the request wait{told}, longer than "
            f"max_wait ({self._max_wait:.1f} s)",
            retry_after=None if wait == inf else wait,
            sent=False,
        )

    def _wait(self, requests: int, tokens: int) -> float:
        by_requests = 0.0 if self._requests is None else self._requests.wait(requests)
        return max(by_requests, 0.0 if self._tokens is None else self._tokens.wait(tokens))

    def _add(self, requests: int, tokens: int) -> None:
        if self._requests is not None:
            self._requests.add(requests)
        if self._tokens is not None:
            self._tokens.add(tokens)


class Reservation:
    """What one request has reserved. The first of `settle` and `give_back` counts."""

    __slots__ = ("_limiter", "_open", "tokens")

    def __init__(self, limiter: RateLimiter, tokens: int) -> None:
        self._limiter = limiter
        self._open = True
        self.tokens = tokens

    def settle(self, used: int) -> None:
        """The request took `used` tokens: the rest is given back, what is more is taken too."""
        self._end(0, self.tokens - used)

    def give_back(self) -> None:
        """The request was never sent."""
        self._end(1, self.tokens)

    def _end(self, requests: int, tokens: int) -> None:
        if self._open:
            self._open = False
            self._limiter.put_back(requests, tokens)


def _bucket(per_minute: float | None, clock: Clock) -> _Bucket | None:
    return None if per_minute is None else _Bucket(per_minute, clock)
