"""A program cancelled at one scheduler step after the other, on whatever store, and judged.

After each: the log is legal and tells the truth, the run is closed once, nothing is left running,
no lease is left behind, steering is neither lost nor doubled, what goes on in the background is
heard of once, sessions below have ended as well, and the next message finds a session that works.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Literal

import anyio
import anyio.lowlevel
from msgspec import Struct
from msgspec.structs import replace

from power_loop import AgentLoop, MemoryStore
from power_loop.errors import SessionBusy, SessionNotFound, UsageError
from power_loop.runtime.stores.base import Store
from power_loop.runtime.stores.notes import StoreWithNotes
from power_loop.session.outcome import Cancelled, Outcome
from power_loop.session.records import (
    MessageAppended,
    Record,
    RunClosed,
    RunOpened,
)
from power_loop.session.state import child_id
from tests.agent.cancel_world import Scenario, World, approve
from tests.agent.stepping import Backend, Steps, run_stepwise, tasks_alive
from tests.agent.stores import SlowStore, records_of
from tests.figures.judging_calls import background_faults, effect_faults, output_faults
from tests.figures.judging_context import context_faults
from tests.session.checker import violations

__all__ = ["OTHER_WAYS", "WAYS", "Case", "Kind", "Sweep", "Way", "let_finish"]

Way = Literal["scope", "native", "verb", "token", "timeout", "break", "close"]
Kind = Literal["memory", "slow", "sqlite", "postgres"]
WAYS: tuple[tuple[Backend, Way], ...] = (
    ("asyncio", "scope"),
    ("asyncio", "native"),
    ("asyncio", "verb"),
    ("trio", "scope"),
    ("trio", "verb"),
)
OTHER_WAYS: tuple[tuple[Backend, Way], ...] = (
    ("asyncio", "token"),
    ("asyncio", "timeout"),
    ("asyncio", "break"),
    ("asyncio", "close"),
    ("trio", "token"),
    ("trio", "timeout"),
    ("trio", "break"),
    ("trio", "close"),
)
"""A token, a deadline, a reader that breaks out of its stream, and a loop that closes."""
_JUMP = 60.0
"""Seconds that the clock is put forward where a deadline is to pass; one tool alone has longer."""
_KINDS = (
    "each kind of tool, interrupted",
    "large outputs of each kind of tool, interrupted",
)
_STEERED = ("steering", "interrupted", *_KINDS)
_IN_BACKGROUND = ("tool in the background", *_KINDS)


class Case(Struct, frozen=True):
    """One run that is cancelled before its `step`-th step, and again `second` steps later.

    With `patience` only once the store has done all that it had been asked, although nobody has
    been told yet; else it may be at work.
    """

    scenario: Scenario
    backend: Backend
    way: Way
    store: Kind
    step: int
    second: int
    patience: bool = False

    def __str__(self) -> str:
        return (
            f"{self.scenario.name} on {self.backend}, {self.store}: {self.way} at {self.step}"
            f"{f' and {self.second} later' if self.second else ''}{', patiently' * self.patience}"
        )


class _Trial:
    """A case as it runs."""

    def __init__(self, case: Case, store: StoreWithNotes, sessions: tuple[str, ...]) -> None:
        self.case = case
        self.world = World(store, sessions)
        self.steps = Steps()
        self.hit = False
        self.bad: list[str] = []
        self.accepted: dict[str, bool] = {}
        self._task: asyncio.Task[None] | None = None
        self._asked = False
        self._loop: AgentLoop[World]
        self._outer: anyio.CancelScope
        self._inner: anyio.CancelScope
        self._now: anyio.Event

    def run(self) -> None:
        """Runs the case; `bad` then says what is wrong with how it went."""
        self.steps.at(self.case.step, self._cancel)
        if self.case.second:
            self.steps.at(self.case.step + self.case.second, self._cancel_again)
        run_stepwise(self._main, self.steps, self.case.backend)

    async def _main(self) -> None:
        world = self.world
        self._outer, self._inner = anyio.CancelScope(), anyio.CancelScope()
        self._now = anyio.Event()
        for session in world.sessions:
            await world.store.create(session)
        loop = self._loop = self.case.scenario.loop(world)
        if self.case.way == "close":
            await self._driven(self._drive_and_close)
        async with loop:
            if self.case.way != "close":
                await self._driven(self._drive)
            await self._look_on(loop)

    async def _driven(self, drive: Callable[[], Awaitable[None]]) -> None:
        """Runs the program; nothing of it may be left."""
        before, world = tasks_alive(), self.world
        bound = 20.0
        if self.case.way == "timeout":
            world.options = {"timeout": _JUMP - 10}
            bound += _JUMP
        elif self.case.way == "token":
            world.options = {"cancel": world.token}
        with anyio.fail_after(bound):
            await drive()
            if self.case.scenario.name in _IN_BACKGROUND:
                for _ in range(100):
                    await anyio.lowlevel.checkpoint()
        world.options = {}
        if tasks_alive() != before:
            self.bad.append(f"{tasks_alive() - before} tasks left")
        if world.llm.under_way:
            self.bad.append("a request is still under way")

    async def _look_on(self, loop: AgentLoop[World]) -> None:
        world = self.world
        for session in world.sessions:
            for each in (session, *self._below(session)):
                await self._claim_at_once(each)
        interrupted = {s: records_of(await world.store.read(s)) for s in world.sessions}
        with anyio.fail_after(20):
            await self._go_on(loop)
            await self._do_again(loop, interrupted)
        logs = {s: records_of(await world.store.read(s)) for s in world.sessions}
        for session in world.sessions:
            self._judge(session, interrupted[session], logs[session])
            self.bad += await output_faults(self.case.scenario, world, session, logs[session])
            await self._judge_below(session)
        self.bad += world.llm.illegal
        if self.case.scenario.tools:
            self.bad += await context_faults(self.case.scenario, world, logs)
        budget = world.shared
        if budget is not None and budget.spent.tokens + budget.left["tenant.tokens"] != (
            self.case.scenario.tokens
        ):
            self.bad.append(f"tokens are still set aside: {budget.left}, {budget.spent}")
        log = logs[world.sessions[0]]
        if self.case.scenario.name in _STEERED:
            await self._judge_steering(log)
        if self.case.scenario.name in _IN_BACKGROUND:
            self.bad += await background_faults(world, log)

    async def _drive(self) -> None:
        self.steps.counting = True
        if self.case.way == "native":
            self._task = asyncio.ensure_future(self._scenario())
            await asyncio.wait({self._task})
            self.steps.counting = False
            if self._asked and not self._task.cancelled():
                self.bad.append(f"no CancelledError came out, but {self._task.exception()!r}")
            elif not self._asked:
                self._task.result()
            return
        if self.case.way == "verb":
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._verb)
                await self._scenario()
                tasks.cancel_scope.cancel()
        else:
            with self._outer, self._inner:
                await self._scenario()
        self.steps.counting = False

    async def _drive_and_close(self) -> None:
        opened = anyio.Event()

        async def live() -> None:
            async with self._loop:
                opened.set()
                await self._now.wait()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(live)
            await opened.wait()
            self.steps.counting = True
            try:
                with self._outer:
                    await self._scenario()
            except* UsageError:
                self.bad += [] if self.hit else ["the loop refuses a run, and nobody has closed it"]
            self.steps.counting = False
            self._now.set()

    async def _verb(self) -> None:
        await self._now.wait()
        for session in self.world.sessions:
            self.accepted[session] = await self._loop.cancel(session, "by verb")

    async def _scenario(self) -> None:
        try:
            await self.case.scenario.drive(self.world, self._loop)
        finally:
            self.steps.counting = self.case.way == "native" and self.steps.counting

    # ── cancelling ────────────────────────────────────────────────────────────────────────────────

    def _cancel(self) -> None:
        self.hit = True
        if self.case.patience:
            let_finish(self.world.store)
        match self.case.way:
            case "scope":
                self._inner.cancel()
            case "native":
                assert self._task is not None
                self._asked = self._task.cancel()
            case "verb" | "close":
                self._now.set()
            case "token":
                self.world.token.cancel("by token")
            case "timeout":
                self.steps.late = _JUMP
            case "break":
                self.world.leaving = True

    def _cancel_again(self) -> None:
        if self._task is not None:
            self._asked = self._task.cancel() or self._asked
        else:
            self._outer.cancel()

    # ── judging ───────────────────────────────────────────────────────────────────────────────────

    async def _claim_at_once(self, session: str) -> None:
        """Whoever has returned from a run, however it ended, has left no lease behind."""
        try:
            lease = await self.world.store.claim(session)
        except SessionNotFound:
            assert "/" in session
        except SessionBusy as error:
            self.bad.append(f"a lease was left behind: {error}")
        else:
            await self.world.store.release(lease)

    async def _go_on(self, loop: AgentLoop[World]) -> None:
        for session in self.world.sessions:
            await approve(self.world, loop, session)
            result = await loop.send("and now?", session, deps=self.world)
            if result.status in ("awaiting_approval", "waiting_for_input"):
                await approve(self.world, loop, session)
            elif not isinstance(result.outcome, self.case.scenario.endings):
                self.bad.append(f"the next message ended {result.status}")

    async def _do_again(
        self, loop: AgentLoop[World], interrupted: Mapping[str, list[Record]]
    ) -> None:
        """Replays every run, also those that were cancelled: each writes the same bytes again."""
        for session in self.world.sessions:
            typed = self.case.scenario.name == "typed output asked again"
            of_scenario = {r.run for r in interrupted[session] if isinstance(r, RunOpened)}
            for record in records_of(await self.world.store.read(session)):
                if isinstance(record, RunOpened):
                    wanted = int if typed and record.run in of_scenario else None
                    done = await loop.replay(
                        session, run=record.run, deps=self.world, output_type=wanted
                    )
                    if not done.identical:
                        self.bad.append(f"a replay diverges: {done.divergence}")

    def _judge(self, session: str, interrupted: list[Record], log: list[Record]) -> None:
        self.bad += violations(log, closed=True, idempotent=lambda _: False)
        opened = [r for r in interrupted if isinstance(r, RunOpened)]
        closed = [r for r in interrupted if isinstance(r, RunClosed)]
        if len(opened) > self.case.scenario.runs or len(opened) != len(closed):
            self.bad.append(f"{len(opened)} runs opened, {len(closed)} closed")
        for record in closed:
            self._judge_ending(record.outcome)
        endings = [record.outcome for record in closed]
        # Nothing is stored of a run that was cancelled before it had opened.
        kept = any(isinstance(e, Cancelled) for e in endings) or (
            len(endings) < self.case.scenario.runs and "cancelled" in self.world.statuses
        )
        if self.accepted.get(session) and not kept:
            self.bad.append(f"the wish to cancel was accepted, but it ended {endings}")
        self.bad += effect_faults(self.case.scenario, self.world, session, log)

    def _judge_ending(self, outcome: Outcome) -> None:
        suspends = self.case.scenario.suspends
        if not isinstance(outcome, (Cancelled, *self.case.scenario.endings)):
            self.bad.append(f"it ended {outcome}")
        if isinstance(outcome, Cancelled) and not self.hit and not suspends:
            self.bad.append(f"nobody cancelled it, but it ended {outcome}")

    def _below(self, session: str) -> list[str]:
        return [child_id(session, call) for call in self.case.scenario.below]

    async def _judge_below(self, session: str) -> None:
        """What sessions below have done is told as truly as the rest."""
        for child in self._below(session):
            with suppress(SessionNotFound):
                log = records_of(await self.world.store.read(child))
                self.bad += [f"{child}: {each}" for each in violations(log, closed=True)]
                self.bad += effect_faults(self.case.scenario, self.world, child, log)
                self.bad += await output_faults(self.case.scenario, self.world, child, log)

    async def _judge_steering(self, log: list[Record]) -> None:
        waiting = len(await self.world.store.inbox(self.world.sessions[0]))
        said = {"steered": self.world.steered, "follow up": self.world.followed}
        for text, acknowledged in said.items():
            seen = sum(isinstance(r, MessageAppended) and r.message.text == text for r in log)
            if seen > 1 or waiting or (acknowledged and not seen):
                self.bad.append(f"{text!r} was delivered {seen} times, {waiting} items are left")


def let_finish(store: Store) -> None:
    """Returns once the store has done all that it had been asked for, whatever thread does it."""

    async def wait_behind() -> None:
        await store.create("of nobody")  # behind all that is to be written
        await store.info("of nobody")  # and read

    thread = threading.Thread(target=partial(anyio.run, wait_behind))
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


class Sweep:
    """Cancels program after program; `stores` are those that serve many of them."""

    def __init__(self, stores: Mapping[Kind, StoreWithNotes]) -> None:
        self.cases = 0
        self.failures: list[str] = []
        self._stores = stores

    def over(self, first: Case, stride: int) -> int:
        """Cancels at each `stride`-th step, from that of `first` on, until the program ends before;
        how many cases.
        """
        before, step = self.cases, first.step
        while True:
            case = replace(first, step=step)
            trial = _Trial(case, self._store(case.store), self._sessions(case.scenario))
            try:
                trial.run()
            except Exception as error:  # noqa: BLE001  a failure to report like any other
                trial.bad.append(f"raised {error!r}")
            self.failures += [f"{case}: {bad}" for bad in dict.fromkeys(trial.bad)]
            self.cases += 1
            if not trial.hit or len(self.failures) > 200:
                return self.cases - before
            step += stride

    def _store(self, kind: Kind) -> StoreWithNotes:
        match kind:
            case "memory":
                return MemoryStore()
            case "slow":
                return SlowStore()
            case _:
                return self._stores[kind]

    def _sessions(self, scenario: Scenario) -> tuple[str, ...]:
        return tuple(f"{self.cases}-{n}" for n in range(scenario.sessions))
