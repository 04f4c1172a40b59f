"""What sessions have used: nothing is left out, and no price is made up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from random import Random

import anyio
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_client.pricing import PricePolicy, PricingStale, Rates, TablePrices
from llm_client.testing import reply
from llm_client.types import Message, Text, Usage
from llm_client.usage import UsageTotals
from power_loop import MemoryStore, SessionUsage
from power_loop.errors import SessionNotFound, UsageError
from power_loop.history.usage import AttemptUsage, usage_of, usage_of_tree
from power_loop.session.machine import Session
from power_loop.session.outcome import Completed, Crashed
from power_loop.session.records import (
    ErrorInfo,
    Forked,
    MessageAppended,
    ModelAsked,
    ModelEnded,
    Record,
    RunClosed,
    RunOpened,
)
from tests.agent.crashed import write
from tests.history.loops import loop_on
from tests.history.support import stamped_log
from tests.pipeline.chaos import World
from tests.pipeline.test_pipeline_properties import live

PRICES = TablePrices(
    {"m": Rates(input=Decimal(1), output=Decimal(10), as_of=date(2026, 11, 1))},
    today=lambda: date(2026, 11, 2),
)
MILLION = 1_000_000


def said(text: str, id: str) -> Message:
    """Something that a user says."""
    return Message("user", (Text(text),), id=id)


LOG: Sequence[Record] = (
    RunOpened("r1", (said("go", "u1"),)),
    ModelAsked("t1", 1, "m"),
    ModelEnded("t1", "failed", Usage(MILLION, 0), measured=False, error=ErrorInfo("Timeout", "…")),
    ModelAsked("t2", 1, "other"),
    ModelEnded("t2", "ok", Usage(7, 3)),
    MessageAppended(Message("assistant", (Text("done"),), id="a1"), "t2"),
    RunClosed("r1", Completed("done")),
    RunOpened("r2", (said("and?", "u2"),)),
    ModelAsked("t3", 1, "m", reserved=MILLION),
    RunClosed("r2", Crashed()),
    RunOpened("r3", resumes="r2"),
    ModelAsked("t4", 1, "m"),
    ModelEnded("t4", "cancelled", Usage(0, 0)),
    ModelAsked("t5", 2, "m"),
)


def attempts_of(usage: SessionUsage) -> list[AttemptUsage]:
    """All attempts, in order."""
    return [a for run in usage.runs for each in run.rounds for a in each.attempts]


def test_the_cache_hit_rate_is_that_of_the_calls_whose_provider_tells() -> None:
    """For each attempt, round and run, and for all; one that says nothing lowers nothing."""
    log: Sequence[Record] = (
        RunOpened("r1", (said("go", "u1"),)),
        ModelAsked("t1", 1, "m"),
        ModelEnded("t1", "ok", Usage(100, 3, cached_tokens=0)),
        MessageAppended(Message("assistant", (Text("one"),), id="a1"), "t1"),
        RunClosed("r1", Completed("one")),
        RunOpened("r2", (said("and?", "u2"),)),
        ModelAsked("t2", 1, "m"),
        ModelEnded("t2", "failed", Usage(500, 0), measured=False),
        ModelAsked("t3", 1, "m"),
        ModelEnded("t3", "ok", Usage(300, 3, cached_tokens=240)),
        MessageAppended(Message("assistant", (Text("two"),), id="a2"), "t3"),
        RunClosed("r2", Completed("two")),
    )
    used = usage_of("s", stamped_log(log))
    assert [a.usage.cache_hit_rate for a in attempts_of(used)] == [0.0, None, 0.8]
    assert [run.totals.cache_hit_rate for run in used.runs] == [0.0, 0.8]
    assert used.runs[1].rounds[0].totals.cache_hit_rate == 0.8
    assert used.totals.cache_hit_rate == 0.6
    assert usage_of("s", stamped_log(LOG)).totals.cache_hit_rate is None


def summed(attempts: Iterable[AttemptUsage]) -> UsageTotals:
    """Their totals, by no way of the module's own."""
    totals = UsageTotals()
    for attempt in attempts:
        totals = totals.plus(attempt)
    return totals


def test_each_attempt_is_told_with_its_run_and_round_and_cost() -> None:
    """Failed, answered by another model, lost with tokens set aside, turned away, under way."""
    usage = usage_of("s", stamped_log(LOG), PRICES)
    assert [(run.run, run.status, run.resumes) for run in usage.runs] == [
        ("r1", "completed", None),
        ("r2", "crashed", None),
        ("r3", "running", "r2"),
    ]
    assert [(r.round, len(r.attempts)) for run in usage.runs for r in run.rounds] == [
        (1, 2),
        (1, 1),
        (1, 1),
        (2, 1),
    ]
    told = [(a.attempt, a.status, a.usage, a.measured, a.cost) for a in attempts_of(usage)]
    assert told == [
        ("t1", "failed", Usage(MILLION, 0), False, Decimal(1)),
        ("t2", "ok", Usage(7, 3), True, None),
        ("t3", "lost", Usage(MILLION, 0), False, Decimal(1)),
        ("t4", "cancelled", Usage(0, 0), True, Decimal(0)),
        ("t5", "lost", Usage(), False, None),
    ]


def test_an_unknown_price_is_no_cost_of_nothing() -> None:
    """The totals say how many attempts have no price, and give no sum as if it were all."""
    usage = usage_of("s", stamped_log(LOG), PRICES)
    first, second, _ = usage.runs
    assert (first.totals.cost, first.totals.unpriced, first.totals.amount) == (None, 1, Decimal(1))
    assert (second.totals.cost, second.totals.unpriced) == (Decimal(1), 0)
    assert (usage.totals.cost, usage.totals.unpriced, usage.totals.attempts) == (None, 2, 5)
    assert usage.totals.lost == 2
    without = usage_of("s", stamped_log(LOG))
    assert (without.totals.cost, without.totals.unpriced) == (None, 4)


def test_a_price_list_that_may_not_be_used_is_an_error() -> None:
    """By its own policy; nothing is priced then."""
    old = TablePrices(
        {"m": Rates(input=Decimal(1), output=Decimal(1), as_of=date(2020, 1, 1))},
        policy=PricePolicy(stale="refuse"),
    )
    with pytest.raises(PricingStale, match="2020-01-01"):
        usage_of("s", stamped_log(LOG), old)


def test_a_run_that_a_fork_cut_off_has_crashed_there() -> None:
    """What was copied stays counted, and a run that had ended stays as it ended."""
    cut = usage_of("s", stamped_log([*LOG[:9], Forked("origin", 9)]))
    assert [run.status for run in cut.runs] == ["completed", "crashed"]
    whole = usage_of("s", stamped_log([*LOG[:7], Forked("origin", 7)]))
    assert [run.status for run in whole.runs] == ["completed"]
    assert usage_of("s", ()).runs == ()


def test_a_usage_is_data_that_can_be_written_down() -> None:
    """As JSON, with exact amounts."""
    usage = usage_of("s", stamped_log(LOG), PRICES)
    assert msgspec.json.decode(msgspec.json.encode(usage), type=SessionUsage) == usage


@given(st.integers(0, 2**64 - 1))
@settings(max_examples=100, deadline=None)
def test_whatever_happens_the_sums_are_those_of_the_attempts(seed: int) -> None:
    """Random worlds with retries, fallbacks, cancels and deaths, cut off at every possible end."""
    random = Random(seed)
    _, lived = live(World(random))
    records = lived[-1].log
    log = records[: random.randint(0, len(records))]
    usage = usage_of("s", stamped_log(log), PRICES)
    attempts = attempts_of(usage)
    asked = [record for record in log if isinstance(record, ModelAsked)]
    assert [a.attempt for a in attempts] == [each.attempt for each in asked]
    assert usage.totals == summed(attempts)
    assert usage.totals.attempts == len(asked)
    for run in usage.runs:
        assert run.totals == summed(a for each in run.rounds for a in each.attempts)
        for each in run.rounds:
            assert each.totals == summed(each.attempts)
    session = Session("s", log)
    lost = session.reserved_lost + (session.asked.reserved if session.asked else 0)
    assert usage.totals.usage.total_tokens == session.usage.total_tokens + lost


def test_the_verb_reads_the_store_and_a_tree_counts_all_below_it() -> None:
    """Of a root; one that is below another has no tree of its own."""

    async def tell() -> None:
        store = MemoryStore()
        async with loop_on(store, reply("4")) as loop:
            root = (await loop.send("2+2?")).session_id
            await store.create("child", parent=root)
            await write(store, "child", LOG)
            alone = await loop.usage(root, prices=PRICES)
            tree = await loop.usage(root, prices=PRICES, children=True)
            assert (alone.below, alone.all) == ((), alone.totals)
            assert tree.totals == alone.totals
            assert [(each.session, each.totals.attempts) for each in tree.below] == [("child", 5)]
            assert tree.all.attempts == alone.totals.attempts + 5
            assert tree == usage_of_tree(root, await store.read_tree(root), PRICES)
            with pytest.raises(UsageError):
                await loop.usage("child", children=True)
            with pytest.raises(SessionNotFound):
                await loop.usage("nobody")

    anyio.run(tell)


def test_usage_is_told_without_an_event_loop() -> None:
    """As by the asynchronous verb."""
    with loop_on(None, reply("4")).sync() as s:
        session = s.send("2+2?").session_id
        usage = s.usage(session, prices=PRICES, children=True)
    assert usage.totals.attempts == usage.totals.ok == 1
