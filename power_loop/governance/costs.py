"""What a task has cost, and a limit that is announced to the model before it is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llm_client.types import Message
from power_loop.errors import UsageError
from power_loop.governance.checks import over_zero
from power_loop.governance.policies import POLICY_META, Policy, Stop, Warn
from power_loop.hooks import RoundStart
from power_loop.session.outcome import BudgetExhausted
from power_loop.session.spent import Spent

__all__ = ["CostLimit", "cost_of"]


class CostLimit(Policy):
    """Ends a run `budget_exhausted` when its task has cost so much; before that, warns the model.

    What counts is what `AgentConfig(prices=…)` says of each call, whichever model was asked, in
    sub-agents too. A call of a model that is not in there costs nothing, unless its `PricePolicy`
    has a `Ceiling`; where nothing has a price, the run is stopped.

    It is looked at between rounds, so the last round may go beyond; `Budget(cost=…)` is never
    passed, but does not tell the model that it is time to come to an end.
    """

    name = "cost_limit"

    def __init__(self, usd: float, *, warn_at: float = 0.8, name: str = "cost_limit") -> None:
        """Describes the rule.

        Args:
            usd: US dollars that a task may cost.
            warn_at: the share of `usd` from which the model is told, once a task; 1 for never.
            name: of the policy, where there are several of them.

        Raises:
            UsageError: `usd` is not over 0, or `warn_at` is not over 0 and up to 1.
        """
        self.name = name
        self._most = over_zero("CostLimit", usd, "dollars")
        if over_zero("warn_at", warn_at) > 1:
            raise UsageError(f"warn_at must be a share over 0 and up to 1, not {warn_at!r}")
        self._warned_from = usd * warn_at

    def before_round(self, context: RoundStart[Any]) -> Stop | Warn | None:
        """Stops what has cost too much, and warns of it.

        Raises:
            UsageError: see `cost_of`.
        """
        cost = cost_of(context.spent)
        if cost >= self._most:
            used = f"{cost:g} of {self._most:g} US dollars used"
            return Stop(used, BudgetExhausted(f"policy.{self.name}", used))
        if cost < self._warned_from or _told(context.messages, self.name):
            return None
        return Warn(
            f"This task has cost {cost:g} of the {self._most:g} US dollars that it may. Come to an "
            "end: do what matters most, and answer with what you have."
        )


def cost_of(spent: Spent) -> float:
    """US dollars that a task has cost, to a trillionth, as they are added up.

    Raises:
        UsageError: tokens were spent, and none of them had a price.
    """
    if spent.tokens and not spent.cost:
        raise UsageError(
            f"{spent.tokens} tokens were spent that have no price, so what they cost cannot be "
            "limited; give AgentConfig(prices=…) a price list that has the model"
        )
    return round(spent.cost, 12)


def _told(messages: Sequence[Message], policy: str) -> bool:
    """The policy has spoken since the task's input."""
    for message in reversed(messages):
        said = message.meta.get(POLICY_META) if message.meta else None
        if said == policy:
            return True
        if message.role == "user" and said is None:
            return False
    return False
