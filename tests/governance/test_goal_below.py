"""A goal is that of the task it was given for: sub-agents have tasks of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from llm_client.types import LLMRequest, ToolResult
from power_loop import AgentLoop, Hooks, SubAgent, tool
from power_loop.governance import GoalDriven, MetricSnapshot, ValidPlans
from power_loop.hooks import POINTS, HookContext
from tests.agent.scripted import Reply, Scripted, calls, says
from tests.agent.support import check_log

pytestmark = pytest.mark.anyio


class Switch:
    """A goal that is reached once its tool was called."""

    def __init__(self) -> None:
        self.on = False

        @tool
        async def flip() -> str:
            """Flips the switch."""
            self.on = True
            return "flipped"

        self.tool = flip

    def measure(self) -> MetricSnapshot:
        return MetricSnapshot(items=frozenset(() if self.on else ("switch",)))

    def is_success(self, snapshot: MetricSnapshot) -> bool:
        return not snapshot.items


def asks_first(request: LLMRequest) -> Reply:
    """Asks a helper, which is wrong about a tool and then answers; does the work after that."""
    results = [p for m in request.messages for p in m.parts if isinstance(p, ToolResult)]
    if request.messages[0].text == "go":
        return calls(("f", "flip", {})) if results else calls(("h", "helper", {"task": "look"}))
    return says("It is 42.") if results else calls(("n", "nothing", {}))


async def test_a_sub_agent_answers_although_the_goal_above_is_not_reached() -> None:
    """Neither what it is told nor how it ends is the goal's; its record does the same again."""
    switch, llm = Switch(), Scripted(by=asks_first)
    helper = SubAgent("helper", "Helps.", tools=[])
    loop = AgentLoop(llm, tools=[helper, switch.tool], extensions=[GoalDriven(switch)])
    with anyio.fail_after(10):
        async with loop:
            result = await loop.send("go")
            below = f"{result.session_id}/h"
            said = [m.text for m in await loop.get_messages(below) if m.role != "tool"]
            told = [
                part.text
                for id in (below, result.session_id)
                for message in await loop.get_messages(id)
                for part in message.parts
                if isinstance(part, ToolResult)
            ]
            await check_log(loop, below, tools=[])
            fork = await loop.fork(below)
            assert (await loop.replay(fork, tools=[])).identical
    assert result.status == "goal_reached"
    assert said == ["look", "", "It is 42."]
    assert not told[0].startswith("{")  # as the loop itself says it, not as a plan's problem
    assert told[1:] == ["It is 42.", "flipped"]


async def test_a_sub_agent_can_be_given_the_same_goal() -> None:
    """Where it is asked for; it ends when the goal is reached, and so does the run above."""
    switch = Switch()

    def reply(request: LLMRequest) -> Reply:
        if request.messages[0].text == "go":
            return calls(("h", "helper", {"task": "look"}))
        return calls(("f", "flip", {}))

    helper = SubAgent("helper", "Helps.", tools=[switch.tool])
    goal = GoalDriven(switch, below=True)
    with anyio.fail_after(10):
        async with AgentLoop(Scripted(by=reply), tools=[helper], extensions=[goal]) as loop:
            result = await loop.send("go")
            told = [m.text for m in await loop.get_messages(f"{result.session_id}/h")]
    assert result.status == "goal_reached"
    assert told[1] == "The goal is not reached yet: 1 open: switch."


async def test_plans_of_sub_agents_are_checked_unless_it_is_otherwise_said() -> None:
    """By the extension that is given alone."""
    for below in (True, False):
        loop = AgentLoop(
            Scripted(by=asks_first),
            tools=[SubAgent("helper", "Helps.", tools=[]), Switch().tool],
            extensions=[ValidPlans(below=below)],
        )
        with anyio.fail_after(10):
            async with loop:
                result = await loop.send("go", max_rounds=1)
                messages = await loop.get_messages(f"{result.session_id}/h")
        [given] = [m.parts[0] for m in messages if m.role == "tool"]
        assert isinstance(given, ToolResult)
        assert given.text.startswith('{"error":"plan_invalid"') is below


async def test_handlers_are_told_how_deep_a_run_is() -> None:
    """At every point that fires."""
    seen: dict[str, set[int]] = {}

    def noting(name: str) -> Any:
        def note(context: HookContext[Any]) -> None:
            seen.setdefault(context.session_id, set()).add(context.depth)
            points.setdefault(name, set()).add(context.depth)

        return note

    points: dict[str, set[int]] = {}
    hooks = Hooks()
    for point in POINTS:
        hooks.on(point, noting(point.name))
    answers: Mapping[str, Reply] = {
        "go": calls(("a", "helper", {"task": "one"})),
        "one": calls(("b", "helper", {"task": "two"})),
        "two": says("deep"),
    }

    def reply(request: LLMRequest) -> Reply:
        has_results = request.messages[-1].role == "tool"
        return says("ok") if has_results else answers[request.messages[0].text]

    helper = SubAgent("helper", "Helps.")
    with anyio.fail_after(10):
        async with AgentLoop(Scripted(by=reply), tools=[helper], hooks=hooks) as loop:
            root = (await loop.send("go")).session_id
    assert seen == {root: {0}, f"{root}/a": {1}, f"{root}/a/b": {2}}
    assert points["session.start"] == points["llm.after"] == points["session.end"] == {0, 1, 2}
    assert points["tool.before"] == points["tool.after"] == {0, 1}
