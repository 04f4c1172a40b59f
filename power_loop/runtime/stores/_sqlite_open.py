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

from power_loop.errors import StoreUnavailable
from power_loop.runtime.stores._sqlite_errors import is_busy, translate
from power_loop.runtime.stores._sqlite_schema import (
    SCHEMA_VERSION,
    migrate,
    require_current,
    version_of,
)

__all__ = ["Policy", "Settings", "connect", "filesystem_of", "refuse_remote"]

Policy = Literal["create", "verify", "as_is"]
"""What is done with tables that are missing or old: mended, refused with what would mend them, or
left so, for those who do not look into them."""

_RETRY = 0.005
"""Seconds between two attempts to open a database that another process is setting up."""

_REMOTE = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "9p", "virtiofs", "vboxsf", "ceph", "lustre"}
    | {"beegfs", "gpfs", "coda", "ncpfs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph"}
    | {"fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "fuse.davfs"}
)
"""File systems on which the shared memory of SQLite's write-ahead log does not work or corrupts."""


class Settings(Struct, frozen=True):
    """How a database is opened. `prepare` is run on each new connection.

    Only `create` makes a file that is not there, or changes anything in opening one.
    """

    path: str
    durability: Literal["full", "normal"] = "full"
    busy_timeout: float = 10.0
    prepare: Callable[[Connection], object] | None = None
    mountinfo: str = "/proc/self/mountinfo"
    policy: Policy = "create"


def connect(settings: Settings) -> Connection:
    """Opens the database, and sets it up if it is new.

    Raises:
        StoreError: it cannot be used; says why and what to do.
    """
    refuse_remote(settings)
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
    creates = settings.policy == "create"
    if not creates and not Path(settings.path).exists():
        raise StoreUnavailable(f"there is no database at {settings.path}")
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
        version = version_of(connection, settings.path)
        if settings.policy == "verify":
            require_current(version, settings.path)
        if creates:
            _use_wal(connection, settings.path)
        level = "FULL" if settings.durability == "full" else "NORMAL"
        connection.execute(f"PRAGMA synchronous = {level}")
        connection.execute("PRAGMA journal_size_limit = 4194304")
        if creates and version != SCHEMA_VERSION:
            migrate(connection, settings.path)
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


def refuse_remote(settings: Settings) -> None:
    """Raises StoreUnavailable: the file would lie where a write-ahead log is not safe."""
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
