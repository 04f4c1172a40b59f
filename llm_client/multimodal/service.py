"""A service whose requests fit their model."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from llm_client._block import Block
from llm_client.known_models import ModelCapabilities
from llm_client.multimodal.fit import Fitted, check_fits, fit_request
from llm_client.multimodal.limits import MediaLimits
from llm_client.service import LLMService
from llm_client.stream import StreamEvent
from llm_client.types import LLMRequest, LLMResponse
from llm_client.wrappers._around import Around
from llm_client.wrappers._watched import Opened

__all__ = ["FittingMedia"]


class FittingMedia(Around):
    """An `LLMService` that makes the attachments of a request fit before it asks `inner`; see
    `fit_request`. `check` refuses what would be refused later, before anything is stored or sent.

    `complete`, `check`, and entering a stream, also raise what `fit_request` raises.

    Args:
        inner: the service that is asked.
        limits: what its provider takes: `media_limits("anthropic")`.
        known: what its model can do: `capabilities("anthropic", "claude-sonnet-4-5")`.
    """

    def __init__(
        self, inner: LLMService, limits: MediaLimits, known: ModelCapabilities | None = None
    ) -> None:
        super().__init__(inner)
        self._limits = limits
        self._known = known
        self._fitted = Fitted()

    def check(self, request: LLMRequest) -> None:
        """See `LLMService.check`."""
        super().check(check_fits(request, self._limits, self._known))

    def stream(self, request: LLMRequest) -> Opened:
        """See `LLMService.stream`."""
        return Block(self._stream(request))

    @asynccontextmanager
    async def _stream(self, request: LLMRequest) -> AsyncGenerator[AsyncIterator[StreamEvent]]:
        async with self._inner.stream(await self._fit(request)) as events:
            yield events

    async def complete(self, request: LLMRequest) -> LLMResponse:
        """See `LLMService.complete`."""
        return await self._inner.complete(await self._fit(request))

    async def _fit(self, request: LLMRequest) -> LLMRequest:
        return await fit_request(request, self._limits, self._known, fitted=self._fitted)
