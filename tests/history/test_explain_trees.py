"""Explanations of random trees of sessions: nothing that was used or waits below is left out."""

from __future__ import annotations

from contextlib import suppress
from random import Random
from typing import Any

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_client.errors import BadRequest
from llm_client.types import LLMRequest
from power_loop import (
    AgentLoop,
    Answer,
    ApprovalRequest,
    Budget,
    MemoryStore,
    SubAgent,
    approve,
    deny,
    tool,
)
from power_loop.errors import SubAgentFailed
from power_loop.events import is_record
from power_loop.governance import Policies, RequireApproval
from power_loop.history.explanation import Explanation
from power_loop.session.outcome import AwaitingApproval
from power_loop.session.records import ModelEnded
from tests.agent.scripted import Reply, Scripted, calls, fails, says
from tests.history.test_explain_properties import check_explained


@tool
async def pay(amount: int) -> str:
    """Pays."""
    return f"paid {amount}"


class Tree:
    """A tree whose sessions hand tasks on, pay, answer or fail as chance has it."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self._calls = 0
        leaf = self._agent("leaf", [pay])
        branch = self._agent("branch", [leaf, pay])
        self.store = MemoryStore()
        self.loop: AgentLoop[Any] = AgentLoop(
            Scripted(by=self._reply),
            tools=[branch, leaf, pay],
            store=self.store,
            extensions=[Policies(RequireApproval("pay", "it costs"))],
        )

    def _agent(self, name: str, tools: list[Any]) -> SubAgent:
        r = self.random
        budget = r.choice((None, None, Budget(llm_calls=2)))
        how = "fail" if r.randrange(4) == 0 else "tell"
        return SubAgent(name, "Works.", tools=tools, budget=budget, on_failure=how)

    def _reply(self, request: LLMRequest) -> Reply:
        r, names = self.random, [each.name for each in request.tools]
        if r.randrange(12) == 0:
            return fails(BadRequest("no such model", status=400))
        if r.randrange(3) == 0 or len(request.messages) > 5:
            return says("done")
        return calls(*[self._call(r.choice(names)) for _ in range(r.randrange(1, 4))])

    def _call(self, name: str) -> tuple[str, str, dict[str, Any]]:
        self._calls += 1
        return f"c{self._calls}", name, {"amount": 1} if name == "pay" else {"task": "work"}

    async def send(self) -> None:
        """The first run."""
        budget = Budget(tokens=1_000_000, llm_calls=self.random.choice((None, 4)))
        with suppress(BadRequest, SubAgentFailed):
            await self.loop.send("go", "s", budget=budget)

    async def resume(self, told: Explanation) -> None:
        """Another one, with some of the answers."""
        tokens = told.outcome.tokens if isinstance(told.outcome, AwaitingApproval) else ()
        answers = [self._answer(token) for token in tokens if self.random.randrange(2)]
        with suppress(BadRequest, SubAgentFailed):
            await self.loop.resume("s", answers=answers)

    def _answer(self, token: str) -> Answer:
        return self.random.choice((approve, deny))(token)


def sessions(told: Explanation) -> list[Explanation]:
    """An explanation and all below it."""
    return [told, *[each for below in told.below for each in sessions(below)]]


async def check(tree: Tree) -> Explanation:
    """The root's explanation is whole, and those within are those of the sessions themselves."""
    told = await tree.loop.explain("s")
    everything = await tree.store.read_tree("s")
    for each in sessions(told):
        assert await tree.loop.explain(each.session_id) == each
        log = [s.event for s in everything if s.session == each.session_id and is_record(s.event)]
        check_explained(each, log, 1)
    assert {each.session_id for each in sessions(told)} == {each.session for each in everything}
    ends = [each.event for each in everything if isinstance(each.event, ModelEnded)]
    used = sum([(e.usage.input_tokens or 0) + (e.usage.output_tokens or 0) for e in ends])
    assert next(each.used for each in told.limits if each.name == "run.tokens") == used
    if isinstance(told.outcome, AwaitingApproval):
        asked = [each.request for each in await tree.loop.get_pending("s")]
        tokens = {each.token for each in asked if isinstance(each, ApprovalRequest)}
        assert tokens == set(told.outcome.tokens)
        assert "waits in a session below this one" not in told.rule
    return told


async def live(seed: int) -> list[Explanation]:
    """A tree to its end, or to its fifth run: what was told after each, and found to be so."""
    tree = Tree(Random(seed))
    async with tree.loop:
        await tree.store.create("s")
        await tree.send()
        told = [await check(tree)]
        while told[-1].resumable and len(told) < 5:
            await tree.resume(told[-1])
            told.append(await check(tree))
        return told


@given(st.integers(0, 2**64 - 1))
@settings(max_examples=25, deadline=None)
def test_every_tree_has_an_explanation_that_leaves_nothing_out(seed: int) -> None:
    """What was used, who waits, what was decided: above as below, after every run."""
    told = anyio.run(live, seed)
    assert all(each.rule for tree in told for each in sessions(tree))
