"""Who counts the tokens of which model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import llm_client

if TYPE_CHECKING:
    from llm_client.tokens import ModelTokens

__all__ = ["Counters"]


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
