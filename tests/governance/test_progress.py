"""What is progress, and what is not: by identity, not by count."""

from __future__ import annotations

from math import nan

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from power_loop.errors import UsageError
from power_loop.governance import GoalProgress, MetricSnapshot
from power_loop.governance.progress import Plan, advanced

_ITEMS = st.frozensets(st.text(max_size=3), max_size=8)
_PLANS = st.builds(
    Plan,
    calls=st.frozensets(st.sampled_from("abc"), max_size=2),
    approach=st.sampled_from(["", "- a", "- b"]),
    invalid=st.booleans(),
)


def snapshot(*items: str) -> MetricSnapshot:
    return MetricSnapshot(float(len(items)), frozenset(items))


def test_what_newly_breaks_is_a_regression_even_if_less_is_open() -> None:
    """Two mended and one broken is not one mended."""
    first = advanced(None, snapshot("a", "b", "c"), None).progress
    step = advanced(first, snapshot("c", "d"), Plan(frozenset("x"), "- edit x"))
    assert step.progress.trend == "regressing"
    assert (step.broken, step.fixed) == (("d",), 2)
    assert step.progress.failed == ("- edit x",)
    assert step.progress.streak == 0


def test_the_trend_goes_by_the_value_where_there_are_no_items() -> None:
    """Less is better; without a value nobody knows."""
    before = advanced(None, MetricSnapshot(3.0), None).progress
    assert before.trend == "unknown"
    trends = [
        advanced(before, MetricSnapshot(value), None).progress.trend
        for value in (2.0, 3.0, 4.0, None)
    ]
    assert trends == ["improving", "flat", "regressing", "unknown"]


@pytest.mark.parametrize(
    ("plan", "streak"),
    [
        (Plan(frozenset("x"), "- x"), 1),  # as the round before
        (Plan(), 1),  # talk
        (Plan(frozenset("y"), "- y", invalid=True), 1),
        (Plan(frozenset("y"), "- y"), 0),  # something else was tried
    ],
)
def test_a_step_that_changes_nothing_counts_if_it_tried_nothing_new(
    plan: Plan, streak: int
) -> None:
    """And whatever was tried, nothing has changed."""
    first = advanced(None, snapshot("a"), None).progress
    second = advanced(first, snapshot("a"), Plan(frozenset("x"), "- x")).progress
    third = advanced(second, snapshot("a"), plan).progress
    assert (second.streak, second.unchanged) == (0, 1)
    assert (third.streak, third.unchanged) == (streak, 2)


@given(_ITEMS, st.lists(st.tuples(_ITEMS, _PLANS), max_size=12))
def test_progress_that_was_stored_goes_on_as_if_it_had_not_been(
    first: frozenset[str], steps: list[tuple[frozenset[str], Plan]]
) -> None:
    """What matters of the past is in the JSON; and the rules hold at every step."""
    now = advanced(None, MetricSnapshot(None, first), None).progress
    items = first
    for after, plan in steps:
        stored = msgspec.json.decode(msgspec.json.encode(now), type=GoalProgress)
        assert stored == now
        step = advanced(stored, MetricSnapshot(None, after), plan)
        assert set(step.broken) == after - items
        assert step.fixed == len(items - after)
        assert (step.progress.trend == "regressing") == bool(after - items)
        if after != items:
            assert (step.progress.streak, step.progress.unchanged) == (0, 0)
        else:
            assert step.progress.unchanged == now.unchanged + 1
            assert step.progress.streak in (0, now.streak + 1)
        assert len(step.progress.failed) <= 8
        assert len(set(step.progress.failed)) == len(step.progress.failed)
        now, items = step.progress, after


def test_a_value_that_is_no_number_is_refused() -> None:
    """Nothing could be compared with it."""
    with pytest.raises(UsageError, match="NaN"):
        MetricSnapshot(nan)


def test_a_snapshot_is_told_in_a_few_words() -> None:
    """However much is open."""
    assert str(snapshot("b", "a")) == "2 open: a, b"
    many = str(snapshot(*[f"t{n:02}" for n in range(50)]))
    assert many.startswith("50 open: t00, ")
    assert many.endswith("t19 … and 30 more")
    assert (str(MetricSnapshot()), str(MetricSnapshot(2.5))) == ("nothing is open", "measured 2.5")
