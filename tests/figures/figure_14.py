"""Figure 14: limits hold, whoever spends under them at the same time.

Up to 64 sub-agents, some with sub-agents of their own, spend under one or two budgets. Calls fail
after they have cost something, are cancelled while they wait, while they run, and while they are
being retried. One in ten is a bomb: each sub-agent opens two more, ten deep. One in ten is a single
run under a limit of 10,000 tokens. The provider keeps books of its own; it is them that are held
against the limits.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from random import Random
from statistics import mean

import anyio

from power_loop.runtime.budget.limits import Budget, WhenShort
from power_loop.session.spent import Spent
from tests.figures.result import FigureResult
from tests.runtime.budget.spending import Node, World, a_budget, within

_BACKENDS = ("asyncio", "trio")
_CHILDREN = (1, 2, 4, 8, 16, 32, 64)
_MANY = 8
_LIMIT = 10_000
_DEPTH = 10
_LEAST_MEAN = 0.90


def run(full: bool) -> FigureResult:
    """A thousand seeds in turn on both event loops; small: sixty."""
    seeds = 1_000 if full else 60
    failures: list[str] = []
    seen: Counter[str] = Counter()
    used: dict[WhenShort, list[float]] = {"wait": [], "shrink": [], "end": []}
    for seed in range(seeds):
        world = World(Random(seed))
        root = anyio.run(_one, world, seed, backend=_BACKENDS[seed % len(_BACKENDS)])
        failures += [f"seed {seed}: {each}" for each in sorted(set(world.wrong))]
        seen += world.seen
        seen["refusals"] += world.refused.total()
        seen["tokens too many"] += max(0, int(root.billed.tokens - (root.meter.budget.tokens or 0)))
        if world.seen["children"] >= _MANY and any(
            key.startswith("loop.") for key in world.refused
        ):
            used[root.meter.budget.when_short].append(root.utilisation)
    every = [each for some in used.values() for each in some]
    if mean(every) < _LEAST_MEAN:
        failures.append(f"only {mean(every):.3f} of what is allowed is used where some are refused")
    by_rule = ", ".join(f"{rule} {mean(some):.3f}" for rule, some in used.items() if some)
    return FigureResult(
        seeds,
        tuple(failures),
        f"1–64 children, {seen['bombs']} bombs, {seen['single']} single runs: "
        f"overshoot {seen['tokens too many']} tokens in {seen['overshot']}, "
        f"leaked {seen['leaked']}, deadlocks {seen['deadlocked']}; {seen['children']} children, "
        f"{seen['refusals']} refusals, {seen['waited']} waits, {seen['cancelled']} cancelled with "
        f"{seen['cancelled in a wait']} waits; utilisation where somebody was refused, "
        f"{len(every)} of them: mean {mean(every):.3f} ({by_rule}), least {min(every):.3f}",
    )


async def _one(world: World, seed: int) -> Node:
    match seed % 10:
        case 0:
            return await _bomb(world)
        case 5:
            return await _single(world)
        case _:
            return await _crowd(world, _CHILDREN[seed % len(_CHILDREN)])


async def _crowd(world: World, count: int) -> Node:
    """A loop's budget, perhaps a tenant's above it, and `count` sub-agents of one run."""
    tokens = world.chance.choice([2_500, _LIMIT, 40_000])
    loop = world.node("loop", a_budget(world.chance, tokens))
    tenant = world.node("tenant", a_budget(world.chance, tokens * 2))
    above = [loop] if world.chance.random() < 0.5 else [loop, tenant]
    parent = world.node("run", Budget(), above)
    few = world.chance.choice([tokens, tokens // 2])

    async def all_of_them() -> None:
        await world.ask(parent)
        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(_child, world, parent, few, 1)
        while await world.ask(parent):
            pass

    await world.until_done(all_of_them)
    return loop


async def _child(world: World, parent: Node, tokens: int, depth: int) -> None:
    """Asks up to twelve times; one in four is cancelled midway, one in three has two below it."""
    world.seen["children"] += 1
    node = world.node("run", a_budget(world.chance, tokens), [parent])

    async def work() -> None:
        for _ in range(world.chance.randint(1, 12)):
            if not await world.ask(node):
                break
        if depth < 3 and world.chance.random() < 0.3:
            async with anyio.create_task_group() as group:
                for _ in range(2):
                    if world.call_a_tool(node, Spent(children=1)):
                        group.start_soon(_child, world, node, tokens, depth + 1)

    if world.chance.random() < 0.25:
        midway = world.chance.uniform(0, 2)
        world.seen["cancelled"] += not await within(world.clock, midway, work)
    else:
        await work()


async def _bomb(world: World) -> Node:
    """Every sub-agent opens two, as long as it is let, ten deep; the limit is what stops it."""
    world.seen["bombs"] += 1
    children = world.chance.choice([5, 50, 200])
    loop = world.node("loop", Budget(tokens=40_000, children=children))

    async def open_below(parent: Node, depth: int) -> None:
        world.seen["children"] += 1
        node = world.node("run", Budget(), [parent])
        await world.ask(node)
        async with anyio.create_task_group() as group:
            for _ in range(2 if depth < _DEPTH else 0):
                if world.call_a_tool(node, Spent(children=1)):
                    group.start_soon(open_below, node, depth + 1)

    await world.until_done(partial(open_below, loop, 0))
    if loop.billed.children != children:
        world.wrong.append(f"{loop.billed.children} of {children} children were opened")
    return loop


async def _single(world: World) -> Node:
    """A run alone asks until it is refused, and is refused for a reason."""
    world.seen["single"] += 1
    node = world.node("run", Budget(tokens=_LIMIT))

    async def alone() -> None:
        while await world.ask(node):
            pass

    await world.until_done(alone)
    left = node.meter.left()["run.tokens"]
    if left >= world.largest + node.meter.budget.least_output:
        world.wrong.append(f"it was refused with {left} tokens left")
    return node
