"""The small policies: approvals, an allowlist, rates."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, nan
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from llm_client.types import Message, ToolResult
from power_loop import AgentLoop, MemoryStore, approve, deny, tool
from power_loop.errors import UsageError
from power_loop.governance import (
    Policies,
    Policy,
    RateLimit,
    RequireApproval,
    ToolAllowlist,
)
from power_loop.hooks import ToolBefore
from tests.agent.scripted import Reply, Scripted, calls, says
from tests.agent.support import check_log

pytestmark = pytest.mark.anyio


class Till:
    """A tool that pays, and how much it has paid."""

    def __init__(self) -> None:
        self.paid: list[int] = []
        self.limit = 100

        @tool
        async def pay(amount: int) -> str:
            """Pays."""
            self.paid.append(amount)
            return "paid"

        @tool
        async def look() -> str:
            """Looks."""
            return "seen"

        self.tools = [pay, look]


def _results(messages: Sequence[Message]) -> list[str]:
    return [p.text for m in messages for p in m.parts if isinstance(p, ToolResult)]


async def _waiting(loop: AgentLoop[Any], session: str) -> Any:
    (pending,) = await loop.get_pending(session)
    return pending


# ── approvals ─────────────────────────────────────────────────────────────────────────────────────


def needs_much(context: ToolBefore[Any]) -> bool:
    return context.name == "pay" and '"amount":9' in context.arguments


async def test_only_the_calls_that_are_meant_wait_for_an_approval() -> None:
    """By name or by a function; the others of the batch run meanwhile."""
    till = Till()
    llm = Scripted(calls(("a", "pay", {"amount": 9}), ("b", "pay", {"amount": 1})), says("ok"))
    policy = RequireApproval(needs_much, lambda c: f"pay {c.arguments}?")
    async with AgentLoop(llm, tools=till.tools, extensions=[Policies(policy)]) as loop:
        result = await loop.send("go")
        assert result.status == "awaiting_approval"
        assert till.paid == [1]
        pending = await _waiting(loop, result.session_id)
        assert pending.request.reason == 'pay {"amount":9}?'
        done = await loop.resume(result.session_id, answers=[approve(pending.token)])
        await check_log(loop, result.session_id)
    assert done.status == "completed"
    assert till.paid == [1, 9]


async def test_an_approval_is_worth_nothing_when_the_world_has_changed() -> None:
    """It is asked for anew, and the new one counts."""
    till = Till()

    async def world(context: ToolBefore[Any]) -> object:
        await anyio.lowlevel.checkpoint()
        return {"limit": till.limit, "of": context.name}

    llm = Scripted(calls(("a", "pay", {"amount": 9})), says("ok"))
    policy = RequireApproval("pay", world=world)
    async with AgentLoop(llm, tools=till.tools, extensions=[Policies(policy)]) as loop:
        session = (await loop.send("go")).session_id
        old = (await _waiting(loop, session)).token
        till.limit = 5
        again = await loop.resume(session, answers=[approve(old)])
        assert again.status == "awaiting_approval"
        new = (await _waiting(loop, session)).token
        assert new != old
        assert till.paid == []
        done = await loop.resume(session, answers=[approve(new)])
    assert done.status == "completed"
    assert till.paid == [9]


async def test_an_approval_under_another_version_of_the_rule_is_worth_nothing() -> None:
    """A loop with the new rule asks anew."""
    till, store = Till(), MemoryStore()
    llm = Scripted(calls(("a", "pay", {"amount": 9})), says("ok"))

    def loop_of(version: str) -> AgentLoop[Any]:
        policy = RequireApproval(["pay"], version=version)
        return AgentLoop(llm, tools=till.tools, store=store, extensions=[Policies(policy)])

    async with loop_of("1") as loop:
        session = (await loop.send("go")).session_id
        old = (await _waiting(loop, session)).token
    async with loop_of("2") as loop:
        again = await loop.resume(session, answers=[approve(old)])
        assert again.status == "awaiting_approval"
        new = (await _waiting(loop, session)).token
        assert (await loop.resume(session, answers=[approve(new)])).status == "completed"
    assert till.paid == [9]


@pytest.mark.parametrize(
    ("on_denial", "status"), [("tell", "completed"), ("end", "approval_denied")]
)
async def test_a_no_is_told_to_the_model_or_ends_the_run(on_denial: Any, status: str) -> None:
    """By choice; the call is not run."""
    till = Till()
    llm = Scripted(calls(("a", "pay", {"amount": 9})), says("ok"))
    policy = RequireApproval("pay", on_denial=on_denial)
    async with AgentLoop(llm, tools=till.tools, extensions=[Policies(policy)]) as loop:
        session = (await loop.send("go")).session_id
        token = (await _waiting(loop, session)).token
        done = await loop.resume(session, answers=[deny(token)])
    assert done.status == status
    assert till.paid == []


async def test_a_world_that_cannot_be_digested_forbids_the_call() -> None:
    """As does one that raises: nobody can say what an approval would be for."""
    for world in (lambda c: object(), lambda c: 1 / 0):  # pyright: ignore[reportUnknownLambdaType,reportUnknownVariableType]
        till = Till()
        llm = Scripted(calls(("a", "pay", {"amount": 9})), says("ok"))
        policy = RequireApproval("pay", world=world)  # pyright: ignore[reportUnknownArgumentType]
        async with AgentLoop(llm, tools=till.tools, extensions=[Policies(policy)]) as loop:
            assert (await loop.send("go")).status == "completed"
        assert till.paid == []
        assert "policy:require_approval failed" in _results(llm.requests[1].messages)[0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: RequireApproval([]),
        lambda: RequireApproval([""]),
        lambda: RequireApproval("pay", ttl=0),
        lambda: RequireApproval("pay", ttl=-1),
        lambda: RequireApproval("pay", ttl=nan),
        lambda: RequireApproval("pay", ttl=inf),
        lambda: RequireApproval("pay", on_denial="ask"),  # pyright: ignore[reportArgumentType]
        lambda: ToolAllowlist([]),
        lambda: ToolAllowlist([3]),  # pyright: ignore[reportArgumentType]
        lambda: RateLimit({}),
        lambda: RateLimit({"pay": (0, 1)}),
        lambda: RateLimit({"pay": (1, 0)}),
        lambda: RateLimit({"pay": (1, nan)}),
        lambda: RateLimit({"pay": (1, inf)}),
        lambda: RateLimit({"pay": (1.5, 1)}),  # pyright: ignore[reportArgumentType]
    ],
)
def test_rules_that_cannot_be_are_refused(make: Any) -> None:
    """At once, not when the first call comes."""
    with pytest.raises(UsageError):
        make()


# ── allowlist, rates ──────────────────────────────────────────────────────────────────────────────


async def _told(policy: Policy, *wanted: Reply) -> tuple[Till, list[str]]:
    till = Till()
    llm = Scripted(*wanted, says("ok"))
    async with AgentLoop(llm, tools=till.tools, extensions=[Policies(policy)]) as loop:
        assert (await loop.send("go")).status == "completed"
    return till, _results(llm.requests[-1].messages)


async def test_only_allowed_calls_run() -> None:
    """The model is told which those are, if they are names."""
    wanted = calls(("a", "pay", {"amount": 9}), ("b", "look", {}))
    till, told = await _told(ToolAllowlist("look"), wanted)
    assert told == ["[not run] This call of 'pay' is not allowed here. Allowed are: look.", "seen"]
    assert till.paid == []
    till, told = await _told(ToolAllowlist(lambda c: c.name == "pay"), wanted)
    assert told == ["paid", "[not run] This call of 'look' is not allowed here."]
    assert till.paid == [9]


async def test_calls_beyond_a_rate_are_refused_with_the_time_to_wait() -> None:
    """When that has passed, they run again; other tools are not limited."""
    now = [10.0]
    policy = RateLimit({"pay": (2, 60)}, clock=lambda: now[0])
    wanted = [calls((f"c{n}", "pay", {"amount": n}), (f"l{n}", "look", {})) for n in range(5)]
    till = Till()

    def reply(request: Any) -> Reply:
        now[0] += 20
        return wanted.pop(0) if wanted else says("ok")

    llm = Scripted(by=reply)
    async with AgentLoop(llm, tools=till.tools, extensions=[Policies(policy)]) as loop:
        assert (await loop.send("go")).status == "completed"
    told = _results(llm.requests[-1].messages)[::2]
    refused = "[not run] 'pay' may be called 2 times in 60 s. The next call can be made in 20 s."
    assert told == ["paid", "paid", refused, "paid", "paid"]
    assert till.paid == [0, 1, 3, 4]


async def test_a_call_that_is_judged_twice_counts_once() -> None:
    """As after an approval, when all policies are asked again."""
    till = Till()
    policies = Policies(RateLimit({"pay": (1, 60)}, clock=lambda: 0.0), RequireApproval("pay"))
    llm = Scripted(calls(("a", "pay", {"amount": 9})), says("ok"))
    async with AgentLoop(llm, tools=till.tools, extensions=[policies]) as loop:
        session = (await loop.send("go")).session_id
        token = (await _waiting(loop, session)).token
        assert (await loop.resume(session, answers=[approve(token)])).status == "completed"
    assert till.paid == [9]
