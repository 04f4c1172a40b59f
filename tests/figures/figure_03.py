"""Figure 3: cancelled at every scheduler step, in five ways, and a second time during clean-up.

What must hold after each is in `cancelling`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tests.agent.cancel_scenarios import SCENARIOS
from tests.figures.cancelling import WAYS, Case, Kind, Sweep
from tests.figures.result import FigureResult

_KINDS: tuple[Kind, ...] = ("memory", "slow")


def run(full: bool) -> FigureResult:
    """See the module."""
    counts: Counter[str] = Counter()
    sweep = Sweep({})
    for first, stride in _plan(full=full):
        counts[first.scenario.name] += sweep.over(first, stride)
    told = ", ".join(f"{name} {count}" for name, count in counts.items())
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
                    stride = 4 if kind == "slow" else 3
                    yield Case(scenario, backend, way, kind, 1, second), stride
