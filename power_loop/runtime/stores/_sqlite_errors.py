"""What went wrong in SQLite, in words that say what to do."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from power_loop.errors import StoreCorrupt, StoreError, StoreFull, StoreUnavailable

__all__ = ["concerns_all", "damaged", "is_busy", "translate"]

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_DENIED = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}
_BROKEN = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def _code(error: Exception) -> int | None:
    """SQLite's primary result code, if the error came from SQLite itself."""
    if isinstance(error, sqlite3.Error):
        try:
            return error.sqlite_errorcode & 0xFF
        except AttributeError:  # raised by the Python module, not by SQLite
            return None
    return None


def is_busy(error: Exception) -> bool:
    """Whether somebody else held a lock, so that trying again may help."""
    return _code(error) in _BUSY


def concerns_all(error: Exception) -> bool:
    """Whether the database as a whole is the trouble, rather than one thing written to it."""
    return _code(error) in _BUSY | _DENIED | _BROKEN | {sqlite3.SQLITE_CANTOPEN}


def damaged(path: str, what: str) -> StoreCorrupt:
    """An error for a database whose contents contradict themselves."""
    return StoreCorrupt(
        f"{path} is damaged: {what}. Restore a backup, or save what is left into a new file: "
        f"sqlite3 {path} .recover | sqlite3 NEW"
    )


def translate(error: Exception, path: str, busy_timeout: float) -> StoreError:
    """The typed error for what `sqlite3` raised on the database at `path`."""
    code = _code(error)
    if code in _BUSY:
        return StoreUnavailable(
            f"{path} stayed locked by another process for {busy_timeout:g} s ({error}). End the "
            "program that keeps a transaction open on it, or give the store a longer busy_timeout"
        )
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(
            f"no space is left for {path} ({error}). Free some and try again; "
            "everything acknowledged before is safe"
        )
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CONSTRAINT} or _is_garbled(error):
        return damaged(path, str(error))
    if code == sqlite3.SQLITE_NOTADB:
        return StoreCorrupt(
            f"{path} is not an SQLite database, or its beginning is destroyed. Choose another "
            "path, or restore a backup"
        )
    if code in _DENIED:
        return StoreUnavailable(
            f"{path} cannot be written ({error}). Make the file and its directory writable for "
            "this user, or choose another path"
        )
    if code == sqlite3.SQLITE_CANTOPEN:
        return StoreUnavailable(f"{path} cannot be opened: {_obstacle(path)}")
    if code == sqlite3.SQLITE_IOERR:
        return StoreUnavailable(
            f"reading or writing {path} failed ({error}). Check the disk, its quota and this "
            "process's file size limit; everything acknowledged before is safe"
        )
    return StoreUnavailable(
        f"{path} cannot be used: {type(error).__name__}: {error}. Should this happen again, look "
        "into the file with SQLiteStore.check()"
    )


def _is_garbled(error: Exception) -> bool:
    """Whether text that had been written as text is none any more; that has no code of its own."""
    return isinstance(error, sqlite3.OperationalError) and "decode to UTF-8" in str(error)


def _obstacle(path: str) -> str:
    """Why a file cannot be opened."""
    file = Path(path)
    directory = file.absolute().parent
    if file.is_dir():
        return "it is a directory. Name a file inside it"
    if not directory.is_dir():
        return f"there is no directory {directory}. Create it first"
    return f"make sure that this user may read and write it, and create files in {directory}"
