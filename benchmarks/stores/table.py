"""Measures the stores beside their drivers; the rows for people, and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import msgspec
from msgspec import Struct

from benchmarks.harness import interleaved
from benchmarks.stores.figures import FIGURES, PARTS, SIZES, title_of
from benchmarks.stores.servers import database_server
from benchmarks.table import number

__all__ = ["StoreRow", "as_json", "as_table", "measure_stores"]

_SIDES = ("bare", "ours")


class StoreRow(Struct, frozen=True, kw_only=True):
    """What came out for one figure: medians over the repetitions.

    Attributes:
        cpu: CPU of the whole process, or what else the unit says, by side.
        wall: wall time by side, in the same unit; empty where there is none.
        ratio: ours to the driver's, taken inside each repetition.
        spread: the smallest and the largest of these.
    """

    part: str
    figure: str
    unit: str
    cpu: dict[str, float]
    wall: dict[str, float]
    ratio: float
    spread: tuple[float, float]


def measure_stores(size: str, url: str) -> list[StoreRow]:
    """Measures every part, with the model at `url`.

    Raises:
        WrongResult: a side came to another result than it must.
    """
    rows: list[StoreRow] = []
    with database_server() as server:
        for part in PARTS:
            commands = {
                side: ["benchmarks.stores.worker", side, part, url, server, size] for side in _SIDES
            }
            taken = interleaved(commands, SIZES[size].repetitions)
            for figure in taken["ours"][0]:
                samples = {side: [each[figure] for each in taken[side]] for side in _SIDES}
                pairs = zip(samples["bare"], samples["ours"], strict=True)
                ratios = [after.value / before.value for before, after in pairs if before.value]
                walls = {
                    side: [sample.wall for sample in found if sample.wall is not None]
                    for side, found in samples.items()
                }
                rows.append(
                    StoreRow(
                        part=part,
                        figure=figure,
                        unit=FIGURES[figure],
                        cpu={
                            s: median(each.value for each in found) for s, found in samples.items()
                        },
                        wall={s: median(found) for s, found in walls.items() if found},
                        ratio=median(ratios or [0.0]),
                        spread=(min(ratios or [0.0]), max(ratios or [0.0])),
                    )
                )
    return rows


def as_table(rows: Sequence[StoreRow]) -> str:
    """A Markdown table: CPU of the whole process, medians; wall time and rates behind it."""
    lines = [
        "| | driver | ours | ratio (spread) | wall driver / ours |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        cpu = [f"{number(row.cpu[side])} {row.unit}" for side in _SIDES]
        lines.append(
            f"| {title_of(row.part, row.figure)} | {' | '.join(cpu)} "
            f"| {row.ratio:.2f}x ({row.spread[0]:.2f}–{row.spread[1]:.2f}) | {_wall(row)} |"
        )
    return "\n".join(lines)


def as_json(rows: Sequence[StoreRow]) -> bytes:
    """`{"rows": [{"part", "figure", "unit", "cpu", "wall", "ratio", "spread"}]}`."""
    return msgspec.json.format(msgspec.json.encode({"rows": rows}))


def _wall(row: StoreRow) -> str:
    if not row.wall:
        return "–"
    if row.figure == "append":
        return " / ".join(f"{1e6 / row.wall[side]:,.0f}/s" for side in _SIDES)
    return " / ".join(f"{number(row.wall[side])} {row.unit}" for side in _SIDES)
