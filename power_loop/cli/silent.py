"""A model service that is never asked anything: what is replayed has been answered already."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

from llm_client.errors import UnsupportedFeature
from llm_client.stream import StreamEvent
from llm_client.types import LLMRequest, LLMResponse

__all__ = ["SilentService"]


class SilentService:
    """Stands for the service that a session was recorded with; `model` is its model."""

    retries = False
    binds_output = False

    def __init__(self, model: str) -> None:
        self.model = model

    async def complete(self, request: LLMRequest) -> LLMResponse:
        """Raises UnsupportedFeature."""
        raise _refusal()

    def stream(
        self, request: LLMRequest
    ) -> AbstractAsyncContextManager[AsyncIterator[StreamEvent]]:
        """Raises UnsupportedFeature."""
        raise _refusal()

    def check(self, request: LLMRequest) -> None:
        """Takes everything."""

    async def aclose(self) -> None:
        """There is nothing to close."""


def _refusal() -> UnsupportedFeature:
    return UnsupportedFeature("a session that is replayed asks no model")
