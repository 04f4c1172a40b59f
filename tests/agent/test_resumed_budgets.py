"""What a run may use that carries another one on: what it had, what it is given, what is new."""

from __future__ import annotations

from typing import Any

import pytest

from power_loop import AgentConfig, AgentLoop, Budget, MemoryStore, SubAgent, tool
from power_loop.errors import UsageError
from power_loop.governance import Exit, Exits
from power_loop.session.outcome import BudgetExhausted
from power_loop.session.records import RunOpened
from tests.agent.scripted import Scripted, calls, says
from tests.agent.support import log_of

pytestmark = pytest.mark.anyio


@tool
async def look() -> str:
    """Looks."""
    return "seen"


def looks(times: int) -> Scripted:
    """A model that looks so many times, and is then done."""
    return Scripted(*[calls((f"c{n}", "look", {})) for n in range(times)], says("done"))


async def test_a_run_that_is_carried_on_takes_no_budget() -> None:
    """It would have been ignored, or have let what is limited go on."""
    async with AgentLoop(looks(2), tools=[look]) as loop:
        first = await loop.send("go", max_rounds=1, budget=Budget(llm_calls=1))
        given: dict[str, Any] = {"budget": Budget(llm_calls=9)}
        before = await log_of(loop, first.session_id)
        with pytest.raises(UsageError, match="keeps its budget; extend= gives it more"):
            await loop.resume(first.session_id, **given)
        assert await log_of(loop, first.session_id) == before


async def test_what_the_config_limits_anew_binds_runs_that_are_carried_on() -> None:
    """What has been used before counts; limits that the run has stay as they were."""
    store = MemoryStore()
    before = AgentConfig(run_budget=Budget(llm_calls=1))
    async with AgentLoop(looks(1), tools=[look], config=before, store=store) as loop:
        first = await loop.send("go")
        assert isinstance(first.outcome, BudgetExhausted)
    after = AgentConfig(run_budget=Budget(llm_calls=90, tool_calls=2))
    async with AgentLoop(looks(3), tools=[look], config=after, store=store) as loop:
        again = await loop.resume(first.session_id, extend=Budget(llm_calls=50))
        assert isinstance(again.outcome, BudgetExhausted)
        assert again.outcome.limit == "run.tool_calls"
        opened = [r for r in await log_of(loop, first.session_id) if isinstance(r, RunOpened)]
        assert opened[-1].limits == {
            "rounds": 24.0,
            "run.llm_calls": 50.0,
            "run.tool_calls": 2.0,
        }
        # From now on it is the run's own.
        more = await loop.resume(first.session_id, extend=Budget(tool_calls=9))
        assert more.status == "completed"


async def test_an_extension_of_what_is_not_limited_is_refused() -> None:
    """It would take away, where it is meant to give."""
    config = AgentConfig(run_budget=Budget(llm_calls=1))
    async with AgentLoop(looks(1), tools=[look], config=config) as loop:
        first = await loop.send("go")
        with pytest.raises(UsageError, match=r"tool_calls is not limited.*leave it out"):
            await loop.resume(first.session_id, extend=Budget(llm_calls=5, tool_calls=1))
        done = await loop.resume(first.session_id, extend=Budget(llm_calls=5))
        assert done.status == "completed"


async def test_the_sessions_that_one_run_may_have_below_can_be_extended() -> None:
    """Their number is limited for every run that delegates."""
    config = AgentConfig(max_children=1)
    wanted = calls(("a", "helper", {"task": "1"}), ("b", "helper", {"task": "2"}))
    llm = Scripted(wanted, says("below"), calls(("c", "helper", {"task": "3"})), *[says("ok")] * 2)
    async with AgentLoop(llm, tools=[SubAgent("helper", "Helps.")], config=config) as loop:
        first = await loop.send("go")
        assert isinstance(first.outcome, BudgetExhausted)
        assert first.outcome.limit == "run.children"
        assert first.outcome.recommended_action.endswith("extend=Budget(children=…)")
        done = await loop.resume(first.session_id, extend=Budget(children=2))
        assert done.status == "completed"


@pytest.mark.parametrize(
    ("given", "instead"),
    [
        (
            {"config": AgentConfig(session_budget=Budget(llm_calls=1))},
            r"session.llm_calls had ended it.*AgentConfig\(session_budget",
        ),
        ({"budget": Budget(llm_calls=1)}, r"loop.llm_calls had ended it.*AgentLoop\(budget"),
        (
            {"extensions": [Exits(Exit.token_limit(1))]},
            r"exit.tokens had ended it.*the condition of Exits",
        ),
    ],
)
async def test_an_extension_that_would_change_nothing_is_refused(
    given: dict[str, Any], instead: str
) -> None:
    """What is said instead is what helps."""
    async with AgentLoop(looks(1), tools=[look], **given) as loop:
        first = await loop.send("go", budget=Budget(llm_calls=10))
        assert isinstance(first.outcome, BudgetExhausted)
        with pytest.raises(UsageError, match=instead):
            await loop.resume(first.session_id, extend=Budget(llm_calls=20))
