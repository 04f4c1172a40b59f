"""Figure 1: killed with SIGKILL at every named point of its journal, on SQLite, and started again.

No acknowledged message or record is lost, none is doubled, no unsafe tool runs twice, every request
is legal, and the model is told the truth. Where the session is compacted and remembers, no summary
is made twice, the task stays, and what was remembered is there once.
"""

from __future__ import annotations

import re
from contextlib import ExitStack

from tests.crash.journal import RECOVERY
from tests.figures.killing import Bench, kill_everywhere, named_spots, remembering_spots
from tests.figures.result import FigureResult

_LEAST_POINTS = 30
_READS = re.compile(f"sql (SELECT|PRAGMA)|{RECOVERY}sql")
"""Statements that change nothing, and statements again: not worth a hundred kills each."""


def run(full: bool) -> FigureResult:
    """100 seeds for every named point; small: a kill each at as many points as must be named."""
    failures, told, kills = list[str](), list[str](), 0
    with ExitStack() as stack:
        benches = [stack.enter_context(Bench()) for _ in range(2)]
        for what, find in (("tools", named_spots), ("compaction and memory", remembering_spots)):
            spots = find(benches[0], sql=True)
            names = sorted(name for name in spots if not _READS.search(name))
            if not full:
                names = names[:: max(1, len(names) // 40)]
            killed = kill_everywhere(benches, spots, names, 100 if full else 1)
            failures += killed.failures
            if killed.points < _LEAST_POINTS:
                failures.append(f"{what}: only {killed.points} named points were reached in time")
            told.append(f"{what}: {killed.points} of {len(spots)} named points, {killed.kills}")
            kills += killed.kills
    return FigureResult(kills, tuple(failures), f"SIGKILL in {' kills; in '.join(told)} kills")
