"""A service whose requests keep to a rate."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from llm_client._block import Block
from llm_client.errors import LLMError
from llm_client.service import LLMService
from llm_client.stream import StreamEvent
from llm_client.tokens import ModelTokens, TokenCounter
from llm_client.types import LLMRequest, LLMResponse, Usage
from llm_client.wrappers._around import Around
from llm_client.wrappers._watched import Opened, Watched
from llm_client.wrappers.rate_limiter import RateLimiter, Reservation

__all__ = ["Throttled"]


class Throttled(Around):
    """An `LLMService` whose requests to `inner` wait for their share of `limiter`.

    What a request will take is estimated and reserved before it is sent, and settled to what the
    provider reports afterwards. If it reports nothing, or the request fails on its way, the
    reservation stands; an error that says that nothing was sent gives it back.

    `complete`, and entering a stream, also raise what `RateLimiter.reserve` raises.

    Args:
        inner: the service that is asked.
        limiter: the allowance; several services may share one.
        counter: estimates what a request puts in, and learns from what is reported; by default a
            `ModelTokens` for the service's model. Not asked if tokens are not limited.
        expected_output: tokens reserved for the answer to a request that does not bound it.

    Raises:
        ConfigError: `inner` is no service.
    """

    def __init__(
        self,
        inner: LLMService,
        limiter: RateLimiter,
        counter: TokenCounter | None = None,
        *,
        expected_output: int = 1_000,
    ) -> None:
        super().__init__(inner)
        self._limiter = limiter
        self._counter = counter or ModelTokens(inner.model)
        self._expected_output = expected_output

    def stream(self, request: LLMRequest) -> Opened:
        """See `LLMService.stream`."""
        return Block(self._stream(request))

    @asynccontextmanager
    async def _stream(self, request: LLMRequest) -> AsyncGenerator[AsyncIterator[StreamEvent]]:
        reserved = await self._reserve(request)
        stream = Watched(self._inner.stream(request))
        try:
            async with stream:
                yield stream
        finally:
            if stream.error is not None:
                _settle_failed(reserved, stream.error)
            elif stream.finished:
                self._settle(reserved, request, stream.usage)

    async def complete(self, request: LLMRequest) -> LLMResponse:
        """See `LLMService.complete`."""
        reserved = await self._reserve(request)
        try:
            response = await self._inner.complete(request)
        except LLMError as error:
            _settle_failed(reserved, error)
            raise
        self._settle(reserved, request, response.usage)
        return response

    async def _reserve(self, request: LLMRequest) -> Reservation:
        if not self._limiter.counts_tokens:
            return await self._limiter.reserve()
        await self._counter.load()
        output = request.max_output_tokens
        output = self._expected_output if output is None else output
        return await self._limiter.reserve(self._counter.count_request(request).tokens + output)

    def _settle(self, reserved: Reservation, request: LLMRequest, usage: Usage) -> None:
        if usage.input_tokens is not None and usage.output_tokens is not None:
            reserved.settle(usage.total_tokens)
            if self._limiter.counts_tokens:
                self._counter.learn(request, usage)


def _settle_failed(reserved: Reservation, error: LLMError) -> None:
    if not error.sent:
        reserved.give_back()
