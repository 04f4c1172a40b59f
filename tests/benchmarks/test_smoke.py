"""The benchmarks measure what they say: both sides do the same work, and a wrong result is refused.

Nothing here looks at a time. SDKs that are not installed are skipped.
"""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import msgspec
import pytest

from benchmarks import cancelling
from benchmarks.clients import codecs
from benchmarks.clients import figures as clients
from benchmarks.clients import table as client_table
from benchmarks.clients.table import ClientRow
from benchmarks.clients.worker import is_installed
from benchmarks.clients.worker import part_of as client_part
from benchmarks.harness import Row, serving
from benchmarks.limits import loops
from benchmarks.limits import table as limits
from benchmarks.limits.table import LimitRow
from benchmarks.measuring import expect
from benchmarks.scenarios import FIGURES, PARTS, TINY, WrongResult
from benchmarks.table import as_json, as_table
from benchmarks.worker import part_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def small_heap() -> Generator[None]:
    """Each measurement collects garbage first; what other tests have left need not be looked at."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def model() -> Generator[str]:
    """The mock model's base URL."""
    with serving() as url:
        yield url


SIDES = [
    *[(side, part) for side in ("floor", "ours") for part in PARTS],
    *[("limited", part) for part in loops.PARTS],
]


@pytest.mark.parametrize(("side", "part"), SIDES)
def test_each_side_of_each_scenario_does_its_work(side: str, part: str, model: str) -> None:
    """A repetition verifies what came out before it gives any figure."""

    async def once() -> set[str]:
        async with part_of(side, part)(model, TINY) as repeat:
            return set(await repeat())

    assert asyncio.run(once()) == {name for name, row in FIGURES.items() if row.part == part}


@pytest.mark.parametrize("part", clients.PARTS)
@pytest.mark.parametrize("side", [clients.SDK, *clients.OURS])
def test_each_client_does_the_work_of_each_part(side: str, part: str, model: str) -> None:
    """The SDKs and both of our transports, in three protocols; answers and bodies are verified."""
    if side == clients.SDK and not is_installed(part):
        pytest.skip(f"the SDK of {part} is not installed: pip install 'power-loop[bench]'")

    async def once() -> set[str]:
        async with client_part(side, part, model, "tiny") as repeat:
            return set(await repeat())

    kind = part.partition(".")[2]
    assert asyncio.run(once()) == {
        name for name, figure in clients.FIGURES.items() if figure.kind == kind
    }


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


def client_row(figure: str, cpu: dict[str, float], times: dict[str, float]) -> ClientRow:
    """What came out for one figure of Chat Completions."""
    return ClientRow(
        protocol="chat",
        figure=figure,
        unit=clients.FIGURES[figure].unit,
        cpu=cpu,
        wall=dict(cpu),
        times=times,
        spread={side: (value - 1, value + 1) for side, value in times.items()},
    )


def test_a_client_that_misses_an_aim_is_bold() -> None:
    """The table hides nothing: neither a ratio that is too small nor a cost that is too high."""
    cpu = {"sdk": 80.0, "httpx": 20.0, "aiohttp": 10.0}
    chunk = client_row("stream", cpu, {"httpx": 4.0, "aiohttp": 8.0})
    turn = client_row("encode.again", {"sdk": 90.0, "httpx": 3.0, "aiohttp": 1.0}, {})
    _, _, ratio, cost = client_table.as_table([chunk, turn]).splitlines()
    assert "| 80 µs, 12,500/s | 20 µs, 50,000/s | 10 µs, 100,000/s |" in ratio
    assert "| **4x (3–5)**, 8x (7–9) | ≥ 5x |" in ratio
    assert "| **3 µs** | 1 µs | –, – | ≤ 2 µs |" in cost


def test_without_an_sdk_ours_is_still_measured() -> None:
    """Its column and the ratios stay empty."""
    row = client_row("requests1", {"httpx": 20.0, "aiohttp": 10.0}, {})
    line = client_table.as_table([row]).splitlines()[-1]
    assert "| – | 20 µs, 50,000/s | 10 µs, 100,000/s | –, – |" in line


def test_the_cost_of_limits_is_bold_where_it_misses_its_aim() -> None:
    """With the interval in which the median lies."""
    row = LimitRow(
        scenario="b", unit="ms", without=0.5, limited=0.6, ratio=1.2, interval=(1.15, 1.3)
    )
    line = limits.as_table([row]).splitlines()[-1]
    assert "| 0.5 ms | 0.6 ms | **1.200x (1.150–1.300)** | ≤ 1.05x |" in line
    assert msgspec.json.decode(limits.as_json([row]))["rows"][0]["ratio"] == 1.2


@pytest.mark.parametrize(
    ("count", "ranks"), [(1, (1, 1)), (5, (1, 5)), (6, (1, 6)), (9, (2, 8)), (21, (6, 16))]
)
def test_an_interval_of_the_median_is_that_of_the_sign_test(
    count: int, ranks: tuple[int, int]
) -> None:
    """The ranks are those of the tables; with fewer than six values no interval is sure, and all
    of them are given."""
    assert limits.interval(range(1, count + 1)) == ranks


def test_what_is_cancelled_is_measured_on_each_store(model: str) -> None:
    """Each run must end as cancelled, or nothing is measured."""
    rows = cancelling.measure_cancelling("tiny", model)
    assert len(rows) == 6
    assert all(0 < row.middle <= row.slow for row in rows)
    assert "| a streamed model call | SQLite | " in cancelling.as_table(rows)
    assert len(msgspec.json.decode(cancelling.as_json(rows))["rows"]) == 6


def test_the_codecs_are_measured_in_every_protocol() -> None:
    """Each body holds every question, and each answer is read as it was written."""
    rows = codecs.measure_codecs(codecs.TINY)
    assert [row.protocol for row in rows] == [
        "chat",
        "responses",
        "messages",
        "gemini",
        "cohere",
        "ollama",
    ]
    assert "| chat | " in codecs.as_table(rows)
    assert len(msgspec.json.decode(codecs.as_json(rows))["rows"]) == len(rows)
