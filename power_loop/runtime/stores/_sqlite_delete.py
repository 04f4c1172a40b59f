"""Deleting sessions with all below them but what is detached."""

from __future__ import annotations

from power_loop.errors import SessionBusy, SessionNotFound
from power_loop.runtime.stores._sqlite_rows import first_place
from power_loop.runtime.stores._sqlite_work import Transaction, Write, lives, owner_of

__all__ = ["Delete"]

_ALL_BELOW = """WITH RECURSIVE below(sid) AS (
    VALUES (?) UNION SELECT s.sid FROM sessions s JOIN below ON s.parent = below.sid)
  SELECT sid FROM below"""
_BOUND = """WITH RECURSIVE bound(sid) AS (
    VALUES (?) UNION SELECT s.sid FROM sessions s JOIN bound ON s.parent = bound.sid
      WHERE s.lifecycle <> 'detached')
  SELECT s.sid, s.id, l.owner, l.expires, l.expires_uptime FROM bound
  JOIN sessions s USING (sid) LEFT JOIN leases l USING (sid)"""


class Delete(Write[int]):
    """See `Store.delete`."""

    __slots__ = ("session",)

    def __init__(self, session: str) -> None:
        super().__init__()
        self.session = session

    def execute(self, tx: Transaction) -> int:
        row = tx.connection.execute(
            "SELECT s.sid, t.tree_seq FROM sessions s JOIN sessions t ON t.sid = s.root"
            " WHERE s.id = ?",
            (self.session,),
        ).fetchone()
        if row is None:
            raise SessionNotFound(self.session)
        sid, tree_seq = row
        doomed = tx.connection.execute(_BOUND, (sid,)).fetchall()
        for _, id, owner, expires, uptime in doomed:
            if owner is not None:
                holder = owner_of(tx, owner)
                if lives(tx, holder, expires, uptime):
                    raise SessionBusy(id, str(holder))
        for each, *_ in doomed:
            staying = tx.connection.execute(
                "SELECT sid FROM sessions WHERE parent = ? AND lifecycle = 'detached'", (each,)
            )
            for (child,) in staying.fetchall():
                _uproot(tx, child, tree_seq)
        for each, id, *_ in doomed:
            _erase(tx, each)
            tx.gone.append(id)
        return len(doomed)


def _uproot(tx: Transaction, sid: int, tree_seq: int) -> None:
    """Makes a session the root of its own tree; its records keep their order."""
    for (each,) in tx.connection.execute(_ALL_BELOW, (sid,)).fetchall():
        tx.connection.execute("UPDATE sessions SET root = ? WHERE sid = ?", (sid, each))
        place = first_place(each)
        tx.connection.execute(
            "UPDATE records SET root = ? WHERE place BETWEEN ? AND ?",
            (sid, place, place + 0xFFFFFFFF),
        )
    tx.connection.execute(
        "UPDATE sessions SET parent = NULL, tree_seq = ? WHERE sid = ?", (tree_seq, sid)
    )


def _erase(tx: Transaction, sid: int) -> None:
    place = first_place(sid)
    tx.connection.execute(
        "DELETE FROM records WHERE place BETWEEN ? AND ?", (place, place + 0xFFFFFFFF)
    )
    tx.connection.execute("DELETE FROM inbox WHERE sid = ?", (sid,))
    tx.connection.execute("DELETE FROM posted WHERE sid = ?", (sid,))
    tx.connection.execute("DELETE FROM snapshots WHERE sid = ?", (sid,))
    tx.connection.execute("DELETE FROM artifacts WHERE sid = ?", (sid,))
    tx.connection.execute("DELETE FROM leases WHERE sid = ?", (sid,))
    tx.connection.execute("DELETE FROM sessions WHERE sid = ?", (sid,))
