"""Every way in which a run can end is reached by a real run, and says truly what is to be done."""

from __future__ import annotations

import re
from typing import get_args

import anyio
import pytest

from llm_client.testing import reply
from power_loop import MemoryStore
from power_loop.errors import NothingToResume
from power_loop.session.outcome import BudgetExhausted, Crashed, Outcome
from tests.agent.crashed import left_behind
from tests.history.endings import ENDINGS, REMOTE
from tests.history.loops import look, loop_on, pay

_WAITING = {
    "awaiting_approval": "awaiting_approval",
    "approval_expired": "awaiting_approval",
    "waiting_for_input": "waiting_for_input",
    "pending_tools": "pending_tools",
}
"""Where nobody has answered: it waits on, and what came too late is asked for anew."""


def test_there_is_a_run_for_every_outcome() -> None:
    """None is out of reach, and none is left out here."""
    tags = [kind.__struct_config__.tag for kind in get_args(Outcome)]
    assert [*ENDINGS] == tags


@pytest.mark.anyio
@pytest.mark.parametrize("status", [*ENDINGS])
async def test_an_outcome_can_be_resumed_exactly_if_it_says_so(status: str) -> None:
    """By a process that comes later; what waits for others waits on, and what ended for good is
    refused with what to do instead.
    """
    store = MemoryStore()
    with anyio.fail_after(20):
        _, session = await ENDINGS[status](store)
        tools = [look, pay, REMOTE]
        async with loop_on(store, reply("Well."), reply("Well."), tools=tools) as loop:
            told = await loop.explain(session)
            outcome = told.outcome
            if status == "crashed":
                # Its scenario goes on: here is the run that died, before anybody came.
                await left_behind(store, "t", {"c1": "look"}, begun=["c1"])
                assert (await loop.resume("t")).status == "completed"
                assert Crashed.resumable
                return
            assert outcome is not None
            assert told.resumable == outcome.resumable
            if not told.resumable:
                with pytest.raises(NothingToResume, match=re.escape(told.recommended_action)):
                    await loop.resume(session)
                assert (await loop.send("And now?", session)).status == "completed"
            else:
                done = await loop.resume(session)
                assert done.status == _WAITING.get(status, "completed")


@pytest.mark.parametrize(
    ("limit", "action"),
    [
        ("run.tokens", "resume the session with extend=Budget(tokens=…)"),
        (
            "run.cost",
            "resume the session with extend=Budget(cost=…), or with a price that is known",
        ),
        ("session.cost", "raise cost in AgentConfig(session_budget=…), then resume the session"),
        ("loop.tokens", "raise tokens in AgentLoop(budget=…), then resume the session"),
        ("child.2.rounds", "raise rounds in SubAgent(budget=…), then resume the session"),
        ("exit.tokens", "raise tokens in the condition of Exits(…), then resume the session"),
        (
            "policy.cost_limit",
            "raise the limit of the policy 'cost_limit', then resume the session",
        ),
        ("goal.extra_rounds", "raise extra_rounds in GoalDriven(…), then resume the session"),
        ("tenant.tokens", "raise tokens in the budget 'tenant', then resume the session"),
        ("mine", "raise mine in the budget that limits it, then resume the session"),
    ],
)
def test_a_budget_that_is_used_up_says_where_to_raise_what(limit: str, action: str) -> None:
    """By the name of the limit."""
    assert BudgetExhausted(limit).recommended_action == action
