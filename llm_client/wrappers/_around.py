"""What passes through a wrapper unchanged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from llm_client.errors import ConfigError
from llm_client.service import LLMService, checked_service, context_window_of
from llm_client.types import LLMRequest

__all__ = ["Around", "Clock", "Sleep", "refuse_retrying"]

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]


class Around:
    """The side of an `LLMService` that does not ask the model, taken from the service `inner`.

    Raises:
        ConfigError: `inner` is no service.
    """

    def __init__(self, inner: LLMService) -> None:
        self._inner = checked_service(inner, type(self).__name__)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._inner!r})"

    @property
    def retries(self) -> bool:
        """Whether the service inside retries."""
        return self._inner.retries

    @property
    def model(self) -> str:
        """The model of the service inside."""
        return self._inner.model

    @property
    def binds_output(self) -> bool:
        """Whether the service inside can bind an answer to a schema."""
        return self._inner.binds_output

    def context_window(self, model: str | None) -> int | None:
        """See `KnowsWindow`."""
        return context_window_of(self._inner, model)

    def check(self, request: LLMRequest) -> None:
        """See `LLMService.check`."""
        self._inner.check(request)

    async def aclose(self) -> None:
        """Closes the service inside."""
        await self._inner.aclose()


def refuse_retrying(inner: LLMService, reason: str) -> None:
    """Refuses a service that tries again, itself or by what it stands around.

    Raises:
        ConfigError: it does; gives `reason`, why that cannot be.
    """
    if inner.retries:
        raise ConfigError(f"something in {inner!r} retries by itself, {reason}")
