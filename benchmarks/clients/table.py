"""Measures the clients side by side; the rows for people, and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

import msgspec
from msgspec import Struct

from benchmarks.clients.figures import FIGURES, OURS, PARTS, SDK, SIZES, ClientFigure
from benchmarks.clients.worker import is_installed
from benchmarks.harness import interleaved
from benchmarks.scenarios import Sample
from benchmarks.table import number

__all__ = ["ClientRow", "as_json", "as_table", "measure_clients"]


class ClientRow(Struct, frozen=True, kw_only=True):
    """What came out for one figure of one protocol: medians over the repetitions.

    Attributes:
        cpu: CPU of the whole process by side; without the SDK's where it is not installed.
        wall: wall time by side, where it says something.
        times: how many times less than the SDK, taken inside each repetition; of each of ours.
        spread: the smallest and the largest of these.
    """

    protocol: str
    figure: str
    unit: str
    cpu: dict[str, float]
    wall: dict[str, float]
    times: dict[str, float]
    spread: dict[str, tuple[float, float]]


def measure_clients(size: str, url: str) -> list[ClientRow]:
    """Measures every part with the model at `url`. An SDK that is not installed is left out.

    Raises:
        WrongResult: a client came to another result than it must.
    """
    rows: list[ClientRow] = []
    for part in PARTS:
        sides = (SDK, *OURS) if is_installed(part) else OURS
        commands = {side: ["benchmarks.clients.worker", side, part, url, size] for side in sides}
        taken = interleaved(commands, SIZES[size].repetitions)
        rows += [_row(part, figure, taken) for figure in taken["httpx"][0]]
    return rows


def _row(part: str, figure: str, taken: Mapping[str, list[dict[str, Sample]]]) -> ClientRow:
    samples = {side: [each[figure] for each in found] for side, found in taken.items()}
    ratios = {
        side: [b.value / o.value for b, o in zip(samples[SDK], samples[side], strict=True)]
        for side in OURS
        if SDK in samples and FIGURES[figure].compared
    }
    walls = {
        side: [sample.wall for sample in found if sample.wall is not None]
        for side, found in samples.items()
    }
    return ClientRow(
        protocol=part.partition(".")[0],
        figure=figure,
        unit=FIGURES[figure].unit,
        cpu={side: median(sample.value for sample in found) for side, found in samples.items()},
        wall={side: median(found) for side, found in walls.items() if found},
        times={side: median(found) for side, found in ratios.items()},
        spread={side: (min(found), max(found)) for side, found in ratios.items()},
    )


def as_table(rows: Sequence[ClientRow]) -> str:
    """A Markdown table: CPU of the whole process, medians. What misses its aim is bold."""
    lines = [
        "| | SDK | over httpx's engine | over aiohttp | times less (spread) | aim |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        figure = FIGURES[row.figure]
        ours = [_missed(_value(row, side), missed=_too_much(row, side)) for side in OURS]
        times = [_missed(_times(row, side), missed=_too_few(row, side)) for side in OURS]
        lines.append(
            f"| {row.protocol}: {figure.title} | {_value(row, SDK)} | {' | '.join(ours)} "
            f"| {', '.join(times)} | {_aim(figure)} |"
        )
    return "\n".join(lines)


def as_json(rows: Sequence[ClientRow]) -> bytes:
    """`{"rows": [{"protocol", "figure", "unit", "cpu", "wall", "times", "spread"}]}`."""
    return msgspec.json.format(msgspec.json.encode({"rows": rows}))


def _value(row: ClientRow, side: str) -> str:
    if side not in row.cpu:
        return "–"
    value = f"{number(row.cpu[side])} {row.unit}".strip()
    rate = FIGURES[row.figure].rate
    return f"{value}, {1e6 / row.wall[side]:,.0f}{rate}" if rate else value


def _times(row: ClientRow, side: str) -> str:
    if side not in row.times:
        return "–"
    least, most = row.spread[side]
    return f"{number(row.times[side])}x ({number(least)}–{number(most)})"


def _too_much(row: ClientRow, side: str) -> bool:
    most = FIGURES[row.figure].most
    return most is not None and row.cpu[side] > most


def _too_few(row: ClientRow, side: str) -> bool:
    wanted = FIGURES[row.figure].times
    return wanted is not None and side in row.times and row.times[side] < wanted


def _missed(text: str, *, missed: bool) -> str:
    return f"**{text}**" if missed else text


def _aim(figure: ClientFigure) -> str:
    if figure.times is not None:
        return f"≥ {figure.times:g}x"
    return "–" if figure.most is None else f"≤ {figure.most:g} {figure.unit}"
