"""Runs a program one scheduler step at a time, with something done before the k-th step."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Literal, cast

import sniffio
import trio
import trio.testing

__all__ = ["Backend", "Steps", "Turns", "run_stepwise", "run_with_turns", "tasks_alive"]

Backend = Literal["asyncio", "trio"]


class Steps:
    """Counts scheduler steps while `counting`, and does things before some of them.

    Attributes:
        late: seconds by which the event loop's clock is ahead of the real one.
    """

    def __init__(self) -> None:
        self.counting = False
        self.count = 0
        self.late = 0.0
        self._at: dict[int, list[Callable[[], object]]] = {}

    def at(self, step: int, action: Callable[[], object]) -> None:
        """Has `action` called before step number `step`, counted from 1."""
        self._at.setdefault(step, []).append(action)

    def tick(self) -> bool:
        """One step is about to be made; whether something was done before it."""
        if not self.counting:
            return False
        self.count += 1
        actions = self._at.pop(self.count, ())
        for action in actions:
            action()
        return bool(actions)


class _SteppingLoop(asyncio.SelectorEventLoop):
    """An event loop that runs one callback at a time."""

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self._steps = steps

    def time(self) -> float:
        return super().time() + self._steps.late

    def _run_once(self) -> None:
        self._steps.tick()
        ready = cast("deque[Any]", getattr(self, "_ready"))  # noqa: B009  it is not declared
        later = [ready.pop() for _ in range(len(ready) - 1)]
        cast("Any", super())._run_once()
        ready.extendleft(later)


class _Instrument(trio.abc.Instrument):
    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._steps.tick()

    def before_io_wait(self, timeout: float) -> None:
        """All tasks wait for something outside, such as the thread of a store."""
        if timeout > 0 and self._steps.tick():
            # It would wait all the same, perhaps for what does not come any more.
            trio.lowlevel.current_trio_token().run_sync_soon(lambda: None)


class _Clock(trio.abc.Clock):
    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def start_clock(self) -> None:
        """It runs already."""

    def current_time(self) -> float:
        return time.perf_counter() + self._steps.late

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return deadline - self.current_time()


def run_stepwise(main: Callable[[], Awaitable[None]], steps: Steps, backend: Backend) -> None:
    """Runs `main` to its end, telling `steps` of every step."""
    if backend == "trio":
        trio.run(main, instruments=[_Instrument(steps)], clock=_Clock(steps))
        return
    loop = _SteppingLoop(steps)
    try:
        loop.run_until_complete(main())
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


class Turns:
    """Counts the turns of an event loop: in each, all that is ready runs once."""

    def __init__(self) -> None:
        self.count = 0


class _TurningLoop(asyncio.SelectorEventLoop):
    """An event loop that counts its turns."""

    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self._turns = turns

    def _run_once(self) -> None:
        self._turns.count += 1
        cast("Any", super())._run_once()


class _TurnInstrument(trio.abc.Instrument):
    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def before_io_wait(self, timeout: float) -> None:
        """Once per turn."""
        self._turns.count += 1


def run_with_turns(main: Callable[[], Awaitable[None]], turns: Turns, backend: Backend) -> None:
    """Runs `main` to its end, counting turns; trio's clock is a fake one."""
    if backend == "trio":
        clock = trio.testing.MockClock(autojump_threshold=0.01)
        trio.run(main, instruments=[_TurnInstrument(turns)], clock=clock)
        return
    loop = _TurningLoop(turns)
    try:
        loop.run_until_complete(main())
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def tasks_alive() -> int:
    """How many tasks the running event loop has."""
    if sniffio.current_async_library() == "asyncio":
        return len(asyncio.all_tasks())
    root = trio.lowlevel.current_root_task()
    assert root is not None
    waiting = [root]
    count = 0
    while waiting:
        task = waiting.pop()
        count += 1
        for nursery in task.child_nurseries:
            waiting.extend(nursery.child_tasks)
    return count
