"""Figure 12: a long life on virtual time; memory, tasks, open files and threads stay what they are.

Sessions are opened, used in many ways (text, tools, an overloaded model, timeouts, streams, lists,
pins, notes, more than a window holds), remembered and deleted, over each kind of store and on both
event loops, in processes of their own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Literal

import msgspec
import pytest
from msgspec import Struct

from tests.agent.stepping import Backend
from tests.figures.result import FigureResult
from tests.figures.soak import Sample, Soaked
from tests.stores.places import new_place

_ROOT = Path(__file__).resolve().parents[2]
_BYTES_PER_TURN = 1000
_WARM = 1 / 3
"""The part of a life in which caches fill."""


class _Life(Struct, frozen=True):
    """Where it is spent, and for how many turns; in the small figure too, if `small`."""

    store: Literal["memory", "sqlite", "postgres"]
    backend: Backend
    turns: int
    small: bool = False


_LIVES = (
    _Life("memory", "asyncio", 80_000),
    _Life("memory", "trio", 50_000, small=True),
    _Life("sqlite", "asyncio", 30_000, small=True),
    _Life("sqlite", "trio", 15_000),
    _Life("postgres", "asyncio", 15_000),
    _Life("postgres", "trio", 15_000, small=True),
)
_SMALL_TURNS = 1_200


def run(full: bool) -> FigureResult:
    """200,000 turns; small: 3,600, one life for each store."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("what a process uses is read from /proc, which is not here")
    failures, told, turns = list[str](), list[str](), 0
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as threads:
        lives = [
            (life, _place(life, Path(folder)), life.turns if full else _SMALL_TURNS)
            for life in _LIVES
            if full or life.small
        ]
        for (life, *_), soaked in zip(lives, threads.map(_live, lives), strict=True):
            name, slope = f"{life.store} on {life.backend}", _slope(soaked.samples)
            failures += [f"{name}: {each}" for each in (*soaked.failures, *_faults(soaked, slope))]
            told.append(f"{name} {soaked.samples[-1].turns} turns, {slope:+.0f} bytes/turn")
            turns += soaked.samples[-1].turns
    return FigureResult(turns, tuple(failures), "; ".join(told))


def _place(life: _Life, folder: Path) -> str:
    if life.store == "memory":
        return life.store
    (folder / life.store / life.backend).mkdir(parents=True)
    return new_place(life.store, folder / life.store / life.backend)


def _live(planned: tuple[_Life, str, int]) -> Soaked:
    life, place, turns = planned
    done = subprocess.run(
        [sys.executable, "-m", "tests.figures.soak", place, life.backend, str(turns)],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    return msgspec.json.decode(done.stdout, type=Soaked)


def _warm(samples: Sequence[Sample]) -> Sequence[Sample]:
    return [sample for sample in samples if sample.turns > samples[-1].turns * _WARM]


def _slope(samples: Sequence[Sample]) -> float:
    """Bytes of resident memory by which a turn makes the process grow: the median over all pairs of
    samples (Theil and Sen), which a cache that grows once does not move, and a leak does.
    """
    return median(
        (later.resident - earlier.resident) / (later.turns - earlier.turns)
        for earlier, later in combinations(_warm(samples), 2)
    )


def _faults(soaked: Soaked, slope: float) -> list[str]:
    found: list[str] = []
    if slope >= _BYTES_PER_TURN:
        found.append(f"every turn leaves {slope:.0f} bytes behind")
    for what in ("tasks", "files", "threads"):
        seen = {getattr(sample, what) for sample in _warm(soaked.samples)}
        if len(seen) > 1:
            found.append(f"the number of {what} was {sorted(seen)}")
    return found
