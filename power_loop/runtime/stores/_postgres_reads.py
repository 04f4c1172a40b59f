"""What is asked of a store on PostgreSQL: each read is one statement, so it sees one moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from power_loop.errors import SessionNotFound, UsageError
from power_loop.events import Stamped
from power_loop.runtime.stores._postgres_errors import damaged
from power_loop.runtime.stores._postgres_open import Settings
from power_loop.runtime.stores._postgres_rows import read_item, read_row
from power_loop.runtime.stores.base import InboxItem, Snapshot

if TYPE_CHECKING:
    from psycopg import Cursor
    from psycopg.rows import TupleRow

__all__ = ["check", "head", "inbox", "read", "read_tree", "rows_of", "snapshot"]

_CHUNK = 2000
"""Records fetched by one statement."""

_RECORDS = """SELECT s.sid, s.seq, t.id, r.* FROM @sessions s
  LEFT JOIN @sessions t ON t.sid = s.root
  LEFT JOIN LATERAL (
    SELECT seq, tree_seq, at, run, round, crc, body FROM @records
    WHERE sid = s.sid AND seq > %s ORDER BY seq LIMIT %s) r ON true
  WHERE s.id = %s ORDER BY r.seq"""
_TREE = """SELECT s.sid, s.root = s.sid, s.id, x.id, r.* FROM @sessions s
  LEFT JOIN LATERAL (
    SELECT seq, tree_seq, at, run, round, crc, body, sid AS of FROM @records
    WHERE root = s.sid AND tree_seq > %s ORDER BY tree_seq LIMIT %s) r ON true
  LEFT JOIN @sessions x ON x.sid = r.of
  WHERE s.id = %s ORDER BY r.tree_seq"""
_INBOX = """SELECT s.sid, i.id, i.body FROM @sessions s LEFT JOIN @inbox i USING (sid)
  WHERE s.id = %s ORDER BY i.id"""


def head(cursor: Cursor[TupleRow], settings: Settings, session: str) -> int | None:
    """The number of a session's last record; None if there is no such session."""
    rows = rows_of(cursor, settings, "SELECT seq FROM @sessions WHERE id = %s", session)
    return rows[0][0] if rows else None


def read(
    cursor: Cursor[TupleRow], settings: Settings, session: str, after: int, limit: int | None
) -> Sequence[Stamped]:
    """See `Store.read`. A missing or changed record is noticed."""
    place = settings.place
    found: list[Stamped] = []
    after = max(0, after)
    while True:
        count = _CHUNK if limit is None else min(_CHUNK, limit - len(found))
        rows = rows_of(cursor, settings, _RECORDS, after, max(0, count), session)
        if not rows:
            raise SessionNotFound(session)
        sid, seq, root = rows[0][:3]
        records = [row[3:] for row in rows if row[3] is not None]
        if root is None or len(records) != max(0, min(count, seq - after)):
            raise damaged(place, f"records of session {session!r} after number {after} are missing")
        for record in records:
            after += 1
            if record[0] != after:
                raise damaged(place, f"record {after} of session {session!r} is missing")
            found.append(read_row(record, sid, session, root, place))
        if after >= seq or (limit is not None and len(found) >= limit):
            return found


def snapshot(cursor: Cursor[TupleRow], settings: Settings, session: str) -> Snapshot | None:
    """See `Store.snapshot`."""
    rows = rows_of(
        cursor,
        settings,
        "SELECT sid, p.seq, p.body FROM @sessions s JOIN @snapshots p USING (sid)"
        " WHERE s.id = %s AND p.seq <= s.seq",
        session,
    )
    return Snapshot(*rows[0]) if rows else None


def read_tree(
    cursor: Cursor[TupleRow], settings: Settings, root: str, after: int, limit: int | None
) -> Sequence[Stamped]:
    """See `Store.read_tree`."""
    found: list[Stamped] = []
    while True:
        count = _CHUNK if limit is None else min(_CHUNK, limit - len(found))
        rows = rows_of(cursor, settings, _TREE, after, max(0, count), root)
        if not rows:
            raise SessionNotFound(root)
        if not rows[0][1]:
            raise UsageError(f"session {root!r} is not a root: read the tree it is part of")
        records = [row for row in rows if row[4] is not None]
        for _, _, _, session, *columns, sid in records:
            if session is None:
                raise damaged(settings.place, f"a record of the tree {root!r} has no session")
            after = columns[1]
            row: Any = tuple(columns)
            found.append(read_row(row, sid, session, root, settings.place))
        if len(records) < count or (limit is not None and len(found) >= limit):
            return found


def inbox(cursor: Cursor[TupleRow], settings: Settings, session: str) -> Sequence[InboxItem]:
    """See `Store.inbox`."""
    rows = rows_of(cursor, settings, _INBOX, session)
    if not rows:
        raise SessionNotFound(session)
    return tuple([read_item(id, body, settings.place) for _, id, body in rows if id is not None])


def check(cursor: Cursor[TupleRow], settings: Settings) -> int:
    """Reads everything and compares it with its checksums; returns the number of records.

    Raises:
        StoreCorrupt: something is not what was written; says what.
    """
    count, last = 0, ""
    while True:
        rows = rows_of(
            cursor,
            settings,
            "SELECT id FROM @sessions WHERE id > %s ORDER BY id LIMIT 1000",
            last,
        )
        if not rows:
            break
        for (session,) in rows:
            count += len(read(cursor, settings, session, 0, None))
            inbox(cursor, settings, session)
        last = rows[-1][0]
    strays = rows_of(
        cursor,
        settings,
        "SELECT count(*) FROM @records r WHERE NOT EXISTS"
        " (SELECT 1 FROM @sessions s WHERE s.sid = r.sid)",
    )
    if strays[0][0]:
        raise damaged(settings.place, f"{strays[0][0]} records belong to no session")
    return count


def rows_of(
    cursor: Cursor[TupleRow], settings: Settings, sql: str, *arguments: Any
) -> Sequence[TupleRow]:
    """The rows that a statement gives, which names tables as in the schema's own files."""
    return cursor.execute(settings.sql(sql), arguments).fetchall()
