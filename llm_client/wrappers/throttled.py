"""A service whose requests keep to a rate."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec

from llm_client.errors import LLMError
from llm_client.service import LLMService
from llm_client.stream import StreamEvent
from llm_client.types import LLMRequest, LLMResponse, Text, Thinking, ToolCall, ToolResult, Usage
from llm_client.wrappers._around import Around
from llm_client.wrappers._watched import Opened, Watched
from llm_client.wrappers.rate_limiter import RateLimiter, Reservation

__all__ = ["Throttled", "rough_input_tokens"]

TOKENS_OF_A_FILE = 1_000
BYTES_OF_A_TOKEN = 4


def rough_input_tokens(request: LLMRequest) -> int:
    """About how many tokens `request` puts in: a quarter of its bytes, and a thousand for an image
    or a file."""
    size = len((request.system or "").encode())
    size += sum(len(msgspec.json.encode(tool)) for tool in request.tools)
    files = 0
    for message in request.messages:
        for part in message.parts:
            match part:
                case Text() | Thinking() | ToolResult():
                    size += len(part.text.encode("utf-8", "replace"))
                case ToolCall():
                    size += len(part.arguments.encode("utf-8", "replace"))
                case _:
                    files += 1
    return size // BYTES_OF_A_TOKEN + files * TOKENS_OF_A_FILE


class Throttled(Around):
    """An `LLMService` whose requests to `inner` wait for their share of `limiter`.

    What a request will take is estimated and reserved before it is sent, and settled to what the
    provider reports afterwards. If it reports nothing, or the request fails on its way, the
    reservation stands; an error that says that nothing was sent gives it back.

    `complete`, and entering a stream, also raise what `RateLimiter.reserve` raises.

    Args:
        inner: the service that is asked.
        limiter: the allowance; several services may share one.
        estimate: the tokens that a request puts in, roughly; not called if tokens are not limited.
        expected_output: tokens reserved for the answer to a request that does not bound it.
    """

    def __init__(
        self,
        inner: LLMService,
        limiter: RateLimiter,
        *,
        estimate: Callable[[LLMRequest], int] = rough_input_tokens,
        expected_output: int = 1_000,
    ) -> None:
        super().__init__(inner)
        self._limiter = limiter
        self._estimate = estimate
        self._expected_output = expected_output

    def stream(self, request: LLMRequest) -> Opened:
        """See `LLMService.stream`."""
        return self._stream(request)

    @asynccontextmanager
    async def _stream(self, request: LLMRequest) -> AsyncGenerator[AsyncIterator[StreamEvent]]:
        reserved = await self._reserve(request)
        stream = Watched(self._inner.stream(request))
        try:
            async with stream:
                yield stream
        finally:
            _settle(reserved, stream.usage if stream.finished else Usage(), stream.error)

    async def complete(self, request: LLMRequest) -> LLMResponse:
        """See `LLMService.complete`."""
        reserved = await self._reserve(request)
        try:
            response = await self._inner.complete(request)
        except LLMError as error:
            _settle(reserved, Usage(), error)
            raise
        _settle(reserved, response.usage, None)
        return response

    async def _reserve(self, request: LLMRequest) -> Reservation:
        if not self._limiter.counts_tokens:
            return await self._limiter.reserve()
        output = request.max_output_tokens
        output = self._expected_output if output is None else output
        return await self._limiter.reserve(self._estimate(request) + output)


def _settle(reserved: Reservation, usage: Usage, error: LLMError | None) -> None:
    if error is not None and not error.sent:
        reserved.give_back()
    elif error is None and usage.input_tokens is not None and usage.output_tokens is not None:
        reserved.settle(usage.total_tokens)
