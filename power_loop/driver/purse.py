"""**Protocol** Purse: what a run may spend, and what it has set aside."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from llm_client.types import LLMRequest, Usage
from power_loop.pipeline.ports import Grant
from power_loop.session.outcome import BudgetExhausted

__all__ = ["Purse"]


class Purse(Protocol):
    """**Protocol**: the budget of one run, and of all that it is a part of."""

    async def reserve(
        self,
        request: LLMRequest,
        attempt: str,
        *,
        new_round: bool,
        waiting: Callable[[], AbstractContextManager[object]],
    ) -> Grant | BudgetExhausted:
        """Sets aside what a model call may cost, for `settle`. May wait for others to settle, in
        the context that `waiting` makes.
        """
        ...

    def settle(self, attempt: str, usage: Usage, cost: float) -> None:
        """Charges what a call has come to, and frees what is left of what was set aside."""
        ...

    def cost(self, model: str, usage: Usage) -> float:
        """What tokens of a model cost in US dollars; 0 where there is no price list."""
        ...

    def spend_tool_call(self, *, child: bool) -> BudgetExhausted | None:
        """Takes one call of a tool, or one session of a sub-agent."""
        ...

    def close(self) -> None:
        """Charges what nobody has settled as it was set aside."""
        ...
