"""A store in memory: fast, complete, and gone with the process."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count, islice
from threading import Lock
from typing import TYPE_CHECKING, Literal

from msgspec.structs import replace

from power_loop.errors import (
    Conflict,
    Fenced,
    SessionBusy,
    SessionNotFound,
    Undelivered,
    UsageError,
)
from power_loop.events import Stamped
from power_loop.runtime import stores
from power_loop.runtime.stores._memory_artifacts import MemoryArtifacts
from power_loop.runtime.stores.base import (
    EVERY_SESSION,
    Appended,
    CancelRequested,
    InboxItem,
    Lease,
    Lifecycle,
    Posted,
    SessionInfo,
    SessionQuery,
    Snapshot,
    Steer,
)
from power_loop.runtime.stores.common import (
    check_append,
    check_new,
    folded,
    says,
    status_after,
    title_of,
    tree_position,
)
from power_loop.runtime.stores.waiting import Waiters, Watchers, wake

if TYPE_CHECKING:
    from power_loop.runtime.stores.memory_notes import MemoryNotes

__all__ = ["MemoryStore"]


class _Log:
    """One session."""

    __slots__ = (
        "children",
        "created",
        "generation",
        "id",
        "inbox",
        "lease",
        "lifecycle",
        "metadata",
        "parent",
        "posted",
        "records",
        "root",
        "status",
        "title",
        "tree_seq",
        "updated",
    )

    def __init__(
        self,
        id: str,
        generation: int,
        parent: _Log | None,
        lifecycle: Lifecycle,
        metadata: Mapping[str, str],
        created: float,
    ) -> None:
        self.id = id
        self.generation = generation
        self.parent = parent
        self.root: _Log = self if parent is None else parent.root
        self.children: list[_Log] = []
        self.lifecycle: Lifecycle = lifecycle
        self.metadata = dict(metadata)
        self.created = self.updated = created
        self.records: list[Stamped] = []
        self.tree_seq = 0
        """Counts the records of the whole tree; of meaning only at its root."""
        self.status = "new"
        self.title = ""
        self.lease: Lease | None = None
        self.inbox: dict[str, InboxItem] = {}
        self.posted: dict[str, str] = {}

    def below(self) -> Iterator[_Log]:
        """The session and all its descendants."""
        yield self
        for child in self.children:
            yield from child.below()

    def bound(self) -> Iterator[_Log]:
        """The session and those that go along when it is deleted."""
        yield self
        for child in self.children:
            if child.lifecycle != "detached":
                yield from child.bound()

    def fits(self, query: SessionQuery) -> bool:
        """Whether the session is one of those asked for."""
        for wanted, actual in (
            (query.status, self.status),
            (query.lifecycle, self.lifecycle),
            (query.parent, self.parent.id if self.parent else None),
        ):
            if wanted is not None and wanted != actual:
                return False
        if not query.metadata.items() <= self.metadata.items():
            return False
        text = folded(query.text)
        return not text or any(says(stamped.event, text) for stamped in self.records)

    def info(self) -> SessionInfo:
        return SessionInfo(
            id=self.id,
            root=self.root.id,
            parent=self.parent.id if self.parent else None,
            created=self.created,
            updated=self.updated,
            seq=len(self.records),
            status=self.status,
            title=self.title,
            metadata=dict(self.metadata),
            lifecycle=self.lifecycle,
        )


class MemoryStore(MemoryArtifacts):
    """A `Store` whose sessions live in this process only.

    It keeps records as they are, without encoding them; no method but `wait` ever suspends. It may
    be used from several event loops and threads at once. A lease is held until it is released:
    whoever could die holding one takes the store along.
    """

    immediate: bool = True

    def __init__(self) -> None:
        super().__init__()
        self._notes: MemoryNotes | None = None
        self._lock = Lock()
        self._logs: dict[str, _Log] = {}
        self._waiters = Waiters()
        self._watchers = Watchers()
        self._fences = count(1)
        self._generations = count(1)
        self._items = count(1)
        self._owner = f"process {os.getpid()}"

    @property
    def notes(self) -> MemoryNotes:
        """What agents remember across sessions, for as long as the process lives."""
        with self._lock:
            self._notes = self._notes or stores.memory_notes.MemoryNotes()
            return self._notes

    async def create(
        self,
        session: str,
        *,
        parent: str | None = None,
        lifecycle: Lifecycle = "linked",
        metadata: Mapping[str, str] | None = None,
        at: float = 0.0,
    ) -> None:
        """See `Store.create`."""
        check_new(session, lifecycle, metadata)
        with self._lock:
            if session in self._logs:
                return
            above = None if parent is None else self._log(parent)
            log = self._logs[session] = _Log(
                session, next(self._generations), above, lifecycle, metadata or {}, at
            )
            self._kept[session] = {}
            if above is not None:
                above.children.append(log)

    async def claim(
        self, session: str, *, ttl: float = 30.0, steal: Literal["dead", "never"] = "dead"
    ) -> Lease:
        """See `Store.claim`."""
        with self._lock:
            log = self._log(session)
            if log.lease is not None:
                raise SessionBusy(session, log.lease.owner)
            log.lease = Lease(
                session, next(self._fences), self._owner, len(log.records), log.generation
            )
            return log.lease

    async def renew(self, lease: Lease) -> None:
        """See `Store.renew`."""
        self._leased(lease)

    async def release(self, lease: Lease) -> None:
        """See `Store.release`."""
        with self._lock:
            log = self._logs.get(lease.session)
            if log is not None and log.lease is not None and log.lease.fence == lease.fence:
                log.lease = None

    async def append(
        self,
        lease: Lease,
        expected_seq: int,
        records: Sequence[Stamped],
        *,
        take: Sequence[str] = (),
        final: bool = False,
        leaving: Sequence[str] | None = None,
    ) -> Appended:
        """See `Store.append`."""
        check_append(lease, expected_seq, records)
        with self._lock:
            log = self._leased(lease)
            if len(log.records) != expected_seq:
                raise Conflict(log.id, expected_seq, len(log.records))
            if take or leaving is not None:
                self._check_inbox(log, take, leaving)
            if records:
                self._extend(log, records)
            for id in take:
                log.inbox.pop(id, None)
            if final:
                log.lease = None
            seq, tree_seq = len(log.records), log.root.tree_seq
        if records:
            wake(self._waiters.below(log.id, seq))
        return Appended(seq, tree_seq)

    async def read(
        self, session: str, after: int = 0, limit: int | None = None
    ) -> Sequence[Stamped]:
        """See `Store.read`."""
        records = self._log(session).records
        start = max(0, after)
        return records[start:] if limit is None else records[start : start + limit]

    async def read_tree(
        self, root: str, after: int = 0, limit: int | None = None
    ) -> Sequence[Stamped]:
        """See `Store.read_tree`."""
        log = self._log(root)
        if log.root is not log:
            raise UsageError(f"session {root!r} is not a root: read the tree of {log.root.id!r}")
        with self._lock:
            found: list[Stamped] = []
            for each in log.below():
                found += each.records[bisect_right(each.records, after, key=tree_position) :]
        found.sort(key=tree_position)
        return found if limit is None else found[:limit]

    async def keep_snapshot(self, session: str, snapshot: Snapshot) -> None:
        """See `Store.keep_snapshot`. Keeps none: its records need no reading."""

    async def snapshot(self, session: str) -> Snapshot | None:
        """See `Store.snapshot`."""
        return None

    async def wait(self, session: str, after: int) -> None:
        """See `Store.wait`."""
        waiter = self._waiters.add(session, after)
        try:
            log = self._logs.get(session)
            if log is not None and len(log.records) <= after:
                await waiter.event.wait()
        finally:
            self._waiters.remove(waiter)

    async def post(
        self, session: str, item: Steer | CancelRequested, *, dedupe_key: str | None = None
    ) -> Posted:
        """See `Store.post`."""
        with self._lock:
            log = self._log(session)
            running = log.lease is not None
            earlier = None if dedupe_key is None else log.posted.get(dedupe_key)
            if earlier is not None:
                return Posted(earlier, duplicate=True, running=running)
            id = f"i{next(self._items)}"
            log.inbox[id] = InboxItem(id, item)
            if dedupe_key is not None:
                log.posted[dedupe_key] = id
        wake(self._watchers.of(session))
        return Posted(id, duplicate=False, running=running)

    async def inbox(self, session: str) -> Sequence[InboxItem]:
        """See `Store.inbox`."""
        with self._lock:
            return tuple(self._log(session).inbox.values())

    def inbox_hint(self, session: str) -> bool:
        """See `Store.inbox_hint`. Always exact."""
        log = self._logs.get(session)
        return log is not None and bool(log.inbox)

    def watch(self, session: str, notify: Callable[[], None]) -> Callable[[], None]:
        """See `Store.watch`."""
        return self._watchers.add(session, notify)

    async def info(self, session: str) -> SessionInfo:
        """See `Store.info`."""
        return self._log(session).info()

    async def list(
        self,
        query: SessionQuery = EVERY_SESSION,
        *,
        limit: int = 100,
        before: float | None = None,
    ) -> Sequence[SessionInfo]:
        """See `Store.list`."""
        with self._lock:
            logs = [log for log in self._logs.values() if before is None or log.updated < before]
        logs.sort(key=lambda log: (-log.updated, log.id))
        return [log.info() for log in islice((log for log in logs if log.fits(query)), limit)]

    async def delete(self, session: str) -> int:
        """See `Store.delete`."""
        with self._lock:
            log = self._log(session)
            doomed = [*log.bound()]
            for each in doomed:
                if each.lease is not None:
                    raise SessionBusy(each.id, each.lease.owner)
            for each in doomed:
                for child in each.children:
                    if child.lifecycle == "detached":
                        _uproot(child)
            if log.parent is not None:
                log.parent.children.remove(log)
            for each in doomed:
                del self._logs[each.id]
                self._kept.pop(each.id, None)
                if self._notes is not None:
                    self._notes.drop_session(each.id)
        for each in doomed:
            wake(self._waiters.below(each.id, None))
        return len(doomed)

    async def aclose(self) -> None:
        """See `Store.aclose`. The sessions stay readable: there is nothing to release but them."""

    def _log(self, session: str) -> _Log:
        log = self._logs.get(session)
        if log is None:
            raise SessionNotFound(session)
        return log

    def _leased(self, lease: Lease) -> _Log:
        log = self._logs.get(lease.session)
        if log is None or log.lease is None or log.lease.fence != lease.fence:
            raise Fenced(lease.session, lease.fence)
        return log

    def _check_inbox(self, log: _Log, take: Sequence[str], leaving: Sequence[str] | None) -> None:
        for id in take:
            if id not in log.inbox:
                raise UsageError(f"no item {id!r} waits in the inbox of session {log.id!r}")
        if leaving is not None and not log.inbox.keys() <= {*take, *leaving}:
            raise Undelivered(log.id)

    def _extend(self, log: _Log, records: Sequence[Stamped]) -> None:
        root = log.root
        for r in records:
            root.tree_seq += 1
            log.records.append(
                Stamped(log.id, r.seq, 0, root.id, root.tree_seq, r.at, r.run, r.round, r.event)
            )
        log.updated = records[-1].at
        log.status = status_after(log.status, records)
        log.title = log.title or title_of(records)


def _uproot(log: _Log) -> None:
    """Makes a session the root of its own tree; its records keep their order."""
    tree_seq = log.root.tree_seq
    log.parent = None
    log.tree_seq = tree_seq
    for each in log.below():
        each.root = log
        each.records = [replace(stamped, root=log.id) for stamped in each.records]
