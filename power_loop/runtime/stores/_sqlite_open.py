"""Opening a database: what is ours, what is not, and the pragmas that make it safe."""

from __future__ import annotations

import os
import random
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from sqlite3 import Connection
from typing import Literal

from msgspec import Struct

from power_loop.errors import StoreCorrupt, StoreTooNew, StoreUnavailable
from power_loop.runtime.stores._sqlite_errors import damaged, is_busy, translate

__all__ = ["SCHEMA_VERSION", "Settings", "connect", "filesystem_of"]

SCHEMA_VERSION = 1
_RETRY = 0.005
"""Seconds between two attempts to open a database that another process is setting up."""

_REMOTE = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "9p", "virtiofs", "vboxsf", "ceph", "lustre"}
    | {"beegfs", "gpfs", "coda", "ncpfs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph"}
    | {"fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "fuse.davfs"}
)
"""File systems on which the shared memory of SQLite's write-ahead log does not work or corrupts."""

# A record's place is its session's number << 32 | its seq, so that a session's records lie together
# and in order without an index, and long bodies do not spill as they would from an index tree.
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE sessions (
  sid INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
  root INTEGER NOT NULL, parent INTEGER,
  seq INTEGER NOT NULL, tree_seq INTEGER NOT NULL, created REAL NOT NULL, updated REAL NOT NULL,
  status TEXT NOT NULL, title TEXT NOT NULL, metadata TEXT NOT NULL);
CREATE INDEX sessions_parent ON sessions (parent) WHERE parent IS NOT NULL;
CREATE TABLE records (
  place INTEGER PRIMARY KEY, root INTEGER NOT NULL, tree_seq INTEGER NOT NULL, at REAL NOT NULL,
  run TEXT NOT NULL, round INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL);
CREATE UNIQUE INDEX records_tree ON records (root, tree_seq);
CREATE TABLE inbox (
  id INTEGER PRIMARY KEY AUTOINCREMENT, sid INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX inbox_session ON inbox (sid);
CREATE TABLE posted (
  sid INTEGER, key TEXT, item INTEGER NOT NULL, PRIMARY KEY (sid, key)) WITHOUT ROWID;
CREATE TABLE leases (
  sid INTEGER PRIMARY KEY, fence INTEGER NOT NULL, holder TEXT NOT NULL, owner TEXT NOT NULL,
  ttl REAL NOT NULL, expires REAL NOT NULL, expires_uptime REAL NOT NULL);
CREATE VIEW log AS
  SELECT s.id AS session, r.place & 0xffffffff AS seq, r.tree_seq,
    datetime(r.at, 'unixepoch') AS at, r.run, r.round, CAST(r.body AS TEXT) AS body
  FROM records r JOIN sessions s ON s.sid = r.place >> 32;
"""
_TABLES = frozenset({"meta", "sessions", "records", "inbox", "posted", "leases"})


class Settings(Struct, frozen=True):
    """How a database is opened. `prepare` is run on each new connection."""

    path: str
    durability: Literal["full", "normal"] = "full"
    busy_timeout: float = 10.0
    prepare: Callable[[Connection], object] | None = None
    mountinfo: str = "/proc/self/mountinfo"


def connect(settings: Settings) -> Connection:
    """Opens the database, and sets it up if it is new.

    Raises:
        StoreError: it cannot be used; says why and what to do.
    """
    _refuse_remote(settings)
    give_up = time.monotonic() + settings.busy_timeout
    while True:
        try:
            return _open(settings)
        except sqlite3.Error as error:
            # SQLite does not wait for its lock in every step of turning to WAL mode.
            if not is_busy(error) or time.monotonic() >= give_up:
                raise translate(error, settings.path, settings.busy_timeout) from error
        time.sleep(_RETRY * (1 + random.random()))  # noqa: S311 - no secret


def _open(settings: Settings) -> Connection:
    connection = sqlite3.connect(
        settings.path,
        timeout=settings.busy_timeout,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA cell_size_check = ON")
        if settings.prepare is not None:
            settings.prepare(connection)
        fresh = _is_fresh(connection, settings.path)
        _use_wal(connection, settings.path)
        level = "FULL" if settings.durability == "full" else "NORMAL"
        connection.execute(f"PRAGMA synchronous = {level}")
        connection.execute("PRAGMA journal_size_limit = 4194304")
        if fresh:
            _create(connection, settings.path)
    except BaseException:
        connection.close()
        raise
    return connection


def _use_wal(connection: Connection, path: str) -> None:
    mode: str = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StoreUnavailable(
            f"{path} cannot have a write-ahead log: its journal mode stays {mode!r}. "
            "Put it into a local directory"
        )


def _is_fresh(connection: Connection, path: str) -> bool:
    """Whether the database is empty; refuses what is not ours or newer than we know."""
    tables = {
        name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
    }
    if not tables:
        return True
    if not tables >= _TABLES:
        raise StoreCorrupt(f"{path} is an SQLite database of another program. Choose another path")
    row = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    version: object = None if row is None else row[0]
    if not isinstance(version, int) or version < 1:
        raise damaged(path, f"its schema version is {version!r}")
    if version > SCHEMA_VERSION:
        raise StoreTooNew(
            f"{path} was written by a newer power_loop: its schema is {version}, this one knows "
            f"{SCHEMA_VERSION}. Upgrade with: pip install --upgrade power-loop"
        )
    return False


def _create(connection: Connection, path: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if _is_fresh(connection, path):  # nobody else was faster
            for statement in _SCHEMA.split(";\n"):
                connection.execute(statement)
            connection.executemany(
                "INSERT INTO meta VALUES (?, ?)", [("schema", SCHEMA_VERSION), ("fence", 0)]
            )
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _refuse_remote(settings: Settings) -> None:
    if sys.platform != "linux":
        return
    try:
        mounts = Path(settings.mountinfo).read_text("utf-8", "surrogateescape")
    except OSError:
        return
    filesystem = filesystem_of(os.path.realpath(settings.path), mounts)
    if filesystem in _REMOTE:
        raise StoreUnavailable(
            f"{settings.path} lies on {filesystem}, where SQLite's write-ahead log loses data. "
            "Put it on a local disk"
        )


def filesystem_of(path: str, mountinfo: str) -> str:
    """The type of the file system that the absolute `path` lies on; empty if it is not known.

    `mountinfo` is the text of Linux's /proc/self/mountinfo.
    """
    longest, found = -1, ""
    for line in mountinfo.splitlines():
        mount, _, source = line.partition(" - ")
        fields = mount.split(" ")
        if len(fields) < 5 or not source:
            continue
        point = fields[4].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
        prefix = point if point.endswith("/") else point + "/"
        # A later line hides an earlier one on the same mount point.
        if (path + "/").startswith(prefix) and len(point) >= longest:
            longest, found = len(point), source.split(" ")[0]
    return found
