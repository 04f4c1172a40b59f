"""Whose time is used when sessions run below others: that of each run, measured there."""

from __future__ import annotations

import time
from typing import Any

import anyio.lowlevel
import pytest

from llm_client.types import LLMRequest, ToolResult
from llm_client.waiting import WAITING
from power_loop import (
    AgentConfig,
    AgentLoop,
    Answer,
    ApprovalRequest,
    Budget,
    InputRequest,
    SubAgent,
    approve,
    tool,
)
from power_loop.governance import Policies, RequireApproval
from power_loop.session.machine import Session
from power_loop.session.records import CallAnswered, RunClosed
from tests.agent.scripted import Reply, Scripted, calls, says
from tests.agent.support import log_of

pytestmark = pytest.mark.anyio

_WHILE = 0.2
_MANY = 6


async def passes(seconds: float) -> None:
    """Lets time pass, and others work meanwhile."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        await anyio.lowlevel.checkpoint()


@tool
async def work() -> str:
    """Works."""
    await passes(_WHILE)
    return "done"


def many(request: LLMRequest) -> Reply:
    """Above, the task is handed to several at once; below, it is worked on."""
    newest = request.messages[-1].parts[-1]
    if isinstance(newest, ToolResult):
        return says("ok")
    if request.messages[0].text == "go":
        return calls(*[(f"c{n}", "helper", {"task": "work"}) for n in range(_MANY)])
    return calls(("w", "work", {}))


def helper(**more: Any) -> SubAgent:
    """An agent whose sessions measure their time."""
    return SubAgent("helper", "Helps.", budget=Budget(wall_seconds=60), **more)


@pytest.mark.parametrize("limit", ["wall_seconds", "working_seconds"])
@pytest.mark.parametrize("whose", ["run_budget", "session_budget"])
async def test_time_below_is_not_added_to_the_time_above(limit: str, whose: str) -> None:
    """Six at once take as long as one, and the run above was open meanwhile already."""
    allowed: dict[str, Any] = {limit: _WHILE * (_MANY - 1)}
    given: dict[str, Any] = {whose: Budget(**allowed)}
    config = AgentConfig(**given)
    tools = [helper(tools=[work])]
    async with AgentLoop(Scripted(by=many), tools=tools, config=config) as loop:
        result = await loop.send("go")
        assert result.status == "completed"
        log = await log_of(loop, result.session_id)
        told = await loop.explain(result.session_id)
    closed = log[-1]
    assert isinstance(closed, RunClosed)
    below = [r.spent for r in log if isinstance(r, CallAnswered) and r.spent is not None]
    assert [spent.wall_seconds >= _WHILE for spent in below] == [True] * _MANY
    assert Session("s", log).spent.wall_seconds == closed.wall_seconds
    (left,) = [each for each in told.limits if each.name.endswith(limit)]
    assert left.used == getattr(closed, limit)


async def test_a_limit_of_time_below_holds_there_and_is_told_above() -> None:
    """The session below is measured by itself, also when it is carried on."""
    tools = [SubAgent("helper", "Helps.", tools=[work], budget=Budget(wall_seconds=_WHILE / 4))]
    async with AgentLoop(Scripted(by=many), tools=tools) as loop:
        result = await loop.send("go")
        assert result.status == "completed"
        (first, *_) = [m for m in await loop.get_messages(result.session_id) if m.role == "tool"]
    assert isinstance(part := first.parts[0], ToolResult)
    assert "child.1.wall_seconds" in part.text


# ── what is waited for below ──────────────────────────────────────────────────────────────────────


def nested(request: LLMRequest) -> Reply:
    """The task is handed down twice, and worked on there."""
    newest = request.messages[-1].parts[-1]
    if isinstance(newest, ToolResult):
        return says("ok")
    match request.messages[0].text:
        case "go":
            return calls(("c", "manager", {"task": "hand down"}))
        case "hand down":
            return calls(("c", "helper", {"task": "work"}))
        case _:
            return calls(("w", "quick", {}))


@tool
async def quick() -> str:
    """Is quick."""
    return "done"


def managed(budget: Budget | None, work: Any = quick) -> list[SubAgent]:
    """Two that stand one below the other; the time of the lower one is limited, or not."""
    below = SubAgent("helper", "Helps.", tools=[work], budget=budget)
    return [SubAgent("manager", "Has others do it.", tools=[below])]


@pytest.mark.parametrize("below", [None, Budget(working_seconds=_WHILE / 2)])
async def test_the_wait_for_a_person_below_is_no_working_time_above(below: Budget | None) -> None:
    """However deep it is, and whether or not anybody limits the time there."""

    class Slow:
        async def __call__(self, request: ApprovalRequest | InputRequest) -> Answer:
            await passes(_WHILE)
            return approve(request.token)

    config = AgentConfig(run_budget=Budget(working_seconds=_WHILE / 2))
    rules = [Policies(RequireApproval("quick"))]
    async with AgentLoop(
        Scripted(by=nested),
        tools=managed(below),
        config=config,
        responder=Slow(),
        extensions=rules,
    ) as loop:
        result = await loop.send("go")
        assert result.status == "completed"
        closed = (await log_of(loop, result.session_id))[-1]
    assert isinstance(closed, RunClosed)
    assert closed.wall_seconds >= _WHILE > closed.working_seconds


@pytest.mark.parametrize("below", [None, Budget(working_seconds=_WHILE / 2)])
async def test_the_wait_for_a_rate_below_is_no_working_time_above(below: Budget | None) -> None:
    """Whatever waits for one says so in the same way."""

    @tool(name="quick")
    async def throttled() -> str:
        """Waits for its share."""
        with WAITING.get()():
            await passes(_WHILE)
        return "done"

    config = AgentConfig(run_budget=Budget(working_seconds=_WHILE / 2))
    tools = managed(below, throttled)
    async with AgentLoop(Scripted(by=nested), tools=tools, config=config) as loop:
        result = await loop.send("go")
        assert result.status == "completed"
