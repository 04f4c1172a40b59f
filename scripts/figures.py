"""Reliability figures: `python scripts/figures.py N… [--full]` runs them and prints a line each.

Exit status 1 when a case failed, or when fewer cases were tried than a figure must try.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from msgspec import Struct

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.corpus import corpus_path  # noqa: E402  the tests are beside, not installed
from tests.figures.result import FigureResult  # noqa: E402

Runner = Callable[[bool], FigureResult]


class Figure(Struct, frozen=True):
    """Where a figure is computed, and the least number of cases it must try.

    `bare` is the small run of a checkout without the recorded traffic, `small` the one with it,
    `full` the whole figure.
    """

    modules: tuple[str, ...]
    bare: int
    small: int
    full: int


FIGURES: dict[int, Figure] = {
    1: Figure(("figure_01",), 90, 90, 33_000),
    2: Figure(("figure_02",), 110, 110, 8_500),
    3: Figure(("figure_03", "figure_03_stores"), 5_500, 5_500, 200_000),
    4: Figure(("figure_04",), 70, 4_360, 13_080),
    5: Figure(("figure_05",), 1_200, 21_000, 5_000_000),
    6: Figure(("figure_06", "figure_06_loopback"), 900, 29_000, 3_800_000),
    7: Figure(("figure_07",), 20_000, 20_000, 1_000_000),
    8: Figure(("figure_08",), 82, 82, 82),
    9: Figure(("figure_09",), 3_000, 3_000, 150_000),
    10: Figure(("figure_10", "figure_10_processes"), 2_120, 2_120, 101_280),
    11: Figure(("figure_11", "figure_11_protocols"), 800, 800, 10_000),
    12: Figure(("figure_12",), 3_600, 3_600, 200_000),
    13: Figure(("figure_13",), 220, 220, 2_000),
    14: Figure(("figure_14",), 60, 60, 1_000),
    17: Figure(("figure_17",), 1_200, 1_200, 100_000),
    18: Figure(("figure_18",), 480, 480, 3_000),
    19: Figure(("figure_19",), 144, 144, 1_200),
}


def run(number: int, *, full: bool) -> tuple[str, bool]:
    """Runs one figure: its line, and whether it holds."""
    figure = FIGURES[number]
    began = time.perf_counter()
    results: list[FigureResult] = []
    for name in figure.modules:
        runner: Runner = import_module(f"tests.figures.{name}").run
        results.append(runner(full))
    cases = sum(result.cases for result in results)
    failures = [failure for result in results for failure in result.failures]
    recorded = corpus_path("dev.openai_chat.jsonl") is not None
    least = figure.full if full else figure.small if recorded else figure.bare
    scenarios = "; ".join(result.scenarios for result in results)
    line = (
        f"figure {number}: cases={cases} failures={len(failures)} "
        f"seconds={time.perf_counter() - began:.1f} ({scenarios})"
    )
    if cases < least:
        failures.append(f"only {cases} cases were tried, at least {least} must be")
    return "\n".join([line, *(f"  {failure}" for failure in failures[:20])]), not failures


def main() -> int:
    """Runs the figures named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("numbers", nargs="+", type=int, choices=sorted(FIGURES), metavar="N")
    parser.add_argument("--full", action="store_true", help="all cases, not a sample")
    args = parser.parse_args()
    holds = True
    for number in args.numbers:
        line, held = run(number, full=args.full)
        print(line, flush=True)
        holds = holds and held
    return 0 if holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
