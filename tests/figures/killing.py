"""Kills the program of `tests.crash` at each of its named points, with many seeds, side by side."""

from __future__ import annotations

import random
import shutil
import signal
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Self

import pytest
from msgspec import Struct
from msgspec.structs import replace

from tests.crash.journal import RECOVERY, Case, Program
from tests.crash.judging import Tried, faults
from tests.crash.zygote import Zygote

__all__ = [
    "SETUPS",
    "Bench",
    "Killed",
    "Spot",
    "kill_everywhere",
    "named_spots",
    "remembering_spots",
    "side_by_side",
]

SETUPS = ("tool begins d", "tool ends b", "after post", "answered first", "asked for approval")
"""Where the program dies so that, started again, it has something to recover."""
_Variant = tuple[Program, bool, bool]
"""A program, whether it has hooks, and whether SQL statements are points."""
_REMEMBERING: Sequence[Program] = ("summary", "rule", "overflow")
_REMEMBERING_SETUPS = (
    "asked for compaction",
    "after ModelEnded+ViewChanged",
    "after ViewChanged",
    "after facts are searched",
    "asked for memory",
    "after fact is kept",
)
_UNSTABLE = 3
"""A point that fewer of the probing runs came to is left to chance."""


class Bench:
    """Where programs run one after the other, each from nothing. To be used as a context.

    `place` is a database and schema on a server; without one each program has a file of its own.
    """

    def __init__(self, place: str = "") -> None:
        self.zygote = Zygote()
        self._place = place
        self._numbers = count(1)

    def __enter__(self) -> Self:
        if not hasattr(signal, "SIGKILL"):
            pytest.skip("processes can be forked and killed on POSIX only")
        self._folder = Path(tempfile.mkdtemp(prefix="power-loop-kills-"))
        self.zygote.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.zygote.__exit__()
        shutil.rmtree(self._folder)

    def case(
        self,
        program: Program = "tools",
        *,
        hooks: bool = False,
        sql: bool = False,
        seed: int = 0,
    ) -> Case:
        """A program that has not been started yet."""
        number = next(self._numbers)
        folder = self._folder / str(number)
        folder.mkdir()
        session = f"s{number}" if self._place else "s"
        return Case(
            str(folder),
            program,
            hooks=hooks,
            sql=sql,
            seed=seed,
            place=self._place,
            session=session,
        )

    def judged(self, case: Case) -> tuple[Tried, list[str]]:
        """Runs it to its end, undisturbed; what is left, and what is wrong with it."""
        status = self.zygote.run(case)
        tried = Tried(case)
        shutil.rmtree(case.folder)
        ended = [] if status == 0 else [f"started again, it ended with {status}"]
        return tried, ended + faults(tried)


class Spot(Struct, frozen=True):
    """A way to a named point: the program and its options, where it dies first so that it has
    something to recover ("" if it does not), and how often it then comes to the point.
    """

    program: Program
    hooks: bool
    sql: bool
    setup: str
    times: int


class Killed(Struct):
    """What came of a sweep."""

    kills: int = 0
    points: int = 0
    """Named points at which it was killed as often as it had to be."""
    failures: list[str] = []

    def add(self, other: Killed) -> None:
        """Takes in what came of another part of it."""
        self.kills += other.kills
        self.points += other.points
        self.failures += other.failures


def named_spots(bench: Bench, *, sql: bool) -> dict[str, list[Spot]]:
    """The named points that the program of tools comes to, and the ways to each."""
    variants: list[_Variant] = [("tools", False, False), ("tools", True, False)]
    if sql:
        variants.append(("tools", False, True))
    return _spots(bench, variants, SETUPS)


def remembering_spots(bench: Bench, *, sql: bool) -> dict[str, list[Spot]]:
    """The same for the programs whose session is compacted, and that remember."""
    variants: list[_Variant] = [(each, False, False) for each in _REMEMBERING]
    variants.append(("summary", True, False))
    if sql:
        variants.append(("summary", False, True))
    return _spots(bench, variants, _REMEMBERING_SETUPS)


def _spots(
    bench: Bench, variants: Sequence[_Variant], setups: Sequence[str]
) -> dict[str, list[Spot]]:
    found: dict[str, list[Spot]] = defaultdict(list)
    for program, hooks, traced in variants:
        for seed, setup in enumerate(("", "", "", *setups)):
            case = bench.case(program, hooks=hooks, sql=traced, seed=seed)
            died = setup and bench.zygote.run(replace(case, kill_on=setup)) != 0
            tried, wrong = bench.judged(case)
            assert wrong == []
            for name, times in Counter(tried.points).items():
                if name.startswith(RECOVERY) == bool(died):
                    found[name].append(Spot(program, hooks, traced, setup, times))
    return {name: spots for name, spots in found.items() if len(spots) >= _UNSTABLE}


def _kill_at(bench: Bench, name: str, spots: Sequence[Spot], wanted: int) -> Killed:
    """Kills the program at one point until that has been done as often as wanted."""
    result, hits = Killed(failures=[]), 0
    for seed in range(3 * wanted):
        rng = random.Random(f"{name} {seed}")
        spot = rng.choice(spots)
        case = bench.case(spot.program, hooks=spot.hooks, sql=spot.sql, seed=seed)
        if spot.setup:
            bench.zygote.run(replace(case, kill_on=spot.setup))
        status = bench.zygote.run(
            replace(case, kill_on=name, nth=rng.randint(1, max(1, spot.times)))
        )
        hit = status == -signal.SIGKILL
        if status not in (0, -signal.SIGKILL):
            result.failures.append(f"{name}, seed {seed}: it ended with {status}")
        elif hit and rng.random() < 0.25:  # and once more, wherever it is by then
            again = bench.zygote.run(replace(case, kill_at=rng.randint(1, 60)))
            result.kills += again == -signal.SIGKILL
        _, wrong = bench.judged(case)
        result.failures += [f"{name}, seed {seed}, {spot}: {each}" for each in wrong]
        result.kills += hit
        hits += hit
        if hits == wanted or len(result.failures) > 20:
            break
    result.points = int(hits == wanted)
    return result


def kill_everywhere(
    benches: Sequence[Bench], spots: dict[str, list[Spot]], names: Sequence[str], wanted: int
) -> Killed:
    """Kills the program at each of `names`, `wanted` times each."""
    return side_by_side(
        benches, [lambda bench, n=name: _kill_at(bench, n, spots[n], wanted) for name in names]
    )


def side_by_side(benches: Sequence[Bench], jobs: Sequence[Callable[[Bench], Killed]]) -> Killed:
    """Does all jobs, as many at once as there are benches."""
    free = list(benches)
    total = Killed(failures=[])

    def do(job: Callable[[Bench], Killed]) -> Killed:
        bench = free.pop()
        try:
            return job(bench)
        finally:
            free.append(bench)

    with ThreadPoolExecutor(len(benches)) as threads:
        for killed in threads.map(do, jobs):
            total.add(killed)
    return total
