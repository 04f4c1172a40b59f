"""A lock between processes, held on a file; the system frees it when its holder dies."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


__all__ = ["file_lock"]

POLL_SECONDS = 0.1


@contextmanager
def file_lock(path: Path, check: Callable[[], None]) -> Generator[None]:
    """Holds the lock on `path` for the length of the block; waits for it. `check` is called while
    waiting and may raise to give up.

    Raises:
        OSError: the file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while not _try_lock(descriptor):
            check()
            time.sleep(POLL_SECONDS)
        yield
    finally:
        # Closing frees the lock. The file stays: to delete it would let two others lock two files.
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        _lock(descriptor)
    except (BlockingIOError, PermissionError):
        return False
    return True
