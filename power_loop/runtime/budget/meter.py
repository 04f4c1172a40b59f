"""The tree of budgets. What is used below counts above, at once and everywhere.

A budget limits what is below it and sets nothing aside for it, so nobody holds anything while they
wait for somebody below. Only a model call holds, and it waits for nobody; this is why waiting for a
hold always comes to an end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext

from llm_client.pricing import Ceiling
from power_loop.runtime.budget.accounts import Account, Shortfall, check_thread
from power_loop.runtime.budget.amounts import NOTHING, amounts_of, out_of_units, spent_of
from power_loop.runtime.budget.claims import Claim, Fit, Lack, Need, explained
from power_loop.runtime.budget.limits import Budget
from power_loop.runtime.budget.queue import Hold, reserved, stands_in_line
from power_loop.runtime.budget.rates import Rate, Unpriced, ceiling_rate
from power_loop.session.spent import Spent

__all__ = ["Meter"]


class Meter:
    """Keeps a budget, and those of all `parents` and of their parents, each once.

    To be used from one event loop.

    Args:
        scope: names the budget in what is recorded: `run`, `session`, `loop` …
        budget: what is allowed here; an empty one allows what those above do.
        parents: the meters that what is used here counts for as well.
        spent: what has been used here before; it is not counted for the parents again.

    Attributes:
        chain: the accounts it counts for, its own first.
        ceiling: what calls are taken to cost whose price is not known; None where nobody has
            declared that, or where not all who limit cost have.
    """

    __slots__ = ("_account", "_limits_cost", "ceiling", "chain")

    def __init__(
        self,
        scope: str,
        budget: Budget,
        parents: Iterable[Meter] = (),
        spent: Spent = NOTHING,
    ) -> None:
        self._account = Account(scope, budget, spent)
        above = [account for parent in parents for account in parent.chain]
        self.chain: Sequence[Account] = tuple(dict.fromkeys([self._account, *above]))
        self._limits_cost = [each for each in self.chain if "cost" in each.limits]
        self.ceiling = _dearest([each.budget for each in self._limits_cost])

    @property
    def scope(self) -> str:
        """What the budget is called."""
        return self._account.scope

    @property
    def budget(self) -> Budget:
        """What is allowed here."""
        return self._account.budget

    @property
    def spent(self) -> Spent:
        """What has been used here and below, without what is held."""
        return spent_of(self._account.used)

    @property
    def held(self) -> Spent:
        """What is set aside here for calls under way."""
        return spent_of(self._account.held)

    @property
    def limits_cost(self) -> bool:
        """Whether cost is limited, here or above, so that prices must be known."""
        return bool(self._limits_cost)

    def left(self) -> dict[str, float]:
        """What of each limit, here and above, is neither used nor held: by `run.tokens` and so on.
        Where two have one scope, the lesser.
        """
        found: dict[str, float] = {}
        for account in self.chain:
            for name in account.limits:
                key = f"{account.scope}.{name}"
                free = out_of_units(name, max(0, account.free(name)))
                found[key] = min(free, found.get(key, free))
        return found

    async def reserve(
        self, need: Need, waiting: Callable[[], AbstractContextManager[object]] = nullcontext
    ) -> Hold | Shortfall:
        """Sets aside what a model call may use, everywhere at once.

        May wait for what calls under way give back, in the order of arrival, where the budgets
        that are short say so; see `Budget.when_short`. Nothing is held by one that is cancelled.
        If it waits, it does so in the context that `waiting` makes.

        Raises:
            UsageError: a budget is in use in another event loop.
        """
        claim = self._claim(need)
        if isinstance(claim, Shortfall):
            return claim
        found = claim.weigh()
        if isinstance(found, Fit):
            if not stands_in_line(self.chain):
                return Hold(self.chain, found)
        elif found.ends:
            return found.shortfall
        with waiting():
            return await reserved(claim, found)

    def spend(self, spent: Spent) -> Shortfall | None:
        """Takes what is known before it is used, a tool call say, from everywhere; or says which
        budget does not allow it, and takes nothing.

        Raises:
            UsageError: a budget is in use in another event loop.
        """
        check_thread(self.chain)
        amounts = amounts_of(spent)
        for account in self.chain:
            for name, units in amounts.items():
                if name in account.limits and account.free(name) < units:
                    return explained(Lack(account, name, units))
        self.charge(spent)
        return None

    def charge(self, spent: Spent) -> None:
        """Counts, here and above, what has been used already, whether it was allowed or not."""
        amounts = amounts_of(spent)
        for account in self.chain:
            account.use(amounts)

    def _claim(self, need: Need) -> Claim | Shortfall:
        check_thread(self.chain)
        rate = need.rate
        if isinstance(rate, Rate):
            return Claim(self.chain, need, rate)
        if self.ceiling is not None:
            return Claim(self.chain, need, ceiling_rate(self.ceiling, need.input_tokens))
        for account in self._limits_cost:
            if account.budget.unknown_price == "refuse":
                return _unpriced(account, rate)
        return Claim(self.chain, need, Rate(0, 0))


def _unpriced(account: Account, rate: Unpriced) -> Shortfall:
    return Shortfall(
        f"{account.scope}.cost",
        f"cost is limited, but what the call costs is not known: {rate.reason}. Give a price list "
        "that knows it, or say what it is taken to cost: Budget(unknown_price=Ceiling(…))",
    )


def _dearest(budgets: Sequence[Budget]) -> Ceiling | None:
    """The least that none of these ceilings exceeds, if all have one."""
    ceilings = [each.unknown_price for each in budgets]
    declared = [each for each in ceilings if isinstance(each, Ceiling)]
    if not declared or len(declared) < len(ceilings):
        return None
    return Ceiling(
        max([each.input_per_million for each in declared]),
        max([each.output_per_million for each in declared]),
    )
