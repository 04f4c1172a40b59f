"""The rows for people, and for programs."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from benchmarks.harness import Row
from benchmarks.scenarios import FIGURES

__all__ = ["as_json", "as_table", "number"]


def as_table(rows: Sequence[Row]) -> str:
    """A Markdown table: CPU of the whole process, medians; wall time behind it."""
    lines = [
        "| scenario | floor | ours | ratio (spread) | of its own | wall floor / ours | aim |",
        "|---|---|---|---|---|---|---|",
    ]
    several = len({row.against for row in rows}) > 1
    for row in rows:
        figure = FIGURES[row.scenario]
        against = f" (against {row.against})" if several else ""
        wall = (
            "–"
            if row.floor_wall is None or row.ours_wall is None
            else f"{number(row.floor_wall)} / {number(row.ours_wall)}"
        )
        lines.append(
            f"| {row.scenario}: {figure.title}{against} | {number(row.floor)} {row.unit} "
            f"| {number(row.ours)} {row.unit} | {row.ratio:.2f}x "
            f"({row.spread[0]:.2f}–{row.spread[1]:.2f}) | {row.own:+.3g} | {wall} | {figure.bar} |"
        )
    return "\n".join(lines)


def as_json(rows: Sequence[Row]) -> bytes:
    """`{"rows": [{"scenario", "floor", "ours", "ratio", "unit"}], "details": […]}`."""
    brief = [
        {
            "scenario": row.scenario,
            "floor": row.floor,
            "ours": row.ours,
            "ratio": row.ratio,
            "unit": row.unit,
        }
        for row in rows
    ]
    return msgspec.json.format(msgspec.json.encode({"rows": brief, "details": rows}))


def number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
