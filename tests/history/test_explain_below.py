"""Explanations of runs with sessions below them: which waits, failed, and has used what."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from llm_client.errors import BadRequest
from llm_client.types import LLMRequest
from power_loop import (
    AgentConfig,
    AgentLoop,
    Budget,
    MemoryStore,
    SubAgent,
    approve,
    result_of,
    tool,
)
from power_loop.governance import Policies, RequireApproval
from power_loop.history.explaining import Log, explanation_of
from power_loop.session.outcome import AwaitingApproval, BudgetExhausted
from tests.agent.scripted import Reply, Scripted, calls, fails, says
from tests.agent.support import EVERY_STORE, StoreKind, opened_store
from tests.history.endings import normal, steps_of

pytestmark = pytest.mark.anyio


@tool
async def pay(amount: int) -> str:
    """Pays."""
    return f"paid {amount}"


def delegating(request: LLMRequest) -> Reply:
    """`go` is handed to a branch, which hands it to a leaf, which pays."""
    task, text = request.messages[0].text, request.messages[-1].text
    if text == "go":
        return calls(("b1", "branch", {"task": "branch"}), ("b2", "branch", {"task": "idle"}))
    if text == "branch":
        return calls(("l1", "leaf", {"task": "leaf"}))
    if text == "leaf":
        return calls(("p1", "pay", {"amount": 3}))
    return says(f"{task} is done")


def agents(**leaf: Any) -> Sequence[Any]:
    """Agents for `delegating`."""
    inner = SubAgent("leaf", "Works.", tools=[pay], **leaf)
    return [SubAgent("branch", "Hands on.", tools=[inner])]


@pytest.mark.parametrize("kind", EVERY_STORE)
async def test_which_session_below_waits_and_for_what_is_told_above(
    kind: StoreKind, tmp_path: Path
) -> None:
    """However deep; also afterwards, of the run that had waited."""
    rules = Policies(RequireApproval("pay", "it costs"))
    async with (
        opened_store(kind, tmp_path) as store,
        AgentLoop(Scripted(by=delegating), tools=agents(), store=store, extensions=[rules]) as loop,
    ):
        await store.create("s")
        first = await loop.send("go", "s", budget=Budget(tokens=9_000))
        assert isinstance(first.outcome, AwaitingApproval)
        (token,) = first.outcome.tokens
        told = await loop.explain("s")
        assert normal(told.rule.replace(token, "K")) == (
            "session s/b1, below tool branch, is awaiting_approval: session s/b1/l1, below tool "
            "leaf, is awaiting_approval: approval K of tool pay waits since WHEN, asked for by "
            "policy:require_approval: it costs"
        )
        assert [(b.session_id, b.status) for b in told.below] == [
            ("s/b1", "awaiting_approval"),
            ("s/b2", "completed"),
        ]
        assert [b.session_id for b in told.below[0].below] == ["s/b1/l1"]
        # 15 for each of the four answers, two of which are below calls that are still open.
        assert next(x.used for x in told.limits if x.name == "run.tokens") == 60
        assert "- 1 session came to what was wanted" in str(told)
        assert steps_of(told, "child") == [
            "session s/b1 was opened by tool branch",
            "session s/b2 was opened by tool branch",
            "session s/b2 ended completed, having used 15 tokens",
        ]
        done = await loop.resume("s", answers=[approve(token)])
        assert done.status == "completed"
        assert (await loop.explain("s", first.run_id)).rule == told.rule
        after = await loop.explain("s")
        assert [each.status for each in after.below] == ["completed", "completed"]
        assert next(x.used for x in after.limits if x.name == "run.tokens") == 105
        leaf = await loop.explain("s/b1/l1")
        assert steps_of(leaf, "run")[0].startswith(
            "run ID1 opened with 1 message, for call l1 of session s/b1; limits: rounds 8"
        )


async def test_which_session_below_did_not_finish_is_told_above() -> None:
    """With its own rule, though the run above came to an answer."""
    loop = AgentLoop(Scripted(by=delegating), tools=agents(budget=Budget(llm_calls=1)))
    async with loop:
        await loop.store.create("s")
        await loop.send("go", "s")
        told = await loop.explain("s")
        branch = await loop.explain("s/b1")
        leaf = await loop.explain("s/b1/l1")
    assert (told.status, branch.status) == ("completed", "completed")
    assert [leaf] == list(branch.below) == list(told.below[0].below)
    assert leaf.rule.startswith("limit child.2.llm_calls: 1 allowed, 1 used")
    assert next(x.left for x in leaf.limits if x.name == "child.2.llm_calls") == 0.0
    assert "- s/b1/l1: budget_exhausted: limit child.2.llm_calls" in str(branch)
    assert "tool leaf ended with an error" in steps_of(branch, "tool")


async def test_a_limit_that_was_set_above_is_told_below_with_the_session_to_resume() -> None:
    """All limits in force are in each first event; what is left of them is known above only."""
    config = AgentConfig(session_budget=Budget(tokens=9_000))
    loop = AgentLoop(
        Scripted(by=delegating), tools=agents(), config=config, budget=Budget(rounds=9)
    )
    async with loop:
        await loop.store.create("s")
        first = await loop.send("go", "s", budget=Budget(llm_calls=3))
        assert isinstance(first.outcome, BudgetExhausted)
        below = [await loop.explain("s/b1"), await loop.explain("s/b1/l1")]
        ended = [each for each in below if each.status == "budget_exhausted"]
        assert ended
        for told in ended:
            assert told.recommended_action == (
                "resume session s, above this one, with extend=Budget(llm_calls=…)"
            )
        for told in below:
            limits = {each.name: (each.allowed, each.used) for each in told.limits[1:]}
            assert limits == {
                "loop.rounds": (9.0, None),
                "session.tokens": (9_000.0, None),
                "run.llm_calls": (3.0, None),
                "run.children": (64.0, None),
            }
        done = await loop.resume("s", extend=Budget(llm_calls=30))
        assert done.status == "completed"


async def test_a_failure_below_that_ended_the_run_is_told_with_its_session() -> None:
    """`on_failure="fail"`: the error is that of the session below."""

    def model(request: LLMRequest) -> Reply:
        if request.messages[0].text == "help":
            return fails(BadRequest("no such model", status=400))
        return calls(("c1", "helper", {"task": "help"}))

    helper = SubAgent("helper", "Helps.", tools=[pay], on_failure="fail")
    async with AgentLoop(Scripted(by=model), tools=[helper]) as loop:
        with pytest.raises(BadRequest) as caught:
            await loop.send("go")
        result = result_of(caught.value)
        assert result is not None
        told = await loop.explain(result.session_id)
    assert normal(told.rule) == (
        "session ID1/c1, below tool helper, is failed: the model call failed for a reason that no "
        "retry mends: BadRequest: no such model (status 400)"
    )


async def test_a_session_below_that_is_gone_is_told_of_as_far_as_it_was_heard_of() -> None:
    """Deleted, its records are not there, but the run's own are."""
    rules = Policies(RequireApproval("pay", "it costs"))
    store = MemoryStore()
    loop = AgentLoop(Scripted(by=delegating), tools=agents(), store=store, extensions=[rules])
    async with loop:
        await store.create("s")
        await loop.send("go", "s", budget=Budget(tokens=9_000))
        await store.delete("s/b1")
        told = await loop.explain("s")
    assert told.rule.endswith("waits in a session below this one")
    assert [each.session_id for each in told.below] == ["s/b2"]
    (limit,) = [each for each in told.limits if each.name == "run.tokens"]
    assert (limit.used, limit.left) == (30, None)
    assert limit.note == "without what a session below has used that cannot be read"


async def test_a_session_that_claims_to_be_below_itself_is_explained_once() -> None:
    """As an archive from a stranger may have it."""
    store = MemoryStore()
    loop = AgentLoop(Scripted(by=delegating), tools=agents(), store=store)
    async with loop:
        await store.create("s")
        await loop.send("go", "s")
    log = Log(await store.read("s"))
    told = explanation_of("s", log, None, {"s/b1": log, "s/b2": log})
    assert told.status == "completed"
    assert str(told).startswith("# completed: run ")
