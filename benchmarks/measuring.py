"""Clocks and memory of this process."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Self

from benchmarks.scenarios import Sample, Size, WrongResult

__all__ = ["Open", "Repeat", "Watch", "expect", "kib_in", "per_session", "shares"]

Repeat = Callable[[], Awaitable[Mapping[str, Sample]]]
"""One repetition: does the work, verifies its result, and only then gives figures."""

Open = Callable[[str, Size], AbstractAsyncContextManager[Repeat]]
"""Opens one part of one side, against the model at a base URL."""


class Watch:
    """Measures from its making on: CPU of all threads of the process, and wall time."""

    def __init__(self) -> None:
        gc.collect()
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def sample(self, units: float, scale: float = 1e3) -> Sample:
        """What has passed, per unit; in milliseconds unless `scale` says otherwise."""
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return Sample(cpu * scale / units, wall * scale / units)


class shares:  # noqa: N801  reads as a phrase: `with shares() as laps`
    """CPU seconds of consecutive laps."""

    def __init__(self) -> None:
        self.laps: list[float] = []

    def __enter__(self) -> Self:
        gc.collect()
        self._last = time.process_time()
        return self

    def lap(self) -> None:
        now = time.process_time()
        self.laps.append(now - self._last)
        self._last = now

    def __exit__(self, *_: object) -> None:
        return

    def growth(self) -> float:
        """How much dearer the last tenth of the laps is than the first."""
        tenth = max(len(self.laps) // 10, 1)
        return sorted(self.laps[-tenth:])[tenth // 2] / sorted(self.laps[:tenth])[tenth // 2]


async def per_session(work: Callable[[], Awaitable[object]], sessions: int) -> Sample:
    """What Python held at the peak of `work`, beyond what it held before, in KiB a session."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = await work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    del kept
    return Sample((peak - before) / 1024 / sessions)


def kib_in(directory: Path) -> Sample:
    """The size of all files in `directory`."""
    return Sample(sum(path.stat().st_size for path in directory.iterdir()) / 1024)


def expect(found: object, wanted: object, what: str) -> None:
    """Refuses a result that is not what it must be.

    Raises:
        WrongResult: it is not.
    """
    if found != wanted:
        raise WrongResult(f"{what} is {found!r}, not {wanted!r}")
