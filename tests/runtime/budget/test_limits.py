"""What a budget may be, and what becomes of it."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_client.pricing import Ceiling
from power_loop.errors import UsageError
from power_loop.runtime.budget.limits import Budget

COUNTED = [
    "rounds",
    "tokens",
    "input_tokens",
    "output_tokens",
    "tool_calls",
    "llm_calls",
    "children",
]
MEASURED = ["cost", "wall_seconds", "working_seconds"]
PARTS = [
    ("input_tokens", "tokens"),
    ("output_tokens", "tokens"),
    ("working_seconds", "wall_seconds"),
]


def _budget(**given: Any) -> Budget:
    return Budget(**given)


@pytest.mark.parametrize("value", [-1, 0, math.nan, math.inf, -math.inf, True, "5", [5]])
@pytest.mark.parametrize("name", [*COUNTED, *MEASURED])
def test_a_limit_that_is_no_positive_number_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"{name}.*"):
        _budget(**{name: value})


@pytest.mark.parametrize("name", COUNTED)
def test_what_is_counted_is_limited_to_a_whole_number(name: str) -> None:
    with pytest.raises(UsageError, match=f"the budget's {name} must be a whole number.*1.5"):
        _budget(**{name: 1.5})


def test_a_limit_of_zero_is_refused_with_what_to_do_instead() -> None:
    with pytest.raises(UsageError, match=r"tool_calls=0 would allow nothing.*leave it out"):
        Budget(tool_calls=0)


@pytest.mark.parametrize(("part", "whole"), PARTS)
def test_a_part_that_is_allowed_more_than_the_whole_is_refused(part: str, whole: str) -> None:
    """It could never matter, so somebody has mistaken one for the other."""
    with pytest.raises(UsageError, match=f"{part}=11 is more than its {whole}=10"):
        _budget(**{part: 11, whole: 10})
    assert _budget(**{part: 10, whole: 10}).limits == {part: 10, whole: 10}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"when_short": "never"}, "when_short must be 'wait', 'shrink' or 'end', not 'never'"),
        ({"least_output": 0}, "least_output must be 1 or more, not 0"),
        ({"least_output": True}, "least_output must be 1 or more, not True"),
        ({"least_output": 2.5}, "least_output must be 1 or more, not 2.5"),
        ({"unknown_price": "allow"}, "unknown_price must be 'refuse' or a Ceiling, not 'allow'"),
        ({"unknown_price": Ceiling(Decimal(-1), Decimal(1))}, "input_per_million .*negative"),
        ({"unknown_price": Ceiling(Decimal(1), Decimal("nan"))}, "output_per_million .*NaN"),
    ],
)
def test_a_rule_that_is_none_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        _budget(**given)


def test_a_ceiling_of_floats_is_refused() -> None:
    floats: Any = (3.0, 15.0)
    with pytest.raises(UsageError, match=r"must be a Decimal that is not negative, not 3\.0"):
        Budget(unknown_price=Ceiling(*floats))


def test_limits_are_recorded_under_the_name_of_whose_they_are() -> None:
    budget = Budget(tokens=10_000, cost=0.5)
    assert budget.as_limits("run") == {"run.tokens": 10_000.0, "run.cost": 0.5}


def test_a_record_that_names_an_unknown_limit_is_refused() -> None:
    """A limit that is not understood must not be silently off."""
    with pytest.raises(UsageError, match=r"'run.watts' is not known.*use a newer one"):
        Budget.from_limits({"run.watts": 3.0, "loop.volts": 1.0}, "run")


@st.composite
def budgets(draw: st.DrawFn) -> Budget:
    counts = st.none() | st.integers(1, 10**9)
    floats = st.none() | st.floats(1e-6, 1e9)
    tokens = draw(counts)
    part = counts if tokens is None else st.none() | st.integers(1, tokens)
    wall = draw(floats)
    return Budget(
        rounds=draw(counts),
        tokens=tokens,
        input_tokens=draw(part),
        output_tokens=draw(part),
        cost=draw(floats),
        wall_seconds=wall,
        working_seconds=draw(floats if wall is None else st.none() | st.floats(1e-6, wall)),
        tool_calls=draw(counts),
        llm_calls=draw(counts),
        children=draw(counts),
    )


@given(budgets(), budgets())
def test_limits_come_back_from_a_record_as_they_were(run: Budget, loop: Budget) -> None:
    stored = msgspec.json.encode(run.as_limits("run") | loop.as_limits("loop"))
    limits = msgspec.json.decode(stored, type=dict[str, float])
    assert Budget.from_limits(limits, "run") == run
    assert Budget.from_limits(limits, "loop") == loop


@given(budgets(), budgets())
def test_an_extension_sets_new_totals_and_never_takes_back(ours: Budget, extend: Budget) -> None:
    shrinks = [n for n, value in extend.limits.items() if value < ours.limits.get(n, math.inf)]
    if shrinks:
        why = "a new total" if shrinks[0] in ours.limits else "is not limited"
        with pytest.raises(UsageError, match=f"extend gives {shrinks[0]}=.*{why}"):
            ours.extended(extend)
        return
    both = ours.limits | extend.limits
    if any(both.get(part, 0) > both.get(whole, math.inf) for part, whole in PARTS):
        # What is fine in each may be contradictory in both.
        with pytest.raises(UsageError, match="can never matter"):
            ours.extended(extend)
        return
    assert ours.extended(extend).limits == both


@given(budgets(), budgets())
def test_what_was_kept_holds_and_whatever_else_is_limited_too(ours: Budget, kept: Budget) -> None:
    """Nothing is unlimited that one of both limits, and nothing that was kept is raised."""
    both = ours.bounded(kept).limits
    assert set(both) == set(ours.limits) | set(kept.limits)
    assert all(both[name] <= value for name, value in kept.limits.items())
    parts = {part for part, _ in PARTS}
    assert all(both[n] == value for n, value in kept.limits.items() if n not in parts)


def test_an_extension_leaves_the_rules_as_they_are_unless_it_has_its_own() -> None:
    ours = Budget(tokens=100, when_short="end", least_output=5)
    assert ours.extended(Budget(tokens=200)) == Budget(tokens=200, when_short="end", least_output=5)
    assert ours.extended(Budget(tokens=300, when_short="shrink")) == Budget(
        tokens=300, when_short="shrink", least_output=5
    )


@pytest.mark.parametrize("name", ["wall_seconds", "working_seconds"])
def test_what_has_no_time_of_its_own_cannot_limit_it(name: str) -> None:
    budget = _budget(**{name: 60})
    with pytest.raises(UsageError, match=f"the budget of the loop limits {name}.*a run or a sess"):
        budget.refuse_times("the loop")
    Budget(tokens=5).refuse_times("the loop")
