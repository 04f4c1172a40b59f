"""Figure 8: every known fault of systems of this kind has a test that rules it out."""

from __future__ import annotations

from tests.figures.result import FigureResult
from tests.test_fault_catalogue import FAULTS, claimed_by_tests


def run(full: bool) -> FigureResult:
    """The whole catalogue: it is the same in both sizes."""
    del full
    claims = claimed_by_tests()
    missing = tuple(f"{id} ({what}): no test" for id, what in FAULTS.items() if id not in claims)
    tests = len({test for id in FAULTS for test in claims.get(id, ())})
    return FigureResult(len(FAULTS), missing, f"faults that {tests} tests rule out")
