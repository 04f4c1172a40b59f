"""An SQLite that can load sqlite-vec: Python's own where it was built for that, else pysqlite3's.

The second is another copy of SQLite in the same process. Two copies do not see each other's locks,
so a file that one of them has open is not for the other: an index has a file of its own.
"""

from __future__ import annotations

import random
import sqlite3
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING

from power_loop.errors import (
    PowerLoopError,
    StoreCorrupt,
    StoreTooNew,
    StoreUnavailable,
    UsageError,
)
from power_loop.runtime.stores._sqlite_errors import damaged, translate
from power_loop.runtime.stores._sqlite_open import Settings, refuse_remote

_OURS_LOADS = hasattr(sqlite3.Connection, "enable_load_extension")
_LOADS = _OURS_LOADS or find_spec("pysqlite3") is not None
_INSTALLED = _LOADS and find_spec("sqlite_vec") is not None
if TYPE_CHECKING or _OURS_LOADS or not _LOADS:
    driver = sqlite3
else:
    import pysqlite3 as driver
if TYPE_CHECKING or _INSTALLED:
    from sqlite_vec import loadable_path  # pyright: ignore[reportMissingTypeStubs]

__all__ = ["connect", "driver", "require_extension", "typed"]

_OF_US = 0x706C_7663
"""In the head of every file of ours: "plvc"."""
_VERSION = 1
_RETRY = 0.005
"""Seconds between two attempts to open a file that another process is setting up."""

_DDL = """
CREATE TABLE space (model TEXT NOT NULL, dimensions INTEGER NOT NULL);
CREATE TABLE memories (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  user TEXT NOT NULL,
  agent TEXT NOT NULL,
  session TEXT NOT NULL,
  source TEXT NOT NULL,
  at REAL NOT NULL,
  text TEXT NOT NULL,
  vector BLOB NOT NULL
);
CREATE INDEX memories_by_user ON memories (user);
CREATE INDEX memories_by_agent ON memories (agent);
CREATE INDEX memories_by_session ON memories (session)
"""


def require_extension() -> None:
    """Raises UsageError: sqlite-vec cannot be loaded here; says what to install."""
    if not _INSTALLED:
        why = "" if _LOADS else ": this Python's own sqlite3 cannot load extensions"
        raise UsageError(
            "SQLiteVectorIndex needs the extra 'vectors-sqlite': "
            f"pip install 'power-loop[vectors-sqlite]'{why}"
        )


def connect(settings: Settings) -> sqlite3.Connection:
    """Opens an index, and sets it up if it is new.

    Raises:
        StoreError: it cannot be used; says why and what to do.
    """
    refuse_remote(settings)
    give_up = time.monotonic() + settings.busy_timeout
    while True:
        try:
            return _open(settings)
        except driver.Error as error:
            # SQLite does not wait for its lock in every step of turning to WAL mode.
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() >= give_up:
                raise typed(error, settings) from error
        time.sleep(_RETRY * (1 + random.random()))  # noqa: S311 - no secret


def _open(settings: Settings) -> sqlite3.Connection:
    connection = driver.connect(
        settings.path,
        timeout=settings.busy_timeout,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        _prepare(connection, settings.path)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: str) -> None:
    connection.enable_load_extension(True)
    connection.load_extension(loadable_path())
    connection.enable_load_extension(False)
    connection.execute("PRAGMA cell_size_check = ON")
    # What is forgotten is overwritten, not only no longer referred to.
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA synchronous = FULL")
    if _is_new(connection, path):
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        if _is_new(connection, path):
            for statement in _DDL.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {_OF_US}")
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("COMMIT")


def _is_new(connection: sqlite3.Connection, path: str) -> bool:
    """Whether nothing is in the file yet.

    Raises:
        StoreCorrupt: what is there is not ours.
        StoreTooNew: a newer version of this package wrote it.
    """
    owner: int = connection.execute("PRAGMA application_id").fetchone()[0]
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    tables: int = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if owner == _OF_US and version > _VERSION:
        raise StoreTooNew(
            f"{path} was written by a newer power_loop: its version is {version}, this one knows "
            f"{_VERSION}. Upgrade with: pip install --upgrade power-loop"
        )
    if owner != _OF_US and (owner or version or tables):
        raise StoreCorrupt(
            f"{path} is an SQLite database of something else. An index of vectors needs a file of "
            "its own: choose another path"
        )
    return owner != _OF_US


def typed(error: Exception, settings: Settings) -> PowerLoopError:
    """The error to raise for what the driver raised."""
    if isinstance(error, UnicodeDecodeError) or "decode to UTF-8" in str(error):
        # Its own words, and so its cause, would quote what was remembered.
        return damaged(settings.path, "text in it is none any more")
    code = _code(error)
    if code is None or code == sqlite3.SQLITE_ERROR:
        found = StoreUnavailable(
            f"{settings.path} cannot be used: {type(error).__name__}: {error}. If it happens "
            "again, export the memories and add them to a new index"
        )
    else:
        twin = sqlite3.OperationalError(str(error))
        twin.sqlite_errorcode = code
        found = translate(twin, settings.path, settings.busy_timeout)
    found.__cause__ = error
    return found


def _code(error: Exception) -> int | None:
    """SQLite's primary result code; pysqlite3's errors are not those of the standard library."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
