"""The benchmarks measure what they say: both sides do the same work, and a wrong result is refused.

Nothing here looks at a time.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import msgspec
import pytest

from benchmarks.harness import Row, serving
from benchmarks.measuring import expect
from benchmarks.scenarios import FIGURES, PARTS, TINY, WrongResult
from benchmarks.table import as_json, as_table
from benchmarks.worker import SIDES, part_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model() -> Generator[str]:
    """The mock model's base URL."""
    with serving() as url:
        yield url


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("side", SIDES)
def test_each_side_of_each_scenario_does_its_work(side: str, part: str, model: str) -> None:
    """A repetition verifies what came out before it gives any figure."""

    async def once() -> set[str]:
        async with part_of(side, part)(model, TINY) as repeat:
            return set(await repeat())

    assert asyncio.run(once()) == {name for name, row in FIGURES.items() if row.part == part}


def test_a_wrong_result_is_refused() -> None:
    """Otherwise a side that does nothing would be the fastest."""
    with pytest.raises(WrongResult, match="the answers is 'nothing', not 'sunny'"):
        expect("nothing", "sunny", "the answers")


def test_the_table_can_be_had_as_json(tmp_path: Path) -> None:
    """`--json` writes one row a figure; the table goes to standard output."""
    target = tmp_path / "rows.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "a", "--tiny", "--json", str(target)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "| a: one round of text" in done.stdout
    (row,) = msgspec.json.decode(target.read_bytes())["rows"]
    assert set(row) == {"scenario", "floor", "ours", "ratio", "unit"}
    assert row["scenario"] == "a"


def test_an_unknown_scenario_is_an_error_that_names_the_known_ones() -> None:
    """Not an empty table."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "no scenario z; there are a, b, c" in done.stderr


def test_rows_say_what_each_side_took() -> None:
    """The ratio is the median over repetitions, not the ratio of the medians."""
    row = Row(
        scenario="a",
        against="floor",
        unit="ms",
        floor=0.5,
        ours=0.6,
        ratio=1.21,
        own=0.1,
        spread=(1.1, 1.3),
    )
    line = as_table([row]).splitlines()[-1]
    assert "| 0.5 ms | 0.6 ms | 1.21x (1.10–1.30) | +0.1 | – |" in line
    assert msgspec.json.decode(as_json([row]))["rows"] == [
        {"scenario": "a", "floor": 0.5, "ours": 0.6, "ratio": 1.21, "unit": "ms"}
    ]
