"""Conditions under which a run ends."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from power_loop import AgentConfig, AgentLoop
from power_loop.errors import UsageError
from power_loop.governance import Exit, ExitCondition, Exits, ExitState
from power_loop.hooks import HookEnding
from power_loop.session.outcome import BudgetExhausted, GoalReached, NoProgress, PlanFailed, Stopped
from tests.agent.support import check_log
from tests.governance.traces import PRICES, Call, Player, Step, played

pytestmark = pytest.mark.anyio

WORK: list[Step] = [[Call("work", {"n": n}, f"done {n}")] for n in range(30)]


@pytest.mark.parametrize(
    ("condition", "ending", "rounds"),
    [
        (Exit.max_rounds(4), BudgetExhausted("exit.rounds", "4 of 4 used"), 4),
        # Each round uses 10 + 5 tokens.
        (Exit.token_limit(31), BudgetExhausted("exit.tokens", "45 of 31 used"), 3),
        (Exit.cost_limit(0.013), BudgetExhausted("exit.cost", "0.018 of 0.013 used"), 3),
        (Exit.success(lambda s: s.round == 2, "two are enough"), GoalReached("two are enough"), 2),
    ],
)
async def test_a_run_ends_when_a_condition_says_so(
    condition: ExitCondition, ending: HookEnding, rounds: int
) -> None:
    """Before the round that would be one too many."""
    result, player = await played(WORK, Exits(condition), prices=PRICES)
    assert result.outcome == ending
    assert player.asked == rounds


async def test_stagnation_is_rounds_that_bring_nothing_new() -> None:
    """Something new in between begins the count anew."""
    same: Step = [Call("read", {}, "same")]
    steps = [same, same, WORK[0], same, same, same, same]
    result, player = await played(steps, Exits(Exit.stagnation(3)))
    assert result.outcome == NoProgress("3 rounds in a row have changed nothing")
    assert player.asked == 6


@pytest.mark.parametrize("rounds", [1, 16, 31, 32, 33, 50, 100])
async def test_stagnation_is_noticed_however_long_it_is_to_last(rounds: int) -> None:
    """After just so many rounds."""
    same: Step = [Call("read", {}, "same")]
    result, player = await played([*WORK, *([same] * 120)], Exits(Exit.stagnation(rounds)))
    assert result.outcome == NoProgress(f"{rounds} rounds in a row have changed nothing")
    assert player.asked == len(WORK) + 1 + rounds


class Own:
    """A condition of one's own; asynchronous."""

    async def evaluate(self, state: ExitState) -> HookEnding | None:
        await anyio.lowlevel.checkpoint()
        seen = any("done 5" in str(message) for message in state.messages)
        return PlanFailed("saw it") if seen else None


async def test_conditions_are_asked_in_order_and_the_first_ending_counts() -> None:
    """One's own may give any ending that a hook may give."""
    result, _ = await played(WORK, Exits(Exit.max_rounds(20), Own(), Exit.max_rounds(1)))
    assert result.outcome == BudgetExhausted("exit.rounds", "1 of 1 used")
    result, player = await played(WORK, Exits(Own(), Exit.max_rounds(20)))
    assert result.outcome == PlanFailed("saw it")
    assert player.asked == 6


async def test_a_task_is_limited_however_often_it_is_resumed() -> None:
    """And the next task has the limit for itself."""
    player = Player(WORK)
    loop = AgentLoop(
        player.llm,
        tools=player.tools(),
        config=AgentConfig(max_rounds=50),
        extensions=[Exits(Exit.max_rounds(3))],
    )
    async with loop:
        first = await loop.send("go")
        again = await loop.resume(first.session_id)
        assert (first.status, again.status) == ("budget_exhausted", "budget_exhausted")
        assert player.asked == 3
        await loop.send("something else", first.session_id)
        assert player.asked == 6
        await check_log(loop, first.session_id)


class Raises:
    """A condition that cannot say."""

    def evaluate(self, state: ExitState) -> HookEnding | None:
        raise ValueError("no idea")


@pytest.mark.parametrize(("condition", "asked"), [(Raises(), 0), (Exit.cost_limit(1), 1)])
async def test_a_condition_that_raises_stops_the_run(condition: ExitCondition, asked: int) -> None:
    """A limit of which nobody knows whether it is kept is no limit. Before anything was spent, a
    limit of cost is kept."""
    result, player = await played(WORK, Exits(condition))
    assert isinstance(result.outcome, Stopped)
    assert "exits failed" in result.outcome.reason
    assert result.resumable
    assert player.asked == asked


@pytest.mark.parametrize("value", [0, -1, nan, inf, True, 1.5, "3"])
def test_limits_that_cannot_be_are_refused(value: Any) -> None:
    """Zero, negative, not a number, not whole where it counts."""
    for make in (Exit.max_rounds, Exit.token_limit, Exit.stagnation):
        with pytest.raises(UsageError, match="whole number from 1"):
            make(value)
    if value != 1.5 or isinstance(value, bool):
        with pytest.raises(UsageError, match="over 0"):
            Exit.cost_limit(value)


def test_exits_without_conditions_are_refused() -> None:
    """They would do nothing."""
    with pytest.raises(UsageError, match="needs conditions"):
        Exits()
