"""Figure 3: cancelled at every scheduler step, in seven ways, and a second time during clean-up.

The ways: a scope, the task itself, the verb, a token, a deadline, a reader that leaves its stream,
and a loop that closes. What must hold after each is in `cancelling`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tests.agent.cancel_scenarios import SCENARIOS
from tests.figures.cancelling import OTHER_WAYS, WAYS, Case, Kind, Sweep
from tests.figures.result import FigureResult

_KINDS: tuple[Kind, ...] = ("memory", "slow")


def run(full: bool) -> FigureResult:
    """See the module."""
    counts, ways = Counter[str](), Counter[str]()
    sweep = Sweep({})
    for first, stride in _plan(full=full):
        tried = sweep.over(first, stride)
        counts[first.scenario.name] += tried
        ways[first.way] += tried
    told = ", ".join(f"{name} {count}" for name, count in [*counts.items(), *ways.items()])
    return FigureResult(sweep.cases, tuple(sweep.failures), told)


def _plan(*, full: bool) -> Iterator[tuple[Case, int]]:
    """The first case of each sweep, and its stride."""
    for number, scenario in enumerate(SCENARIOS):
        for kind in _KINDS:
            for turn, (backend, way) in enumerate(WAYS):
                if full:
                    for second in (0, 1, 2, 3, 5, 8):
                        if way != "verb" or not second:
                            yield Case(scenario, backend, way, kind, 1, second), 1
                else:
                    second = 0 if way == "verb" else (0, 1, 3)[(number + turn) % 3]
                    yield Case(scenario, backend, way, kind, 1 + turn, second), 9
    yield from _by_other_ways(full=full)


def _by_other_ways(*, full: bool) -> Iterator[tuple[Case, int]]:
    """All of them; or one way on each event loop for each program and store, in turn."""
    for number, scenario in enumerate(SCENARIOS):
        for turn, kind in enumerate(_KINDS):
            for place, (backend, way) in enumerate(OTHER_WAYS):
                if way == "break" and not scenario.streams:
                    continue
                if full:
                    for second in (0, 2):
                        yield Case(scenario, backend, way, kind, 1, second), 1
                elif (number + turn + place) % 4 == 0:
                    second = 2 * ((number + place) % 2)
                    yield Case(scenario, backend, way, kind, 1 + place, second), 9
