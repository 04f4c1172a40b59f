"""Calls that the program runs itself are paid for like any other: once, before they are its own."""

from __future__ import annotations

from typing import Any

import pytest

from llm_client.types import LLMRequest, ToolSpec
from power_loop import (
    AgentConfig,
    AgentLoop,
    Budget,
    MemoryStore,
    Result,
    RunResult,
    SharedBudget,
    SubAgent,
    tool,
)
from power_loop.session.outcome import BudgetExhausted
from power_loop.session.records import RunClosed, ToolSettled, ToolStarted
from power_loop.testing import replay_session
from tests.agent.crashed import write
from tests.agent.scripted import Reply, Scripted, calls, says
from tests.agent.support import check_log, log_of

pytestmark = pytest.mark.anyio

EXTERNAL = ToolSpec("ext", "Runs elsewhere.", {"type": "object", "properties": {}})


@tool
async def look() -> str:
    """Looks."""
    return "seen"


def batches(*sizes: int) -> Scripted:
    """A model that asks for so many calls at once, one batch after the other."""
    wanted: list[Reply] = []
    for n, size in enumerate(sizes):
        wanted.append(calls(*[(f"c{n}.{i}", "ext", "{}") for i in range(size)]))
    return Scripted(*wanted, says("done"))


async def given(loop: AgentLoop[Any], session_id: str) -> RunResult[Any]:
    """The program has made all calls that were left to it."""
    left = await loop.get_pending(session_id)
    return await loop.resume(session_id, decisions={c.call_id: Result("v") for c in left})


async def test_a_call_is_paid_for_before_it_is_left_to_the_program() -> None:
    """The one that cannot be afforded is never seen by it; what was afforded is its own."""
    config = AgentConfig(run_budget=Budget(tool_calls=3))
    async with AgentLoop(batches(2, 2), tools=[EXTERNAL], config=config) as loop:
        result = await loop.send("go")
        assert result.status == "pending_tools"
        told = await loop.explain(result.session_id)
        (left,) = [each for each in told.limits if each.name == "run.tool_calls"]
        assert (left.used, left.left) == (2, 1.0)
        # Whoever only asks again pays nothing.
        assert (await loop.resume(result.session_id)).status == "pending_tools"
        result = await given(loop, result.session_id)
        assert isinstance(result.outcome, BudgetExhausted)
        assert result.outcome.limit == "run.tool_calls"
        log = await check_log(loop, result.session_id)
        started = [r.call_id for r in log if isinstance(r, ToolStarted)]
        assert started == ["c0.0", "c0.1"]
        settled = [r.how for r in log if isinstance(r, ToolSettled)]
        assert settled == ["finished", "finished", "not_run", "not_run"]
        await replay_session(loop, result.session_id)


async def test_a_batch_of_both_kinds_is_replayed_as_it_was() -> None:
    """A call that was given up with the run is not one that could not be afforded."""
    wanted = calls(("a", "ext", {}), ("b", "look", {}), ("c", "look", {}))
    config = AgentConfig(run_budget=Budget(tool_calls=2))
    async with AgentLoop(
        Scripted(wanted, says("done")), tools=[EXTERNAL, look], config=config
    ) as loop:
        result = await loop.send("go")
        assert isinstance(result.outcome, BudgetExhausted)
        log = await check_log(loop, result.session_id)
        assert [r.call_id for r in log if isinstance(r, ToolStarted)] == ["b"]
        await replay_session(loop, result.session_id)


@pytest.mark.parametrize("below", [False, True])
async def test_a_call_is_paid_for_once_by_all_who_pay(below: bool) -> None:
    """A tenant's budget counts as long as it lives, over all runs that carry a call on."""
    tenant = SharedBudget(Budget(tool_calls=10))
    store = MemoryStore()

    def model(request: LLMRequest) -> Reply:
        if request.messages[-1].role == "tool":
            return says("done")
        delegates = below and request.messages[0].text == "go"
        return calls(("h", "helper", {"task": "do it"})) if delegates else calls(("e", "ext", {}))

    tools = [EXTERNAL, SubAgent("helper", "Helps.", tools=[EXTERNAL])]
    async with AgentLoop(Scripted(by=model), tools=tools, budget=tenant, store=store) as loop:
        result = await loop.send("go")
        for _ in range(2):
            assert result.status == "pending_tools"
            result = await loop.resume(result.session_id)
        assert result.status == "pending_tools"
        assert tenant.spent.tool_calls == (2 if below else 1)
        if not below:
            result = await given(loop, result.session_id)
            assert result.status == "completed"
            assert tenant.spent.tool_calls == 1


async def test_what_the_program_has_done_is_told_even_if_nobody_can_afford_it() -> None:
    """The process had died before it could say whose calls these are; the program has made them."""
    llm, store = batches(2, 1), MemoryStore()
    async with AgentLoop(llm, tools=[EXTERNAL], store=store) as loop:
        first = await loop.send("go")
        log = await log_of(loop, first.session_id)
        assert isinstance(log[-1], RunClosed)
        await store.create("t")
        await write(store, "t", log[:-1])
    async with AgentLoop(llm, tools=[EXTERNAL], store=store, budget=Budget(tool_calls=1)) as loop:
        both = {"c0.0": Result("v"), "c0.1": Result("w")}
        result = await loop.resume("t", decisions=both)
        assert isinstance(result.outcome, BudgetExhausted)
        log = await check_log(loop, "t")
        settled = [r for r in log if isinstance(r, ToolSettled)]
        assert [r.how for r in settled] == ["finished", "finished", "not_run"]
