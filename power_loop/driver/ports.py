"""The pipeline's ports, made of the real thing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import anyio
import anyio.lowlevel

from llm_client.types import (
    LLMRequest,
    LLMResponse,
    Message,
    Usage,
)
from power_loop.driver.asking import Asking
from power_loop.driver.batch import side_by_side
from power_loop.driver.committer import Committer
from power_loop.driver.context import Context
from power_loop.driver.inbox import Inbox
from power_loop.driver.outputs import Outputs
from power_loop.driver.people import People
from power_loop.driver.purse import Purse
from power_loop.driver.reporting import CancelReason
from power_loop.driver.setup import RunSetup
from power_loop.driver.stopwatch import Stopwatch
from power_loop.driver.tooling import ToolRunner
from power_loop.driver.working import stopped
from power_loop.events import HookFailed, Transient
from power_loop.hooks import Diverted, HookPoint
from power_loop.log import logger
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
from power_loop.runtime.stores.base import CancelRequested
from power_loop.session.outcome import (
    ApprovalExpired,
    AwaitingApproval,
    BudgetExhausted,
    Cancelled,
    Completed,
    Outcome,
    PendingTools,
    WaitingForInput,
)
from power_loop.session.records import ModelEnded, Record, ToolStarted
from power_loop.session.text import repaired_strings

__all__ = ["RunPorts"]

C = TypeVar("C")
R = TypeVar("R")

_SUSPENDED = AwaitingApproval | ApprovalExpired | WaitingForInput | PendingTools
_NOT_OVER_YET = Completed | _SUSPENDED
"""Endings that an undelivered item in the inbox may forbid."""


class RunPorts:
    """What one run can do. See `power_loop.pipeline.ports.Ports`.

    Attributes:
        cancelled: why the run is being cancelled.
        inbox: what was posted to the session.
    """

    def __init__(self, setup: RunSetup) -> None:
        self.session = setup.session
        self.plan = setup.plan
        self.deps = setup.deps
        self.compacts = setup.context.keeper is not None
        self.recalls = self.remembers = setup.context.memory is not None
        self.responds = setup.respond is not None
        self.limited = setup.purse is not None
        self.cancelled = CancelReason()
        self.stopwatch = Stopwatch(setup.time_limits, setup.clock, setup.pauses_above)
        self.committer = Committer(
            setup.session,
            setup.store,
            setup.lease,
            setup.hub,
            root=setup.root,
            clock=setup.wall_clock,
            seconds=self._seconds,
        )
        self.emit: Callable[[Transient], None] = self.committer.emit
        self.now = setup.clock
        self.wall_clock = setup.wall_clock
        self.new_id = setup.new_id
        self.random = setup.random
        self._setup = setup
        self.inbox = Inbox(setup.store, setup.session.id, self._stop)
        self.asking = Asking(setup.llm, setup.hub, setup.session.id, self.emit)
        self.tooling = ToolRunner(
            setup.tools,
            session_id=setup.session.id,
            deps=setup.deps,
            emit=self.emit,
            background=setup.background,
            cancel_reason=self.cancelled,
            interrupted=self.interrupted,
            timeout=setup.tool_timeout,
            user=setup.context.user,
            agent=setup.context.agent,
            outputs=Outputs(
                setup.session.id, setup.tools, self.emit, setup.artifacts, setup.result_limit
            ),
        )
        self.people = People(
            setup.respond, self.committer, self.stopwatch, setup.wall_clock, self.interrupted
        )
        self.respond = self.people.respond
        self.context = Context(setup, self.emit, self.cancelled)
        self.condense = self.context.condense
        self.too_large = self.context.too_large
        self.compact = self.context.compact
        self.recall = self.context.recall
        self.remember = self.context.remember
        self._below: dict[str, anyio.CancelScope] = {}
        self._places: anyio.Semaphore | None = None
        self._may_break = False
        self._breakable: anyio.CancelScope
        self._late: Interrupted | None = None

    # ── hooks ─────────────────────────────────────────────────────────────────────────────────────

    def listens(self, point: HookPoint[C, R]) -> bool:
        """Whether `point` has handlers."""
        return self._setup.hooks.listens(point)

    async def fire(
        self,
        point: HookPoint[C, R],
        context: C,
        passes: Callable[[Diverted[C, R]], bool] | None = None,
    ) -> C | Diverted[C, R]:
        """Runs the handlers of `point`, after everything committed so far is durable."""
        await self.committer.barrier()
        return await self._setup.hooks.fire(point, context, self.hook_failed, passes)

    def hook_failed(self, failure: HookFailed) -> None:
        """Tells of a handler that failed without ending the run."""
        # A log that is a file in UTF-8 would lose the whole line for half a surrogate pair.
        failure = repaired_strings(failure)
        logger.warning(
            "hook %r of %s failed: %s: %s",
            failure.handler,
            failure.point,
            failure.error_type,
            failure.message,
        )
        self.emit(failure)

    # ── records ───────────────────────────────────────────────────────────────────────────────────

    async def commit(self, *records: Record, later: bool = False, take: Sequence[str] = ()) -> None:
        """See `Committer.commit`."""
        if take:
            self.inbox.take(take)
        for record in records:
            if type(record) is ModelEnded:
                self.settle(record.attempt, record.usage, record.cost)
        await self.committer.commit(records, later=later, take=take)
        below = self._setup.below
        if below is not None and not later:
            why = self.cancelled.text or "the run above does not wait for it any more"
            await below.conclude(self.session.open_calls, why)

    def _seconds(self) -> tuple[float, float]:
        watch = self.stopwatch
        return (watch.wall, watch.working) if watch.limits else (0.0, 0.0)

    # ── budget ────────────────────────────────────────────────────────────────────────────────────

    async def reserve(
        self, request: LLMRequest, attempt: str, *, new_round: bool, within: float | None = None
    ) -> Grant | BudgetExhausted | None:
        """Sets aside what a model call may cost."""
        waiting = self.stopwatch.paused
        reserving = self._purse.reserve(request, attempt, new_round=new_round, waiting=waiting)
        if within is None:
            return await reserving
        with anyio.move_on_after(within):
            return await reserving
        return None

    def cost(self, model: str, usage: Usage) -> float:
        """What tokens of a model cost."""
        return self._purse.cost(model, usage)

    def spend_tool_call(self, call_id: str, *, child: bool) -> BudgetExhausted | None:
        """Takes one call of a tool from the budget."""
        del call_id
        return self._purse.spend_tool_call(child=child)

    def settle(self, attempt: str, usage: Usage, cost: float) -> None:
        """Charges what a model call has come to."""
        if self._setup.purse is not None:
            self._setup.purse.settle(attempt, usage, cost)

    @property
    def _purse(self) -> Purse:
        assert self._setup.purse is not None
        return self._setup.purse

    async def close(self, outcome: Outcome) -> bool:
        """See `Committer.close`."""
        leaving: Sequence[str] | None = () if isinstance(outcome, _NOT_OVER_YET) else None
        if isinstance(outcome, _SUSPENDED):
            # Steering waits for the results of the open calls; what is not to wait does not.
            waiting = await self.inbox.waiting()
            cancelled = any(isinstance(item.item, CancelRequested) for item in waiting)
            if cancelled or self.inbox.interrupted:
                return False
            leaving = [item.id for item in waiting]
        # A cancellation that has not been delivered yet still comes before the ending: whoever
        # asked for it was told so for as long as no ending was under way.
        await self.heed_cancellation()
        below = self._setup.below
        return await self.committer.close(
            outcome,
            leaving=leaving,
            take=self.inbox.ignored,
            unheard=None if below is None else below.unheard(self.session.open_calls),
        )

    async def heed_cancellation(self) -> None:
        """Lets a cancellation of the run be delivered that has not been yet."""
        # Whoever cancels the run gives the reason first, so that nothing need be asked otherwise.
        if self.cancelled.text is not None:
            await anyio.lowlevel.checkpoint_if_cancelled()

    async def drain(self) -> InboxTake:
        """What waits in the inbox."""
        return await self.inbox.drain()

    def interrupted(self) -> bool:
        """Whether a message waits that cannot wait."""
        return self.inbox.interrupted

    def _stop(self) -> None:
        """Stops what is under way, as the run is interrupted."""
        self.tooling.interrupt("a message came that could not wait")
        self.people.interrupt()
        for scope in self._below.values():
            scope.cancel()
        if self._may_break:
            self._breakable.cancel()

    # ── model and tools ───────────────────────────────────────────────────────────────────────────

    async def breakable(self, work: Callable[[], Awaitable[R]]) -> R | Interrupted:
        """Does `work`, which is broken off in `ask` or `sleep` if the run is interrupted there."""
        self._late = None
        with anyio.CancelScope() as self._breakable:
            return await work()
        self._may_break = False
        return self._late or self.asking.broken_off()

    async def ask(
        self, request: LLMRequest, attempt: str, within: float | None = None
    ) -> LLMResponse | AttemptFailed:
        """Exactly one request to the model; none, if the run is being cancelled already."""
        await self.heed_cancellation()
        if self.inbox.interrupted:
            await self._break_off(Interrupted())
        self._may_break = True
        if within is None:
            answer = await self.asking.ask(request, attempt)
        else:
            answer = await self.asking.ask_aside(request, within)
        self._may_break = False
        self.context.learn(request, answer)
        if self._breakable.cancel_called:
            await self._break_off(self._late_answer(request, answer))
        return answer

    def _late_answer(self, request: LLMRequest, answer: LLMResponse | AttemptFailed) -> Interrupted:
        """An answer that came when it was being stopped already."""
        if isinstance(answer, AttemptFailed):
            return Interrupted(answer.partial, answer.usage, measured=answer.measured)
        measured = answer.usage.output_tokens is not None
        usage = answer.usage if measured else self.asking.estimated(request, answer)
        return Interrupted(answer.text, usage, measured=measured)

    async def _break_off(self, told: Interrupted) -> None:
        """Leaves `breakable`, between two steps that could be stopped. Never returns: in a task of
        whoever has asked, the cancellation comes a moment later."""
        self._late = told
        self._breakable.cancel()
        await anyio.sleep_forever()

    def left_call(self) -> Interrupted:
        """What there is to tell of a model call that nobody waited for to its end."""
        self._may_break = False
        return self.asking.broken_off()

    def estimate(self, request: LLMRequest, response: LLMResponse) -> Usage:
        """What an answer may have cost whose provider has not counted."""
        return self.asking.estimated(request, response)

    def tool(self, name: str) -> ToolTraits | None:
        """What is known of a tool."""
        return self.tooling.traits(name)

    async def use(self, started: ToolStarted) -> Used:
        """Runs a tool."""
        return await self.tooling.use(self.session.run or "", started)

    async def reconcile(self, started: ToolStarted) -> Found:
        """Asks a tool what became of a call, after everything committed so far is durable."""
        await self.committer.barrier()
        return await self.tooling.reconcile(self.session.run or "", started)

    async def child(self, started: ToolStarted) -> ChildEnded:
        """Runs the session below a call, after everything committed so far is durable."""
        below = self._setup.below
        assert below is not None
        await self.committer.barrier()
        ended: ChildEnded | None = None
        with anyio.CancelScope() as scope, self.tooling.child():
            self._below[started.call_id] = scope
            try:
                ended = await below.run(started, self.cancelled, self.stopwatch.paused)
            finally:
                del self._below[started.call_id]
        if ended is not None:
            return await self.tooling.told_below(started, ended)
        gone = Cancelled("a message came that could not wait")
        return ChildEnded(gone, below.left(started.call_id), stopped(started.call_id))

    def finished(self) -> Mapping[str, Message]:
        """Messages with results that no record holds yet."""
        return self.tooling.finished

    def slot(self) -> AbstractAsyncContextManager[Any]:
        """A place among the tools that may run at the same time."""
        return self._places or _AMPLE

    async def each(self, jobs: Sequence[Job]) -> None:
        """Runs jobs side by side, exclusive ones alone."""
        self.tooling.finished.clear()
        if self._places is None and len(jobs) > self._setup.tool_concurrency:
            # Fast: a free place is taken at once, unless the run is being cancelled.
            self._places = anyio.Semaphore(self._setup.tool_concurrency, fast_acquire=True)
        # Such a store is awaited before each call begins.
        wait = not self._setup.store.immediate
        together: list[Job] = []
        for job in jobs:
            if not job.exclusive:
                together.append(job)
                continue
            if not await side_by_side(together, wait=wait) or not await job.run():
                return
            together = []
        await side_by_side(together, wait=wait)

    # ── the rest ──────────────────────────────────────────────────────────────────────────────────

    async def sleep(self, seconds: float) -> None:
        """Waits."""
        if self.inbox.interrupted:
            await self._break_off(Interrupted())
        self._may_break = True
        with self.stopwatch.paused():
            await self._setup.sleep(seconds)
        self._may_break = False

    async def pace(self) -> None:
        """Waits for readers that asked to be waited for."""
        for reader in self._setup.hub.readers(self.session.id):
            if reader.behind:
                await reader.drained()


class _Ample:
    """A place where there are enough for everybody; none for a job that is cancelled already."""

    __slots__ = ()

    async def __aenter__(self) -> None:
        await anyio.lowlevel.checkpoint_if_cancelled()

    async def __aexit__(self, *_: object) -> None:
        """There is nothing to give back."""


_AMPLE = _Ample()
