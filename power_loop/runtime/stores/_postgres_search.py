"""Which sessions there are, and finding some of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from power_loop.errors import SessionNotFound
from power_loop.runtime.stores._postgres_errors import damaged
from power_loop.runtime.stores._postgres_open import Settings
from power_loop.runtime.stores._postgres_reads import rows_of
from power_loop.runtime.stores.base import SessionInfo, SessionQuery

if TYPE_CHECKING:
    from psycopg import Cursor
    from psycopg.rows import TupleRow

__all__ = ["info", "search"]

_INFO = """SELECT s.id, t.id, p.id, s.created, s.updated, s.seq, s.status, s.title,
    ARRAY(SELECT ARRAY[key, value] FROM jsonb_each_text(s.metadata)), s.lifecycle
  FROM @sessions s LEFT JOIN @sessions t ON t.sid = s.root
  LEFT JOIN @sessions p ON p.sid = s.parent"""
_SAYS = "EXISTS (SELECT 1 FROM @records r WHERE r.sid = s.sid AND @says(r.body, %s, %s))"


def info(cursor: Cursor[TupleRow], settings: Settings, session: str) -> SessionInfo:
    """See `Store.info`."""
    rows = rows_of(cursor, settings, f"{_INFO} WHERE s.id = %s", session)
    if not rows:
        raise SessionNotFound(session)
    return _info(rows[0], settings)


def search(
    cursor: Cursor[TupleRow],
    settings: Settings,
    query: SessionQuery,
    limit: int,
    before: float | None,
) -> Sequence[SessionInfo]:
    """See `Store.list`."""
    conditions: list[tuple[str, *tuple[Any, ...]]] = [
        (condition, value)
        for condition, value in (
            ("s.updated < %s", before),
            ("s.status = %s", query.status),
            ("p.id = %s", query.parent),
            ("s.lifecycle = %s", query.lifecycle),
        )
        if value is not None
    ]
    if query.metadata:
        known = msgspec.json.encode(dict(query.metadata)).decode()
        conditions.append(("s.metadata @> %s::jsonb", known))
    if query.text:
        escaped = msgspec.json.encode(query.text)[1:-1].decode()
        conditions.append((_SAYS, query.text, escaped))
    where = " AND ".join(["true", *(condition[0] for condition in conditions)])
    values = [value for condition in conditions for value in condition[1:]]
    order = "ORDER BY s.updated DESC, s.id LIMIT %s"
    rows = rows_of(cursor, settings, f"{_INFO} WHERE {where} {order}", *values, limit)
    return [_info(row, settings) for row in rows]


def _info(row: Sequence[Any], settings: Settings) -> SessionInfo:
    id, root, parent, created, updated, seq, status, title, pairs, lifecycle = row
    if root is None:
        raise damaged(settings.place, f"session {id!r} has lost its root")
    known = dict(pairs)
    return SessionInfo(id, root, parent, created, updated, seq, status, title, known, lifecycle)
