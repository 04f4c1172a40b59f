"""A command in a process group of its own, ended with all that it has begun."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import anyio
from anyio.abc import ByteReceiveStream, Process
from msgspec import Struct

__all__ = ["Ran", "run_command"]

_GRACE = 5.0
_LAST_WORDS = 1.0
"""Seconds for output to end after the group has: something outside of it may hold the pipe."""


class Ran(Struct, frozen=True):
    """What became of a command.

    Attributes:
        status: its exit status, negative for a signal; None if it was ended for taking too long.
        output: the end of what it wrote, both streams.
        left_out: bytes of output before that.
    """

    status: int | None
    output: str
    left_out: int = 0


class _Tail:
    """The last bytes of a stream."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.data = bytearray()
        self.left_out = 0

    async def read(self, stream: ByteReceiveStream) -> None:
        """Reads to the end."""
        with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
            async for piece in stream:
                self.data += piece
                over = len(self.data) - self.most
                if over > 0:
                    del self.data[:over]
                    self.left_out += over


async def run_command(
    command: Sequence[str],
    *,
    cwd: Path,
    seconds: float,
    grace: float = _GRACE,
    most: int = 64 * 1024,
) -> Ran:
    """Runs a command to its end. However this ends, nothing of its process group is left.

    Args:
        command: the program and its arguments; no shell reads them.
        cwd: where.
        seconds: after which the group is asked to end (SIGTERM).
        grace: seconds after which it is made to (SIGKILL).
        most: bytes of output that are kept.

    Raises:
        OSError: it cannot be begun.
    """
    process = await anyio.open_process(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=cwd,
        start_new_session=True,
    )
    tail = _Tail(most)
    status: int | None = None
    stream = process.stdout
    assert stream is not None
    async with anyio.create_task_group() as group:
        group.start_soon(tail.read, stream)
        try:
            with anyio.move_on_after(seconds):
                status = await process.wait()
        finally:
            with anyio.CancelScope(shield=True):
                await _end(process, grace)
        group.cancel_scope.deadline = anyio.current_time() + _LAST_WORDS
    with anyio.CancelScope(shield=True):
        await stream.aclose()
    return Ran(status, tail.data.decode(errors="replace"), tail.left_out)


async def _end(process: Process, grace: float) -> None:
    if process.returncode is None:
        _signal(process, signal.SIGTERM)
        with anyio.move_on_after(grace):
            await process.wait()
    # What it has begun and left behind is of its group.
    _signal(process, signal.SIGKILL)
    await process.wait()


def _signal(process: Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
