"""One run, from its opening to its close, in a task of its own.

The pipeline runs in a task that no group waits for, and the caller's task only waits. A native
cancellation of the caller then reaches the pipeline as the cancellation of a scope, and clean-up
can be shielded from that; and code that does not let go, whatever it is, can be left behind: no
event loop can end a coroutine that swallows its cancellation. However the run is cancelled, all
ways end in `Run.cancel`. Whatever ends the pipeline, the committer closes the run truthfully before
anything returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from functools import partial

import anyio

from llm_client.waiting import WAITING
from power_loop.driver.detached import LAST_MOMENT
from power_loop.driver.patience import Patience, listen
from power_loop.driver.ports import RunPorts
from power_loop.driver.setup import RunSetup
from power_loop.events import HookFailed
from power_loop.hooks import SESSION_END, SessionEnd
from power_loop.log import logger
from power_loop.pipeline.run import run_pipeline
from power_loop.runtime.budget.amounts import in_units, told
from power_loop.session.machine import Session
from power_loop.session.outcome import (
    BudgetExhausted,
    Cancelled,
    Completed,
    Failed,
    Outcome,
    RoundLimit,
    status_of,
)
from power_loop.session.records import Record, RunClosed, RunOpened

__all__ = ["INSIDE", "MESSAGE_LIMIT", "Run", "final_text"]

MESSAGE_LIMIT = 1000

INSIDE: ContextVar[tuple[str, ...]] = ContextVar("power_loop.inside", default=())
"""Ids of the runs that the current code works for, as a hook or a tool."""


class Run:
    """One run of a session.

    Attributes:
        run_id: the run's id.
        session_id: the id of its session.
        follows_a_crash: whether it carries on what was under way when a process died.
        outcome: how it ended; None while it has not, and for good if an error kept it from opening.
        opened: whether it is in the session's log. One that is stopped early enough is not.
        error: the exception that ended it, to be raised to the caller; None if none did.
    """

    def __init__(
        self, setup: RunSetup, opening: Sequence[Record], *, timeout: float | None
    ) -> None:
        opened = next(r for r in opening if isinstance(r, RunOpened))
        self.run_id = opened.run
        self.session_id = setup.session.id
        self.follows_a_crash = any(isinstance(r, RunClosed) for r in opening)
        self.outcome: Outcome | None = None
        self.opened = False
        self.error: Exception | None = None
        self.ports = RunPorts(setup)
        self._setup = setup
        self._opening = opening
        self._limits = opened.limits
        self._timeout = timeout
        self._scope = anyio.CancelScope()
        self._over = anyio.Event()
        self._patience = Patience()
        self._finished = False
        self._left = False
        self._stopped: Cancelled | BudgetExhausted | None = None
        self._fatal: BaseException | None = None

    def cancel(self, reason: str) -> None:
        """Has the run end `cancelled`. Idempotent; safe before it has begun."""
        self._stop(Cancelled(reason))

    def _stop(self, ending: Cancelled | BudgetExhausted) -> None:
        if self.ports.cancelled.text is None:
            self.ports.cancelled.text = ending.reason
            self._stopped = ending
            self._patience.ends_in(self.ports.tooling.patience)
        self._scope.cancel()

    def give_up(self) -> None:
        """Has a run that is being cancelled end now, whatever does not let go of it."""
        if not self._finished:
            self._patience.ends_in(0)

    async def cancel_in_time(self, reason: str) -> bool:
        """Like `cancel`; False if the run has come to another ending by then."""
        ending = await self.ports.committer.ending()
        if ending is None:
            self.cancel(reason)
        return ending is None or isinstance(ending, Cancelled)

    async def execute(self) -> None:
        """Runs to the end; afterwards `outcome` or `error` says how it went.

        Raises only the caller's own cancellation, after the session has been made legal, and what
        is to end the program.
        """
        async with anyio.create_task_group() as tasks:
            if not self._setup.store.immediate:
                tasks.start_soon(self.ports.committer.run)
            self.ports.inbox.open(tasks, self.cancel)
            self._patience.begin()
            self.ports.stopwatch.start(self._patience, self._timeout)
            forget = listen(self._setup.cancel, tasks, self.cancel)
            self._setup.background.detached.start(self._in_own_task)
            waits = True
            try:
                await self._until_over()
                waits = False
            finally:
                forget()
                if waits:
                    self.cancel(self._why_nobody_waits())
                    tasks.start_soon(self._wind_down)
        if self._fatal is not None:
            raise self._fatal

    def _why_nobody_waits(self) -> str:
        above = self._setup.above
        if above is None:
            return "the caller's task was cancelled"
        return above() or "the run above does not wait for it any more"

    async def _wind_down(self) -> None:
        """The caller is cancelled, perhaps natively and again and again: this task is not."""
        with anyio.CancelScope(shield=True):
            await self._until_over()

    async def _until_over(self) -> None:
        while not await self._patience.outlives(self._over):
            if self._finished:
                self._left = True
                logger.warning("handlers of session.end ignore that they were stopped")
                return
            if self._stopped is None:
                self._stop(self._out_of_time())
            else:
                self._leave(self._stopped)

    def _out_of_time(self) -> Cancelled | BudgetExhausted:
        watch = self.ports.stopwatch
        limit = watch.exceeded
        if limit is None:
            return Cancelled(f"it took longer than {self._timeout:g} s")
        allowed = self._limits.get(limit, watch.limits[limit])
        name = limit.rpartition(".")[2]
        used = allowed - watch.left[limit]
        figures = [told(name, in_units(name, seconds)) for seconds in (allowed, used)]
        return BudgetExhausted(limit, f"{figures[0]} allowed, {figures[1]} used")

    def _leave(self, ending: Outcome) -> None:
        """Ends the run although foreign code that it waits for does not let go of it."""
        self._left = True
        left = self.ports.tooling.leave()
        for event in left:
            self.ports.emit(event)
        logger.warning(
            "run %r was stopped and ends without what ignores that: %s",
            self.run_id,
            ", ".join([f"{each.name} ({each.call_id})" for each in left])
            or "a hook, or the model's service",
        )
        self.ports.committer.abandon()
        self._finish(ending)
        self._over = anyio.Event()
        self._setup.background.detached.start(partial(self._settle_apart, ending))

    async def _settle_apart(self, ending: Outcome) -> None:
        try:
            with anyio.CancelScope(shield=True):
                await self._settle(ending)
        finally:
            self._over.set()

    async def _in_own_task(self) -> None:
        ports, over = self.ports, self._over
        # This task's own context: it ends with the run, and all hooks and tools inherit it.
        INSIDE.set((*INSIDE.get(), self.run_id))
        if ports.stopwatch.matters:
            WAITING.set(ports.stopwatch.paused)
        ending: Outcome = Cancelled("the program is ending")
        try:
            with self._scope:
                # Nothing opens that has been cancelled before; a store may not have to be awaited.
                await ports.heed_cancellation()
                await run_pipeline(ports, self._opening)
            if self._scope.cancelled_caught and self._stopped is not None:
                ending = self._stopped
        except Exception as error:  # noqa: BLE001  kept for the caller, who raises it
            ending = Failed(type(error).__name__, str(error)[:MESSAGE_LIMIT])
            if not self._left:
                self.error = error
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # noqa: BLE001  raised where the caller waits
            self._fatal = error
        finally:
            if not self._left:
                self._finish(ending)
                with anyio.CancelScope(shield=True):
                    await self._settle(ending)
            over.set()

    def _finish(self, ending: Outcome) -> None:
        """What the run has left open is closed; nothing else will be written."""
        ports = self.ports
        self._finished = True
        self._patience.ends_in(None)
        # A synchronous tool that is still at work sees that nobody waits for it.
        ports.cancelled.text = ports.cancelled.text or "the run has ended"
        asking, inbox = ports.asking, ports.inbox
        inbox.close()
        ports.committer.finish(
            ending,
            ports.finished(),
            asking.partial,
            asking.spent,
            cost=self._close_books(),
            unheard=None if self._setup.below is None else self._setup.below.unheard(()),
            take=inbox.ignored,
        )

    def _close_books(self) -> float:
        """Charges what has not been settled yet; what the call under way costs in US dollars."""
        ports, purse = self.ports, self._setup.purse
        if purse is None:
            return 0.0
        asked, spent, cost = self._setup.session.asked, ports.asking.spent, 0.0
        if asked is not None and spent is not None:
            cost = purse.cost(asked.model, spent)
            purse.settle(asked.attempt, spent, cost)
        purse.close()
        return cost

    async def _settle(self, ending: Outcome) -> None:
        committer, session = self.ports.committer, self._setup.session
        await committer.ended()
        if committer.failure is not None:
            self.error = self.error or committer.failure
            return
        if session.last_run != self.run_id:
            self.outcome = ending if isinstance(ending, Cancelled | BudgetExhausted) else None
            return
        self.opened = True
        self.outcome = session.last_outcome
        if self._setup.below is not None:
            await self._setup.below.conclude(session.open_calls, _why_given_up(self.outcome))
        if self.outcome is None:
            return
        await self._tell_memory(self.outcome)
        hooks = self._setup.hooks
        if not hooks.listens(SESSION_END):
            return
        context = SessionEnd(
            session_id=session.id,
            run_id=self.run_id,
            round=session.round,
            deps=self._setup.deps,
            depth=self._setup.plan.depth,
            outcome=self.outcome,
            final_text=final_text(session),
            messages=session.view,
        )
        grace = self._setup.hook_grace
        self._patience.ends_in(grace + LAST_MOMENT)
        with anyio.move_on_after(grace) as bound:
            try:
                await hooks.fire(SESSION_END, context, self.ports.hook_failed)
            except Exception as error:  # noqa: BLE001  kept for the caller, who raises it
                self.error = self.error or error
        if bound.cancelled_caught:
            told = f"handlers did not end within {grace:g} s, and were stopped"
            self.ports.hook_failed(HookFailed(SESSION_END.name, "", "TimeoutError", told))

    async def _tell_memory(self, outcome: Outcome) -> None:
        memory, session = self._setup.context.memory, self._setup.session
        if memory is None:
            return
        # Whoever waits for a run that has ended otherwise may have cancelled it.
        grace = self._setup.hook_grace
        # It is left to itself a moment after its time is over, which must come first.
        self._patience.ends_in(grace + 2 * LAST_MOMENT)
        await self.ports.context.remember_ending(outcome, final_text(session), grace)
        self._patience.ends_in(None)


def _why_given_up(outcome: Outcome | None) -> str:
    """Why nobody goes on with what is below a run that has ended."""
    if outcome is None or isinstance(outcome, Cancelled):
        return "cancelled" if outcome is None else outcome.reason
    return f"the run above has ended: {status_of(outcome)}"


def final_text(session: Session) -> str:
    """What a caller shows of a closed run: the model's last text."""
    match session.last_outcome:
        case Completed(text=text):
            return text
        case RoundLimit(text=text):
            return f"[round_limit] {text}".rstrip()
        case _:
            last = session.last_message
            return last.text if last is not None and last.role == "assistant" else ""
