"""A service that leaves a provider alone while it is unwell."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from llm_client._block import Block
from llm_client.errors import (
    LLMError,
    Overloaded,
    ProviderError,
    RemoteProtocolError,
    ServerError,
    Timeout,
    TransportError,
)
from llm_client.service import LLMService
from llm_client.stream import StreamEvent
from llm_client.types import LLMRequest, LLMResponse
from llm_client.wrappers._around import Around, Clock
from llm_client.wrappers._watched import Opened, Watched

__all__ = ["CircuitBreaker"]

Shown = Literal["well", "unwell", "nothing"]


class CircuitBreaker(Around):
    """An `LLMService` that stops asking `inner` after `failures` failures in a row.

        closed ── failures in a row ──► open ── cool_down is over ──► half open
          ▲                              ▲                               │
          │                              └───── the probe fails ─────────┤
          └──────────────────── the probe is answered ───────────────────┘

    Open, it refuses with `Overloaded`, whose `retry_after` is the rest of the cool-down; nothing is
    sent. Half open, it lets one request through as a probe and refuses the others.

    A failure is an error that says that the provider is unwell: overloaded, a server error, a
    connection that fails, an answer against its protocol, in the middle of a stream as well. An
    answer, or any other refusal by the provider, shows that it is well. What shows neither leaves
    all as it was: an error of the caller, a cancellation, a stream that is left before its end.

    For one event loop at a time; shared by all who use this service.

    Args:
        inner: the service that is asked.
        failures: failures in a row after which it opens; at least 1.
        cool_down: seconds it stays open.
        clock: seconds on a clock that only goes forward.

    Raises:
        ConfigError: `inner` is no service.
        ValueError: a setting that cannot be; names it.
    """

    def __init__(
        self,
        inner: LLMService,
        *,
        failures: int = 5,
        cool_down: float = 30.0,
        clock: Clock = time.monotonic,
    ) -> None:
        if failures < 1:
            raise ValueError(f"failures must be at least 1, is {failures}")
        if not cool_down > 0:
            raise ValueError(f"cool_down must be over 0, is {cool_down}")
        super().__init__(inner)
        self._failures = failures
        self._cool_down = cool_down
        self._clock = clock
        self._in_a_row = 0
        self._open_until: float | None = None
        self._probe: object | None = None
        # What was let through before the last change of state says nothing about the present one.
        self._era = object()

    @property
    def state(self) -> Literal["closed", "open", "half_open"]:
        """Whether requests are let through, refused, or one is let through to see."""
        if self._open_until is None:
            return "closed"
        return "open" if self._clock() < self._open_until else "half_open"

    def stream(self, request: LLMRequest) -> Opened:
        """See `LLMService.stream`.

        Raises:
            Overloaded: also if the circuit is open.
        """
        return Block(self._stream(request))

    @asynccontextmanager
    async def _stream(self, request: LLMRequest) -> AsyncGenerator[AsyncIterator[StreamEvent]]:
        era = self._admit()
        stream = Watched(self._inner.stream(request))
        try:
            async with stream:
                yield stream
        finally:
            if stream.error is not None:
                self._judge(era, _shown_by(stream.error))
            else:
                self._judge(era, "well" if stream.finished else "nothing")

    async def complete(self, request: LLMRequest) -> LLMResponse:
        """See `LLMService.complete`.

        Raises:
            Overloaded: also if the circuit is open.
        """
        era = self._admit()
        shown: Shown = "nothing"
        try:
            response = await self._inner.complete(request)
            shown = "well"
        except LLMError as error:
            shown = _shown_by(error)
            raise
        finally:
            self._judge(era, shown)
        return response

    def _admit(self) -> object:
        """Lets a request through, or refuses it."""
        if self._open_until is None:
            return self._era
        rest = self._open_until - self._clock()
        if rest > 0 or self._probe is not None:
            raise Overloaded(
                f"{self.model!r} failed {self._failures} times in a row and is being left alone; "
                "nothing was sent",
                retry_after=max(0.0, rest),
                sent=False,
            )
        self._probe = self._era = object()
        return self._probe

    def _judge(self, era: object, shown: Shown) -> None:
        """Takes in what a request has shown of the provider."""
        if era is not self._era:
            return
        self._probe = None
        if shown == "well":
            self._in_a_row = 0
            self._open_until = None
        elif shown == "unwell":
            # A probe that fails is one more in a row that was long enough before it.
            self._in_a_row += 1
            if self._in_a_row >= self._failures:
                self._open_until = self._clock() + self._cool_down
                self._era = object()


def _shown_by(error: LLMError) -> Shown:
    match error:
        case Timeout(phase="pool"):
            return "nothing"
        case TransportError() | RemoteProtocolError():
            return "unwell"
        case ProviderError(sent=False):
            return "nothing"
        case Overloaded() | ServerError():
            return "unwell"
        case ProviderError():
            return "well"
        case _:
            return "nothing"
