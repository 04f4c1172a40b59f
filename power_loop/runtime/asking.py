"""**Protocol** Ask: how a leaf of the runtime asks the model, as a part of its run."""

from __future__ import annotations

from typing import Protocol

from llm_client.types import LLMRequest, LLMResponse

__all__ = ["Ask"]


class Ask(Protocol):
    """**Protocol**: one call of the run's own model, gated and recorded as all its calls are.

    Its cost is reserved in the run's budget and stands in the ledger, it ends when the run is
    cancelled, and it is made once: nothing is tried again.
    """

    async def __call__(self, request: LLMRequest, *, within: float) -> LLMResponse:
        """The answer, `within` so many seconds, the wait for a budget included. A `request` without
        a model is for the run's own.

        Raises:
            LLMError: it failed, took too long, or is over a budget.
        """
        ...
