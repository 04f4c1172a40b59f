"""When a run has done enough: conditions of one's own beside the usual ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from inspect import isawaitable
from typing import Any, Protocol

from msgspec import Struct

from llm_client.types import Message
from power_loop.agent.extensions import Extension
from power_loop.driver.dispatch import Hooks
from power_loop.errors import UsageError
from power_loop.governance.checks import function, over_zero, text, truth, whole
from power_loop.governance.costs import cost_of
from power_loop.governance.cycles import stale_rounds
from power_loop.governance.progress import MetricSnapshot, Trend
from power_loop.governance.rounds import RoundReader
from power_loop.hooks import ROUND_START, Break, HookEnding, RoundStart
from power_loop.session.outcome import BudgetExhausted, GoalReached, NoProgress
from power_loop.session.spent import Spent

__all__ = ["Exit", "ExitCondition", "ExitState", "Exits", "checked_conditions", "first_exit"]

_LOOKED_AT = 32
"""Rounds in which something must have been there before to be nothing new."""
_BEFORE = 16
"""At least so many of them are before those that a condition counts."""


class ExitState(Struct, frozen=True, kw_only=True):
    """What a condition is told, before each round.

    Attributes:
        session_id, run_id: whose round it is.
        round: rounds that have been, since the task's input.
        messages: the view.
        spent: what has been used since the task's input.
        unchanged: rounds in a row without any change of what is measured; where nothing is
            measured, rounds that have brought nothing new among the last 32, or more if there is an
            `Exit.stagnation` that counts more.
        snapshot: what was measured just now; None where nothing is.
        trend: whether that was nearer to the goal than the one before.
        deps: what the caller of `send` passed.
    """

    session_id: str
    run_id: str
    round: int
    messages: Sequence[Message]
    spent: Spent
    unchanged: int
    snapshot: MetricSnapshot | None = None
    trend: Trend = "unknown"
    deps: Any = None


class ExitCondition(Protocol):
    """**Protocol** of a condition under which a run ends."""

    def evaluate(self, state: ExitState) -> HookEnding | Awaitable[HookEnding | None] | None:
        """How the run ends, or None for it to go on. May be asynchronous."""
        ...


class Exit:
    """The usual conditions."""

    @staticmethod
    def success(
        holds: Callable[[ExitState], bool | Awaitable[bool]], reason: str = "the condition holds"
    ) -> ExitCondition:
        """Ends the run `goal_reached` once `holds` says so, synchronous or not.

        Raises:
            UsageError: `holds` is no function, or the reason no text.
        """
        return _Success(function("Exit.success", holds), text("reason", reason))

    @staticmethod
    def stagnation(rounds: int = 3) -> ExitCondition:
        """Ends the run `no_progress` after so many rounds in a row without a change.

        Raises:
            UsageError: it is less than 1.
        """
        return _Stagnation(whole("stagnation", rounds))

    @staticmethod
    def max_rounds(rounds: int) -> ExitCondition:
        """Ends the run `budget_exhausted` after so many rounds of one task, however often resumed.

        Raises:
            UsageError: it is less than 1.
        """
        return _Limit("rounds", whole("max_rounds", rounds), _rounds)

    @staticmethod
    def token_limit(tokens: int) -> ExitCondition:
        """Ends the run `budget_exhausted` when a task has used so many tokens.

        It is looked at between rounds, so the last one may go beyond; `Budget(tokens=…)` is never
        passed.

        Raises:
            UsageError: it is less than 1.
        """
        return _Limit("tokens", whole("token_limit", tokens), _tokens)

    @staticmethod
    def cost_limit(usd: float) -> ExitCondition:
        """Ends the run `budget_exhausted` when a task has cost so many US dollars.

        As `token_limit`; what calls cost is reckoned as `CostLimit` says. `evaluate` raises
        UsageError where nothing has a price.

        Raises:
            UsageError: it is not over 0.
        """
        return _Limit("cost", over_zero("cost_limit", usd), cost_of)


class Exits(Extension):
    """Ends a run by the first of its conditions that says how.

    A condition that raises or takes too long ends the run `stopped`.
    """

    name = "exits"

    def __init__(self, *conditions: ExitCondition, order: int = 0) -> None:
        """`order` is that of the handler among all others of the loop.

        Raises:
            UsageError: there are no conditions, or one is none.
        """
        if not conditions:
            raise UsageError("Exits needs conditions, such as Exit.max_rounds(50)")
        self._conditions = checked_conditions(conditions)
        self._order = order
        counted = [each.rounds for each in conditions if isinstance(each, _Stagnation)]
        self._looked_at = max(_LOOKED_AT, max(counted, default=0) + _BEFORE)
        self._reader = RoundReader()

    def hooks(self, hooks: Hooks) -> None:
        """Registers its handler."""
        hooks.on(ROUND_START, self._begin, name="exits", order=self._order, on_error="close")

    async def _begin(self, context: RoundStart[Any]) -> Break | None:
        count = min(context.round, self._looked_at)
        rounds = self._reader.read_of(context, count)
        state = ExitState(
            session_id=context.session_id,
            run_id=context.run_id,
            round=context.spent.rounds,
            messages=context.messages,
            spent=context.spent,
            unchanged=stale_rounds(rounds),
            deps=context.deps,
        )
        return await first_exit(self._conditions, state)


def checked_conditions(conditions: Sequence[ExitCondition]) -> tuple[ExitCondition, ...]:
    """The conditions.

    Raises:
        UsageError: one is none.
    """
    given = tuple(conditions)
    for each in given:
        if not callable(getattr(each, "evaluate", None)):
            raise UsageError(f"{each!r} is no exit condition: it has no method evaluate(state)")
    return given


async def first_exit(conditions: Sequence[ExitCondition], state: ExitState) -> Break | None:
    """What the first condition says that says anything."""
    for condition in conditions:
        ending = condition.evaluate(state)
        if isawaitable(ending):
            ending = await ending
        if ending is not None:
            return Break(str(ending), ending)
    return None


class _Success(Struct, frozen=True):
    holds: Callable[[ExitState], bool | Awaitable[bool]]
    reason: str

    async def evaluate(self, state: ExitState) -> HookEnding | None:
        held = self.holds(state)
        if isawaitable(held):
            held = await held
        return GoalReached(self.reason) if truth("the condition of Exit.success", held) else None


class _Stagnation(Struct, frozen=True):
    rounds: int

    def evaluate(self, state: ExitState) -> HookEnding | None:
        if state.unchanged < self.rounds:
            return None
        return NoProgress(f"{state.unchanged} rounds in a row have changed nothing")


class _Limit(Struct, frozen=True):
    what: str
    most: float
    used: Callable[[Spent], float]

    def evaluate(self, state: ExitState) -> HookEnding | None:
        used = self.used(state.spent)
        if used < self.most:
            return None
        return BudgetExhausted(f"exit.{self.what}", f"{used:g} of {self.most:g} used")


def _rounds(spent: Spent) -> float:
    return spent.rounds


def _tokens(spent: Spent) -> float:
    return spent.tokens
