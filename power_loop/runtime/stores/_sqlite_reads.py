"""What the reader thread does: short transactions, each on one snapshot of what is committed."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from sqlite3 import Connection
from typing import cast

from power_loop.errors import SessionNotFound, UsageError
from power_loop.events import Stamped
from power_loop.runtime.stores._sqlite_errors import damaged
from power_loop.runtime.stores._sqlite_rows import (
    Row,
    first_place,
    read_item,
    read_row,
    seq_of,
)
from power_loop.runtime.stores.base import InboxItem, Snapshot

__all__ = ["check", "head", "inbox", "posted_after", "read", "read_tree", "snapshot"]

_CHUNK = 512
"""Records read in one transaction. While it lasts, the write-ahead log cannot be reset."""

_SESSION = """SELECT s.sid, s.seq, s.root, t.id FROM sessions s
  LEFT JOIN sessions t ON t.sid = s.root WHERE s.id = ?"""
_RECORDS = """SELECT root, place, tree_seq, at, run, round, crc, body FROM records
  WHERE place > ? AND place <= ? ORDER BY place LIMIT ?"""
_TREE = """SELECT s.id, place, r.tree_seq, at, run, round, crc, body FROM records r
  LEFT JOIN sessions s ON s.sid = r.place >> 32
  WHERE r.root = ? AND r.tree_seq > ? ORDER BY r.tree_seq LIMIT ?"""


@contextmanager
def _snapshot(connection: Connection) -> Generator[None]:
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def head(connection: Connection, session: str) -> int | None:
    """Number of the session's last record; None if there is no such session."""
    row = connection.execute("SELECT seq FROM sessions WHERE id = ?", (session,)).fetchone()
    return None if row is None else row[0]


def read(
    connection: Connection, path: str, session: str, after: int, limit: int | None
) -> Sequence[Stamped]:
    """See `Store.read`. A missing or changed record is noticed."""
    found: list[Stamped] = []
    after = max(0, after)
    while True:
        count = _CHUNK if limit is None else min(_CHUNK, limit - len(found))
        with _snapshot(connection):
            row = connection.execute(_SESSION, (session,)).fetchone()
            if row is None:
                raise SessionNotFound(session)
            sid, seq, root_sid, root = row
            place = first_place(sid)
            rows: list[tuple[int, *Row]] = connection.execute(
                _RECORDS, (place + after, place + 0xFFFFFFFF, count)
            ).fetchall()
        if root is None or len(rows) != max(0, min(count, seq - after)):
            raise damaged(path, f"records of session {session!r} after number {after} are missing")
        for root_of, *columns in rows:
            after += 1
            record = cast("Row", tuple(columns))
            if root_of != root_sid or seq_of(record[0]) != after:
                raise damaged(path, f"record {after} of session {session!r} is missing")
            found.append(read_row(record, session, root, path))
        if len(rows) < _CHUNK:
            return found


def snapshot(connection: Connection, session: str) -> Snapshot | None:
    """See `Store.snapshot`."""
    row: tuple[int, int, bytes] | None = connection.execute(
        "SELECT sid, p.seq, p.body FROM sessions s JOIN snapshots p USING (sid)"
        " WHERE s.id = ? AND p.seq <= s.seq",
        (session,),
    ).fetchone()
    return None if row is None else Snapshot(*row)


def read_tree(
    connection: Connection, path: str, root: str, after: int, limit: int | None
) -> Sequence[Stamped]:
    """See `Store.read_tree`."""
    found: list[Stamped] = []
    while True:
        count = _CHUNK if limit is None else min(_CHUNK, limit - len(found))
        with _snapshot(connection):
            row = connection.execute(_SESSION, (root,)).fetchone()
            if row is None:
                raise SessionNotFound(root)
            sid, _, root_sid, root_id = row
            if root_sid != sid:
                raise UsageError(f"session {root!r} is not a root: read the tree of {root_id!r}")
            rows: list[tuple[str | None, *Row]] = connection.execute(
                _TREE, (sid, after, count)
            ).fetchall()
        for session, *columns in rows:
            if session is None:
                raise damaged(path, f"a session below {root!r} is missing")
            stamped = read_row(cast("Row", tuple(columns)), session, root, path)
            after = stamped.tree_seq
            found.append(stamped)
        if len(rows) < _CHUNK:
            return found


def inbox(connection: Connection, path: str, session: str) -> Sequence[InboxItem]:
    """See `Store.inbox`."""
    with _snapshot(connection):
        row = connection.execute("SELECT sid FROM sessions WHERE id = ?", (session,)).fetchone()
        if row is None:
            raise SessionNotFound(session)
        rows: list[tuple[int, bytes]] = connection.execute(
            "SELECT id, body FROM inbox WHERE sid = ? ORDER BY id", row
        ).fetchall()
    return tuple([read_item(id, body, path) for id, body in rows])


def posted_after(connection: Connection, item: int) -> Sequence[tuple[int, str]]:
    """The numbers and sessions of inbox items that were posted after number `item`."""
    return connection.execute(
        "SELECT i.id, s.id FROM inbox i JOIN sessions s ON s.sid = i.sid WHERE i.id > ?", (item,)
    ).fetchall()


def check(connection: Connection, path: str) -> int:
    """Reads everything and compares it with its checksums.

    Returns the number of records.

    Raises:
        StoreCorrupt: something is not what was written; says what.
    """
    try:
        verdict: str = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if verdict != "ok":
            raise damaged(path, verdict)
        sessions: list[tuple[str]] = connection.execute("SELECT id FROM sessions").fetchall()
        stored: int = connection.execute("SELECT count(*) FROM records").fetchone()[0]
    except sqlite3.OperationalError as error:
        raise damaged(path, str(error)) from error
    counted = sum(len(read(connection, path, session, 0, None)) for (session,) in sessions)
    if counted < stored:
        raise damaged(path, f"{stored - counted} records belong to no session")
    return counted
