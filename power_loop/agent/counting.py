"""Who counts the tokens of which model, and how many it can hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import llm_client
from llm_client.service import KnowsWindow, LLMService

if TYPE_CHECKING:
    from llm_client.tokens import ModelTokens

__all__ = ["Counters", "Windows"]


class Counters:
    """Count tokens, by model: messages once a session and not once a run, all else once a loop."""

    __slots__ = ("_loop", "_session")

    def __init__(self, loop: dict[str, ModelTokens], session: dict[str, ModelTokens]) -> None:
        """Both are added to."""
        self._loop = loop
        self._session = session

    def of(self, model: str) -> ModelTokens:
        """The counter of a model."""
        counter = self._session.get(model)
        if counter is None:
            first = self._loop.get(model)
            if first is None:
                first = self._loop[model] = llm_client.ModelTokens(model)
            counter = self._session[model] = first.sibling()
        return counter


class Windows:
    """Tokens of prompt and answer together that models can hold: what the loop was told, or what
    its service knows, which is asked until it does."""

    __slots__ = ("_known", "_service", "_told")

    def __init__(self, told: int | None, llm: LLMService) -> None:
        self._told = told
        self._service = llm if isinstance(llm, KnowsWindow) else None
        self._known: dict[str, int] = {}

    def of(self, model: str) -> int | None:
        """The window of a model; None if nobody knows it."""
        if self._told is not None or self._service is None:
            return self._told
        known = self._known.get(model)
        if known is None:
            known = self._service.context_window(model)
            if known is not None:
                self._known[model] = known
        return known
