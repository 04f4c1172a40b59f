"""A clock that jumps: hours of waiting pass in no time, and in the right order."""

from __future__ import annotations

from bisect import insort

import anyio
import anyio.lowlevel

__all__ = ["VirtualClock"]


class _Sleeper:
    __slots__ = ("due", "first", "order")

    def __init__(self, due: float, order: int) -> None:
        self.due = due
        self.order = order
        self.first = anyio.Event()

    def __lt__(self, other: _Sleeper) -> bool:
        return (self.due, self.order) < (other.due, other.order)


class VirtualClock:
    """Time that passes only when somebody sleeps.

    Whoever is due earliest wakes first, in whichever order the sleepers came; the clock then shows
    that time. Before it jumps, other tasks get `settle` turns of the event loop in which to begin a
    shorter sleep of their own.

    Pass `clock.now` and `clock.sleep` where a clock and a sleep are asked for. Works on asyncio and
    trio; for one event loop at a time.
    """

    def __init__(self, start: float = 0.0, *, settle: int = 10) -> None:
        self._now = start
        self._settle = settle
        self._sleepers: list[_Sleeper] = []
        self._count = 0

    def now(self) -> float:
        """The present, in seconds."""
        return self._now

    @property
    def sleeping(self) -> int:
        """How many tasks are asleep."""
        return len(self._sleepers)

    def advance(self, seconds: float) -> None:
        """Lets `seconds` pass, as work does that takes time. Wakes nobody by itself."""
        self._now += seconds

    async def sleep(self, seconds: float) -> None:
        """Waits for `seconds` of this clock's time."""
        if seconds <= 0:
            await anyio.lowlevel.checkpoint()
            return
        self._count += 1
        sleeper = _Sleeper(self._now + seconds, self._count)
        insort(self._sleepers, sleeper)
        try:
            while True:
                if self._sleepers[0] is not sleeper:
                    sleeper.first = anyio.Event()
                    await sleeper.first.wait()
                for _ in range(self._settle):
                    await anyio.lowlevel.checkpoint()
                if self._sleepers[0] is sleeper:
                    self._now = max(self._now, sleeper.due)
                    return
        finally:
            self._sleepers.remove(sleeper)
            if self._sleepers:
                self._sleepers[0].first.set()
