"""The pipeline's ports, made of what a run had recorded: no model, no tool, no store, no wait."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from math import inf
from typing import Any, TypeVar

import anyio
import anyio.lowlevel

from llm_client.types import LLMRequest, LLMResponse, Message, ToolResult, Usage
from power_loop.driver.dispatch import Hooks
from power_loop.errors import ToolError
from power_loop.events import Transient
from power_loop.history.context import ReplayContext
from power_loop.history.hearing import Hearing
from power_loop.history.outcomes import failure, ran_to_its_end, response, used
from power_loop.history.script import BrokenOff, Cut, Script, call_of
from power_loop.history.turns import Turns
from power_loop.hooks import (
    MESSAGE_APPEND,
    TOOL_ERROR,
    Diverted,
    HookPoint,
)
from power_loop.pipeline.asking import TIME_IS_OVER
from power_loop.pipeline.plan import Answer, RunPlan
from power_loop.pipeline.ports import (
    AttemptFailed,
    ChildEnded,
    Found,
    Grant,
    InboxTake,
    Interrupted,
    Job,
    ToolTraits,
    Used,
)
from power_loop.session.machine import Session
from power_loop.session.outcome import (
    ApprovalExpired,
    AwaitingApproval,
    BudgetExhausted,
    Completed,
    Outcome,
    PendingTools,
    WaitingForInput,
)
from power_loop.session.records import (
    AT_BUDGET,
    CallAnswered,
    CallWaiting,
    Decided,
    ModelEnded,
    Record,
    RunClosed,
    ToolSettled,
    ToolStarted,
)
from power_loop.session.spent import Spent
from power_loop.session.text import repaired_strings

__all__ = ["ReplayPorts", "Traits"]

C = TypeVar("C")
R = TypeVar("R")

Traits = Callable[[str], ToolTraits | None]
"""What is known of a tool by its name; None if there is none."""

_NOT_OVER_YET = Completed | AwaitingApproval | ApprovalExpired | WaitingForInput | PendingTools
_ALWAYS = 0.999999
"""The longest that a retry may be put off by chance."""


class ReplayPorts(ReplayContext):
    """See `power_loop.pipeline.ports.Ports`.

    What came from outside is taken from the record as it was stored: the input, what was steered
    in, answers, results, what was compacted and recalled. Handlers that rewrite such a thing are
    run, but what they make of it is not used: what is stored is what they had made. A handler of
    `tool.error` is not run, because no record holds the exception; whether the call was made again
    is taken from the record.
    """

    def __init__(
        self,
        session: Session,
        plan: RunPlan,
        script: Script,
        *,
        hooks: Hooks,
        traits: Traits,
        deps: Any,
        given: Mapping[str, Message],
    ) -> None:
        """`given` are messages from outside that open the run, by id."""
        self.session = session
        self.plan = plan
        self.deps = deps
        self._traits = traits
        self.listens = hooks.listens
        self._hearing = Hearing(session, script, hooks, given)
        self._script = script
        self._rewritten = hooks.listens(MESSAGE_APPEND)
        self._estimate = Usage()
        self._refused_at: int | None = None
        self._batch: Turns | None = None

    # ── chance, time, ids ─────────────────────────────────────────────────────────────────────────

    def now(self) -> float:
        """When the newest record was written."""
        return self._script.at

    def random(self) -> float:
        """What makes a policy that depends on it do what was done."""
        return 0.0 if self._script.asking() != (None, None) else _ALWAYS

    def new_id(self) -> str:
        """The next id that the run had given out."""
        handed = self._hearing.handed
        for id in self._script.new_ids():
            if id not in handed and id not in self._hearing.own:
                handed.add(id)
                return id
        return f"not recorded {len(handed)}"

    def emit(self, event: Transient, /) -> None:
        """Nobody reads along."""

    async def sleep(self, seconds: float) -> None:
        """Nobody waits, unless for somebody who did not."""
        if self._script.steered():
            raise BrokenOff(Interrupted())

    async def pace(self) -> None:
        """Nobody reads along."""

    # ── hooks ─────────────────────────────────────────────────────────────────────────────────────

    async def fire(
        self,
        point: HookPoint[C, R],
        context: C,
        passes: Callable[[Diverted[C, R]], bool] | None = None,
    ) -> C | Diverted[C, R]:
        """Runs the handlers of `point`."""
        return await self._hearing.fire(point, context, passes)

    # ── budget, people, sessions below ────────────────────────────────────────────────────────────

    @property
    def limited(self) -> bool:
        """Whether something is limited is in the record."""
        return True

    responds = False

    def wall_clock(self) -> float:
        """When what comes next was asked for, or whenever it is late enough for it."""
        match self._script.next:
            case CallAnswered(answer="expired", call_id=call_id):
                return self._script.too_late_for(call_id)
            case Decided(at="approval", reason=reason) if reason.endswith(TIME_IS_OVER):
                return inf
            case CallWaiting(created=created):
                return created
            case _:
                return self._script.at

    async def reserve(
        self, request: LLMRequest, attempt: str, *, new_round: bool, within: float | None = None
    ) -> Grant | BudgetExhausted:
        """What had been set aside."""
        del attempt, new_round, within
        asked, bounded = self._script.asking()
        if asked is not None:
            reserved, output = asked.reserved, asked.reserved_output
            return Grant(request, reserved, output, asked.reserved_cost, bounded)
        match self._script.next:
            case RunClosed(outcome=BudgetExhausted() as outcome):
                return outcome
            case _:
                return Grant(request, bounded=bounded)

    def cost(self, model: str, usage: Usage) -> float:
        """What it had been said to cost."""
        ended = self._script.next
        return ended.cost if isinstance(ended, ModelEnded) else 0.0

    def spend_tool_call(self, call_id: str, *, child: bool) -> BudgetExhausted | None:
        """Whether there had been enough."""
        del child
        refused = self._script.decided(AT_BUDGET, call_id)
        return None if refused is None else BudgetExhausted(refused.by, refused.reason)

    async def respond(self, waiting: CallWaiting) -> Answer | None:
        """Nobody is asked."""
        del waiting

    async def child(self, started: ToolStarted) -> ChildEnded:
        """What the session below had come to."""
        assert self._batch is not None
        answered = self._script.answered(started.call_id)
        settled = self._script.of_call(started.call_id)
        if answered is None or not isinstance(settled, ToolSettled):
            if self._script.gives_up(started.call_id):
                await self._batch.park()
                raise Cut
            return ChildEnded(self._script.outcome, Spent())
        await self._batch.turn(started.call_id, answered)
        self._hearing.given[settled.message.id] = settled.message
        return ChildEnded(self._script.outcome, answered.spent or Spent(), used(settled))

    # ── records ───────────────────────────────────────────────────────────────────────────────────

    async def commit(self, *records: Record, later: bool = False, take: Sequence[str] = ()) -> None:
        """Compares with what is stored, and applies it."""
        del later, take
        if self._batch is not None:
            call_id = call_of(records[0])
            if call_id is not None:
                await self._batch.turn(call_id, records[0])
        self._script.take(records)
        if self._batch is not None:
            self._batch.advance()

    async def close(self, outcome: Outcome) -> bool:
        """Compares with what is stored. False if the run had not been allowed to end there."""
        script = self._script
        record = RunClosed(
            self.session.run or "", repaired_strings(outcome), *script.seconds, script.unheard
        )
        if isinstance(outcome, _NOT_OVER_YET) and self._refused_at != script.place:
            taken_first = bool(script.steered()) or self._cancelled(0) is not None
            if taken_first and script.next != record:
                self._refused_at = script.place
                return False
        script.take([record])
        return True

    async def drain(self) -> InboxTake:
        """What had come by the inbox."""
        steered = self._script.steered()
        cancel = self._cancelled(len(steered))
        for record in steered:
            self._hearing.given[record.message.id] = record.message
        messages = tuple([record.message for record in steered])
        items = tuple([record.item for record in steered])
        if steered and steered[0].when_idle:
            # A wish to cancel that had been there by then would have come first.
            return InboxTake(idle=messages, idle_ids=items)
        return InboxTake(messages, items, cancel)

    def _cancelled(self, after: int) -> str | None:
        return self._script.cancelled(after, rewritten=self._rewritten)

    def interrupted(self) -> bool:
        """Whether a message had come here that could not wait."""
        return self._script.interrupted(rewritten=self._rewritten)

    async def breakable(self, work: Callable[[], Awaitable[R]]) -> R | Interrupted:
        """Does `work`, which is broken off where it had been."""
        try:
            return await work()
        except BrokenOff as broken_off:
            return broken_off.told

    # ── model ─────────────────────────────────────────────────────────────────────────────────────

    async def ask(
        self, request: LLMRequest, attempt: str, within: float | None = None
    ) -> LLMResponse | AttemptFailed:
        """What the model had answered."""
        del request
        await anyio.lowlevel.checkpoint()
        ended = self._script.next
        if not isinstance(ended, ModelEnded) or self._script.stopped_here():
            raise Cut
        if ended.status == "cancelled" and within is not None and not self._script.steered(1):
            raise self.left(ended)
        if ended.status == "cancelled":
            raise BrokenOff(Interrupted(ended.partial, ended.usage, ended.measured))
        if ended.status not in ("ok", "failed"):
            raise Cut
        self._hearing.outside = ended.status == "ok"
        if not self._hearing.outside:
            return failure(ended)
        answer = self._script.answer(attempt)
        self._estimate = ended.usage
        if answer is None:
            return response(ended, ())
        self._hearing.given[answer.id] = answer
        return response(ended, answer.parts)

    def estimate(self, request: LLMRequest, response: LLMResponse) -> Usage:
        """What the answer had been taken to cost."""
        return self._estimate

    # ── tools ─────────────────────────────────────────────────────────────────────────────────────

    async def use(self, started: ToolStarted) -> Used:
        """What the tool had given; if it had not come to its end, it does not now."""
        call_id = started.call_id
        after = self._script.of_call(call_id)
        assert self._batch is not None
        decided = self._script.decided(TOOL_ERROR.name, call_id)
        if decided is not None:
            await self._batch.turn(call_id, decided)
            return Used(ToolResult(call_id, ()), ToolError("it had failed"))
        waiting = self._script.waits(call_id)
        if waiting is not None:
            await self._batch.turn(call_id, waiting)
            return Used(ToolResult(call_id, ()), question=waiting.reason, schema=waiting.schema)
        if after is None or not (isinstance(after, ToolStarted) or self._had_ended(after)):
            await self._batch.park()
            raise Cut
        await self._batch.turn(call_id, self._script.next_of(call_id) or after)
        if isinstance(after, ToolStarted):
            return Used(ToolResult(call_id, ()), ToolError("it had failed"))
        self._hearing.given[after.message.id] = after.message
        return used(after)

    def _had_ended(self, settled: ToolSettled) -> bool:
        """Whether a call came to this while its run went on."""
        stopped = settled.how == "interrupted" and self._script.batch_is_interrupted()
        return stopped or ran_to_its_end(settled)

    async def reconcile(self, started: ToolStarted) -> Found:
        """What the tool had said, as far as it made a difference."""
        after = self._script.of_call(started.call_id)
        if isinstance(after, ToolStarted):
            return "never_happened"
        if after is None or after.how != "finished":
            return "cannot_tell"
        self._hearing.given[after.message.id] = after.message
        return used(after)

    def tool(self, name: str) -> ToolTraits | None:
        """What is known of a tool."""
        return self._traits(name)

    def finished(self) -> Mapping[str, Message]:
        """Results that were known when the run was stopped."""
        return self._script.finished()

    def slot(self) -> AbstractAsyncContextManager[Any]:
        """There is always a place: the record says whose turn it is."""
        return nullcontext()

    async def each(self, jobs: Sequence[Job]) -> None:
        """Runs jobs side by side, in the order that is recorded."""
        batch = self._batch = Turns(self._script, len(jobs))
        try:
            if len(jobs) == 1:
                await batch.run(jobs[0], None)
            else:
                async with anyio.create_task_group() as tasks:
                    for job in jobs:
                        tasks.start_soon(batch.run, job, tasks.cancel_scope)
        finally:
            self._batch = None
        if batch.failure is not None:
            raise batch.failure
