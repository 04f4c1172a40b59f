"""Repetitions of both sides in turn, each side in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import msgspec
from msgspec import Struct

from benchmarks.scenarios import FIGURES, PARTS, Sample, Size, WrongResult

__all__ = ["Row", "interleaved", "measure", "serving"]

ROOT = Path(__file__).resolve().parent.parent
_samples = msgspec.json.Decoder(dict[str, Sample])


class Row(Struct, frozen=True, kw_only=True):
    """What came out for one figure: medians over the repetitions.

    Attributes:
        ratio: ours to the other side's, taken inside each repetition.
        own: ours less the other side's, taken inside each repetition.
        spread: the smallest and the largest ratio.
        floor_wall, ours_wall: wall time, where the figure is a time.
    """

    scenario: str
    against: str
    unit: str
    floor: float
    ours: float
    ratio: float
    own: float
    spread: tuple[float, float]
    floor_wall: float | None = None
    ours_wall: float | None = None


@contextmanager
def _process(*arguments: str) -> Generator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        yield process


def _line(process: subprocess.Popen[str], what: str) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise WrongResult(f"{what} failed, see above")
    return line


@contextmanager
def serving() -> Generator[str]:
    """The mock model's base URL."""
    with _process("benchmarks.mock_server") as server:
        yield f"http://127.0.0.1:{int(_line(server, 'the mock server'))}/v1"


class _Side:
    """One side of one part; the same process each time, or a fresh one."""

    def __init__(self, stack: ExitStack, command: Sequence[str], *, fresh: bool) -> None:
        self._stack = stack
        self._command = command
        self._process = None if fresh else self._start(stack)

    def repeat(self) -> dict[str, Sample]:
        if self._process is not None:
            return self._ask(self._process)
        with ExitStack() as stack:
            return self._ask(self._start(stack))

    def _start(self, stack: ExitStack) -> subprocess.Popen[str]:
        process = stack.enter_context(_process(*self._command))
        _line(process, " ".join(self._command))
        return process

    def _ask(self, process: subprocess.Popen[str]) -> dict[str, Sample]:
        assert process.stdin is not None
        process.stdin.write("again\n")
        process.stdin.flush()
        return _samples.decode(_line(process, " ".join(self._command)))


def measure(letters: Iterable[str], against: Sequence[str], size: Size, url: str) -> list[Row]:
    """Measures scenarios against each of the other sides.

    Raises:
        WrongResult: a run came to another result than it must.
    """
    wanted = set(letters)
    rows: list[Row] = []
    for part in PARTS:
        if part[0] in wanted:
            rows += _measure_part(part, against, size, url)
    return rows


def _measure_part(part: str, against: Sequence[str], size: Size, url: str) -> list[Row]:
    tiny = ["tiny"] if size.repetitions == 1 else []
    commands = {name: ["benchmarks.worker", name, part, url, *tiny] for name in (*against, "ours")}
    taken = interleaved(commands, size.repetitions, fresh=part.endswith(".memory"))
    return [
        _row(figure, name, taken[name], taken["ours"])
        for name in against
        for figure in FIGURES
        if figure in taken["ours"][0]
    ]


def interleaved(
    commands: Mapping[str, Sequence[str]], repetitions: int, *, fresh: bool = False
) -> Mapping[str, list[dict[str, Sample]]]:
    """The figures of each side, repetition by repetition. `commands` are modules to run, each with
    its arguments; `fresh` starts them anew each time.

    Raises:
        WrongResult: a run came to another result than it must.
    """
    taken: dict[str, list[dict[str, Sample]]] = {name: [] for name in commands}
    with ExitStack() as stack:
        sides = {name: _Side(stack, command, fresh=fresh) for name, command in commands.items()}
        for turn in range(repetitions):
            # Who comes first changes, so that neither side always runs on a warm machine.
            for name in list(sides) if turn % 2 else reversed(list(sides)):
                taken[name].append(sides[name].repeat())
    return taken


def _row(
    figure: str, name: str, others: list[dict[str, Sample]], ours: list[dict[str, Sample]]
) -> Row:
    pairs = [(before[figure], after[figure]) for before, after in zip(others, ours, strict=True)]
    ratios = [after.value / before.value for before, after in pairs if before.value]
    walls = [(b.wall, a.wall) for b, a in pairs if b.wall is not None and a.wall is not None]
    return Row(
        scenario=figure,
        against=name,
        unit=FIGURES[figure].unit,
        floor=median(before.value for before, _ in pairs),
        ours=median(after.value for _, after in pairs),
        ratio=median(ratios or [0.0]),
        own=median(after.value - before.value for before, after in pairs),
        spread=(min(ratios or [0.0]), max(ratios or [0.0])),
        floor_wall=median(before for before, _ in walls) if walls else None,
        ours_wall=median(after for _, after in walls) if walls else None,
    )
