"""What changes a store on PostgreSQL: each write is one call of a function of the schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from uuid import uuid4

import msgspec

from power_loop.errors import (
    Conflict,
    Fenced,
    SessionBusy,
    SessionNotFound,
    StoreUnavailable,
    Undelivered,
    UsageError,
)
from power_loop.events import Stamped
from power_loop.runtime.stores._postgres_errors import damaged
from power_loop.runtime.stores._postgres_rows import check_text, checksum
from power_loop.runtime.stores._postgres_work import (
    Call,
    Me,
    Transaction,
    Write,
    is_dead,
    owner_of,
)
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
    "Delete",
    "KeepSnapshot",
    "Post",
    "Release",
    "Renew",
    "RenewAll",
    "Unclaim",
    "uncertain",
]

_Rows = Sequence[Sequence[Any]]


class Create(Write[None]):
    """See `Store.create`."""

    __slots__ = ("_arguments", "_parent")

    def __init__(
        self,
        session: str,
        parent: str | None,
        lifecycle: Lifecycle,
        metadata: Mapping[str, str] | None,
        at: float,
    ) -> None:
        super().__init__()
        check_text(parent=parent)
        self._parent = parent or ""
        known = msgspec.json.encode(metadata or {}).decode()
        self._arguments = (session, parent, lifecycle, known, at)

    def call(self, me: Me) -> Call:
        return Call("SELECT @create_session(%s, %s, %s, %s::jsonb, %s)", self._arguments)

    def settle(self, rows: _Rows, tx: Transaction) -> bool:
        self.result = None
        if rows[0][0] == "missing":
            self.error = SessionNotFound(self._parent)
        return False


class Claim(Write[Lease]):
    """See `Store.claim`."""

    __slots__ = ("_dead", "_id", "_session", "_steal", "_ttl", "lease")

    def __init__(self, session: str, ttl: float, steal: Literal["dead", "never"]) -> None:
        super().__init__()
        self._session = session
        self._ttl = ttl
        self._steal = steal == "dead"
        self._id = uuid4().hex
        self._dead = 0
        self.lease: Lease | None = None

    def call(self, me: Me) -> Call:
        return Call(
            "SELECT * FROM @claim_session(%s, %s, %s, %s, %s, %s, %s)",
            (self._session, self._ttl, me.text, me.holder, self._id, self._dead, self._steal),
        )

    def settle(self, rows: _Rows, tx: Transaction) -> bool:
        code, sid, seq, fence, owner = rows[0]
        match code:
            case "missing":
                self.error = SessionNotFound(self._session)
            case "damaged":
                what = f"the last records of session {self._session!r} are missing"
                self.error = damaged(tx.me.place, what)
            case "busy":
                if self._steal and self._dead != fence and is_dead(owner, tx.me):
                    self._dead = fence
                    return True
                self.error = SessionBusy(self._session, str(owner_of(owner, tx.me)))
            case _:
                tx.held[fence] = self._ttl
                self.lease = Lease(self._session, fence, str(tx.me.owner), seq, sid)
                self.result = self.lease
        return False


class Release(Write[None]):
    """See `Store.release`."""

    __slots__ = ("_lease",)

    def __init__(self, lease: Lease) -> None:
        super().__init__()
        self._lease = lease

    def call(self, me: Me) -> Call:
        return Call("SELECT @release_lease(%s, %s)", (self._lease.session, self._lease.fence))

    def settle(self, rows: _Rows, tx: Transaction) -> bool:
        self.result = None
        tx.released.append(self._lease.fence)
        return False


class Unclaim(Write[None]):
    """Gives back what a claim got whose caller was cancelled, if it got anything."""

    __slots__ = ("_claim",)

    def __init__(self, claim: Claim) -> None:
        super().__init__()
        self._claim = claim

    def call(self, me: Me) -> Call:
        lease = self._claim.lease
        if lease is None or self._claim.error is not None:
            return Call("SELECT 1", ())
        return Call("SELECT @release_lease(%s, %s)", (lease.session, lease.fence))

    def settle(self, rows: _Rows, tx: Transaction) -> bool:
        self.result = None
        if self._claim.lease is not None:
            tx.released.append(self._claim.lease.fence)
        return False


class Renew(Write[None]):
    """See `Store.renew`."""

    __slots__ = ("_lease",)

    def __init__(self, lease: Lease) -> None:
        super().__init__()
        self._lease = lease

    def call(self, me: Me) -> Call:
        return Call("SELECT @renew_lease(%s, %s)", (self._lease.session, self._lease.fence))

    def settle(self, rows: _Rows, tx: Transaction) -> bool:
        self.result = None
        if not rows[0][0]:
            self.error = Fenced(self._lease.session, self._lease.fence)
        return False


class RenewAll(Write[dict[int, float]]):
    """Extends all leases of this store; results in those that it still holds."""

    __slots__ = ()

    def call(self, me: Me) -> Call:
        return Call("SELECT * FROM @renew_leases(%s)", (me.holder,))

    def settle(self, rows: _Rows, tx: Transaction) -> bool:
        self.result = {row[0]: row[1] for row in rows}
        return False


class Append(Write[Appended]):
    """See `Store.append`."""

    __slots__ = (
        "_arguments",
        "_expected_seq",
        "_final",
        "_lease",
        "_records",
        "_refuse",
        "_take",
    )

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
        self._lease = lease
        self._expected_seq = expected_seq
        self._records = records
        self._take = take
        self._final = final
        self._refuse = refuse_if_inbox
        self._arguments: Sequence[Any] = ()

    def call(self, me: Me) -> Call:
        self._arguments = self._arguments or self._encoded()
        return Call(_APPEND, (*self._arguments, self.again))

    def _encoded(self) -> Sequence[Any]:
        lease, records = self._lease, self._records
        bodies = [encode_record(each.event) for each in records]
        for each in records:
            check_text(run=each.run)
        return (
            lease.session,
            lease.fence,
            self._expected_seq,
            [each.at for each in records],
            [each.run for each in records],
            [each.round for each in records],
            [checksum(lease.generation, e, b) for e, b in zip(records, bodies, strict=True)],
            bodies,
            [_item_number(id) for id in self._take],
            self._final,
            self._refuse,
            status_after("", records) or None,
            title_of(records).replace("\x00", ""),
        )

    def settle(self, rows: _Rows, tx: Transaction) -> bool:
        code, seq, tree_seq = rows[0]
        session = self._lease.session
        match code:
            case "fenced":
                self.error = Fenced(session, self._lease.fence)
            case "conflict":
                self.error = Conflict(session, self._expected_seq, seq)
            case "undelivered":
                self.error = Undelivered(session)
            case "no_item":
                (id, *_) = [id for id in self._take if _item_number(id) == seq]
                self.error = UsageError(f"no item {id!r} waits in the inbox of session {session!r}")
            case _:
                self.result = Appended(seq, tree_seq)
                if self._records:
                    tx.grown[session] = seq
                if self._final:
                    tx.released.append(self._lease.fence)
        return False


_APPEND = (
    "SELECT * FROM @append_records(%s, %s, %s, %b::float8[], %s::text[], %b::int[], %b::bigint[],"
    " %b::bytea[], %b::bigint[], %s, %s, %s, %s, %s)"
)


class Post(Write[Posted]):
    """See `Store.post`."""

    __slots__ = ("_body", "_key", "_session", "repeatable")

    def __init__(self, session: str, item: Steer | CancelRequested, dedupe_key: str | None) -> None:
        super().__init__()
        check_text(dedupe_key=dedupe_key)
        self._session = session
        self._body = encode_item(item)
        self._key = dedupe_key
        self.repeatable = dedupe_key is not None

    def call(self, me: Me) -> Call:
        return Call("SELECT * FROM @post_item(%s, %b, %s)", (self._session, self._body, self._key))

    def settle(self, rows: _Rows, tx: Transaction) -> bool:
        code, id, owner, over = rows[0]
        if code == "missing":
            self.error = SessionNotFound(self._session)
        else:
            running = owner is not None and not over and not is_dead(owner, tx.me)
            self.result = Posted(f"i{id}", duplicate=code == "duplicate", running=running)
            if code == "ok":
                tx.posted.append(self._session)
        return False


class Delete(Write[int]):
    """See `Store.delete`."""

    __slots__ = ("_dead", "_session")

    repeatable = False

    def __init__(self, session: str) -> None:
        super().__init__()
        self._session = session
        self._dead: list[int] = []

    def call(self, me: Me) -> Call:
        return Call("SELECT * FROM @delete_session(%s, %b::bigint[])", (self._session, self._dead))

    def settle(self, rows: _Rows, tx: Transaction) -> bool:
        code, count, id, owner, fence = rows[0]
        match code:
            case "missing":
                self.error = SessionNotFound(self._session)
            case "busy":
                if is_dead(owner, tx.me):
                    self._dead.append(fence)
                    return True
                self.error = SessionBusy(id, str(owner_of(owner, tx.me)))
            case _:
                self.result = count
                tx.gone.append(self._session)
        return False


class KeepSnapshot(Write[None]):
    """See `Store.keep_snapshot`."""

    __slots__ = ("_arguments",)

    def __init__(self, session: str, snapshot: Snapshot) -> None:
        super().__init__()
        self._arguments = (snapshot.seq, snapshot.body, session, snapshot.generation)

    def call(self, me: Me) -> Call:
        return Call(_KEEP, self._arguments)

    def settle(self, rows: _Rows, tx: Transaction) -> bool:
        self.result = None
        return False


_KEEP = """INSERT INTO @snapshots AS kept
  SELECT sid, %s, %b FROM @sessions WHERE id = %s AND sid = %s
  ON CONFLICT (sid) DO UPDATE SET seq = excluded.seq, body = excluded.body
    WHERE kept.seq < excluded.seq
  RETURNING 1"""


def uncertain(place: str) -> StoreUnavailable:
    """An error for a change that may or may not have taken effect, and must not be made twice."""
    return StoreUnavailable(
        f"the connection to {place} was lost while this was being stored, so it may or may not "
        "have been. Look before trying again, or post with a dedupe_key, which makes that safe"
    )


def _item_number(id: str) -> int:
    """The number of an inbox item; one that no item has, for what is no id at all."""
    number = id[1:]
    if not id.startswith("i") or not number.isascii() or not number.isdigit():
        return -1
    return min(int(number), 2**63 - 1)
