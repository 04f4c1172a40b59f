"""What a rule is given that cannot be, and what foreign code answers that nobody can make sense of.

A number that is none would be no limit; an answer that must be waited for would always be a yes.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest

from llm_client.types import ToolResult
from power_loop import AgentLoop, MemoryStore, approve, tool
from power_loop.errors import UsageError
from power_loop.governance import (
    Exit,
    Exits,
    GoalDriven,
    MetricSnapshot,
    NoProgress,
    Policies,
    Policy,
    RateLimit,
    RepetitionGuard,
    RequireApproval,
    ToolAllowlist,
)
from power_loop.governance.blueprints.failures import PytestFailureMetric
from power_loop.hooks import ToolBefore
from power_loop.session.outcome import GoalReached, Stopped
from tests.agent.scripted import Scripted, calls, says
from tests.governance.traces import Call, Step, played

pytestmark = pytest.mark.anyio

READ: Step = [Call("read", {"path": "a"}, "same")]


class Open:
    """A metric of a goal that is never reached; `answer` is what it says to that."""

    def __init__(self, answer: Callable[[], Any] = lambda: False) -> None:
        self._answer = answer

    def measure(self) -> MetricSnapshot:
        return MetricSnapshot(3.0, frozenset({"a"}))

    def is_success(self, snapshot: MetricSnapshot) -> Any:
        return self._answer()


# ── what a rule is given ──────────────────────────────────────────────────────────────────────────

COUNTS: dict[str, Callable[[Any], object]] = {
    "NoProgress": NoProgress,
    "GoalDriven window": lambda v: GoalDriven(Open(), window=v),
    "GoalDriven extra_rounds": lambda v: GoalDriven(Open(), extra_rounds=v),
    "GoalDriven max_observation": lambda v: GoalDriven(Open(), max_observation=v),
    "RateLimit calls": lambda v: RateLimit({"pay": (v, 60)}),
    "RepetitionGuard warn": lambda v: RepetitionGuard(warn=v, refuse=300, stop=300),
    "RepetitionGuard refuse": lambda v: RepetitionGuard(refuse=v, stop=300),
    "RepetitionGuard stop": lambda v: RepetitionGuard(stop=v),
}
SECONDS: dict[str, Callable[[Any], object]] = {
    "GoalDriven timeout": lambda v: GoalDriven(Open(), timeout=v),
    "RateLimit seconds": lambda v: RateLimit({"pay": (1, v)}),
    "RequireApproval ttl": lambda v: RequireApproval("pay", ttl=v),
    "PytestFailureMetric timeout": lambda v: PytestFailureMetric(Path(), timeout=v),
}
NO_NUMBERS: list[Any] = [nan, inf, -inf, -1, 0, True, "3", [3], 3j]


@pytest.mark.parametrize("value", [*NO_NUMBERS, 2.5, None])
@pytest.mark.parametrize("make", COUNTS.values(), ids=COUNTS)
def test_what_is_counted_is_a_whole_number(make: Callable[[Any], object], value: Any) -> None:
    """From 1; whatever else is refused at once."""
    make(256)
    with pytest.raises(UsageError, match="whole number from"):
        make(value)


@pytest.mark.parametrize("value", NO_NUMBERS)
@pytest.mark.parametrize("make", SECONDS.values(), ids=SECONDS)
def test_a_time_is_a_finite_number_over_0(make: Callable[[Any], object], value: Any) -> None:
    """Not a number is not for ever."""
    make(2.5)
    with pytest.raises(UsageError, match="finite number of seconds over 0"):
        make(value)


class Nameless(Policy):
    """Its name is no text."""

    name = cast("Any", 7)

    def before_action(self, context: ToolBefore[Any]) -> None:
        return None


@pytest.mark.parametrize(
    "make",
    [
        lambda: RequireApproval("pay", version=cast("Any", 3)),
        lambda: RequireApproval("pay", cast("Any", None)),
        lambda: RequireApproval("pay", world=cast("Any", "here")),
        lambda: RequireApproval(cast("Any", 5)),
        lambda: ToolAllowlist(cast("Any", None)),
        lambda: RateLimit(cast("Any", [("pay", (1, 60))])),
        lambda: RateLimit({"pay": cast("Any", 5)}),
        lambda: RateLimit({cast("Any", 3): (1, 60)}),
        lambda: NoProgress(polling=cast("Any", None)),
        lambda: NoProgress(polling=["wait", ""]),
        lambda: RepetitionGuard(normalise=cast("Any", "x")),
        lambda: RepetitionGuard(alike=cast("Any", "x")),
        lambda: Policies(cast("Any", None)),
        lambda: Policies(Nameless()),
        lambda: Exits(cast("Any", 5)),
        lambda: Exits(cast("Any", None), Exit.max_rounds(1)),
        lambda: Exit.success(cast("Any", 5)),
        lambda: Exit.success(lambda s: True, cast("Any", None)),
        lambda: GoalDriven(cast("Any", None)),
        lambda: GoalDriven(cast("Any", "goal")),
        lambda: GoalDriven(Open(), observe=cast("Any", "rain")),
        lambda: GoalDriven(Open(), exits=cast("Any", [5])),
    ],
)
def test_what_is_no_rule_is_refused(make: Callable[[], object]) -> None:
    """At once, and as the caller's fault."""
    with pytest.raises(UsageError):
        make()


async def test_one_text_is_one_name_of_a_tool_that_polls() -> None:
    """And not one for each of its letters."""
    result, player = await played([READ] * 4, Policies(NoProgress(2, polling="read")))
    assert result.status == "completed"
    assert player.asked == 5


# ── what foreign code answers ─────────────────────────────────────────────────────────────────────


async def later(value: Any) -> Any:
    """A value that has to be waited for."""
    await anyio.lowlevel.checkpoint()
    return value


async def test_a_metric_may_say_later_whether_it_is_success() -> None:
    """A no that was waited for is a no."""
    answers = [False, False, True]
    goal = GoalDriven(Open(lambda: later(answers.pop(0))))
    result, player = await played([READ], goal)
    assert result.outcome == GoalReached("1 open: a")
    assert player.asked == 2
    assert answers == []


@pytest.mark.parametrize("answer", ["no", None, 0, 1])
async def test_a_success_that_is_neither_true_nor_false_stops_the_run(answer: Any) -> None:
    """It is not taken for one."""
    result, player = await played([READ], GoalDriven(Open(lambda: answer)))
    assert isinstance(result.outcome, Stopped)
    assert "is_success must answer True or False" in result.outcome.reason
    assert player.asked == 0


async def test_a_condition_that_is_neither_true_nor_false_stops_the_run() -> None:
    """An asynchronous one is waited for."""
    for answer in ("no", later("no"), None):
        result, _ = await played([READ], Exits(Exit.success(lambda s, said=answer: said)))  # pyright: ignore[reportArgumentType]
        assert isinstance(result.outcome, Stopped)
    result, _ = await played([READ], Exits(Exit.success(lambda s: later(s.round == 1))))
    assert result.status == "goal_reached"
    result, _ = await played([READ], Exits(Exit.success(lambda s: later(False))))
    assert result.status == "completed"


async def _paid(policy: Policy, *, approved: bool = False) -> tuple[list[int], str]:
    """What was paid under a policy, of 1 and 9, and what the first call brought."""
    paid: list[int] = []

    @tool
    async def pay(amount: int) -> str:
        """Pays."""
        paid.append(amount)
        return "paid"

    llm = Scripted(calls(("a", "pay", {"amount": 1}), ("b", "pay", {"amount": 9})), says("ok"))
    loop = AgentLoop(llm, tools=[pay], extensions=[Policies(policy)], store=MemoryStore())
    with anyio.fail_after(10):
        async with loop:
            result = await loop.send("go")
            if approved:
                waiting = await loop.get_pending(result.session_id)
                answers = [approve(each.token) for each in waiting]
                result = await loop.resume(result.session_id, answers=answers)
            messages = await loop.get_messages(result.session_id)
    parts = [p.text for m in messages for p in m.parts if isinstance(p, ToolResult)]
    return paid, parts[0] if parts else result.status


async def both_later(name: str, of: Any) -> Any:
    """What counts of a call or a result, said too late."""
    return await later(of)


async def small(context: ToolBefore[Any]) -> bool:
    return await later('"amount":1' in context.arguments)


async def test_which_calls_are_meant_may_be_said_later() -> None:
    """A no that was waited for is a no."""
    paid, _ = await _paid(ToolAllowlist(small))
    assert paid == [1]
    paid, told = await _paid(RequireApproval(small))
    assert (paid, told) == ([9], "awaiting_approval")
    paid, told = await _paid(RequireApproval(small, world=lambda c: later(c.name)), approved=True)
    assert (sorted(paid), told) == ([1, 9], "paid")


@pytest.mark.parametrize("answer", ["", None, 1, "yes"])
@pytest.mark.parametrize("asynchronous", [True, False])
@pytest.mark.parametrize("make", [ToolAllowlist, RequireApproval])
async def test_calls_of_which_nobody_can_say_whether_they_are_meant_do_not_run(
    make: Callable[[Any], Policy], asynchronous: bool, answer: Any
) -> None:
    """Whatever the answer would be worth as a truth."""

    def meant(context: ToolBefore[Any]) -> Any:
        return later(answer) if asynchronous else answer

    paid, told = await _paid(make(meant))
    assert paid == []
    assert told.startswith("[not run] hook policy:")


async def test_a_reason_that_is_no_text_forbids_the_call() -> None:
    """Nobody could be told what to decide."""
    paid, told = await _paid(RequireApproval("pay", cast("Any", later)))
    assert (paid, told) == ([], "[not run] hook policy:require_approval failed: HookError")


@pytest.mark.parametrize(
    "options",
    [
        {"polling": later},
        {"polling": str.upper},
        {"alike": both_later},
        {"normalise": both_later},
    ],
)
async def test_what_a_guard_cannot_make_sense_of_stops_the_run(options: dict[str, Any]) -> None:
    """An answer that must be waited for would have every round look different, or like nothing."""
    result, _ = await played([READ] * 9, Policies(RepetitionGuard(**options)))
    assert result.status == "stopped"
    assert "policy:repetition:round failed: HookError" in str(result.outcome)
