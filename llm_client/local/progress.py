"""Shows a person how the weights come: a bar where rich is installed, plain lines otherwise."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Protocol, TextIO

from llm_client.local.weights import WeightsProgress

__all__ = ["ProgressDisplay"]

STEPS = 10


class _Bar(Protocol):
    def show(self, progress: WeightsProgress) -> None: ...

    def close(self) -> None: ...


class ProgressDisplay:
    """A `Notify` for `ensure_weights` that writes to `stream`: a moving bar if that is a terminal
    and rich is installed, a line for each tenth otherwise."""

    def __init__(self, stream: TextIO) -> None:
        rich = stream.isatty() and find_spec("rich") is not None
        self._make: Callable[[TextIO], _Bar] = _RichBar if rich else _Lines
        self._stream = stream
        self._bar: _Bar | None = None

    def __call__(self, progress: WeightsProgress) -> None:
        bar = self._bar = self._bar or self._make(self._stream)
        bar.show(progress)
        if progress.stage in ("done", "failed"):
            bar.close()
            self._bar = None


class _Lines:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._said = ("", 0)

    def show(self, progress: WeightsProgress) -> None:
        if progress.text:
            self._write(progress.text)
        if not progress.total:
            return
        step = (progress.stage, progress.done * STEPS // progress.total)
        if step == self._said or step[1] == 0:
            return
        self._said = step
        if not progress.text:
            done, total = progress.done / 1e6, progress.total / 1e6
            self._write(f"{progress.stage}: {done:.0f} of {total:.0f} MB")

    def _write(self, line: str) -> None:
        self._stream.write(f"{line}\n")
        self._stream.flush()

    def close(self) -> None:
        return


class _RichBar:
    def __init__(self, stream: TextIO) -> None:
        # rich is an extra: only here, and only where it was found.
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TransferSpeedColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
        )
        self._bars = Progress(*columns, console=Console(file=stream), transient=True)
        self._task = self._bars.add_task("weights", total=None)
        self._bars.start()

    def show(self, progress: WeightsProgress) -> None:
        if progress.text:
            self._bars.console.print(progress.text, markup=False, highlight=False)
            self._bars.reset(self._task)
        self._bars.update(
            self._task,
            description=progress.stage,
            completed=progress.done,
            total=progress.total or None,
        )

    def close(self) -> None:
        self._bars.stop()
