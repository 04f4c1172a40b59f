"""What the writer thread does: each write checks first and writes only when nothing can refuse it,
so that one that fails leaves no trace in the transaction it shares with others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from power_loop.errors import (
    Conflict,
    Fenced,
    SessionBusy,
    SessionNotFound,
    Undelivered,
    UsageError,
)
from power_loop.events import Stamped
from power_loop.runtime.stores._sqlite_errors import damaged
from power_loop.runtime.stores._sqlite_rows import first_place, row_of
from power_loop.runtime.stores._sqlite_work import Transaction, Write, lives, owner_of
from power_loop.runtime.stores.base import (
    Appended,
    CancelRequested,
    Lease,
    Lifecycle,
    Posted,
    Snapshot,
    Steer,
)
from power_loop.runtime.stores.common import status_after, title_of
from power_loop.runtime.stores.stored import encode_item, encode_record

__all__ = [
    "Append",
    "Claim",
    "Create",
    "KeepSnapshot",
    "Post",
    "Release",
    "Renew",
    "RenewAll",
    "Unclaim",
]


class Create(Write[None]):
    """See `Store.create`."""

    __slots__ = ("at", "lifecycle", "metadata", "parent", "session")

    def __init__(
        self,
        session: str,
        parent: str | None,
        lifecycle: Lifecycle,
        metadata: Mapping[str, str] | None,
        at: float,
    ) -> None:
        super().__init__()
        self.session = session
        self.parent = parent
        self.lifecycle = lifecycle
        self.metadata = msgspec.json.encode(metadata or {}).decode()
        self.at = at

    def execute(self, tx: Transaction) -> None:
        if _sid(tx, self.session) is not None:
            return
        parent: int | None = None
        root: int | None = None
        if self.parent is not None:
            above = tx.connection.execute(
                "SELECT sid, root FROM sessions WHERE id = ?", (self.parent,)
            ).fetchone()
            if above is None:
                raise SessionNotFound(self.parent)
            parent, root = above
        # Never a number that was given out before: it is the session's generation, too.
        sid = tx.connection.execute(
            "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'sessions'), 0) + 1"
        ).fetchone()[0]
        tx.connection.execute(
            "INSERT INTO sessions VALUES (?, ?, ?, ?, 0, 0, ?, ?, 'new', '', ?, ?)",
            (
                sid,
                self.session,
                sid if root is None else root,
                parent,
                self.at,
                self.at,
                self.metadata,
                self.lifecycle,
            ),
        )


_RELEASE = "DELETE FROM leases WHERE fence = ? AND sid = (SELECT sid FROM sessions WHERE id = ?)"
_RENEW = """UPDATE leases SET expires = ? + ttl, expires_uptime = ? + ttl
  WHERE fence = ? AND sid = (SELECT sid FROM sessions WHERE id = ?)"""
_CLAIMED = """SELECT s.sid, s.seq, l.owner, l.expires, l.expires_uptime
  FROM sessions s LEFT JOIN leases l ON l.sid = s.sid WHERE s.id = ?"""


class Claim(Write[Lease]):
    """See `Store.claim`."""

    __slots__ = ("lease", "session", "steal", "ttl")

    def __init__(self, session: str, ttl: float, steal: Literal["dead", "never"]) -> None:
        super().__init__()
        self.session = session
        self.ttl = ttl
        self.steal = steal
        self.lease: Lease | None = None

    def execute(self, tx: Transaction) -> Lease:
        connection = tx.connection
        row = connection.execute(_CLAIMED, (self.session,)).fetchone()
        if row is None:
            raise SessionNotFound(self.session)
        sid, seq, *held = row
        if held[0] is not None:
            owner = owner_of(tx, held[0])
            if self.steal == "never" or lives(tx, owner, held[1], held[2]):
                raise SessionBusy(self.session, str(owner))
        place = first_place(sid)
        last = connection.execute(
            "SELECT max(place) FROM records WHERE place BETWEEN ? AND ?",
            (place, place + 0xFFFFFFFF),
        ).fetchone()[0]
        if (last or place) != place + seq:
            raise damaged(tx.path, f"the last records of session {self.session!r} are missing")
        connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'fence'")
        fence = connection.execute("SELECT value FROM meta WHERE key = 'fence'").fetchone()[0]
        expires = tx.now.later(self.ttl)
        connection.execute(
            "INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                sid,
                fence,
                tx.holder,
                msgspec.json.encode(tx.me).decode(),
                self.ttl,
                expires.wall,
                expires.uptime,
            ),
        )
        tx.held[fence] = self.ttl
        self.lease = Lease(self.session, fence, str(tx.me), seq, sid)
        return self.lease


class Release(Write[None]):
    """See `Store.release`."""

    __slots__ = ("lease",)

    def __init__(self, lease: Lease) -> None:
        super().__init__()
        self.lease = lease

    def execute(self, tx: Transaction) -> None:
        _release(tx, self.lease)


class Unclaim(Write[None]):
    """Gives back what a claim got whose caller was cancelled, if it got anything."""

    __slots__ = ("claim",)

    def __init__(self, claim: Claim) -> None:
        super().__init__()
        self.claim = claim

    def execute(self, tx: Transaction) -> None:
        if self.claim.lease is not None and self.claim.error is None:
            _release(tx, self.claim.lease)


class Renew(Write[None]):
    """See `Store.renew`."""

    __slots__ = ("lease",)

    def __init__(self, lease: Lease) -> None:
        super().__init__()
        self.lease = lease

    def execute(self, tx: Transaction) -> None:
        renewed = tx.connection.execute(
            _RENEW, (tx.now.wall, tx.now.uptime, self.lease.fence, self.lease.session)
        )
        if renewed.rowcount == 0:
            raise Fenced(self.lease.session, self.lease.fence)


class RenewAll(Write[dict[int, float]]):
    """Extends all leases of this store; results in those that it still holds."""

    __slots__ = ()

    def execute(self, tx: Transaction) -> dict[int, float]:
        tx.connection.execute(
            "UPDATE leases SET expires = ? + ttl, expires_uptime = ? + ttl WHERE holder = ?",
            (tx.now.wall, tx.now.uptime, tx.holder),
        )
        return dict(
            tx.connection.execute("SELECT fence, ttl FROM leases WHERE holder = ?", (tx.holder,))
        )


_HEAD = """SELECT s.sid, s.root, s.seq, s.status, s.title, t.tree_seq, l.fence FROM sessions s
  JOIN sessions t ON t.sid = s.root LEFT JOIN leases l ON l.sid = s.sid WHERE s.id = ?"""

_INSERT = """INSERT INTO records (root, place, tree_seq, at, run, round, crc, body)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
# The count of a tree is kept with its root.
_UPDATE = """UPDATE sessions SET seq = ?, tree_seq = CASE root WHEN sid THEN ? ELSE 0 END,
  updated = ?, status = ?, title = ? WHERE sid = ?"""


class Append(Write[Appended]):
    """See `Store.append`."""

    __slots__ = ("bodies", "expected_seq", "final", "lease", "records", "refuse_if_inbox", "take")

    def __init__(
        self,
        lease: Lease,
        expected_seq: int,
        records: Sequence[Stamped],
        take: Sequence[str],
        *,
        final: bool,
        refuse_if_inbox: bool,
    ) -> None:
        super().__init__()
        self.lease = lease
        self.expected_seq = expected_seq
        self.records = records
        self.take = take
        self.final = final
        self.refuse_if_inbox = refuse_if_inbox
        self.bodies: Sequence[bytes] = ()

    def prepare(self) -> None:
        self.bodies = [encode_record(stamped.event) for stamped in self.records]

    def execute(self, tx: Transaction) -> Appended:
        lease = self.lease
        row = tx.connection.execute(_HEAD, (lease.session,)).fetchone()
        if row is None or row[6] != lease.fence:
            raise Fenced(lease.session, lease.fence)
        sid, root, seq, status, title, tree_seq, _ = row
        if seq != self.expected_seq:
            raise Conflict(lease.session, self.expected_seq, seq)
        taken: Sequence[int] = ()
        if self.take or self.refuse_if_inbox:
            taken = self._taken(tx, sid)
        if self.records:
            seq, tree_seq = self._insert(tx, sid, root, tree_seq, status, title)
        if taken:
            tx.connection.executemany("DELETE FROM inbox WHERE id = ?", [(id,) for id in taken])
        if self.final:
            _release(tx, lease)
        return Appended(seq, tree_seq)

    def _taken(self, tx: Transaction, sid: int) -> Sequence[int]:
        session = self.lease.session
        rows = tx.connection.execute("SELECT id FROM inbox WHERE sid = ?", (sid,))
        waiting: dict[str, int] = {f"i{id}": id for (id,) in rows}
        taken = set(self.take)
        for id in taken:
            if id not in waiting:
                raise UsageError(f"no item {id!r} waits in the inbox of session {session!r}")
        if self.refuse_if_inbox and len(waiting) > len(taken):
            raise Undelivered(session)
        return [waiting[id] for id in taken]

    def _insert(
        self, tx: Transaction, sid: int, root: int, tree_seq: int, status: str, title: str
    ) -> tuple[int, int]:
        records = self.records
        rows = [
            (root, *row_of(stamped, sid, tree_seq + n, body))
            for n, (stamped, body) in enumerate(zip(records, self.bodies, strict=True), 1)
        ]
        seq = self.expected_seq + len(rows)
        tree_seq += len(rows)
        tx.connection.executemany(_INSERT, rows)
        status, title = status_after(status, records), title or title_of(records)
        tx.connection.execute(_UPDATE, (seq, tree_seq, records[-1].at, status, title, sid))
        if root != sid:
            tx.connection.execute(
                "UPDATE sessions SET tree_seq = ? WHERE sid = ?", (tree_seq, root)
            )
        tx.grown[self.lease.session] = seq
        return seq, tree_seq


class Post(Write[Posted]):
    """See `Store.post`."""

    __slots__ = ("body", "dedupe_key", "item", "session")

    def __init__(self, session: str, item: Steer | CancelRequested, dedupe_key: str | None) -> None:
        super().__init__()
        self.session = session
        self.item = item
        self.dedupe_key = dedupe_key
        self.body = b""

    def prepare(self) -> None:
        self.body = encode_item(self.item)

    def execute(self, tx: Transaction) -> Posted:
        connection = tx.connection
        row = connection.execute(_CLAIMED, (self.session,)).fetchone()
        if row is None:
            raise SessionNotFound(self.session)
        sid, _, owner, expires, uptime = row
        running = owner is not None and lives(tx, owner_of(tx, owner), expires, uptime)
        key = self.dedupe_key
        if key is not None:
            earlier = connection.execute(
                "SELECT item FROM posted WHERE sid = ? AND key = ?", (sid, key)
            ).fetchone()
            if earlier is not None:
                return Posted(f"i{earlier[0]}", duplicate=True, running=running)
        id = connection.execute(
            "INSERT INTO inbox (sid, body) VALUES (?, ?)", (sid, self.body)
        ).lastrowid
        if key is not None:
            connection.execute("INSERT INTO posted VALUES (?, ?, ?)", (sid, key, id))
        tx.posted.append(self.session)
        return Posted(f"i{id}", duplicate=False, running=running)


class KeepSnapshot(Write[None]):
    """See `Store.keep_snapshot`."""

    __slots__ = ("session", "snapshot")

    def __init__(self, session: str, snapshot: Snapshot) -> None:
        super().__init__()
        self.session = session
        self.snapshot = snapshot

    def execute(self, tx: Transaction) -> None:
        kept = self.snapshot
        tx.connection.execute(
            "INSERT INTO snapshots SELECT sid, ?, ? FROM sessions WHERE id = ? AND sid = ?"
            " ON CONFLICT DO UPDATE SET seq = excluded.seq, body = excluded.body"
            " WHERE snapshots.seq < excluded.seq",
            (kept.seq, kept.body, self.session, kept.generation),
        )


def _sid(tx: Transaction, session: str) -> int | None:
    row = tx.connection.execute("SELECT sid FROM sessions WHERE id = ?", (session,)).fetchone()
    return None if row is None else row[0]


def _release(tx: Transaction, lease: Lease) -> None:
    tx.connection.execute(_RELEASE, (lease.fence, lease.session))
    tx.released.append(lease.fence)
