"""Tools that are called again and again on purpose say so themselves."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from power_loop import AgentLoop, Hooks, JsonSchemaTool, SubAgent, tool
from power_loop.agent.toolset import AnyTool
from power_loop.errors import UsageError
from power_loop.governance import Exit, Exits, NoProgress, Policies, RepetitionGuard
from power_loop.hooks import ROUND_START, TOOL_BEFORE, RoundStart, ToolBefore
from power_loop.tools import ToolRegistry
from tests.agent.scripted import Reply, Scripted, calls, says
from tests.agent.support import check_log

pytestmark = pytest.mark.anyio


@tool(polling=True)
async def status() -> str:
    """Asks how far the job is."""
    return "running"


@tool
async def look() -> str:
    """Looks."""
    return "the same"


class Jobs:
    """A tool that is a method."""

    @tool(polling=True)
    async def progress(self) -> str:
        """Asks how far a job is."""
        return "running"


async def _same(context: Any, values: Any) -> str:
    return "running"


GUARDS = [
    Policies(RepetitionGuard()),
    Policies(NoProgress(2)),
    Exits(Exit.stagnation(2)),
]


async def _called(guard: Any, *tools: AnyTool, name: str, times: int = 9) -> str:
    """How a run ends that calls one tool so many times."""
    wanted: list[Reply] = [calls((f"c{n}", name, {})) for n in range(times)]
    llm = Scripted(*wanted, says("done"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=tools, extensions=[guard]) as loop:
            result = await loop.send("go")
            await check_log(loop, result.session_id)
    return result.status


@pytest.mark.parametrize("guard", GUARDS)
async def test_what_says_that_it_polls_is_no_repetition(guard: Any) -> None:
    """By whatever way a tool is made; one that does not say so is."""
    schema = JsonSchemaTool("poll", "Polls.", {"type": "object"}, _same, polling=True)
    method = Jobs().progress
    for polls in (status, schema, method):
        assert await _called(guard, polls, look, name=polls.name) == "completed"
    assert await _called(guard, status, look, name="look") == "no_progress"


async def test_what_a_policy_says_of_polling_counts_beside_it() -> None:
    """Names, or a function of a name."""
    for polling in (["look"], lambda name: name == "look"):  # pyright: ignore[reportUnknownLambdaType,reportUnknownVariableType]
        guard = Policies(NoProgress(2, polling=polling))  # pyright: ignore[reportUnknownArgumentType]
        assert await _called(guard, status, look, name="look") == "completed"
        assert await _called(guard, status, look, name="status") == "completed"
    with pytest.raises(UsageError):
        NoProgress(2, polling=[""])


async def test_handlers_are_told_which_tools_poll() -> None:
    """At each round and call, the same set; in a sub-agent, of those that it has."""
    seen: dict[str, list[frozenset[str]]] = {}
    hooks = Hooks()

    def note(context: RoundStart[Any] | ToolBefore[Any]) -> None:
        seen.setdefault(context.session_id, []).append(context.polling)

    hooks.on(ROUND_START, note, name="round")
    hooks.on(TOOL_BEFORE, note, name="call")
    registry = ToolRegistry([look, SubAgent("helper", "Helps.", tools=[status])])

    def reply(request: Any) -> Reply:
        if request.messages[-1].role == "tool":
            return says("ok")
        return calls(("h", "helper", {"task": "t"})) if len(seen) == 1 else says("ok")

    with anyio.fail_after(10):
        async with AgentLoop(Scripted(by=reply), tools=registry, hooks=hooks) as loop:
            result = await loop.send("go")
            registry.add(status)
            later = await loop.send("go")
    assert seen[result.session_id] == [frozenset()] * 3
    assert seen[f"{result.session_id}/h"] == [frozenset(["status"])]
    assert seen[later.session_id] == [frozenset(["status"])]
