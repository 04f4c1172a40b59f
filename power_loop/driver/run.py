"""One run, from its opening to its close, in a task of its own.

The pipeline runs in a child task and the caller's task only waits: a native cancellation of the
caller then reaches the pipeline as the cancellation of a scope, and clean-up can be shielded from
that. Whatever ends the pipeline, the committer closes the run truthfully before anything returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar

import anyio

from llm_client.waiting import WAITING
from power_loop.driver.ports import RunPorts
from power_loop.driver.setup import RunSetup
from power_loop.events import HookFailed
from power_loop.hooks import SESSION_END, SessionEnd
from power_loop.pipeline.run import run_pipeline
from power_loop.session.machine import Session
from power_loop.session.outcome import (
    BudgetExhausted,
    Cancelled,
    Completed,
    Failed,
    Outcome,
    RoundLimit,
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
        opened: whether it is in the session's log. One cancelled early enough is not.
        error: the exception that ended it, to be raised to the caller; None if none did.
    """

    def __init__(
        self, setup: RunSetup, opening: Sequence[Record], *, timeout: float | None
    ) -> None:
        self.run_id = next(r.run for r in opening if isinstance(r, RunOpened))
        self.session_id = setup.session.id
        self.follows_a_crash = any(isinstance(r, RunClosed) for r in opening)
        self.outcome: Outcome | None = None
        self.opened = False
        self.error: Exception | None = None
        self.ports = RunPorts(setup)
        self._setup = setup
        self._opening = opening
        self._timeout = timeout
        self._scope = anyio.CancelScope()

    def cancel(self, reason: str) -> None:
        """Has the run end `cancelled`. Idempotent; safe before it has begun."""
        if self.ports.cancelled.text is None:
            self.ports.cancelled.text = reason
        self._scope.cancel()

    async def cancel_in_time(self, reason: str) -> bool:
        """Like `cancel`; False if the run has come to another ending by then."""
        ending = await self.ports.committer.ending()
        if ending is None:
            self.cancel(reason)
        return ending is None or isinstance(ending, Cancelled)

    async def execute(self) -> None:
        """Runs to the end; afterwards `outcome` or `error` says how it went.

        Raises only the caller's own cancellation, after the session has been made legal.
        """
        async with anyio.create_task_group() as tasks:
            if not self._setup.store.immediate:
                tasks.start_soon(self.ports.committer.run)
            self.ports.inbox.open(tasks, self.cancel)
            tasks.start_soon(self._in_child_task)

    async def _in_child_task(self) -> None:
        ports = self.ports
        # This task's own context: it ends with the run, and all hooks and tools inherit it.
        INSIDE.set((*INSIDE.get(), self.run_id))
        if ports.stopwatch.limits:
            WAITING.set(ports.stopwatch.paused)
        ending: Outcome = Cancelled("the caller's task was cancelled")
        try:
            with self._scope:
                ports.stopwatch.start(self._scope, self._timeout)
                await run_pipeline(ports, self._opening)
            if self._scope.cancelled_caught:
                ending = self._stopped()
        except Exception as error:  # noqa: BLE001  kept for the caller, who raises it
            self.error = error
            ending = Failed(type(error).__name__, str(error)[:MESSAGE_LIMIT])
        finally:
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
            with anyio.CancelScope(shield=True):
                await self._settle(ending)

    def _stopped(self) -> Outcome:
        """How a run ends whose scope was cancelled: by somebody, or by the clock."""
        ports = self.ports
        if ports.cancelled.text is not None:
            return Cancelled(ports.cancelled.text)
        limit = ports.stopwatch.exceeded
        if limit is not None:
            return BudgetExhausted(limit, f"{ports.stopwatch.limits[limit]:g} s were left")
        return Cancelled(f"it took longer than {self._timeout:g} s")

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
        purse.charge_time(ports.stopwatch.wall, ports.stopwatch.working)
        return cost

    async def _settle(self, ending: Outcome) -> None:
        committer, session = self.ports.committer, self._setup.session
        await committer.ended()
        if committer.failure is not None:
            self.error = self.error or committer.failure
            return
        if session.last_run != self.run_id:
            self.outcome = ending if isinstance(ending, Cancelled) else None
            return
        self.opened = True
        self.outcome = session.last_outcome
        hooks = self._setup.hooks
        if self.outcome is None or not hooks.listens(SESSION_END):
            return
        context = SessionEnd(
            session_id=session.id,
            run_id=self.run_id,
            round=session.round,
            deps=self._setup.deps,
            outcome=self.outcome,
            final_text=final_text(session),
            messages=session.view,
        )
        grace = self._setup.hook_grace
        with anyio.move_on_after(grace) as bound:
            try:
                await self.ports.fire(SESSION_END, context)
            except Exception as error:  # noqa: BLE001  kept for the caller, who raises it
                self.error = self.error or error
        if bound.cancelled_caught:
            told = f"handlers did not end within {grace:g} s, and were stopped"
            self.ports.hook_failed(HookFailed(SESSION_END.name, "", "TimeoutError", told))


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
