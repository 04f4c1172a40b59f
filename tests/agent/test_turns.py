"""Whose turn it is in a session: one at a time, in order, whatever is cancelled meanwhile."""

from __future__ import annotations

import random

import anyio
import anyio.lowlevel
import pytest

from power_loop.agent.sessions import Sessions
from power_loop.errors import SessionBusy
from power_loop.runtime.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio


async def test_whoever_comes_first_has_it_first() -> None:
    """Ten wait for an eleventh; one more does not want to wait."""
    store = MemoryStore()
    await store.create("s", at=0.0)
    sessions = Sessions(store, lease_seconds=30, cached=4)
    order: list[int] = []

    async def one(number: int) -> None:
        async with sessions.owned("s", "wait"):
            await anyio.lowlevel.checkpoint()
            order.append(number)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks, sessions.owned("s", "wait"):
            for number in range(10):
                tasks.start_soon(one, number)
                # One after the other: tasks of a trio nursery begin in any order.
                await anyio.wait_all_tasks_blocked()
            with pytest.raises(SessionBusy):
                async with sessions.owned("s", "fail"):
                    raise AssertionError("it was somebody else's turn")
            assert order == []
    assert order == list(range(10))
    async with sessions.owned("s", "fail"):
        """Nobody has it any more."""


@pytest.mark.parametrize("seed", range(20))
async def test_cancelled_waiters_neither_keep_nor_double_a_turn(seed: int) -> None:
    """Thirty tasks, each cancelled or not, at any moment: while waiting, holding, or in between."""
    store = MemoryStore()
    await store.create("s", at=0.0)
    sessions = Sessions(store, lease_seconds=30, cached=4)
    dice = random.Random(seed)
    inside = 0
    served = 0

    async def one(scope: anyio.CancelScope, stay: int) -> None:
        nonlocal inside, served
        with scope:
            async with sessions.owned("s", "wait"):
                inside += 1
                assert inside == 1
                try:
                    for _ in range(stay):
                        await anyio.lowlevel.checkpoint()
                    served += 1
                finally:
                    inside -= 1

    scopes = [anyio.CancelScope() for _ in range(30)]
    doomed = dice.sample(scopes, 15)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for scope in scopes:
                tasks.start_soon(one, scope, dice.randrange(4))
            for scope in doomed:
                for _ in range(dice.randrange(6)):
                    await anyio.lowlevel.checkpoint()
                scope.cancel()
    assert served >= 15
    async with sessions.owned("s", "fail"):
        """Nobody has it any more."""


async def test_what_counts_tokens_stays_with_a_session_as_long_as_it_is_folded() -> None:
    """Its messages are counted once, and not once a run."""
    store = MemoryStore()
    for name in "ab":
        await store.create(name, at=0.0)
    sessions = Sessions(store, lease_seconds=30, cached=1)
    async with sessions.owned("a", "wait") as owned:
        first = owned.derived
    async with sessions.owned("a", "wait") as owned:
        assert owned.derived is first
    async with sessions.owned("b", "wait") as owned:
        assert owned.derived is not first
    async with sessions.owned("a", "wait") as owned:
        assert owned.derived is not first
