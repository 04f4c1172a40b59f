"""A store in one SQLite file: durable, shared by any number of processes of one machine.

event loops ──queue──► writer thread: one transaction for everything queued ──► file (WAL)
     ▲                      │ after the commit, one wake-up per event loop       │
     └──────────────────────┘                                                     │
     └─────queue──► reader thread: short snapshots of what is committed ◄─────────┘
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from sqlite3 import Connection
from typing import Literal, Self, TypeVar

import anyio
import anyio.to_thread

from power_loop.errors import StoreUnavailable, UsageError
from power_loop.events import Stamped
from power_loop.runtime.stores import _sqlite_reads as reads
from power_loop.runtime.stores._sqlite_artifacts import SQLiteArtifacts
from power_loop.runtime.stores._sqlite_delete import Delete
from power_loop.runtime.stores._sqlite_notes import SQLiteNotes, check_notes
from power_loop.runtime.stores._sqlite_open import Settings
from power_loop.runtime.stores._sqlite_peek import Peek
from power_loop.runtime.stores._sqlite_schema import SCHEMA_VERSION
from power_loop.runtime.stores._sqlite_search import info, search
from power_loop.runtime.stores._sqlite_threads import Read, Reader, Writer
from power_loop.runtime.stores._sqlite_upkeep import (
    back_up,
    brought_up_to_date,
    checkpoint,
    vacuum,
)
from power_loop.runtime.stores._sqlite_work import Write
from power_loop.runtime.stores._sqlite_writes import (
    Append,
    Claim,
    Create,
    KeepSnapshot,
    Post,
    Release,
    Renew,
    Unclaim,
)
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
from power_loop.runtime.stores.common import check_append, check_new
from power_loop.runtime.stores.forks import survive_forks
from power_loop.runtime.stores.notes import NoteStore
from power_loop.runtime.stores.waiting import Waiters, Watchers
from power_loop.runtime.stores.workers import Work, Worker

__all__ = ["SQLiteStore"]

T = TypeVar("T")


class SQLiteStore(SQLiteArtifacts):
    """A `Store` in the SQLite file `path`, which is made if there is none.

    Close it, or let a block do that: `async with SQLiteStore("agent.db") as store:`.

    Args:
        path: the file, in an existing directory of a local disk. Two more files appear beside it
            while it is in use.
        durability: `full` survives a loss of power; `normal` survives the death of any process, and
            may lose the last commits, never part of one, when power is lost.
        busy_timeout: seconds to wait for a lock that another process holds.
        schema_policy: `create` makes the file, and makes or migrates its tables; `verify` raises
            StoreSchemaError for tables that are missing or old and StoreUnavailable for a missing
            file, and changes nothing in opening it.

    Attributes:
        schema_version: the version of the tables that this version of the package needs.
        notes: what agents remember across sessions, in the same file; needs SQLite's FTS5.

    The file is opened by the first call; all calls raise a `StoreError` that says what to do when
    that fails. Sessions, leases and inboxes are shared with every other process on the file. What
    another process wrote wakes `wait`, and what it posted is told of, within 25 ms.

    Cancelling a call leaves it open whether it takes effect, now or a moment later; it does so
    whole or not at all. A caller that must know shields it. A cancelled `claim` gives back what it
    got.

    A program may fork: connections are closed before and opened again after. A child starts without
    leases of its own. (Only forks made by Python are seen.)
    """

    immediate: bool = False
    schema_version: int = SCHEMA_VERSION

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Literal["full", "normal"] = "full",
        busy_timeout: float = 10.0,
        schema_policy: Literal["create", "verify"] = "create",
        prepare: Callable[[Connection], object] | None = None,
    ) -> None:
        """`prepare` is called with each new connection, for pragmas of your own."""
        name = os.fspath(path)
        if name in {"", ":memory:"} or name.startswith("file:"):
            raise UsageError(
                f"{name!r} is no path of a file; for a store in memory use MemoryStore"
            )
        if schema_policy not in ("create", "verify"):
            raise UsageError(f"schema_policy is 'create' or 'verify', not {schema_policy!r}")
        settings = Settings(
            str(Path(name).absolute()), durability, busy_timeout, prepare, policy=schema_policy
        )
        self._settings = settings
        self.path = Path(settings.path)
        self._waiters = Waiters()
        self._watchers = Watchers()
        self._peek = Peek()
        self._writer = Writer(settings, self._waiters, self._watchers, self._peek)
        self._reader = Reader(settings, self._waiters, self._watchers)
        self._closed = False
        self.notes: NoteStore = SQLiteNotes(settings.path, self._reader, self._writer, self._do)
        survive_forks(self._before_fork, self._after_fork_in_parent, self._after_fork_in_child)

    def __repr__(self) -> str:
        return f"SQLiteStore({str(self.path)!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        with anyio.CancelScope(shield=True):
            await self.aclose()

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
        await self._do(self._writer, Create(session, parent, lifecycle, metadata, at))

    async def claim(
        self, session: str, *, ttl: float = 30.0, steal: Literal["dead", "never"] = "dead"
    ) -> Lease:
        """See `Store.claim`. The writer thread renews it three times within `ttl` seconds."""
        claim = Claim(session, ttl, steal)
        try:
            return await self._do(self._writer, claim)
        except BaseException:
            if claim.withdrawn:
                self._writer.put(Unclaim(claim))
            raise

    async def renew(self, lease: Lease) -> None:
        """See `Store.renew`."""
        await self._do(self._writer, Renew(lease))

    async def release(self, lease: Lease) -> None:
        """See `Store.release`."""
        await self._do(self._writer, Release(lease))

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
        append = Append(lease, expected_seq, records, take, final=final, leaving=leaving)
        return await self._do(self._writer, append)

    async def read(
        self, session: str, after: int = 0, limit: int | None = None
    ) -> Sequence[Stamped]:
        """See `Store.read`."""
        path = str(self.path)
        return await self._ask(lambda cx: reads.read(cx, path, session, after, limit))

    async def read_tree(
        self, root: str, after: int = 0, limit: int | None = None
    ) -> Sequence[Stamped]:
        """See `Store.read_tree`."""
        path = str(self.path)
        return await self._ask(lambda cx: reads.read_tree(cx, path, root, after, limit))

    async def keep_snapshot(self, session: str, snapshot: Snapshot) -> None:
        """See `Store.keep_snapshot`."""
        await self._do(self._writer, KeepSnapshot(session, snapshot))

    async def snapshot(self, session: str) -> Snapshot | None:
        """See `Store.snapshot`."""
        return await self._ask(lambda cx: reads.snapshot(cx, session))

    async def wait(self, session: str, after: int) -> None:
        """See `Store.wait`."""
        waiter = self._waiters.add(session, after)
        try:
            seq = await self._ask(lambda cx: reads.head(cx, session))
            if seq is not None and seq <= after:
                await waiter.event.wait()
        finally:
            self._waiters.remove(waiter)

    async def post(
        self, session: str, item: Steer | CancelRequested, *, dedupe_key: str | None = None
    ) -> Posted:
        """See `Store.post`."""
        return await self._do(self._writer, Post(session, item, dedupe_key))

    async def inbox(self, session: str) -> Sequence[InboxItem]:
        """See `Store.inbox`."""
        path = str(self.path)
        return await self._ask(lambda cx: reads.inbox(cx, path, session))

    def inbox_hint(self, session: str) -> bool:
        """See `Store.inbox_hint`. Exact once the store is open, for items of any process."""
        return self._peek.has_items(session)

    def watch(self, session: str, notify: Callable[[], None]) -> Callable[[], None]:
        """See `Store.watch`."""
        unwatch = self._watchers.add(session, notify)
        if not self._closed:
            self._reader.look_out()
        return unwatch

    async def info(self, session: str) -> SessionInfo:
        """See `Store.info`."""
        path = str(self.path)
        return await self._ask(lambda cx: info(cx, path, session))

    async def list(
        self,
        query: SessionQuery = EVERY_SESSION,
        *,
        limit: int = 100,
        before: float | None = None,
    ) -> Sequence[SessionInfo]:
        """See `Store.list`."""
        path = str(self.path)
        return await self._ask(lambda cx: search(cx, path, query, limit, before))

    async def delete(self, session: str) -> int:
        """See `Store.delete`."""
        return await self._do(self._writer, Delete(session))

    async def check(self) -> int:
        """Reads everything and compares it with its checksums; returns the number of records.

        Raises:
            StoreCorrupt: something is not what was written; says what.
        """
        path = str(self.path)
        await self._ask(lambda cx: check_notes(cx, path))
        return await self._ask(lambda cx: reads.check(cx, path))

    async def migrate(self) -> int:
        """Makes the tables or brings them up to date, whatever the policy; returns steps taken."""
        return await anyio.to_thread.run_sync(brought_up_to_date, self._settings)

    async def backup(self, target: str | os.PathLike[str]) -> None:
        """Writes everything that is committed now into a new file, while the store is in use.

        The file appears when it is whole; nothing is overwritten.

        Raises:
            UsageError: the file exists, or its directory does not.
        """
        await anyio.to_thread.run_sync(back_up, self._settings, Path(target))

    async def vacuum(self) -> None:
        """Gives the room of what was deleted back to the file system. Writers wait meanwhile."""
        await anyio.to_thread.run_sync(vacuum, self._settings)

    async def checkpoint(self) -> bool:
        """Moves the write-ahead log into the file; False if somebody's reading prevents a part.

        That happens by itself, too. Afterwards the file alone is everything.
        """
        return await anyio.to_thread.run_sync(checkpoint, self._settings)

    async def aclose(self) -> None:
        """See `Store.aclose`. Finishes what is queued and gives back all leases.

        Cancelled, it does so all the same, only without being waited for.
        """
        if self._closed:
            return
        self._closed = True
        # Of two connections that are closed at the same moment, neither tidies the log away.
        ends = (
            (self._reader, self._reader.stop()),
            (self._writer, self._writer.stop(self._reader)),
        )
        for worker, ended in ends:
            if ended is not None:
                await ended.event.wait()
                worker.join()

    async def _ask(self, ask: Callable[[Connection], T]) -> T:
        return await self._do(self._reader, Read(ask))

    async def _write(self, write: Write[T]) -> T:
        return await self._do(self._writer, write)

    async def _do(self, worker: Worker, work: Work[T]) -> T:
        if self._closed:
            raise StoreUnavailable(f"the store at {self.path} is closed")
        return await worker.done(work)

    def _before_fork(self) -> None:
        self._writer.freeze()
        self._reader.freeze()

    def _after_fork_in_parent(self) -> None:
        self._reader.thaw()
        self._writer.thaw()

    def _after_fork_in_child(self) -> None:
        self._waiters.reset()
        self._watchers.reset()
        self._peek.reset()
        self._reader.reset()
        self._writer.reset()
