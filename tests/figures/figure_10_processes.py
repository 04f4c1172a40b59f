"""Figure 10, second and third part: one session and several processes.

Two processes send at once and wait for their turns. Then two and sixteen send one by one, and
whoever holds the lease is stopped in the middle of a run, until it was taken over, and woken up.
"""

from __future__ import annotations

from tests.figures.contention import Contest, contend
from tests.figures.result import FigureResult
from tests.stores.places import KINDS

_SMALL = (Contest(2, 20), Contest(2, 10, lease=0.3, every=12))
_FULL = (
    Contest(2, 100),
    Contest(2, 100, lease=0.5, every=20),
    Contest(16, 15, lease=0.5, every=20),
)


def run(full: bool) -> FigureResult:
    """Nothing is lost, doubled or interleaved, and every stale write is refused."""
    cases, failures, told = 0, list[str](), list[str]()
    for kind in KINDS:
        for contest in _FULL if full else _SMALL:
            outcome = contend(kind, contest)
            cases += contest.processes * contest.messages
            where = f"{kind}, {contest.processes} processes"
            failures += [f"{where}: {failure}" for failure in outcome.failures]
            if contest.every:
                told.append(
                    f"{where}: {outcome.stops} stops, {outcome.takeovers} runs taken over, "
                    f"{outcome.refused} stale writes, all refused"
                )
                if not outcome.refused:
                    failures.append(f"{where}: no stale write was attempted")
    return FigureResult(cases, tuple(failures), "; ".join(told))
