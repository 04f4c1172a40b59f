"""Sessions below that a budget above stops: they stay open, and go on with more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from llm_client.types import LLMRequest, ToolResult
from power_loop import (
    AgentConfig,
    AgentLoop,
    Budget,
    Extension,
    MemoryStore,
    SubAgent,
    approve,
    tool,
)
from power_loop.errors import SessionPendingError
from power_loop.governance import Exit, Exits, Policies, RequireApproval
from power_loop.hooks import ToolBefore
from power_loop.session.outcome import AwaitingApproval, BudgetExhausted, Completed
from power_loop.session.records import RunOpened
from tests.agent.scripted import Reply, Scripted, calls, says
from tests.agent.support import check_log

pytestmark = pytest.mark.anyio

TASKS = ("first", "second", "third")


class Work:
    """Three agents that pay once each, and what was paid; a fourth hands a task on to a fifth."""

    def __init__(self, *tasks: str) -> None:
        self.tasks = tasks or TASKS
        self.paid: list[str] = []
        self.store = MemoryStore()

        @tool
        async def pay(task: str) -> str:
            """Pays."""
            self.paid.append(task)
            return f"paid {task}"

        self.pay = pay
        self.inner = SubAgent("inner", "Pays.", tools=[pay])
        self.helper = SubAgent("helper", "Helps.", tools=[pay, self.inner])

    def _answer(self, request: LLMRequest) -> Reply:
        task = request.messages[0].text
        part = request.messages[-1].parts[-1]
        if isinstance(part, ToolResult):
            return says(f"{task}: {part.text}")
        if task == "go":
            return calls(*[(each, "helper", {"task": each}) for each in self.tasks])
        if task.startswith("deep "):
            return calls(("d", "inner", {"task": task.removeprefix("deep ")}))
        return calls(("p", "pay", {"task": task}))

    def loop(self, budget: Budget, extensions: Sequence[Extension] = ()) -> AgentLoop[Any]:
        """A loop in a process of its own, whose tools run one after the other."""
        config = AgentConfig(run_budget=budget, tool_concurrency=1)
        return AgentLoop(
            Scripted(by=self._answer),
            tools=[self.helper],
            store=self.store,
            config=config,
            extensions=extensions,
        )

    async def check(self, loop: AgentLoop[Any]) -> None:
        """All logs are legal, the run above replays, and no session was begun anew."""
        sessions = {each.session for each in await self.store.read_tree("s")}
        for session in sessions:
            log = await check_log(loop, session, does_the_same=session == "s")
            assert sum(isinstance(r, RunOpened) and bool(r.input) for r in log) == 1


@pytest.mark.parametrize("tasks", [TASKS, ("deep first", "deep second")])
async def test_with_more_the_sessions_below_go_on_where_they_were(tasks: tuple[str, ...]) -> None:
    """At any depth, in another process, and as often as it takes; nothing is done twice."""
    work = Work(*tasks)
    await work.store.create("s")
    allowed = 2
    async with work.loop(Budget(llm_calls=allowed)) as loop:
        result = await loop.send("go", "s")
        assert isinstance(result.outcome, BudgetExhausted)
        assert result.outcome.limit == "run.llm_calls"
        with pytest.raises(SessionPendingError):
            await loop.send("And now?", "s")
    while result.status == "budget_exhausted":
        allowed += 1
        async with work.loop(Budget(llm_calls=2)) as loop:
            result = await loop.resume("s", extend=Budget(llm_calls=allowed))
            await work.check(loop)
    assert isinstance(result.outcome, Completed)
    assert sorted(work.paid) == [each.removeprefix("deep ") for each in tasks]
    async with work.loop(Budget()) as loop:
        made = (await loop.usage("s", children=True)).all.ok
        explained = await loop.explain("s")
    assert made == allowed == 2 + len(tasks) * (4 if tasks != TASKS else 2)
    assert explained.status == "completed"


async def test_who_waits_for_a_person_comes_before_who_waits_for_more() -> None:
    """The run ends by its budget once nobody is to answer any more."""
    work = Work("second", "first")
    await work.store.create("s")

    def is_second(context: ToolBefore[Any]) -> bool:
        return context.name == "pay" and "second" in context.arguments

    rules = [Policies(RequireApproval(is_second))]
    async with work.loop(Budget(llm_calls=3), rules) as loop:
        result = await loop.send("go", "s")
        assert isinstance(result.outcome, AwaitingApproval)
        answers = [approve(token) for token in result.outcome.tokens]
        short = await loop.resume("s", answers=answers)
        assert short.outcome == BudgetExhausted(
            "run.llm_calls", "3 allowed, 3 used; the next step needs 1"
        )
        assert work.paid == ["first", "second"]
        done = await loop.resume("s", extend=Budget(llm_calls=9))
        assert done.status == "completed"
        await work.check(loop)
    assert work.paid == ["first", "second"]


async def test_sessions_below_that_nobody_gives_more_are_given_up_with_their_calls() -> None:
    """What they have used stays counted."""
    work = Work("first")
    await work.store.create("s")
    async with work.loop(Budget(llm_calls=2)) as loop:
        await loop.send("go", "s")
        assert await loop.abort_pending("s", "enough") == 1
        assert await loop.get_pending("s/first") == ()
        used = (await loop.usage("s", children=True)).all
        assert used.ok == 2
        await work.check(loop)


async def test_a_limit_of_the_agents_own_is_told_as_its_result() -> None:
    """Nobody above can give it more; nor does its own exit keep a call open."""
    for budget, rules, told in (
        (Budget(llm_calls=1), (), "child.1.llm_calls"),
        (None, (Exits(Exit.token_limit(1)),), "exit."),
    ):
        work = Work("first")
        await work.store.create("s")
        work.helper = SubAgent("helper", "Helps.", tools=[work.pay], budget=budget)
        async with work.loop(Budget(llm_calls=9), rules) as loop:
            result = await loop.send("go", "s")
            assert not await loop.get_pending("s")
            messages = await loop.get_messages("s")
        assert told in str([m.parts for m in messages])
        assert result.status == ("completed" if budget else "budget_exhausted")
