"""Forks a process for each case, from one that has everything imported: it has done it all once."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Self

import msgspec

__all__ = ["Zygote"]

ROOT = Path(__file__).resolve().parent.parent.parent


class Zygote:
    """A process without threads, from which programs are forked. To be used as a context."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.crash.zygote"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)

    def run(self, case: object) -> int:
        """Runs a `Case`: its exit status, or minus the signal it died of."""
        self.start(case)
        return self.wait()

    def start(self, case: object) -> int:
        """Starts a `Case`: its process id. One runs at a time."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(case).decode() + "\n")
        self._process.stdin.flush()
        return self.wait()

    def wait(self) -> int:
        """Waits for its end or for its stopping: exit status, or minus the signal."""
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())


def _serve() -> None:
    from tests.crash import program, remembering
    from tests.crash.journal import Case

    with tempfile.TemporaryDirectory() as folder:
        remembering.run(Case(folder, "summary"))
    assert threading.active_count() == 1
    for line in sys.stdin:
        case = msgspec.json.decode(line, type=Case)
        child = os.fork()
        if not child:
            status = 1
            try:
                (program if case.program == "tools" else remembering).run(case)
                status = 0
            finally:
                sys.stderr.flush()
                os._exit(status)
        print(child, flush=True)
        while True:
            _, status = os.waitpid(child, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                break
            print(-os.WSTOPSIG(status), flush=True)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    _serve()
