"""One budget for several loops."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from power_loop.errors import UsageError
from power_loop.runtime.budget.claims import Need
from power_loop.runtime.budget.limits import Budget
from power_loop.runtime.budget.meter import Meter
from power_loop.runtime.budget.queue import Hold
from power_loop.runtime.budget.shared import SharedBudget
from power_loop.session.spent import Spent
from tests.runtime.budget.asking import reserved_at_once

NEED = Need(input_tokens=100, output_tokens=100)


def test_two_loops_spend_from_one_budget() -> None:
    tenant = SharedBudget(Budget(tokens=1_000, tool_calls=3), spent=Spent(input_tokens=500))
    loops = [Meter("loop", Budget(), [tenant.meter]) for _ in range(2)]
    holds = [reserved_at_once(loop, NEED) for loop in loops]
    assert tenant.left == {"tenant.tokens": 100.0, "tenant.tool_calls": 3.0}
    assert tenant.spent == Spent(input_tokens=500)
    for hold in holds:
        assert isinstance(hold, Hold)
        hold.settle(Spent(llm_calls=1, input_tokens=100))
    assert loops[0].spend(Spent(tool_calls=1)) is None
    assert tenant.spent == Spent(llm_calls=2, tool_calls=1, input_tokens=700)
    assert tenant.limits == Budget(tokens=1_000, tool_calls=3)


@pytest.mark.parametrize("name", ["run", "session", "loop", "exit", "", "a.b", "a b", "1st"])
def test_a_shared_budget_has_a_name_of_its_own(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be named"):
        SharedBudget(Budget(tokens=1), name)


def test_a_shared_budget_has_no_time() -> None:
    with pytest.raises(UsageError, match="the shared budget 'team-a' limits wall_seconds"):
        SharedBudget(Budget(wall_seconds=60), "team-a")


def test_a_budget_is_not_used_from_two_event_loops_at_once() -> None:
    """It would count wrongly; but one after the other is fine."""
    tenant = SharedBudget(Budget(tokens=1_000))
    hold = reserved_at_once(tenant.meter, NEED)
    assert isinstance(hold, Hold)
    with ThreadPoolExecutor(1) as thread:
        with pytest.raises(UsageError, match="'tenant' is in use in another event loop"):
            thread.submit(reserved_at_once, tenant.meter, NEED).result(5)
        with pytest.raises(UsageError, match="'tenant' is in use in another event loop"):
            thread.submit(tenant.meter.spend, Spent(tool_calls=1)).result(5)
        hold.settle()
        later = thread.submit(reserved_at_once, tenant.meter, NEED).result(5)
        assert isinstance(later, Hold)
        with pytest.raises(UsageError, match="'tenant' is in use"):
            reserved_at_once(tenant.meter, NEED)
        later.settle()
    assert tenant.spent.tokens == 400
