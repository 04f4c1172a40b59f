"""Lines of standard input, for a program that does other things meanwhile."""

from __future__ import annotations

import codecs
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator

import anyio
import anyio.from_thread
from anyio.lowlevel import current_token

from power_loop.errors import UsageError

__all__ = ["Lines", "agreed", "at_keyboard", "read_lines"]

_PIECE = 65536


class Lines:
    """A queue of lines with one reader. None is the end of the input."""

    def __init__(self) -> None:
        self._waiting: deque[str | None] = deque()
        self._more = anyio.Event()

    def put(self, line: str | None) -> None:
        """Adds a line."""
        self._waiting.append(line)
        self._more.set()

    async def get(self) -> str | None:
        """The next line; waits for it."""
        while not self._waiting:
            self._more = anyio.Event()
            await self._more.wait()
        return self._waiting.popleft()


def at_keyboard() -> bool:
    """Whether somebody types there, who wants a prompt."""
    return sys.__stdin__ is not None and sys.__stdin__.isatty()


async def agreed(question: str) -> bool:
    """Whether somebody says yes to a question.

    Raises:
        UsageError: nobody can be asked here.
    """
    if not at_keyboard():
        raise UsageError("nobody can be asked here whether to delete; say it with --yes")
    print(question, "[y/N] ", end="", file=sys.stderr, flush=True)
    lines = Lines()
    read_lines(lines.put)
    return (await lines.get() or "").lower() in ("y", "yes")


def read_lines(typed: Callable[[str | None], None]) -> None:
    """Has `typed` called in this event loop with each line of standard input, and None at its end.

    The thread that reads is a daemon: a blocking read must not keep the program alive.
    """
    token = current_token()

    def read() -> None:
        try:
            for line in _lines():
                anyio.from_thread.run_sync(typed, line, token=token)
            anyio.from_thread.run_sync(typed, None, token=token)
        except anyio.RunFinishedError:
            return

    threading.Thread(target=read, name="power-loop-input", daemon=True).start()


def _lines() -> Iterator[str]:
    stdin = sys.__stdin__
    if stdin is None:
        return
    decoder = codecs.getincrementaldecoder(stdin.encoding or "utf-8")(errors="replace")
    begun = ""
    # Not through sys.stdin: its lock, held by a daemon thread, would stop the interpreter's end.
    while data := _read(stdin.fileno()):
        *whole, begun = (begun + decoder.decode(data)).split("\n")
        yield from (line.strip() for line in whole)
    if begun.strip():
        yield begun.strip()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _PIECE)
    except OSError:
        # A terminal that was hung up is the end of what can be typed.
        return b""
