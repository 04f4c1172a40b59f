"""Which sessions there are, and finding some of them."""

from __future__ import annotations

from collections.abc import Sequence
from sqlite3 import Connection

import msgspec

from power_loop.errors import SessionNotFound
from power_loop.runtime.stores._sqlite_errors import damaged
from power_loop.runtime.stores.base import Lifecycle, SessionInfo, SessionQuery
from power_loop.runtime.stores.common import folded, says
from power_loop.runtime.stores.stored import decode_record

__all__ = ["info", "search"]

_INFO = """SELECT s.id, t.id, p.id, s.created, s.updated, s.seq, s.status, s.title, s.metadata,
    s.lifecycle
  FROM sessions s LEFT JOIN sessions t ON t.sid = s.root LEFT JOIN sessions p ON p.sid = s.parent
"""
_HAS = "EXISTS (SELECT 1 FROM json_each(s.metadata) WHERE key = ? AND value = ?)"
_SAYS = """EXISTS (SELECT 1 FROM records
  WHERE place BETWEEN s.sid << 32 AND (s.sid << 32) + 4294967295 AND says(body))"""

_InfoRow = tuple[str, str | None, str | None, float, float, int, str, str, str, Lifecycle]
_metadata: msgspec.json.Decoder[dict[str, str]] = msgspec.json.Decoder(dict[str, str])


def info(connection: Connection, path: str, session: str) -> SessionInfo:
    """See `Store.info`."""
    row: _InfoRow | None = connection.execute(f"{_INFO} WHERE s.id = ?", (session,)).fetchone()
    if row is None:
        raise SessionNotFound(session)
    return _info(row, path)


def search(
    connection: Connection, path: str, query: SessionQuery, limit: int, before: float | None
) -> Sequence[SessionInfo]:
    """See `Store.list`."""
    conditions, values = ["1"], list[str | float]()
    for condition, value in (
        ("s.updated < ?", before),
        ("s.status = ?", query.status),
        ("p.id = ?", query.parent),
        ("s.lifecycle = ?", query.lifecycle),
    ):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    for pair in query.metadata.items():
        conditions.append(_HAS)
        values += pair
    if query.text:
        connection.create_function("says", 1, _LookingFor(query.text, path))
        conditions.append(_SAYS)
    where = " AND ".join(conditions)
    rows: list[_InfoRow] = connection.execute(
        f"{_INFO} WHERE {where} ORDER BY s.updated DESC, s.id LIMIT ?", (*values, limit)
    ).fetchall()
    return [_info(row, path) for row in rows]


class _LookingFor:
    """Whether the stored form of a record says something. Most are ruled out undecoded."""

    def __init__(self, text: str, path: str) -> None:
        self._text = folded(text)
        self._escaped = msgspec.json.encode(text)[1:-1].lower()
        self._path = path

    def __call__(self, body: bytes) -> bool:
        if self._escaped not in body.lower():
            return False
        return says(decode_record(body, 0, "", self._path), self._text)


def _info(row: _InfoRow, path: str) -> SessionInfo:
    id, root, parent, created, updated, seq, status, title, metadata, lifecycle = row
    try:
        known = _metadata.decode(metadata)
    except (msgspec.DecodeError, TypeError) as error:
        raise damaged(path, f"the metadata of session {id!r} cannot be read") from error
    if root is None:
        raise damaged(path, f"the root of session {id!r} is missing")
    return SessionInfo(id, root, parent, created, updated, seq, status, title, known, lifecycle)
