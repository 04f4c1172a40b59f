"""What a task has cost, and a limit that is announced to the model before it is there."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from math import isfinite
from typing import Any

from llm_client.pricing import PriceBook
from llm_client.types import Message, Usage
from power_loop.errors import UsageError
from power_loop.governance.policies import POLICY_META, Policy, Stop, Warn
from power_loop.hooks import RoundStart
from power_loop.session.outcome import BudgetExhausted
from power_loop.session.spent import Spent

__all__ = ["CostLimit", "cost_of"]


class CostLimit(Policy):
    """Ends a run `budget_exhausted` when its task has cost so much; before that, warns the model.

    It is looked at between rounds, so the last round may go beyond; `Budget(cost=…)` is never
    passed, but does not tell the model that it is time to come to an end.
    """

    name = "cost_limit"

    def __init__(
        self,
        usd: float,
        *,
        model: str,
        prices: PriceBook,
        warn_at: float = 0.8,
        name: str = "cost_limit",
    ) -> None:
        """Describes the rule.

        Args:
            usd: US dollars that a task may cost, reckoned as `Exit.cost_limit` does.
            model: whose prices count.
            prices: where they stand.
            warn_at: the share of `usd` from which the model is told, once a task; 1 for never.
            name: of the policy, where there are several of them.

        Raises:
            UsageError: `usd` is not over 0, or `warn_at` is not over 0 and up to 1.
        """
        if not (isfinite(usd) and usd > 0):
            raise UsageError(f"CostLimit must be a finite number of dollars over 0, not {usd!r}")
        if not 0 < warn_at <= 1:
            raise UsageError(f"warn_at must be a share over 0 and up to 1, not {warn_at!r}")
        self.name = name
        self._most = usd
        self._model = model
        self._prices = prices
        self._warned_from = usd * warn_at

    def before_round(self, context: RoundStart[Any]) -> Stop | Warn | None:
        """Stops what has cost too much, and warns of it."""
        cost = cost_of(context.spent, self._model, self._prices)
        if cost >= self._most:
            used = f"{cost:g} of {self._most:g} US dollars used"
            return Stop(used, BudgetExhausted(f"policy.{self.name}", used))
        if cost < self._warned_from or _told(context.messages, self.name):
            return None
        return Warn(
            f"This task has cost {cost:g} of the {self._most:g} US dollars that it may. Come to an "
            "end: do what matters most, and answer with what you have."
        )


def cost_of(spent: Spent, model: str, prices: PriceBook) -> float:
    """US dollars that a task has cost at most: as if nothing had come from a cache.

    Raises:
        PriceUnknown: the price book refuses a model that it does not know.
        UsageError: it gives no price for it.
    """
    price = prices.price(model, Usage(spent.input_tokens, spent.output_tokens))
    if price is None:
        raise UsageError(f"the price book gives no price for {model!r}, so none can limit")
    return float(max(price.amount, Decimal(str(spent.cost))))


def _told(messages: Sequence[Message], policy: str) -> bool:
    """The policy has spoken since the task's input."""
    for message in reversed(messages):
        said = message.meta.get(POLICY_META) if message.meta else None
        if said == policy:
            return True
        if message.role == "user" and said is None:
            return False
    return False
