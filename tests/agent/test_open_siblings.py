"""Calls that wait beside others that come to nothing: neither is lost to the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from power_loop import AgentLoop, Answer, Budget, Hooks, approve, deny, tool
from power_loop.hooks import TOOL_BEFORE, Suspend
from power_loop.session.outcome import ApprovalDenied, AwaitingApproval, BudgetExhausted
from power_loop.session.records import ToolSettled
from tests.agent.scripted import Scripted, calls, says
from tests.agent.support import check_log

pytestmark = pytest.mark.anyio

THREE = calls(*[(f"c{n}", "look", {"n": n}) for n in range(3)])


@tool
async def look(n: int) -> str:
    """Looks."""
    return f"seen {n}"


async def ends(
    say: Mapping[str, Callable[[str], Answer]], budget: Budget
) -> tuple[object, dict[str, str]]:
    """How a run of three calls ends once all that is asked is answered, and each call."""
    hooks = Hooks()
    hooks.on(
        TOOL_BEFORE,
        lambda c: Suspend(end_on_denial=True) if c.call.id in say else None,
        name="ask",
    )
    async with AgentLoop(Scripted(THREE, says("done")), tools=[look], hooks=hooks) as loop:
        result = await loop.send("go", budget=budget)
        assert isinstance(result.outcome, AwaitingApproval)
        pending = await loop.get_pending(result.session_id)
        answers = [say[call.call_id](call.token) for call in pending]
        ended = await loop.resume(result.session_id, answers=answers)
        log = await check_log(loop, result.session_id)
    return ended.outcome, {r.message.id[:2]: r.how for r in log if isinstance(r, ToolSettled)}


async def test_what_waits_for_a_person_is_not_lost_to_the_budget_of_a_sibling() -> None:
    """The run ends by the budget once that cannot be paid for either; it replays."""
    outcome, how = await ends({"c2": approve}, Budget(tool_calls=1))
    assert outcome == BudgetExhausted("run.tool_calls", "1 allowed, 1 used; the next step needs 1")
    assert how == {"c0": "finished", "c1": "not_run", "c2": "not_run"}


async def test_what_was_approved_is_not_lost_to_the_no_about_a_sibling() -> None:
    """It runs, then the run ends; it replays."""
    outcome, how = await ends({"c0": approve, "c2": deny}, Budget())
    assert isinstance(outcome, ApprovalDenied)
    assert how == {"c0": "finished", "c1": "finished", "c2": "denied"}
