"""A store on a PostgreSQL server: durable, shared by any number of processes and machines.

event loops ──queue──► writer thread: one pipeline, one transaction for everything queued ──► server
     ▲                      │ after the commit, one wake-up per event loop                    │  │
     └──────────────────────┘                                                                  │  │
     └─────queue──► reader thread: one statement, one snapshot ◄───────────────────────────────┘  │
     └────────────── listener thread: LISTEN, for what others have written ◄───── NOTIFY ─────────┘
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Event
from typing import TYPE_CHECKING, Literal, Self, TypeVar

import anyio
import anyio.to_thread

from power_loop.errors import StoreUnavailable
from power_loop.events import Stamped
from power_loop.runtime.stores import _postgres_reads as reads
from power_loop.runtime.stores._postgres_artifacts import PostgresArtifacts
from power_loop.runtime.stores._postgres_listener import Listener
from power_loop.runtime.stores._postgres_notes import PostgresNotes
from power_loop.runtime.stores._postgres_open import SchemaPolicy, make_settings
from power_loop.runtime.stores._postgres_schema import SCHEMA_VERSION, brought_up_to_date, vacuum
from power_loop.runtime.stores._postgres_search import info, search
from power_loop.runtime.stores._postgres_threads import Read, Reader, Writer
from power_loop.runtime.stores._postgres_work import Write
from power_loop.runtime.stores._postgres_writes import (
    Append,
    Claim,
    Create,
    Delete,
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

if TYPE_CHECKING:
    from psycopg import Cursor
    from psycopg.rows import TupleRow

__all__ = ["PostgresStore"]

T = TypeVar("T")


class PostgresStore(PostgresArtifacts):
    """A `Store` in a PostgreSQL database, version 15 or newer; needs the extra `postgres`.

    Close it, or let a block do that: `async with PostgresStore("postgresql://…") as store:`.

    Args:
        url: as libpq takes it: `postgresql://user:password@host:5432/database`. What it leaves out
            comes from the environment (PGPASSWORD, PGSERVICE, …).
        schema: where the tables are; made if it is missing.
        prefix: what the names of the tables begin with.
        schema_policy: `create` makes or migrates the tables when they are missing or old; `verify`
            raises StoreSchemaError then, with the exact DDL that a privileged user has to run.
        patience: seconds to wait for a lock, and for a server that went away to come back.

    Attributes:
        schema: where the tables are.
        schema_version: the version of the tables that this version of the package needs.
        notes: what agents remember across sessions, in the same schema.

    Three connections are opened when they are first needed; all calls raise a `StoreError` that
    says what to do when that fails. A lease counts on every host: it is measured by the clock of
    the server, and taken over when it has expired or its process, on this host, has died.

    A connection that is lost is opened again, and what was under way is done once: the server can
    tell whether it had happened. Only a `post` without a dedupe key and a `delete` are not repeated
    then: they raise StoreUnavailable, which says so.

    Cancelling a call leaves it open whether it takes effect, now or a moment later; it does so
    whole or not at all. A caller that must know shields it. A cancelled `claim` gives back what it
    got. A program may fork: see `SQLiteStore`.

    Raises:
        UsageError: the extra is not installed, or the URL, a name or the policy cannot be.
    """

    immediate: bool = False
    schema_version: int = SCHEMA_VERSION

    def __init__(
        self,
        url: str,
        *,
        schema: str = "power_loop",
        prefix: str = "",
        schema_policy: SchemaPolicy = "create",
        patience: float = 10.0,
    ) -> None:
        self._settings = make_settings(url, schema, prefix, schema_policy, patience)
        self.schema = schema
        self._waiters = Waiters()
        reached = Event()
        self._watchers = Watchers()
        self._writer = Writer(self._settings, self._waiters, self._watchers, reached)
        self._reader = Reader(self._settings, reached)
        self._listener = Listener(self._settings, self._waiters, self._watchers)
        self._closed = False
        self.notes: NoteStore = PostgresNotes(self._settings, self._reader, self._writer, self._do)
        survive_forks(self._before_fork, self._after_fork_in_parent, self._after_fork_in_child)

    def __repr__(self) -> str:
        return f"PostgresStore({self._settings.place!r})"

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
        settings = self._settings
        return await self._ask(lambda cursor: reads.read(cursor, settings, session, after, limit))

    async def read_tree(
        self, root: str, after: int = 0, limit: int | None = None
    ) -> Sequence[Stamped]:
        """See `Store.read_tree`."""
        settings = self._settings
        return await self._ask(lambda cursor: reads.read_tree(cursor, settings, root, after, limit))

    async def keep_snapshot(self, session: str, snapshot: Snapshot) -> None:
        """See `Store.keep_snapshot`."""
        await self._do(self._writer, KeepSnapshot(session, snapshot))

    async def snapshot(self, session: str) -> Snapshot | None:
        """See `Store.snapshot`."""
        settings = self._settings
        return await self._ask(lambda cursor: reads.snapshot(cursor, settings, session))

    async def wait(self, session: str, after: int) -> None:
        """See `Store.wait`."""
        settings = self._settings
        waiter = self._waiters.add(session, after)
        try:
            await self._listener.listen()
            seq = await self._ask(lambda cursor: reads.head(cursor, settings, session))
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
        settings = self._settings
        return await self._ask(lambda cursor: reads.inbox(cursor, settings, session))

    def inbox_hint(self, session: str) -> bool:
        """See `Store.inbox_hint`. Always True: what others have posted the server alone knows."""
        return True

    def watch(self, session: str, notify: Callable[[], None]) -> Callable[[], None]:
        """See `Store.watch`."""
        unwatch = self._watchers.add(session, notify)
        if not self._closed:
            self._listener.ensure()
        return unwatch

    async def info(self, session: str) -> SessionInfo:
        """See `Store.info`."""
        settings = self._settings
        return await self._ask(lambda cursor: info(cursor, settings, session))

    async def list(
        self,
        query: SessionQuery = EVERY_SESSION,
        *,
        limit: int = 100,
        before: float | None = None,
    ) -> Sequence[SessionInfo]:
        """See `Store.list`."""
        settings = self._settings
        return await self._ask(lambda cursor: search(cursor, settings, query, limit, before))

    async def delete(self, session: str) -> int:
        """See `Store.delete`."""
        return await self._do(self._writer, Delete(session))

    async def check(self) -> int:
        """Reads everything and compares it with its checksums; returns the number of records.

        Raises:
            StoreCorrupt: something is not what was written; says what.
        """
        settings = self._settings
        return await self._ask(lambda cursor: reads.check(cursor, settings))

    async def migrate(self) -> int:
        """Makes the tables or brings them up to date, whatever the policy; returns steps taken.

        Raises:
            StoreUnavailable: the user of the URL may not.
        """
        return await anyio.to_thread.run_sync(brought_up_to_date, self._settings)

    async def vacuum(self) -> None:
        """Makes the room of what was deleted usable again, and updates the planner's statistics."""
        await anyio.to_thread.run_sync(vacuum, self._settings)

    async def aclose(self) -> None:
        """See `Store.aclose`. Finishes what is queued and gives back all leases.

        Cancelled, it does so all the same, only without being waited for.
        """
        if self._closed:
            return
        self._closed = True
        ends = [(worker, worker.stop()) for worker in (self._reader, self._writer)]
        listener_ends = self._listener.stop()
        for worker, ended in ends:
            if ended is not None:
                await ended.event.wait()
                worker.join()
        # It may be waiting for a server that does not answer.
        await anyio.to_thread.run_sync(listener_ends)

    async def _ask(self, ask: Callable[[Cursor[TupleRow]], T]) -> T:
        return await self._do(self._reader, Read(ask))

    async def _write(self, write: Write[T]) -> T:
        return await self._do(self._writer, write)

    async def _do(self, worker: Worker, work: Work[T]) -> T:
        if self._closed:
            raise StoreUnavailable(f"the store at {self._settings.place} is closed")
        return await worker.done(work)

    def _before_fork(self) -> None:
        self._listener.stop()()
        self._writer.freeze()
        self._reader.freeze()

    def _after_fork_in_parent(self) -> None:
        self._reader.thaw()
        self._writer.thaw()
        if self._watchers:
            self._listener.ensure()

    def _after_fork_in_child(self) -> None:
        self._waiters.reset()
        self._watchers.reset()
        self._listener.reset()
        self._reader.reset()
        self._writer.reset()
