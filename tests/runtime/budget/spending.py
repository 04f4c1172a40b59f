"""Runs and sub-agents that spend at random, on a virtual clock, and a provider that keeps its own
books: whatever it has billed is true, whatever the meters say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from decimal import Decimal
from random import Random

import anyio
import anyio.lowlevel

from llm_client.testing import VirtualClock
from power_loop.runtime.budget.accounts import Account, Shortfall
from power_loop.runtime.budget.amounts import amounts_of
from power_loop.runtime.budget.claims import Need
from power_loop.runtime.budget.limits import Budget, WhenShort
from power_loop.runtime.budget.meter import Meter
from power_loop.runtime.budget.rates import Rate
from power_loop.session.spent import Spent

__all__ = ["Node", "World", "a_budget", "within"]

_INPUT_PRICE, _OUTPUT_PRICE = 3, 15
_PICO = 1_000_000
_FOREVER = 1e6
_TURNS = 1_000


class Node:
    """A meter, and what the provider has billed for it and for all below it."""

    def __init__(self, scope: str, budget: Budget, above: Iterable[Node] = ()) -> None:
        above = tuple(above)
        self.meter = Meter(scope, budget, [each.meter for each in above])
        self.billed = Spent()
        self.lineage: set[Node] = {self}.union(*[each.lineage for each in above])

    @property
    def overshoot(self) -> float:
        """By how much what was billed is over a limit."""
        billed, limits = amounts_of(self.billed), self.meter.chain[0].limits
        return max([billed.get(name, 0) - limit for name, limit in limits.items()], default=0)

    @property
    def utilisation(self) -> float:
        """How much of its most used limit was billed."""
        billed, limits = amounts_of(self.billed), self.meter.chain[0].limits
        return max([billed.get(name, 0) / limit for name, limit in limits.items()])


class World:
    """Where it all happens. `wrong` are broken promises, `refused` counts the limits that said no.

    Attributes:
        largest: the most tokens of input that a call has.
    """

    def __init__(self, chance: Random, *, largest: int = 600) -> None:
        self.chance = chance
        self.clock = VirtualClock()
        self.largest = largest
        self.nodes: list[Node] = []
        self.wrong: list[str] = []
        self.refused: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()

    def node(self, scope: str, budget: Budget, above: Iterable[Node] = ()) -> Node:
        """A new node; one of a child is under all of its parent's."""
        made = Node(scope, budget, above)
        self.nodes.append(made)
        return made

    def look(self, node: Node) -> None:
        """What must hold after each step."""
        for account in node.meter.chain:
            self.wrong += [
                f"{account.scope}.{name}: {account.used[name]} used, {account.held[name]} held"
                for name in account.held
                if account.held[name] < 0 or _over(account, name)
            ]

    def at_the_end(self) -> None:
        """What must hold when everybody has returned."""
        for node in self.nodes:
            account = node.meter.chain[0]
            if account.in_flight or any(account.held.values()):
                self.wrong.append(f"{account.scope} holds {node.meter.held} at the end")
                self.seen["leaked"] += 1
            if account.waiting:
                self.wrong.append(f"{account.scope} is waited for at the end")
            if node.overshoot > 0:
                self.wrong.append(f"{account.scope} overshoots by {node.overshoot}")
                self.seen["overshot"] += 1

    async def ask(self, node: Node) -> bool:
        """A model call and up to three retries; False where a budget refuses one."""
        first = True
        for _ in range(4):
            input = self.chance.randint(1, self.largest)
            need = Need(
                input_tokens=input,
                output_tokens=self.chance.choice([500, 500, 500, 4_000]),
                new_round=first,
                rate=Rate(input * _INPUT_PRICE * _PICO, _OUTPUT_PRICE * _PICO),
            )
            before = self.clock.now()
            try:
                hold = await node.meter.reserve(need)
            except BaseException:
                self.seen["cancelled in a wait"] += 1
                self.look(node)
                raise
            self.seen["waited"] += self.clock.now() > before
            self.look(node)
            if isinstance(hold, Shortfall):
                self.refused[hold.limit] += 1
                return False
            output = self.chance.randint(0, hold.output or 0)
            cost = _cost(input, output)
            spent = Spent(first, 1, input_tokens=input, output_tokens=output, cost=cost)
            ended = False
            try:
                await self.clock.sleep(self.chance.random())
                ended = True
            finally:
                # Of those that are cancelled, half can tell what they have cost.
                known = ended or self.chance.random() < 0.5
                self._bill(node, spent)
                hold.settle(spent if known else None)
                self.look(node)
            if self.chance.random() < 0.8:
                return True
            first = False
        return True

    def call_a_tool(self, node: Node, spent: Spent) -> bool:
        """Takes something at once, if every budget allows it."""
        short = node.meter.spend(spent)
        self.look(node)
        if short is not None:
            self.refused[short.limit] += 1
            return False
        self._bill(node, spent)
        return True

    async def until_done(self, work: Callable[[], Awaitable[None]]) -> None:
        """Does `work`, and sees whether it ends, or whether everybody waits for each other."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch, group.cancel_scope)
            await work()
            group.cancel_scope.cancel()
        self.at_the_end()

    async def _watch(self, scope: anyio.CancelScope) -> None:
        while True:
            await self.clock.sleep(_FOREVER)
            # Nobody else sleeps. They may be just about to, or to return: many tasks deep.
            for _ in range(_TURNS):
                await anyio.lowlevel.checkpoint()
            if not self.clock.sleeping:
                self.wrong.append("somebody waits for ever")
                self.seen["deadlocked"] += 1
                scope.cancel()

    def _bill(self, node: Node, spent: Spent) -> None:
        for each in node.lineage:
            each.billed += spent


async def within(clock: VirtualClock, seconds: float, work: Callable[[], Awaitable[None]]) -> bool:
    """Does `work`, which is cancelled after `seconds`; whether it came to its end."""
    done = False

    async def cancel(scope: anyio.CancelScope) -> None:
        await clock.sleep(seconds)
        scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(cancel, group.cancel_scope)
        await work()
        done = True
        group.cancel_scope.cancel()
    return done


def a_budget(chance: Random, tokens: int) -> Budget:
    """One that is about as tight as `tokens`, and limits this or that besides."""
    rules: list[WhenShort] = ["wait", "wait", "shrink", "end"]
    return Budget(
        tokens=tokens,
        output_tokens=chance.choice([None, None, tokens // 2]),
        cost=chance.choice([None, None, tokens * _OUTPUT_PRICE / _PICO / 2]),
        llm_calls=chance.choice([None, None, max(1, tokens // 300)]),
        children=chance.choice([None, 20]),
        when_short=chance.choice(rules),
        least_output=chance.choice([1, 16, 50]),
    )


def _over(account: Account, name: str) -> bool:
    return name in account.limits and account.free(name) < 0


def _cost(input: int, output: int) -> float:
    return float(Decimal(input * _INPUT_PRICE + output * _OUTPUT_PRICE) / 1_000_000)
