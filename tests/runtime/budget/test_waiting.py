"""Waiting for what calls under way give back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio
import anyio.lowlevel
import pytest

from power_loop.runtime.budget.accounts import Shortfall
from power_loop.runtime.budget.claims import Need
from power_loop.runtime.budget.limits import Budget, WhenShort
from power_loop.runtime.budget.meter import Meter
from power_loop.runtime.budget.queue import Hold
from power_loop.session.spent import Spent

pytestmark = pytest.mark.anyio


def _need(input: int, output: int = 16) -> Need:
    return Need(input_tokens=input, output_tokens=output)


async def _held(meter: Meter, input: int, output: int = 16) -> Hold:
    hold = await meter.reserve(_need(input, output))
    assert isinstance(hold, Hold)
    return hold


async def _until(holds: Callable[[], bool]) -> None:
    with anyio.fail_after(5):
        while not holds():
            await anyio.lowlevel.checkpoint()


def _waiters(meter: Meter) -> int:
    return len(meter.chain[0].waiting)


class _Answers:
    """Reserves in tasks, and keeps the answers in the order in which they came."""

    def __init__(self) -> None:
        self.came: list[tuple[str, Hold | Shortfall]] = []

    async def reserve(self, name: str, meter: Meter, input: int, output: int = 16) -> None:
        self.came.append((name, await meter.reserve(_need(input, output))))

    def output(self, name: str) -> int | None:
        answer = dict(self.came)[name]
        assert isinstance(answer, Hold), answer
        return answer.output


async def test_a_call_waits_for_what_another_gives_back() -> None:
    meter = Meter("run", Budget(tokens=1_000))
    first, answers = await _held(meter, 100, 900), _Answers()
    async with anyio.create_task_group() as group:
        group.start_soon(answers.reserve, "a", meter, 300, 500)
        await _until(lambda: _waiters(meter) == 1)
        first.settle(Spent(input_tokens=100, output_tokens=300))
        await _until(lambda: len(answers.came) == 1)
    assert answers.output("a") == 300
    assert meter.held.tokens == 600


async def test_nobody_waits_for_what_cannot_come() -> None:
    """Even if all that is held came back, it would not be enough."""
    meter = Meter("run", Budget(tokens=1_000), spent=Spent(input_tokens=500))
    await _held(meter, 300, 100)
    with anyio.fail_after(5):
        short = await meter.reserve(_need(600))
    assert isinstance(short, Shortfall)


async def test_one_who_waits_in_vain_is_told_as_soon_as_it_is_known() -> None:
    meter = Meter("run", Budget(tokens=1_000))
    first, answers = await _held(meter, 100, 800), _Answers()
    other = await _held(meter, 50, 50)
    async with anyio.create_task_group() as group:
        group.start_soon(answers.reserve, "a", meter, 300)
        await _until(lambda: _waiters(meter) == 1)
        first.settle()
        await _until(lambda: len(answers.came) == 1)
    assert answers.came == [
        (
            "a",
            Shortfall(
                "run.tokens",
                "1,000 allowed, 900 used, 100 set aside for calls under way; "
                "the next step needs 316",
            ),
        )
    ]
    other.settle()


@pytest.mark.parametrize("rule", ["shrink", "end"])
async def test_only_who_may_wait_waits(rule: WhenShort) -> None:
    meter = Meter("run", Budget(tokens=1_000, when_short=rule))
    await _held(meter, 100, 880)
    with anyio.fail_after(5):
        assert isinstance(await meter.reserve(_need(100)), Shortfall)


async def test_who_comes_first_is_served_first() -> None:
    """Also where a later one would need less, or the first would starve."""
    meter = Meter("run", Budget(tokens=1_000))
    first, second, answers = await _held(meter, 400), await _held(meter, 400), _Answers()
    async with anyio.create_task_group() as group:
        group.start_soon(answers.reserve, "large", meter, 600)
        await _until(lambda: _waiters(meter) == 1)
        group.start_soon(answers.reserve, "small", meter, 50)
        await _until(lambda: _waiters(meter) == 2)
        first.settle(Spent(input_tokens=10))
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        # There is room for the small one by now, twice over.
        assert answers.came == []
        second.settle(Spent(input_tokens=10))
        await _until(lambda: len(answers.came) == 2)
    assert answers.output("large") == answers.output("small") == 16


async def test_one_who_waits_for_their_own_budget_holds_up_nobody_else() -> None:
    loop = Meter("loop", Budget(tokens=10_000))
    narrow, free = Meter("run", Budget(tokens=500), [loop]), Meter("run", Budget(), [loop])
    hold, answers = await _held(narrow, 400), _Answers()
    async with anyio.create_task_group() as group:
        group.start_soon(answers.reserve, "narrow", narrow, 300)
        await _until(lambda: _waiters(narrow) == 1)
        assert (await _held(free, 1_000)).tokens == 1_016
        hold.settle(Spent())
        await _until(lambda: len(answers.came) == 1)
    assert answers.output("narrow") == 16


async def test_one_settlement_wakes_all_who_fit_then() -> None:
    meter = Meter("run", Budget(tokens=1_000))
    hold, answers = await _held(meter, 900, 100), _Answers()
    async with anyio.create_task_group() as group:
        for name in "abc":
            group.start_soon(answers.reserve, name, meter, 200)
        await _until(lambda: _waiters(meter) == 3)
        hold.settle(Spent(input_tokens=100))
        await _until(lambda: len(answers.came) == 3)
    assert [answers.output(name) for name in "abc"] == [16, 16, 16]


async def test_a_cancelled_waiter_leaves_nothing_and_lets_the_next_one_by() -> None:
    meter = Meter("run", Budget(tokens=1_000))
    hold, answers = await _held(meter, 500, 100), _Answers()

    async def cancelled(scope: anyio.CancelScope) -> None:
        with scope:
            await answers.reserve("large", meter, 800)

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as group:
        group.start_soon(cancelled, scope)
        await _until(lambda: _waiters(meter) == 1)
        group.start_soon(answers.reserve, "small", meter, 100)
        await _until(lambda: _waiters(meter) == 2)
        scope.cancel()
        await _until(lambda: len(answers.came) == 1)
    assert answers.output("small") == 16
    hold.settle()
    assert meter.held.tokens == 116
    assert _waiters(meter) == 0


async def test_a_waiter_cancelled_in_the_moment_it_is_served_holds_nothing() -> None:
    meter = Meter("run", Budget(tokens=1_000))
    hold, answers = await _held(meter, 900), _Answers()

    async def cancelled(scope: anyio.CancelScope) -> None:
        with scope:
            await answers.reserve("late", meter, 500)

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as group:
        group.start_soon(cancelled, scope)
        await _until(lambda: _waiters(meter) == 1)
        scope.cancel()
        hold.settle(Spent())
    kept = [answer for _, answer in answers.came if isinstance(answer, Hold)]
    assert meter.held.tokens == sum(each.tokens for each in kept)
    for each in kept:
        each.settle(Spent())
    assert meter.held == Spent()
    assert meter.chain[0].in_flight == 0


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_natively_cancelled_waiter_holds_nothing() -> None:
    meter = Meter("run", Budget(tokens=1_000))
    for settle_first in (True, False):
        hold = await _held(meter, 900)
        task = asyncio.create_task(meter.reserve(_need(500)))
        await _until(lambda: _waiters(meter) == 1)
        if settle_first:
            hold.settle(Spent())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        hold.settle(Spent())
        assert meter.held == Spent()
        assert meter.chain[0].in_flight == _waiters(meter) == 0
