"""A session below is stopped while it has a summary made: nothing is left over, nothing is lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from llm_client.types import LLMRequest
from power_loop import AgentLoop, Budget, RunResult, SharedBudget
from power_loop.session.outcome import Cancelled, Completed
from power_loop.session.records import ModelAsked, ModelEnded, RunClosed, ViewChanged
from tests.agent.scripted import Gate, Reply
from tests.agent.stores import records_of
from tests.agent.support import log_of
from tests.agent.test_compaction import is_summary
from tests.agent.test_compaction_in_trees import Provider, World, summarised
from tests.session.checker import violations

pytestmark = pytest.mark.anyio


class Slow(Provider):
    """A provider whose first summary takes for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()

    def _reply(self, request: LLMRequest) -> Reply:
        reply = super()._reply(request)
        first = is_summary(request) and not self.gate.reached.is_set()
        return replace(reply, gate=self.gate) if first else reply


async def stopped(
    by: Callable[[AgentLoop[Any]], Awaitable[object]] | None,
) -> tuple[World, RunResult[Any]]:
    """A tree that is stopped while the session below waits for its first summary; by the end of its
    loop if by nothing else."""
    budget = SharedBudget(Budget(tokens=1_000_000))
    world = World(budget)
    world.llm = llm = Slow()
    await world.store.create("s")
    results: list[RunResult[Any]] = []
    done = anyio.Event()

    async def send(loop: AgentLoop[Any]) -> None:
        results.append(await loop.send("count 1", "s"))
        done.set()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks, world.loop() as loop:
            tasks.start_soon(send, loop)
            await llm.gate.reached.wait()
            assert budget.meter.held.llm_calls == 1
            if by is not None:
                await by(loop)
                await done.wait()
    assert llm.under_way == 0
    assert budget.meter.held.llm_calls == 0
    below = records_of(await world.store.read("s/c1"))
    assert violations(below, closed=True) == []
    assert violations(records_of(await world.store.read("s")), closed=True) == []
    asked = [r.attempt for r in below if isinstance(r, ModelAsked) and r.purpose]
    ended = [r for r in below if isinstance(r, ModelEnded) and r.attempt in asked]
    assert [record.status for record in ended] == ["cancelled"]
    assert len(asked) == 1
    assert summarised(below) == []
    assert [type(r.outcome) for r in below if isinstance(r, RunClosed)] == [Cancelled]
    return world, results[0]


async def test_whoever_cancels_the_run_above_ends_a_summary_below() -> None:
    """It counts as what was set aside for it, or less; the call above is told as interrupted."""
    world, result = await stopped(lambda loop: loop.cancel("s", "enough"))
    assert result.outcome == Cancelled("enough")
    async with world.loop() as loop:
        usage = await loop.usage("s", children=True)
        (told,) = [m for m in await loop.get_messages("s") if m.role == "tool"]
    assert "interrupted" in str(told.parts)
    assert world.budget is not None
    assert world.budget.spent.tokens == usage.all.usage.total_tokens
    assert usage.all.usage.total_tokens <= world.llm.billed


async def test_a_message_that_cannot_wait_ends_a_summary_below_and_the_run_above_goes_on() -> None:
    """With the message, and without what was below."""
    world, result = await stopped(lambda loop: loop.steer("s", "Never mind.", mode="interrupt"))
    assert isinstance(result.outcome, Completed)
    last = world.llm.requests[-1]
    assert last.messages[-1].text == "Never mind."
    assert world.llm.illegal == []


async def test_a_loop_that_is_closed_ends_a_summary_below() -> None:
    """Afterwards another one carries the run above on."""
    world, result = await stopped(None)
    assert isinstance(result.outcome, Cancelled)
    async with world.loop() as loop:
        more = await loop.resume("s")
        assert more.final_text == "All is counted."
        assert violations(await log_of(loop, "s"), closed=True) == []
    assert not any(isinstance(r, ViewChanged) for r in await log_of(loop, "s"))
