"""The command line, as a person meets it: real processes, with and without a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

__all__ = ["COMMAND", "SECONDS", "Terminal", "environment", "run", "session_in", "started"]

ROOT = Path(__file__).resolve().parent.parent.parent
COMMAND = [sys.executable, "-W", "error", "-m", "power_loop.cli"]
SECONDS = 60

# To open a terminal as the leader of a session makes it the one whose Ctrl-C comes here.
ON_TERMINAL = (
    "import os, sys; os.close(os.open(os.ttyname(0), os.O_RDWR)); "
    "from power_loop.cli import main; sys.exit(main())"
)


def environment(place: Path, variables: dict[str, str] | None = None) -> dict[str, str]:
    """A clean environment whose sessions are kept in `place`."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("POWER_LOOP", "OPENAI"))}
    database = str(place / "db" / "sessions.db")
    return {**clean, "PYTHONPATH": str(ROOT), "POWER_LOOP_DB": database, **(variables or {})}


def run(
    place: Path, *arguments: str, variables: dict[str, str] | None = None, typed: str = ""
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=place,
        env=environment(place, variables),
        input=typed,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def _hears_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def started(
    place: Path, *arguments: str, variables: dict[str, str]
) -> Generator[subprocess.Popen[str]]:
    """A command that goes on meanwhile, on pipes; killed if it outlives the block."""
    with subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=place,
        env=environment(place, variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background may have it ignored, which a child inherits.
        preexec_fn=_hears_ctrl_c,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def session_in(text: str) -> str:
    """The first session id in a text."""
    found = re.search(r"sess_[0-9a-f]+", text)
    assert found is not None, text
    return found.group()


class Terminal:
    """A command on a terminal of its own. `shown` is all that it has written."""

    def __init__(self, place: Path, *arguments: str, variables: dict[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        size = struct.pack("HHHH", 30, 100, 0, 0)
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, size)
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", ON_TERMINAL, *arguments],
            cwd=place,
            env={**environment(place, variables), "TERM": "xterm-256color"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=_hears_ctrl_c,
        )
        os.close(theirs)
        self.shown = ""
        self._seen = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def type(self, text: str) -> None:
        """Presses keys; "\\x03" is Ctrl-C."""
        os.write(self._ours, text.encode())

    def expect(self, text: str) -> str:
        """Waits until `text` appears after what was expected before; gives what came before it."""
        deadline = time.monotonic() + SECONDS
        while text not in self.shown[self._seen :]:
            assert self._read(deadline), f"{text!r} was not shown, but {self.shown!r}"
        at = self.shown.index(text, self._seen)
        before = self.shown[self._seen : at]
        self._seen = at + len(text)
        return before

    def end(self) -> int:
        """Waits for the command to end; gives its exit status."""
        deadline = time.monotonic() + SECONDS
        while self._read(deadline):
            pass
        return self._process.wait(SECONDS)

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"nothing more was shown in time after {self.shown!r}"
        try:
            data = os.read(self._ours, 65536)
        except OSError:
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)
