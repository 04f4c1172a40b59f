"""What a task may cost, whichever models are asked for it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from math import inf, nan
from typing import Any

import anyio
import pytest

from llm_client.errors import ServerError
from llm_client.pricing import Ceiling, PriceBook, PricePolicy, Rates, TablePrices
from llm_client.retry import FallbackPolicy, RetryPolicy
from llm_client.types import LLMRequest, ToolResult
from power_loop import AgentConfig, AgentLoop, SubAgent
from power_loop.agent.result import RunResult
from power_loop.errors import UsageError
from power_loop.governance import CostLimit, Exit, Exits, Policies
from power_loop.session.outcome import BudgetExhausted, Stopped
from power_loop.session.records import ModelEnded
from tests.agent.scripted import Reply, Scripted, calls, fails, says
from tests.agent.support import check_log
from tests.governance.traces import PRICES, Call, Player, Step

pytestmark = pytest.mark.anyio

WORK: list[Step] = [[Call("work", {"n": n}, f"done {n}")] for n in range(30)]
TODAY = date(2026, 1, 1)
# A call of "dear" with 10 + 5 tokens costs 15 US dollars, one of "scripted" next to nothing.
MODELS = TablePrices(
    {
        "scripted": Rates(input=Decimal(1), output=Decimal(1), as_of=TODAY),
        "dear": Rates(input=Decimal(1_000_000), output=Decimal(1_000_000), as_of=TODAY),
    },
    today=lambda: TODAY,
)


async def test_a_task_is_warned_once_of_what_it_costs_and_then_ended() -> None:
    """A resumed run has cost what it had; the next task begins anew."""
    player = Player(WORK)
    loop = AgentLoop(
        player.llm,
        tools=player.tools(),
        config=AgentConfig(prices=PRICES),
        extensions=[Policies(CostLimit(0.03, warn_at=0.6))],
    )
    async with loop:
        first = await loop.send("go")
        assert first.outcome == BudgetExhausted("policy.cost_limit", "0.03 of 0.03 US dollars used")
        assert player.asked == 5
        told = [sum("of the 0.03" in str(m) for m in r.messages) for r in player.llm.requests]
        assert told == [0, 0, 0, 1, 1]
        again = await loop.resume(first.session_id)
        assert again.status == "budget_exhausted"
        assert player.asked == 5
        await loop.send("another", first.session_id)
        assert player.asked == 10
        told = [sum("of the 0.03" in str(m) for m in r.messages) for r in player.llm.requests]
        assert told[5:] == [1, 1, 1, 2, 2]
        await check_log(loop, first.session_id)


async def _worked(
    by: Callable[[LLMRequest], Reply],
    prices: PriceBook | None,
    *,
    exits: bool = False,
    model: str | None = None,
    **config: Any,
) -> tuple[RunResult[None], list[str | None]]:
    """How a task ends that may cost 20 US dollars, and which models were asked."""
    helper = SubAgent("helper", "Helps.", tools=[], model="dear")
    limit = Exits(Exit.cost_limit(20)) if exits else Policies(CostLimit(20))
    llm = Scripted(by=by)
    loop = AgentLoop(
        llm,
        tools=[helper],
        extensions=[limit],
        config=AgentConfig(prices=prices, max_rounds=9, **config),
    )
    with anyio.fail_after(10):
        async with loop:
            options: Any = {} if model is None else {"model": model}
            result = await loop.send("go", **options)
            await check_log(loop, result.session_id)
    return result, [request.model for request in llm.requests]


def asking_helpers(request: LLMRequest) -> Reply:
    """One sub-agent after the other."""
    if request.messages[0].text != "go":
        return says("ok")
    made = sum(isinstance(p, ToolResult) for m in request.messages for p in m.parts)
    return calls((f"h{made}", "helper", {"task": "t"}))


def only_dear(request: LLMRequest) -> Reply:
    """A service whose own model fails."""
    return asking_helpers(request) if request.model == "dear" else fails(ServerError("down"))


@pytest.mark.parametrize("exits", [False, True])
async def test_what_other_models_cost_counts_by_their_own_price(exits: bool) -> None:
    """One that `send` names, one that is fallen back to, one of a sub-agent."""
    result, asked = await _worked(asking_helpers, MODELS, exits=exits, model="dear")
    assert (result.status, asked) == ("budget_exhausted", ["dear", "dear"])
    result, asked = await _worked(
        only_dear,
        MODELS,
        exits=exits,
        retry=RetryPolicy(max_attempts=1),
        fallback=FallbackPolicy(models=("dear",)),
    )
    assert (result.status, asked) == ("budget_exhausted", [None, "dear", "dear"])
    result, asked = await _worked(asking_helpers, MODELS, exits=exits)
    assert (result.status, asked) == ("budget_exhausted", [None, "dear", None, "dear"])


async def test_a_model_without_a_price_costs_what_is_declared_for_it() -> None:
    """Where the price list has a ceiling."""
    dear = Ceiling(Decimal(1_000_000), Decimal(1_000_000))
    prices = TablePrices({}, policy=PricePolicy(unknown=dear), today=lambda: TODAY)
    result, asked = await _worked(asking_helpers, prices)
    assert (result.status, asked) == ("budget_exhausted", [None, "dear"])


@pytest.mark.parametrize("prices", [None, TablePrices({}, today=lambda: TODAY)])
async def test_a_task_whose_cost_is_not_known_is_stopped(prices: PriceBook | None) -> None:
    """Rather than left to cost anything, as soon as it has cost something."""
    result, asked = await _worked(asking_helpers, prices, model="odd")
    assert isinstance(result.outcome, Stopped)
    assert "cost_limit:round failed: UsageError" in result.outcome.reason
    assert asked == ["odd", "dear"]


async def test_what_a_call_costs_is_recorded_wherever_there_are_prices() -> None:
    """Without any limit."""
    llm = Scripted(says("ok"))
    async with AgentLoop(llm, config=AgentConfig(prices=MODELS)) as loop:
        result = await loop.send("go", model="dear")
        log = await check_log(loop, result.session_id)
        explained = await loop.explain(result.session_id)
    assert [each.cost for each in log if isinstance(each, ModelEnded)] == [15.0]
    assert [limit.name for limit in explained.limits] == ["rounds"]


@pytest.mark.parametrize("usd", [0, -1, nan, inf, "1", True, None])
def test_a_cost_limit_that_cannot_be_is_refused(usd: Any) -> None:
    """Zero, negative, not a number, no end."""
    for make in (CostLimit, Exit.cost_limit):
        with pytest.raises(UsageError, match="over 0"):
            make(usd)


@pytest.mark.parametrize("share", [0, -0.5, 1.5, nan, "1", None])
def test_a_share_to_warn_at_that_is_none_is_refused(share: Any) -> None:
    """It is a part of the limit."""
    with pytest.raises(UsageError, match="warn_at"):
        CostLimit(1, warn_at=share)
