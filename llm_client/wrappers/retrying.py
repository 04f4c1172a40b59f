"""A service that is asked again by the retry law."""

from __future__ import annotations

import random as chance
import time
from collections.abc import Callable

import anyio
from msgspec import Struct

from llm_client.errors import LLMError
from llm_client.retry import GiveUp, RetryPolicy
from llm_client.service import LLMService
from llm_client.types import LLMRequest, LLMResponse
from llm_client.wrappers._around import Around, Clock, Sleep, refuse_retrying
from llm_client.wrappers._attempts import AttemptedStream, answer_of
from llm_client.wrappers._watched import Opened

__all__ = ["RetryNotice", "Retrying"]


class RetryNotice(Struct, frozen=True):
    """An attempt has failed, and another one will be made.

    Attributes:
        attempt: the number of the attempt that failed, from 1.
        delay: seconds until the next one.
        error: why it failed. `error.sent` says whether it may have been billed.
    """

    attempt: int
    delay: float
    error: LLMError


class Retrying(Around):
    """An `LLMService` that asks `inner` again where `policy` says so.

    A stream that fails before any of its answer was handed out is asked for again in silence. After
    that the error is raised with `after_output` set, unless `restart_streams` is set: then an
    `AttemptVoided` takes back what was handed out, and the answer begins anew.

    An error that is raised carries a note on how many attempts were made, and why no other.

    Args:
        inner: the service that is asked; it must not retry by itself.
        policy: when to try again.
        restart_streams: also try again when part of an answer had been handed out.
        on_retry: called before each wait; what it raises comes out of the request.
        clock: seconds on a clock that only goes forward.
        sleep: how a wait is waited for.
        random: a number in [0, 1), anew for each wait.

    Raises:
        ConfigError: `inner` is no service, or it retries, and two retry layers multiply.
    """

    def __init__(
        self,
        inner: LLMService,
        policy: RetryPolicy | None = None,
        *,
        restart_streams: bool = False,
        on_retry: Callable[[RetryNotice], None] | None = None,
        clock: Clock = time.monotonic,
        sleep: Sleep = anyio.sleep,
        random: Callable[[], float] = chance.random,
    ) -> None:
        super().__init__(inner)
        refuse_retrying(
            inner, "and two retry layers multiply; wrap the service that does not retry yet"
        )
        self._restart = restart_streams
        self._law = _Law(policy or RetryPolicy(), on_retry, clock, sleep, random)

    @property
    def retries(self) -> bool:
        """True: a failed request is tried again inside."""
        return True

    def stream(self, request: LLMRequest) -> AttemptedStream:
        """See `LLMService.stream`."""
        return AttemptedStream(_Schedule(self._inner, request, self._law), restart=self._restart)

    async def complete(self, request: LLMRequest) -> LLMResponse:
        """See `LLMService.complete`."""
        return await answer_of(_Schedule(self._inner, request, self._law))


class _Law(Struct, frozen=True):
    """The policy, and the world it is applied in."""

    policy: RetryPolicy
    on_retry: Callable[[RetryNotice], None] | None
    clock: Clock
    sleep: Sleep
    random: Callable[[], float]


class _Schedule:
    """The attempts of one request, all of the same service."""

    def __init__(self, service: LLMService, request: LLMRequest, law: _Law) -> None:
        self._service = service
        self._request = request
        self._law = law
        self._began = 0.0
        self._delay = 0.0
        self.number = 1

    def open(self) -> Opened:
        self._begin()
        return self._service.stream(self._request)

    async def complete(self) -> LLMResponse:
        self._begin()
        return await self._service.complete(self._request)

    def _begin(self) -> None:
        if self.number == 1:
            self._began = self._law.clock()

    def again(self, error: LLMError) -> bool:
        law = self._law
        elapsed = law.clock() - self._began
        decision = law.policy.decide(error, self.number, elapsed, law.random())
        if isinstance(decision, GiveUp):
            error.add_note(f"given up after attempt {self.number}: {decision.reason}")
            return False
        self._delay = decision.seconds
        if law.on_retry is not None:
            law.on_retry(RetryNotice(self.number, decision.seconds, error))
        self.number += 1
        return True

    async def ready(self) -> None:
        await self._law.sleep(self._delay)
