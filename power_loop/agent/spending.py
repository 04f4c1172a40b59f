"""What one run may spend: its place in the tree of budgets, and what its calls cost."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from msgspec.structs import replace

import llm_client
from llm_client.errors import ConfigError
from llm_client.pricing import PriceBook
from llm_client.types import LLMRequest, Message, Transcript, Usage
from power_loop.agent.config import AgentConfig
from power_loop.agent.counting import Counters
from power_loop.errors import UsageError
from power_loop.pipeline.ports import Grant
from power_loop.runtime.budget.accounts import Shortfall
from power_loop.runtime.budget.claims import Need
from power_loop.runtime.budget.limits import Budget
from power_loop.runtime.budget.meter import Meter
from power_loop.runtime.budget.queue import Hold
from power_loop.runtime.budget.rates import NO_PRICES, cost_of, worst_rate
from power_loop.runtime.budget.shared import SharedBudget
from power_loop.session.machine import Session
from power_loop.session.outcome import BudgetExhausted
from power_loop.session.records import AT_BUDGET, Decided
from power_loop.session.spent import Spent

__all__ = [
    "LoopBudget",
    "RunPurse",
    "announced",
    "checked_budget",
    "meter_for",
    "meters_of",
    "purse_of",
    "time_limits",
]

_OF_TOKENS = ("tokens", "input_tokens", "output_tokens", "cost")
_CALL = Spent(tool_calls=1)
_CHILD = Spent(tool_calls=1, children=1)

LoopBudget = Budget | SharedBudget | Sequence[Budget | SharedBudget]
"""What all runs of a loop may use together: a budget of its own, or one that it shares."""


def meters_of(budget: LoopBudget) -> tuple[Meter, ...]:
    """The meters of a loop's budgets.

    Raises:
        UsageError: something is no budget, or limits time.
    """
    budgets = budget if isinstance(budget, Sequence) else (budget,)
    return tuple([_loop_meter(each) for each in budgets])


def _loop_meter(budget: object) -> Meter:
    if isinstance(budget, SharedBudget):
        return budget.meter
    if not isinstance(budget, Budget):
        raise UsageError(
            "AgentLoop(budget=…) is a Budget, a SharedBudget or a list of these, not a value of "
            f"type {type(budget).__name__}"
        )
    budget.refuse_times("a loop")
    return Meter("loop", budget)


def checked_budget(name: str, value: object) -> None:
    """Raises UsageError: it is no budget."""
    if not isinstance(value, Budget):
        raise UsageError(f"{name} is a Budget, not a value of type {type(value).__name__}")


def _refuse_extension(session: Session) -> None:
    """Raises UsageError: what ended the last run was no limit of its own."""
    outcome = session.last_outcome
    if session.run is not None or not isinstance(outcome, BudgetExhausted):
        return
    if not outcome.limit.startswith("run."):
        raise UsageError(
            f"extend raises limits of the run, but {outcome.limit} had ended it; leave extend out, "
            f"and {outcome.recommended_action}"
        )


def meter_for(
    session: Session,
    config: AgentConfig,
    options: Mapping[str, Any],
    above: Iterable[Meter],
    *,
    below: Spent | None,
    delegates: bool,
) -> Meter:
    """The meter of a run that is about to open, below that of its session and what is `above`.

    `below` is what sessions below open calls have used, of a run that carries another one on.
    A run that `delegates` is bounded in that in any case.

    Raises:
        UsageError: `extend` allows less than was allowed before, limits what was not limited, or
            does not raise what had ended the run.
    """
    unheard = session.uncounted + (below or Spent())
    budget = options.get("budget") or config.run_budget or Budget()
    spent = Spent()
    if below is not None:
        budget = budget.bounded(Budget.from_limits(session.limits, "run"))
        spent = session.task_spent + unheard
    if delegates and budget.children is None:
        budget = replace(budget, children=config.max_children)
    if (extend := options.get("extend")) is not None:
        _refuse_extension(session)
        budget = budget.extended(extend)
    if config.session_budget is not None:
        above = [Meter("session", config.session_budget, above, session.spent + unheard)]
    return Meter("run", budget, above, spent)


def purse_of(meter: Meter, config: AgentConfig, model: str, counters: Counters) -> RunPurse:
    """The purse of a run that asks `model` where it does not say which. `counters` are those of its
    session and loop.
    """
    prices = config.prices
    if prices is None and meter.limits_cost:
        prices = _list_prices()
    return RunPurse(
        meter, model=model, prices=prices, answer=config.budgeted_output, counters=counters
    )


def _list_prices() -> PriceBook | None:
    try:
        return llm_client.GenAIPrices()
    except ConfigError:
        # Not installed: then no price is known, which a limit of cost says where it refuses.
        return None


def announced(meter: Meter) -> dict[str, float]:
    """All limits that are in force, as the run's first record has them."""
    found: dict[str, float] = {}
    for account in reversed(meter.chain):
        found |= account.budget.as_limits(account.scope)
    return found


class RunPurse:
    """See `power_loop.driver.purse.Purse`."""

    def __init__(
        self,
        meter: Meter,
        *,
        model: str,
        prices: PriceBook | None,
        answer: int,
        counters: Counters,
    ) -> None:
        """`meter` is the run's own. `model` is asked where a request names none; `answer` tokens
        are what an answer may have where a request does not say. `counters` count requests.
        """
        self.meter = meter
        self._model = model
        self._prices = prices
        self._answer = answer
        self._counters = counters
        self._asked: dict[str, tuple[LLMRequest, Hold]] = {}
        self._measured: tuple[Sequence[Message], int] = ((), 0)
        limited = {name for account in meter.chain for name in account.limits}
        self._counts = not limited.isdisjoint(_OF_TOKENS)

    async def reserve(
        self,
        request: LLMRequest,
        attempt: str,
        *,
        new_round: bool,
        waiting: Callable[[], AbstractContextManager[object]],
    ) -> Grant | BudgetExhausted:
        """Sets aside what a model call may cost, for `settle`."""
        tokens, output = 0, request.max_output_tokens
        if self._counts:
            tokens, output = await self._count(request), output or self._answer
        model = request.model or self._model
        rate = worst_rate(self._prices, model, tokens) if self.meter.limits_cost else NO_PRICES
        need = Need(input_tokens=tokens, output_tokens=output, new_round=new_round, rate=rate)
        found = await self.meter.reserve(need, waiting)
        if isinstance(found, Shortfall):
            return BudgetExhausted(found.limit, found.reason)
        bounded = request
        if found.output != request.max_output_tokens:
            bounded = replace(request, max_output_tokens=found.output)
        self._asked[attempt] = bounded, found
        short = found.shortened
        told = None if short is None else Decided(AT_BUDGET, short.limit, "bounded", short.reason)
        return Grant(bounded, found.tokens, found.output or 0, found.cost, told)

    async def _count(self, request: LLMRequest) -> int:
        """Tokens of a request: as counted, and no fewer than the one was measured to have that it
        continues."""
        counter = self._counters.of(request.model or self._model)
        await counter.load()
        messages, measured = self._measured
        counted = counter.count_request(request).tokens
        return max(counted, measured) if _grew(messages, request.messages) else counted

    def settle(self, attempt: str, usage: Usage, cost: float) -> None:
        """Charges what a call has come to."""
        asked = self._asked.pop(attempt, None)
        if asked is None:
            return
        request, hold = asked
        sent, given = usage.input_tokens or 0, usage.output_tokens or 0
        hold.settle(
            Spent(
                rounds=hold.rounds,
                llm_calls=1,
                input_tokens=sent,
                output_tokens=given,
                cost=cost,
            )
        )
        if sent and self._counts:
            self._counters.of(request.model or self._model).learn(request, usage)
            self._measured = request.messages, sent

    def cost(self, model: str, usage: Usage) -> float:
        """What tokens of a model cost in US dollars; 0 where there is no price list."""
        if self._prices is None and not self.meter.limits_cost:
            return 0.0
        return cost_of(self._prices, model, usage, ceiling=self.meter.ceiling)

    def spend_tool_call(self, *, child: bool) -> BudgetExhausted | None:
        """Takes one call of a tool, and one session of a sub-agent if it is one."""
        short = self.meter.spend(_CHILD if child else _CALL)
        return None if short is None else BudgetExhausted(short.limit, short.reason)

    def close(self) -> None:
        """Charges what nobody has settled as it was set aside."""
        for _, hold in self._asked.values():
            hold.settle()
        self._asked.clear()


def _grew(old: Sequence[Message], new: Sequence[Message]) -> bool:
    """Whether all that was said in an earlier request is said in a new one, at the same place."""
    if isinstance(old, Transcript) and isinstance(new, Transcript):
        same = old.backing is new.backing and old.start == new.start
        return same and old.stop <= new.stop and len(old) <= len(new)
    return len(old) <= len(new) and all(map(operator.is_, old, new))


def time_limits(meter: Meter) -> Mapping[str, float]:
    """Seconds that are left to a run, by the name of their limit: of its own, and of its session's.
    Those of runs above are measured there.
    """
    own = (f"{meter.scope}.", "session.") if meter.scope == "run" else (f"{meter.scope}.",)
    left = meter.left()
    return {n: left[n] for n in left if n.endswith("_seconds") and n.startswith(own)}
