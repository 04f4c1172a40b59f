"""What people had answered is taken from the record for what it was, whatever its words."""

from __future__ import annotations

from typing import Any

import pytest

from power_loop import AgentLoop, Hooks, MemoryStore, ToolContext, answer, approve, tool
from power_loop.hooks import TOOL_BEFORE, Suspend
from power_loop.session.outcome import AwaitingApproval
from tests.agent.scripted import Scripted, calls, says
from tests.agent.support import check_log

pytestmark = pytest.mark.anyio


@tool
async def ask(context: ToolContext[Any]) -> str:
    """Asks."""
    context.request_user_input("Go on?")


@tool
async def pay(amount: int) -> str:
    """Pays."""
    return f"paid {amount}"


@pytest.mark.parametrize("word", ["approve", "deny", "expired", "answer", ""])
async def test_an_answer_to_a_question_may_have_the_words_of_one_about_an_approval(
    word: str,
) -> None:
    """Beside an approval that is only good for a while."""
    hooks = Hooks()
    hooks.on(TOOL_BEFORE, lambda c: Suspend(ttl=3600) if c.name == "pay" else None, name="leave")
    wanted = calls(("p", "pay", {"amount": 1}), ("q", "ask", {}))
    llm = Scripted(wanted, says("done"))
    async with AgentLoop(llm, tools=[ask, pay], hooks=hooks, store=MemoryStore()) as loop:
        result = await loop.send("go")
        assert isinstance(result.outcome, AwaitingApproval)
        waits = {call.call_id: call.token for call in await loop.get_pending(result.session_id)}
        done = await loop.resume(
            result.session_id, answers=[approve(waits["p"]), answer(waits["q"], word)]
        )
        assert done.status == "completed"
        await check_log(loop, result.session_id)
