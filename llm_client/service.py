"""**Protocol** LLMService: the one thing an application needs of this package."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

from llm_client.errors import ConfigError
from llm_client.stream import StreamEvent
from llm_client.types import LLMRequest, LLMResponse

__all__ = ["KnowsWindow", "LLMService", "checked_service", "context_window_of"]


@runtime_checkable
class LLMService(Protocol):
    """**Protocol**: answers requests, streamed or whole."""

    @property
    def retries(self) -> bool:
        """True if a failed request is tried again inside. Callers with a retry law of their own
        refuse such a service: two layers multiply."""
        ...

    @property
    def model(self) -> str:
        """The model asked when a request names none."""
        ...

    @property
    def binds_output(self) -> bool:
        """True if an answer can be bound to `LLMRequest.output_schema`. If not, a request that has
        one is refused with `UnsupportedFeature`; describe the form in the prompt instead."""
        ...

    def check(self, request: LLMRequest) -> None:
        """Looks whether `request` can be put into wire form; nothing is sent. What only a provider
        can know is not found out.

        Raises:
            CallerError: it cannot.
        """
        ...

    def stream(
        self, request: LLMRequest
    ) -> AbstractAsyncContextManager[AsyncIterator[StreamEvent]]:
        """Opens a streamed answer. Leaving the block closes the connection, whatever was read.

        Raises:
            LLMError: on entering or while iterating.
            CallerError: it is iterated over without being entered.
        """
        ...

    async def complete(self, request: LLMRequest) -> LLMResponse:
        """The whole answer, asked for without streaming.

        Raises:
            LLMError: the request failed.
        """
        ...

    async def aclose(self) -> None:
        """Closes all connections. Idempotent."""
        ...


@runtime_checkable
class KnowsWindow(Protocol):
    """**Protocol**: a service that knows how much its models can read."""

    def context_window(self, model: str | None) -> int | None:
        """Tokens of prompt and answer together of `model`, None for the service's own; None if that
        is not known."""
        ...


def context_window_of(service: LLMService, model: str | None = None) -> int | None:
    """Tokens of prompt and answer together that `service` knows of; None if it does not."""
    return service.context_window(model) if isinstance(service, KnowsWindow) else None


def checked_service(given: object, taker: str) -> LLMService:
    """`given`, if it is a service.

    Raises:
        ConfigError: it is not; names `taker`, who takes one, and says how to get one.
    """
    # A class has the methods of its instances too.
    if isinstance(given, LLMService) and not isinstance(given, type):
        return given
    kind, hint = type(given), 'make one with create_llm_service("openai:gpt-5")'
    if issubclass(kind, list | tuple):
        hint = "pass services one by one"
    raise ConfigError(f"{taker} takes a model service, but got a {kind.__name__}; {hint}")
