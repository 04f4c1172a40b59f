"""Measures loops with limits beside loops without; the rows for people, and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import comb
from statistics import median
from types import MappingProxyType

import msgspec
from msgspec import Struct

from benchmarks.harness import interleaved
from benchmarks.limits.loops import PARTS
from benchmarks.scenarios import FIGURES
from benchmarks.table import number

__all__ = ["LimitRow", "as_json", "as_table", "interval", "measure_limits"]

REPETITIONS: Mapping[str, int] = MappingProxyType({"full": 21, "tiny": 1})
AIM = 1.05
_SURE = 0.95


class LimitRow(Struct, frozen=True, kw_only=True):
    """What came out for one scenario.

    Attributes:
        without, limited: CPU of the whole process, medians.
        ratio: limited to without, the median of those taken inside each repetition.
        interval: where that median lies, with 95 % confidence.
    """

    scenario: str
    unit: str
    without: float
    limited: float
    ratio: float
    interval: tuple[float, float]


def measure_limits(size: str, url: str) -> list[LimitRow]:
    """Measures every part, with the model at `url`.

    Raises:
        WrongResult: a side came to another result than it must.
    """
    rows: list[LimitRow] = []
    tiny = ["tiny"] if size == "tiny" else []
    for part in PARTS:
        commands = {
            side: ["benchmarks.worker", side, part, url, *tiny] for side in ("ours", "limited")
        }
        taken = interleaved(commands, REPETITIONS[size])
        without = [each[part].value for each in taken["ours"]]
        limited = [each[part].value for each in taken["limited"]]
        ratios = [after / before for before, after in zip(without, limited, strict=True)]
        rows.append(
            LimitRow(
                scenario=part,
                unit=FIGURES[part].unit,
                without=median(without),
                limited=median(limited),
                ratio=median(ratios),
                interval=interval(ratios),
            )
        )
    return rows


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Between which of the values their distribution's median lies, with 95 % confidence, whatever
    the distribution: the order statistics of the sign test. All of them if there are few."""
    ordered = sorted(values)
    count = len(ordered)
    outside = 0.0
    cut = 0
    while cut < (count - 1) // 2:
        outside += comb(count, cut) / 2 ** (count - 1)
        if outside > 1 - _SURE:
            break
        cut += 1
    low = max(cut - 1, 0)
    return ordered[low], ordered[count - 1 - low]


def as_table(rows: Sequence[LimitRow]) -> str:
    """A Markdown table; what misses the aim is bold."""
    lines = ["| scenario | without | with limits | ratio (95 %) | aim |", "|---|---|---|---|---|"]
    for row in rows:
        low, high = row.interval
        ratio = f"{row.ratio:.3f}x ({low:.3f}–{high:.3f})"
        lines.append(
            f"| {row.scenario}: {FIGURES[row.scenario].title} | {number(row.without)} {row.unit} "
            f"| {number(row.limited)} {row.unit} "
            f"| {ratio if row.ratio <= AIM else f'**{ratio}**'} | ≤ {AIM:g}x |"
        )
    return "\n".join(lines)


def as_json(rows: Sequence[LimitRow]) -> bytes:
    """`{"rows": […]}`."""
    return msgspec.json.format(msgspec.json.encode({"rows": rows}))
