"""What is set aside, granted, refused and settled, where nobody has to wait."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from llm_client.pricing import Ceiling
from power_loop.errors import UsageError
from power_loop.runtime.budget.accounts import Shortfall
from power_loop.runtime.budget.claims import Need
from power_loop.runtime.budget.limits import Budget
from power_loop.runtime.budget.meter import Meter
from power_loop.runtime.budget.queue import Hold
from power_loop.runtime.budget.rates import Rate, Unpriced
from power_loop.session.spent import Spent
from tests.runtime.budget.asking import reserved_at_once

RATE = Rate(fixed=10**9, output=10**7)
"""A tenth of a cent for the input, a thousandth of a cent for each token of output."""


def _hold(meter: Meter, input: int, output: int | None = None, **more: Any) -> Hold:
    hold = reserved_at_once(meter, Need(input_tokens=input, output_tokens=output, **more))
    assert isinstance(hold, Hold), hold
    return hold


def _short(meter: Meter, input: int, output: int | None = None, **more: Any) -> Shortfall:
    short = reserved_at_once(meter, Need(input_tokens=input, output_tokens=output, **more))
    assert isinstance(short, Shortfall), short
    return short


def _family() -> Sequence[Meter]:
    """A tenant, a loop, a session and its run; the session of a child, and the run of that."""
    tenant = Meter("tenant", Budget(tokens=50_000))
    loop = Meter("loop", Budget(tokens=20_000))
    session = Meter("session", Budget(tokens=10_000), [loop, tenant])
    run = Meter("run", Budget(tokens=5_000), [session])
    child = Meter("child session", Budget(), [run])
    return tenant, loop, session, run, child, Meter("child run", Budget(tokens=1_000), [child])


def test_what_a_child_reserves_is_held_by_all_above_it_and_then_used() -> None:
    family = _family()
    hold = _hold(family[-1], 100, 500, new_round=True)
    assert hold.output == 500
    assert [meter.held for meter in family] == [Spent(1, 1, 0, 0, 100, 500)] * 6
    hold.settle(Spent(1, 1, input_tokens=100, output_tokens=20))
    assert [meter.held for meter in family] == [Spent()] * 6
    assert [meter.spent.tokens for meter in family] == [120] * 6


def test_a_budget_that_is_above_by_two_ways_is_debited_once() -> None:
    tenant = Meter("tenant", Budget(tokens=1_000))
    loop = Meter("loop", Budget(), [tenant])
    run = Meter("run", Budget(), [loop, tenant])
    hold = _hold(run, 100, 100)
    assert tenant.held.tokens == 200
    hold.settle()
    assert tenant.spent.tokens == 200
    run.charge(Spent(tool_calls=1))
    assert tenant.spent.tool_calls == 1


def test_what_had_been_spent_before_counts_here_and_not_above() -> None:
    """Those above have counted it themselves."""
    session = Meter("session", Budget(tokens=1_000), spent=Spent(input_tokens=900))
    run = Meter("run", Budget(tokens=950), [session], spent=Spent(input_tokens=900))
    assert run.left() == {"run.tokens": 50.0, "session.tokens": 100.0}


def test_an_answer_is_allowed_what_is_left_for_it() -> None:
    meter = Meter("run", Budget(tokens=1_000))
    assert _hold(meter, 700, 500).output == 300


def test_an_answer_without_a_bound_is_allowed_what_is_left() -> None:
    assert _hold(Meter("run", Budget(tokens=1_000)), 700).output == 300
    free = _hold(Meter("run", Budget(llm_calls=3)), 700)
    assert free.output is None
    assert free.tokens == 700


def test_the_tightest_of_all_limits_bounds_the_answer() -> None:
    loop = Meter("loop", Budget(cost=0.003))
    run = Meter("run", Budget(tokens=5_000, output_tokens=400), [loop])
    hold = _hold(run, 100, 1_000, rate=RATE)
    assert hold.output == 200
    assert hold.cost == 0.003
    assert hold.tokens == 300


def test_a_limit_is_never_passed_by_one_token() -> None:
    meter = Meter("run", Budget(tokens=10_000))
    used = 0
    while isinstance(
        hold := reserved_at_once(meter, Need(input_tokens=333, output_tokens=500)), Hold
    ):
        hold.settle()
        used += hold.tokens
    assert 10_000 - 333 - 16 < used <= 10_000
    assert meter.spent.tokens == used


def test_a_refusal_names_the_limit_and_its_figures() -> None:
    meter = Meter(
        "run", Budget(tokens=10_000, when_short="shrink"), spent=Spent(input_tokens=9_000)
    )
    _hold(meter, 600, 100)
    assert _short(meter, 300, 500) == Shortfall(
        "run.tokens",
        "10,000 allowed, 9,000 used, 700 set aside for calls under way; the next step needs 316",
    )


def test_a_refusal_names_what_nothing_can_mend_before_what_is_only_held() -> None:
    loop = Meter("loop", Budget(tokens=1_000))
    run = Meter("run", Budget(llm_calls=1), [loop], spent=Spent(llm_calls=1))
    _hold(loop, 900, 100)
    assert _short(run, 50, 50).limit == "run.llm_calls"


def test_costs_are_told_in_dollars() -> None:
    meter = Meter("run", Budget(cost=1.5), spent=Spent(cost=1.4995))
    assert _short(meter, 10, 10, rate=RATE) == Shortfall(
        "run.cost", "$1.50 allowed, $1.4995 used; the next step needs $0.0011"
    )


@pytest.mark.parametrize("name", ["wall_seconds", "working_seconds"])
def test_no_call_is_made_when_time_is_up(name: str) -> None:
    limit: dict[str, Any] = {name: 1_800.5}
    just: dict[str, Any] = {name: 1_800.25}
    _hold(Meter("run", Budget(**limit), spent=Spent(**just)), 10, 10)
    meter = Meter("run", Budget(**limit), spent=Spent(**limit))
    assert _short(meter, 10, 10) == Shortfall(f"run.{name}", "1,800.5 s allowed, 1,800.5 s used")


def test_rounds_are_used_by_the_call_that_begins_one() -> None:
    meter = Meter("run", Budget(rounds=1, llm_calls=3))
    _hold(meter, 1, 1, new_round=True).settle()
    _hold(meter, 1, 1).settle()
    assert _short(meter, 1, 1, new_round=True).limit == "run.rounds"
    _hold(meter, 1, 1).settle()
    assert _short(meter, 1, 1).limit == "run.llm_calls"


def test_a_budget_that_ends_when_short_grants_the_whole_answer_or_none() -> None:
    meter = Meter("run", Budget(tokens=1_000, when_short="end"))
    assert _short(meter, 700, 301).reason == "1,000 allowed, 0 used; the next step needs 1,001"
    assert _hold(meter, 700, 300).output == 300


def test_a_shorter_answer_than_is_worth_it_is_not_asked_for() -> None:
    meter = Meter("run", Budget(tokens=1_000, when_short="shrink", least_output=50))
    assert _short(meter, 951, 500).limit == "run.tokens"
    assert _hold(meter, 950, 500).output == 50


def test_what_an_answer_is_worth_is_the_most_that_any_budget_says() -> None:
    loop = Meter("loop", Budget(tokens=1_000, when_short="shrink", least_output=5))
    run = Meter("run", Budget(least_output=100), [loop])
    assert _short(run, 901, 500).limit == "loop.tokens"
    assert _hold(run, 900, 500).output == 100


def test_what_no_answer_may_have_is_not_wanted_of_any() -> None:
    """Whoever allows four tokens of output means to get them, whatever others find worth it."""
    loop = Meter("loop", Budget(least_output=100))
    run = Meter("run", Budget(output_tokens=4), [loop])
    whole = _hold(run, 100, 500)
    assert whole.output == 4
    whole.settle(Spent())
    # Of those four, two are not worth asking for again.
    _hold(run, 100, 2).settle(Spent(output_tokens=2))
    assert _short(run, 100, 500).reason == "4 allowed, 2 used; the next step needs 4"


def test_one_who_wants_less_than_is_worth_it_gets_what_they_want() -> None:
    meter = Meter("run", Budget(tokens=1_000, least_output=50))
    assert _hold(meter, 990, 10).output == 10


def test_each_budget_says_for_itself_what_happens_where_it_is_short() -> None:
    loop = Meter("loop", Budget(tokens=1_000, when_short="end"))
    run = Meter("run", Budget(tokens=400, when_short="shrink"), [loop])
    assert _hold(run, 100, 500).output == 300
    assert _short(Meter("run", Budget(), [loop]), 100, 701).limit == "loop.tokens"


# ── settling ──────────────────────────────────────────────────────────────────────────────────────


def test_a_call_whose_end_nobody_saw_has_used_all_that_was_set_aside() -> None:
    meter = Meter("run", Budget(tokens=1_000))
    hold = _hold(meter, 100, 200, new_round=True, rate=RATE)
    hold.settle()
    assert meter.spent == Spent(1, 1, 0, 0, 100, 200, 0.003)


def test_only_the_first_settlement_counts() -> None:
    meter = Meter("run", Budget(tokens=1_000))
    hold = _hold(meter, 100, 200)
    try:
        hold.settle(Spent(llm_calls=1, input_tokens=100))
    finally:
        hold.settle()
    assert meter.spent == Spent(llm_calls=1, input_tokens=100)
    assert meter.held == Spent()


def test_more_than_was_granted_is_counted_as_it_is() -> None:
    """A provider that does not honour the limit is not made cheaper by not looking."""
    meter = Meter("run", Budget(tokens=1_000))
    _hold(meter, 100, 900).settle(Spent(input_tokens=100, output_tokens=1_500))
    assert meter.spent.tokens == 1_600
    assert meter.left() == {"run.tokens": 0.0}
    assert _short(meter, 1, 1).limit == "run.tokens"


def test_costs_add_up_without_an_error_of_rounding() -> None:
    meter = Meter("run", Budget(cost=0.3))
    for _ in range(3_000):
        _hold(meter, 10, 1, rate=Rate(10**8 - 10**5, 10**5)).settle()
    assert meter.spent.cost == 0.3
    assert meter.left() == {"run.cost": 0.0}
    assert meter.held == Spent()


# ── what is known before ──────────────────────────────────────────────────────────────────────────


def test_a_tool_call_is_taken_everywhere_or_nowhere() -> None:
    loop = Meter("loop", Budget(tool_calls=1))
    run = Meter("run", Budget(tool_calls=5, children=1), [loop])
    assert run.spend(Spent(tool_calls=1, children=1)) is None
    assert run.spend(Spent(tool_calls=1)) == Shortfall(
        "loop.tool_calls", "1 allowed, 1 used; the next step needs 1"
    )
    assert run.spent == loop.spent == Spent(tool_calls=1, children=1)


def test_what_is_used_already_is_counted_even_where_it_was_not_allowed() -> None:
    meter = Meter("run", Budget(tokens=100))
    meter.charge(Spent(input_tokens=300, wall_seconds=2.5))
    assert meter.spent == Spent(input_tokens=300, wall_seconds=2.5)
    assert meter.left() == {"run.tokens": 0.0}


def test_what_is_left_is_told_of_all_budgets_and_the_lesser_of_one_name() -> None:
    parent = Meter("run", Budget(tokens=100, cost=1.0))
    child = Meter("run", Budget(tokens=500, tool_calls=3), [parent])
    _hold(child, 10, 20, rate=Rate(0, 0))
    assert child.left() == {"run.tokens": 70.0, "run.tool_calls": 3.0, "run.cost": 1.0}


# ── unknown prices ────────────────────────────────────────────────────────────────────────────────


UNPRICED = Unpriced("there is no price for the model 'm'")


def test_a_call_of_unknown_price_is_refused_where_cost_is_limited() -> None:
    run = Meter("run", Budget(), [Meter("loop", Budget(cost=1.0))])
    short = _short(run, 10, 10, rate=UNPRICED)
    assert short.limit == "loop.cost"
    assert "the model 'm'" in short.reason
    assert "Budget(unknown_price=Ceiling(…))" in short.reason


def test_a_call_of_unknown_price_is_allowed_where_cost_is_not_limited() -> None:
    hold = _hold(Meter("run", Budget(tokens=100)), 10, 10, rate=UNPRICED)
    assert hold.cost == 0.0


def test_a_call_of_unknown_price_is_taken_to_cost_the_dearest_ceiling() -> None:
    one, other = Ceiling(Decimal(100), Decimal(10)), Ceiling(Decimal(10), Decimal(1_000))
    loop = Meter("loop", Budget(cost=1.0, unknown_price=one))
    run = Meter("run", Budget(cost=1.0, unknown_price=other), [loop])
    assert run.ceiling == Ceiling(Decimal(100), Decimal(1_000))
    hold = _hold(run, 1_000, 5_000, rate=UNPRICED)
    assert hold.output == 900
    assert hold.cost == 1.0


def test_a_ceiling_of_one_does_not_speak_for_another() -> None:
    loop = Meter("loop", Budget(cost=1.0))
    run = Meter("run", Budget(cost=1.0, unknown_price=Ceiling(Decimal(1), Decimal(1))), [loop])
    assert run.ceiling is None
    assert _short(run, 1, 1, rate=UNPRICED).limit == "loop.cost"


@pytest.mark.parametrize(("input", "output"), [(-1, 5), (5, 0), (5, -1)])
def test_a_need_that_cannot_be_is_refused(input: int, output: int) -> None:
    with pytest.raises(UsageError, match="count the request first"):
        Need(input_tokens=input, output_tokens=output)
