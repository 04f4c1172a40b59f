"""A real run for every outcome, and explanations in a form that two runs have in common."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel

from llm_client.errors import BadRequest, ServerError
from llm_client.retry import RetryPolicy
from llm_client.testing import call, reply
from llm_client.types import ToolSpec
from power_loop import AgentConfig, AgentLoop, Hooks, approve, deny, result_of, tool
from power_loop.governance import (
    GoalDriven,
    MetricSnapshot,
    NoProgress,
    Policies,
    RequireApproval,
    ValidPlans,
)
from power_loop.history.explanation import Explanation
from power_loop.hooks import TOOL_BEFORE, Break, RequestInput, ToolBefore
from power_loop.runtime.budget.limits import Budget
from power_loop.runtime.stores.base import Store
from tests.agent.crashed import left_behind
from tests.history.loops import look, loop_on, pay

__all__ = ["ENDINGS", "REMOTE", "Ended", "Scenario", "normal", "steps_of"]

Ended = tuple[AgentLoop[Any], str]
Scenario = Callable[[Store], Awaitable[Ended]]

CONFIG = AgentConfig(retry=RetryPolicy(initial=0.0, jitter=0.0))
PAY = call("pay", {"amount": 3}, id="c1")
REMOTE = ToolSpec("remote", "Run elsewhere.", {"type": "object", "properties": {}})
"""A tool that is not run here."""
LOOK = call("look", {"place": "a"}, id="c1")


def normal(text: str) -> str:
    """An explanation with times and ids of its own making left out; ids are numbered."""
    numbers: dict[str, str] = {}

    def number(found: re.Match[str]) -> str:
        return numbers.setdefault(found[0], f"ID{len(numbers) + 1}")

    text = re.sub(r"(?:sess_)?\b[0-9a-f]{24}\b|sess_[0-9a-f]{24}", number, text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "WHEN", text)
    return re.sub(r"\b\d[\d,]*\.?\d* s\b", "T s", text)


def steps_of(told: Explanation, *kinds: str) -> list[str]:
    """The steps of these kinds, in words."""
    return [normal(step.text) for step in told.steps if step.kind in kinds]


def _pay_policy(**rule: Any) -> Policies:
    """Payments wait for a person."""
    return Policies(RequireApproval("pay", "it costs", **rule))


class Faults:
    """A metric: how many faults are left of those that there were."""

    def __init__(self, *faults: int) -> None:
        self._faults = iter(faults)

    def measure(self) -> MetricSnapshot:
        return MetricSnapshot(float(next(self._faults)))

    def is_success(self, snapshot: MetricSnapshot) -> bool:
        return not snapshot.value


async def completed(store: Store) -> Ended:
    loop = loop_on(store, ServerError("503", status=503), reply("4"), config=CONFIG)
    async with loop:
        return loop, (await loop.send("2+2?")).session_id


async def goal_reached(store: Store) -> Ended:
    goal = GoalDriven(Faults(1, 0))
    loop = loop_on(store, reply("", LOOK), config=CONFIG, extensions=[goal])
    async with loop:
        return loop, (await loop.send("mend it")).session_id


async def stopped(store: Store) -> Ended:
    hooks = Hooks()

    @hooks.on(TOOL_BEFORE, name="guard")
    def _(_: ToolBefore[Any]) -> Break:
        return Break("not on Sundays")

    loop = loop_on(store, reply("", PAY), config=CONFIG, hooks=hooks)
    async with loop:
        return loop, (await loop.send("pay")).session_id


async def round_limit(store: Store) -> Ended:
    loop = loop_on(store, reply("", LOOK), reply("I looked once."), config=CONFIG)
    async with loop:
        return loop, (await loop.send("look", max_rounds=1)).session_id


async def budget_exhausted(store: Store) -> Ended:
    more = call("look", {"place": "b"}, id="c2")
    loop = loop_on(store, reply("", LOOK), reply("", more), config=CONFIG)
    async with loop:
        done = await loop.send("look around", budget=Budget(tool_calls=1, tokens=20_000))
        return loop, done.session_id


async def no_progress(store: Store) -> Ended:
    again = [reply("", call("look", {"place": "a"}, id=f"c{n}")) for n in range(3)]
    rules = Policies(NoProgress(2))
    loop = loop_on(store, *again, config=CONFIG, extensions=[rules])
    async with loop:
        return loop, (await loop.send("mend it")).session_id


async def plan_failed(store: Store) -> Ended:
    plans = [reply("", call("look", {"where": "a"}, id=f"c{n}")) for n in range(6)]
    loop = loop_on(store, *plans, config=CONFIG, extensions=[ValidPlans()])
    async with loop:
        return loop, (await loop.send("mend it")).session_id


async def awaiting_approval(store: Store) -> Ended:
    loop = loop_on(store, reply("", PAY), config=CONFIG, extensions=[_pay_policy()])
    async with loop:
        return loop, (await loop.send("pay")).session_id


async def approval_denied(store: Store) -> Ended:
    asks = _pay_policy(on_denial="end")
    loop = loop_on(store, reply("", PAY), config=CONFIG, extensions=[asks])
    async with loop:
        session = (await loop.send("pay")).session_id
        (pending,) = await loop.get_pending(session)
        await loop.resume(session, answers=[deny(pending.token, "too dear", by="ada")])
        return loop, session


async def approval_expired(store: Store) -> Ended:
    loop = loop_on(store, reply("", PAY), config=CONFIG, extensions=[_pay_policy(ttl=0.25)])
    async with loop:
        session = (await loop.send("pay")).session_id
        (pending,) = await loop.get_pending(session)
        assert pending.waiting is not None
        assert pending.waiting.expires is not None
        with anyio.fail_after(10):
            # The clock of the world is the one that must pass it.
            while time.time() <= pending.waiting.expires:
                await anyio.lowlevel.checkpoint()
        await loop.resume(session, answers=[approve(pending.token)])
        return loop, session


async def waiting_for_input(store: Store) -> Ended:
    hooks = Hooks()

    @hooks.on(TOOL_BEFORE, name="teller")
    def _(_: ToolBefore[Any]) -> RequestInput:
        return RequestInput("From which account?")

    loop = loop_on(store, reply("", PAY), config=CONFIG, hooks=hooks)
    async with loop:
        return loop, (await loop.send("pay")).session_id


async def pending_tools(store: Store) -> Ended:
    wanted = reply("", call("remote", {}, id="c1"))
    loop = loop_on(store, wanted, config=CONFIG, tools=[REMOTE])
    async with loop:
        return loop, (await loop.send("go")).session_id


async def cancelled(store: Store) -> Ended:
    reached, session = anyio.Event(), ""

    @tool
    async def wait() -> str:
        """Waits."""
        reached.set()
        await anyio.sleep_forever()
        return ""

    loop = loop_on(store, reply("", call("wait", {}, id="c1")), config=CONFIG, tools=[wait])
    async with loop, loop.stream("wait") as run:
        session = run.session_id
        await reached.wait()
        assert await loop.cancel(session, "enough")
        await run.result()
    return loop, session


async def degraded(store: Store) -> Ended:
    failures = [ServerError("try later", status=503) for _ in range(3)]
    loop = loop_on(store, *failures, config=CONFIG)
    async with loop:
        return loop, (await loop.send("2+2?")).session_id


async def failed(store: Store) -> Ended:
    loop = loop_on(store, BadRequest("no such parameter", status=400), config=CONFIG)
    async with loop:
        try:
            await loop.send("2+2?")
        except BadRequest as error:
            result = result_of(error)
            assert result is not None
            return loop, result.session_id
    raise AssertionError("the model had not failed")


async def crashed(store: Store) -> Ended:
    """The process died while it paid; whoever came then has died as well, while it asked."""
    await left_behind(store, "s", {"c1": "pay"}, begun=["c1"])
    loop = loop_on(store, reply("I do not know."), config=CONFIG, tools=(look, pay))
    async with loop:
        await loop.resume("s")
    return loop, "s"


ENDINGS: dict[str, Scenario] = {
    function.__name__: function
    for function in (
        completed,
        goal_reached,
        stopped,
        round_limit,
        budget_exhausted,
        no_progress,
        plan_failed,
        awaiting_approval,
        approval_denied,
        approval_expired,
        waiting_for_input,
        pending_tools,
        cancelled,
        degraded,
        failed,
        crashed,
    )
}
"""By the status that the run comes to."""
