"""Random trees of budgets, spent from at the same time by many, some of whom are cancelled."""

from __future__ import annotations

from functools import partial
from random import Random

import anyio
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from power_loop.runtime.budget.accounts import Shortfall
from power_loop.runtime.budget.claims import Need
from power_loop.runtime.budget.limits import Budget
from power_loop.runtime.budget.meter import Meter
from power_loop.session.spent import Spent
from tests.runtime.budget.asking import reserved_at_once
from tests.runtime.budget.spending import Node, World, a_budget, within

BACKENDS = ("asyncio", "trio")


async def _spend(world: World, node: Node, after: float, cancelled: float | None) -> None:
    async def work() -> None:
        for _ in range(world.chance.randint(1, 6)):
            await world.ask(node)
            world.call_a_tool(node, Spent(tool_calls=1, children=world.chance.randint(0, 1)))

    await world.clock.sleep(after)
    if cancelled is None:
        await work()
    else:
        await within(world.clock, cancelled, work)


async def _all(world: World, chance: Random) -> None:
    """A directed graph of up to eight budgets, and up to a dozen who spend, anywhere in it."""
    nodes: list[Node] = []
    for number in range(chance.randint(1, 8)):
        above = chance.sample(nodes, chance.randint(0, min(3, len(nodes))))
        budget = a_budget(chance, chance.choice([600, 2_500, 10_000]))
        nodes.append(world.node(f"b{number}", budget, above))

    async def everybody() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(chance.randint(1, 12)):
                cancelled = chance.choice([None, None, chance.uniform(0, 3)])
                where = chance.choice(nodes)
                group.start_soon(_spend, world, where, chance.random(), cancelled)

    await world.until_done(everybody)


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
@pytest.mark.parametrize("backend", BACKENDS)
def test_whoever_spends_where_and_when_every_limit_holds(backend: str, chance: Random) -> None:
    """Nothing is held twice or for ever, nobody waits for ever, and the provider's books agree."""
    world = World(chance)
    anyio.run(partial(_all, world, chance), backend=backend)
    assert world.wrong == []
    for node in world.nodes:
        assert node.meter.spent.tokens >= node.billed.tokens


@settings(max_examples=30, deadline=None)
@given(
    limit=st.integers(100, 3_000),
    wants=st.lists(
        st.tuples(st.integers(0, 500), st.integers(1, 400), st.sampled_from([0.1, 0.5, 2.0, 9.0])),
        min_size=1,
        max_size=30,
    ),
)
def test_all_who_wait_are_answered_in_the_order_in_which_they_came(
    limit: int, wants: list[tuple[int, int, float]]
) -> None:
    """On trio's own clock, whose deadlines are no tasks: a deadlock would be an end of time."""
    meter = Meter("run", Budget(tokens=limit, least_output=1))
    granted: dict[int, float] = {}
    answered = 0

    async def ask(number: int, input: int, output: int, seconds: float) -> None:
        nonlocal answered
        hold = await meter.reserve(Need(input_tokens=input, output_tokens=output))
        answered += 1
        if not isinstance(hold, Shortfall):
            granted[number] = trio.current_time()
            await trio.sleep(seconds)
            hold.settle()

    async def main() -> None:
        with trio.fail_after(1e6):
            async with trio.open_nursery() as nursery:
                for number, want in enumerate(wants):
                    nursery.start_soon(ask, number, *want)
                    await trio.testing.wait_all_tasks_blocked()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert answered == len(wants)
    # Tasks that are woken at one moment run in any order.
    times = [granted[number] for number in sorted(granted)]
    assert times == sorted(times)
    assert meter.held == Spent()
    assert meter.spent.tokens <= limit


# ── the judge ─────────────────────────────────────────────────────────────────────────────────────


def test_the_judge_finds_a_provider_that_gives_more_than_it_may() -> None:
    world = World(Random(1))
    node = world.node("run", Budget(tokens=100))
    node.billed = Spent(output_tokens=101)
    world.at_the_end()
    assert world.wrong == ["run overshoots by 1"]


def test_the_judge_finds_what_is_held_for_ever() -> None:
    world = World(Random(1))
    node = world.node("run", Budget(tokens=100))
    reserved_at_once(node.meter, Need(input_tokens=10, output_tokens=10))
    world.at_the_end()
    assert any("holds" in each for each in world.wrong)


@pytest.mark.anyio
async def test_the_judge_finds_one_who_waits_for_ever() -> None:
    """Here for a call that never ends."""
    world = World(Random(1))
    node = world.node("run", Budget(tokens=100))
    hold = reserved_at_once(node.meter, Need(input_tokens=10, output_tokens=90))
    await world.until_done(partial(_ask_once, world, node))
    assert not isinstance(hold, Shortfall)
    hold.settle()
    assert "somebody waits for ever" in world.wrong


async def _ask_once(world: World, node: Node) -> None:
    world.largest = 50
    await world.ask(node)
