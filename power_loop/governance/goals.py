"""Runs that end when what they are for has been measured to be so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from hashlib import sha256
from inspect import isawaitable
from typing import Any

import anyio
import msgspec

from llm_client.types import Message, Text
from power_loop.agent.extensions import Extension
from power_loop.driver.dispatch import Hooks
from power_loop.driver.hints import is_async
from power_loop.errors import HookError, PowerLoopError
from power_loop.governance.checks import function, over_zero, truth, whole
from power_loop.governance.exits import ExitCondition, ExitState, checked_conditions, first_exit
from power_loop.governance.kept import Kept, held
from power_loop.governance.plans import STRIKES, ValidPlans, rejections
from power_loop.governance.progress import (
    Advance,
    GoalMetric,
    GoalProgress,
    MetricSnapshot,
    Plan,
    advanced,
    names_of,
)
from power_loop.governance.rounds import arguments_key
from power_loop.hooks import (
    COMPLETE_DECIDE,
    LLM_AFTER,
    ROUND_START,
    SESSION_END,
    Break,
    CompleteDecide,
    Continue,
    HookContext,
    LlmAfter,
    RoundStart,
    SessionEnd,
    replace,
)
from power_loop.log import logger
from power_loop.session.outcome import BudgetExhausted, GoalReached, NoProgress, Stopped
from power_loop.session.text import repaired_text
from power_loop.tools.threads import Threads

__all__ = ["GOAL_META", "GoalDriven"]

GOAL_META = "goal"
"""The key of a message's `meta` under which stands how far the task is, as JSON."""

_APPROACH = 200


class MeasuringFailed(PowerLoopError):
    """What is measured or observed raised, took too long, or was not what it must be.

    The run that needed it ends `stopped` with this as its reason; resumed, it measures again.
    """


class GoalDriven(Extension):
    """Measures before each round, tells the model, and ends the run when the goal is reached.

    What a model says of its own success counts for nothing: an answer without calls is held against
    the metric, and the model is told if it is not so. A run that goes nowhere ends `no_progress`,
    one whose plans cannot be carried out `plan_failed` (see `ValidPlans`, which this brings along).
    Sub-agents are left alone, unless they are to have the same goal.

    Each observation is a user message; in its `meta` stands how the task has got on so far, so that
    a run that is resumed by another process goes on from there. A replay measures the world anew.
    """

    name = "goal"

    def __init__(
        self,
        metric: GoalMetric,
        *,
        observe: Callable[[], str | Awaitable[str]] | None = None,
        exits: Sequence[ExitCondition] = (),
        window: int = 3,
        max_observation: int = 16 * 1024,
        timeout: float = 60.0,
        extra_rounds: int = 24,
        below: bool = False,
        order: int = 0,
    ) -> None:
        """Describes the goal.

        Args:
            metric: says how far it is.
            observe: what the model is told of the world, beside what the metric says.
            exits: further conditions under which the run ends.
            window: measurements in a row without a change, after rounds that repeated the one
                before, called nothing or could not be made, after which the run ends.
            max_observation: bytes of an observation; the middle of a longer one is left out, and a
                digest of it is told.
            timeout: seconds that each of the metric's answers, and that `observe` may take. What is
                synchronous runs in a thread, which is left behind then: nothing can stop it but
                itself, where it asks `anyio.from_thread.check_cancelled()`.
            extra_rounds: rounds that the run has left after the model has first said wrongly that
                it is done; saying so again gives no more of them. Then it ends `budget_exhausted`.
            below: whether it is the goal of sub-agents as well; they have a task of their own, and
                cannot answer before it is reached.
            order: of its handlers among all others of the loop.

        Raises:
            UsageError: a number is not over 0, or `max_observation` less than 256; or the metric,
                `observe` or an exit is none.
        """
        function("the metric's measure", getattr(metric, "measure", None))
        function("the metric's is_success", getattr(metric, "is_success", None))
        self._metric = metric
        self._observe = None if observe is None else function("observe", observe)
        self._exits = checked_conditions(exits)
        self._window = whole("window", window)
        self._most = whole("max_observation", max_observation, 256)
        self._timeout = over_zero("timeout", timeout, "seconds")
        self._extra = whole("extra_rounds", extra_rounds)
        self._order = order
        self._below = below
        self._plans = ValidPlans(below=below)
        self._kept = Kept()
        self._threads = Threads()
        # Between a model's answer and the question whether the run is complete; by session.
        self._claims: dict[str, Continue] = {}

    def hooks(self, hooks: Hooks) -> None:
        """Registers its handlers."""
        self._plans.hooks(hooks)
        bound = 3 * self._timeout + 5
        order = self._order
        hooks.on(
            ROUND_START, self._begin, name="goal", order=order, timeout=bound, on_error="close"
        )
        hooks.on(
            LLM_AFTER,
            self._answered,
            name="goal:answer",
            order=order,
            timeout=bound,
            on_error="close",
        )
        hooks.on(COMPLETE_DECIDE, self._complete, name="goal:complete", order=order)
        hooks.on(SESSION_END, self._forget, name="goal:end", order=order)

    # ── points ──

    async def _begin(self, context: RoundStart[Any]) -> RoundStart[Any] | Break | None:
        if not self._is_meant(context):
            return None
        rejected = rejections(context.messages, context.round)
        if rejected % STRIKES:
            return None  # nothing has happened; the model may mend its plan
        before, plan = _story(context, invalid=rejected > 0)
        begins = context.spent.rounds == 0
        try:
            kept = frozenset[str]() if begins else self._of(context, context.messages)
            snapshot, reached = await self._judged(kept)
            if reached:
                return Break("goal reached", GoalReached(str(snapshot)))
            observed = await self._observed()
        except MeasuringFailed as error:
            return Break(str(error), Stopped(str(error)))
        claimed = 0 if before is None else _claimed(before, context.round)
        if plan is not None and not plan.calls:
            claimed = claimed or context.round
        step = advanced(before, snapshot, plan)
        now = replace(step.progress, claimed=claimed)
        if now.streak >= self._window:
            reason = f"{now.streak} rounds in a row have changed nothing; {snapshot}"
            return Break(reason, NoProgress(reason))
        state = ExitState(
            session_id=context.session_id,
            run_id=context.run_id,
            round=context.spent.rounds,
            messages=context.messages,
            spent=context.spent,
            unchanged=now.unchanged,
            snapshot=snapshot,
            trend=now.trend,
            deps=context.deps,
        )
        ending = await first_exit(self._exits, state)
        if ending is not None:
            return ending
        said = self._message(observed, snapshot, replace(step, progress=now))
        more = self._kept.meta(context.session_id, snapshot, begins=begins)
        said = replace(said, meta={**(said.meta or {}), **more})
        return replace(context, append=(*context.append, said))

    async def _answered(self, context: LlmAfter[Any]) -> Break | None:
        if context.response.tool_calls or not self._is_meant(context):
            return None
        try:
            kept = self._of(context, context.request.messages)
            snapshot, reached = await self._judged(kept)
        except MeasuringFailed as error:
            return Break(str(error), Stopped(str(error)))
        if reached:
            return Break("goal reached", GoalReached(str(snapshot)))
        left = self._left(context)
        if left < 1:
            used = f"wrongly said to be done, {self._extra} rounds ago and again; {snapshot}"
            return Break(used, BudgetExhausted(f"{self.name}.extra_rounds", used))
        told = f"You have made no further call, but the goal is not reached: {snapshot}."
        self._claims[context.session_id] = Continue(repaired_text(told), left)
        return None

    def _left(self, context: LlmAfter[Any]) -> int:
        """Rounds that the run has left, as the model says that it is done."""
        known = _newest(context.request.messages)
        first = 0 if known is None else _claimed(known[1], context.round)
        return self._extra - (context.round - first if first else 0)

    def _complete(self, context: CompleteDecide[Any]) -> Continue | None:
        if context.reason != "completed" or not self._is_meant(context):
            return None
        # Without a claim it was answered in a former process. The next round begins by measuring.
        measures = Continue("Whether the goal is reached is measured now.", self._extra)
        return self._claims.pop(context.session_id, measures)

    def _forget(self, context: SessionEnd[Any]) -> None:
        self._claims.pop(context.session_id, None)
        self._kept.forget(context.session_id)

    def _of(self, context: HookContext[Any], messages: Sequence[Message]) -> frozenset[str]:
        return self._kept.of(context.session_id, messages)

    def _is_meant(self, context: HookContext[Any]) -> bool:
        return self._below or context.depth == 0

    # ── the world ──

    async def _judged(self, kept: frozenset[str]) -> tuple[MetricSnapshot, bool]:
        """What is measured, and whether it is the goal; nothing of `kept` may be missing."""
        snapshot, lacks = held(await self._measured(), kept)
        return snapshot, not lacks and await self._is_success(snapshot)

    async def _measured(self) -> MetricSnapshot:
        snapshot = await self._apart("the metric", self._metric.measure)
        if not isinstance(snapshot, MetricSnapshot):
            kind = type(snapshot).__name__
            raise MeasuringFailed(f"the metric gave a {kind}; it must give a MetricSnapshot")
        return snapshot

    async def _is_success(self, snapshot: MetricSnapshot) -> bool:
        who = "the metric's is_success"
        answer = await self._asked(who, partial(self._metric.is_success, snapshot))
        try:
            return truth(who, answer)
        except HookError as error:
            raise MeasuringFailed(str(error)) from error

    async def _observed(self) -> str:
        if self._observe is None:
            return ""
        observed = await self._apart("observe", self._observe)
        if not isinstance(observed, str):
            raise MeasuringFailed(f"observe gave a {type(observed).__name__}; it must give a text")
        return observed

    async def _apart(self, what: str, ask: Callable[[], object]) -> object:
        """As `_asked`, in a thread if it is synchronous: looking at the world can take its time."""

        def left() -> None:
            logger.warning("%s did not answer in time, and still runs in its thread", what)

        apart = ask if is_async(ask) else partial(self._threads.work, ask, what, left)
        value = await self._asked(what, apart)
        return await self._asked(what, lambda: value) if isawaitable(value) else value

    async def _asked(self, what: str, ask: Callable[[], object]) -> object:
        with anyio.move_on_after(self._timeout) as bound:
            try:
                value = ask()
                return await value if isawaitable(value) else value
            except Exception as error:  # a metric is foreign code
                raise _failed(what, error) from error
        assert bound.cancelled_caught
        raise MeasuringFailed(f"{what} did not answer within {self._timeout:g} s")

    # ── what the model is told ──

    def _message(self, observed: str, snapshot: MetricSnapshot, step: Advance) -> Message:
        parts = [observed, snapshot.detail, f"The goal is not reached yet: {snapshot}."]
        if step.broken:
            parts.append(f"Newly broken since the last step: {names_of(step.broken)}.")
        if step.fixed:
            parts.append(f"{step.fixed} no longer open since the last step.")
        now = step.progress
        if now.trend != "unknown":
            parts.append(f"Trend: {now.trend}.")
        if now.failed:
            parts.append("\n".join(["Approaches after which something broke:", *now.failed]))
        text = _bounded(repaired_text("\n\n".join([p for p in parts if p.strip()])), self._most)
        meta = {GOAL_META: msgspec.json.encode(now).decode()}
        return Message("user", (Text(text),), id="", meta=meta)


def _failed(what: str, error: Exception) -> MeasuringFailed:
    return MeasuringFailed(f"{what} raised {type(error).__name__}: {str(error)[:300]}")


def _story(context: RoundStart[Any], *, invalid: bool) -> tuple[GoalProgress | None, Plan | None]:
    """How far the task was, and what the model has done since; None for nothing."""
    if context.spent.rounds == 0:
        return None, None  # what was measured before is another task's
    known = _newest(context.messages)
    if known is None:
        return None, None
    at, before = known
    # Older ones since the measurement were given back, and did nothing.
    answers = [message for message in context.messages[at:] if message.role == "assistant"]
    return before, _plan(answers[-1], invalid=invalid) if answers else None


def _newest(messages: Sequence[Message]) -> tuple[int, GoalProgress] | None:
    """Where the newest observation is, and what it tells."""
    for at in range(len(messages) - 1, -1, -1):
        meta = messages[at].meta
        if meta is not None and GOAL_META in meta:
            return at, msgspec.json.decode(meta[GOAL_META], type=GoalProgress)
    return None


def _claimed(known: GoalProgress, round: int) -> int:
    """When the model first said that it was done, among the rounds that are counted up to this."""
    return known.claimed if known.claimed <= round else 0


def _plan(answer: Message, *, invalid: bool) -> Plan:
    keys = [f"{c.name}({arguments_key(c.name, c.arguments)})" for c in answer.tool_calls]
    approach = "; ".join([key[:_APPROACH] for key in keys[:4]])
    return Plan(frozenset(keys), f"- {approach}" if approach else "", invalid)


def _bounded(text: str, most: int) -> str:
    data = text.encode()
    if len(data) <= most:
        return text
    # What is said of the cut has to fit as well.
    side = (most - 128) // 2
    cut = data[side:-side]
    digest = sha256(cut).hexdigest()[:16]
    head, tail = data[:side].decode(errors="ignore"), data[-side:].decode(errors="ignore")
    return f"{head}\n[… {len(cut)} bytes left out, SHA-256 {digest} …]\n{tail}"
