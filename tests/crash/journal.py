"""What programs that are killed have in common: where they die, and how far they came."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from sqlite3 import Connection
from typing import Any, Literal

from msgspec import Struct

from power_loop import Hooks, SQLiteStore
from power_loop.events import Stamped
from power_loop.hooks import POINTS, HookPoint
from power_loop.runtime.stores.base import Appended, Lease, Posted
from power_loop.runtime.stores.postgres import PostgresStore
from tests.stores.places import DurableStore

__all__ = ["RECOVERY", "SESSION", "Case", "Journal", "Program", "look_everywhere", "store_of"]

SESSION = "s"
Program = Literal["tools", "summary", "rule", "overflow"]
"""What the program is about: calls of tools, in `program`; or a session that is compacted by a
summary, by rule because its summariser fails, or because its provider refuses a prompt, and that
has a memory, in `remembering`."""
RECOVERY = "recovery: "
"""How the names of points begin that come while a program started again brings to an end what the
one before it had begun."""


class Case(Struct, frozen=True):
    """One start of the program.

    Attributes:
        folder: where its database, its journal of points and its effects are.
        program: which one it is.
        kill_at: number of the point at which it dies, from 1; 0 for not at all.
        kill_on: name of a point at which it dies.
        nth: it dies when it comes to `kill_on` for the nth time.
        hooks: whether handlers are registered everywhere, which makes every step a barrier, and one
            has a call wait for an approval.
        sql: whether each SQL statement of the writer is a point as well; on SQLite.
        seed: decides how the tools interleave.
        second: the other tools wait until the result of the first is durable.
        place: a database and schema on a PostgreSQL server instead of the folder's own database.
        session: the id of its session.
        how: whether it dies there, or stops until it is told to go on.
    """

    folder: str
    program: Program = "tools"
    kill_at: int = 0
    kill_on: str = ""
    nth: int = 1
    hooks: bool = False
    sql: bool = False
    seed: int = 0
    second: bool = False
    place: str = ""
    session: str = SESSION
    how: Literal["dies", "stops"] = "dies"


class Journal:
    """Files outside of the store; what was written survives the death of the process."""

    def __init__(self, case: Case) -> None:
        folder = Path(case.folder)
        self._case = case
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._signal = signal.SIGKILL if case.how == "dies" else signal.SIGSTOP
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        points = folder / "points"
        self.recovers = points.exists()
        self._points = os.open(points, flags)
        self._effects = os.open(folder / "effects", flags)

    def point(self, name: str) -> None:
        """The program is at this point; perhaps it dies here."""
        name = f"{RECOVERY}{name}" if self.recovers else name
        with self._lock:
            self._counts[name] += 1
            os.write(self._points, f"{name}\n".encode())
            on = name == self._case.kill_on and self._counts[name] == self._case.nth
            if on or self._counts.total() == self._case.kill_at:
                os.kill(os.getpid(), self._signal)

    def has_happened(self, *words: object) -> bool:
        """Whether something has happened in the outer world, in whatever process."""
        line = " ".join(map(str, words))
        lines = (Path(self._case.folder) / "effects").read_text().splitlines()
        return any(each.startswith(f"{line} ") for each in lines)

    def effect(self, *words: object) -> None:
        """Something happened in the outer world."""
        os.write(self._effects, (" ".join(map(str, words)) + "\n").encode())

    @asynccontextmanager
    async def around(self, what: str) -> AsyncGenerator[None]:
        """A point before something is asked of the store, and one after it was granted."""
        self.point(f"before {what}")
        yield
        self.point(f"after {what}")

    @asynccontextmanager
    async def appending(
        self, expected_seq: int, records: Sequence[Stamped]
    ) -> AsyncGenerator[None]:
        """Points around an append, and a note of what was acknowledged, for the judge."""
        names = "+".join(type(stamped.event).__name__ for stamped in records)
        self.point(f"before {names}")
        yield
        self.effect("acknowledged", expected_seq, names)
        self.point(f"after {names}")


class _OnSQLite(SQLiteStore):
    def __init__(self, journal: Journal, case: Case) -> None:
        def trace(statement: str) -> None:
            if "writer" in threading.current_thread().name:
                journal.point(f"sql {_kind_of(statement)}")

        def prepare(connection: Connection) -> None:
            if case.sql:
                connection.set_trace_callback(trace)

        # Death of a process loses nothing that was committed, whatever the durability.
        path = Path(case.folder) / "sessions.db"
        super().__init__(path, durability="normal", prepare=prepare)
        self._journal = journal

    async def create(self, session: str, **options: Any) -> None:
        async with self._journal.around("create"):
            await super().create(session, **options)

    async def claim(self, session: str, **options: Any) -> Lease:
        async with self._journal.around("claim"):
            return await super().claim(session, **options)

    async def release(self, lease: Lease) -> None:
        async with self._journal.around("release"):
            await super().release(lease)

    async def post(self, session: str, item: Any, **options: Any) -> Posted:
        async with self._journal.around("post"):
            return await super().post(session, item, **options)

    async def put_artifact(self, session: str, handle: str, text: str) -> None:
        async with self._journal.around("put_artifact"):
            await super().put_artifact(session, handle, text)

    async def append(
        self, lease: Lease, expected_seq: int, records: Sequence[Stamped], **options: Any
    ) -> Appended:
        async with self._journal.appending(expected_seq, records):
            return await super().append(lease, expected_seq, records, **options)


class _OnPostgres(PostgresStore):
    def __init__(self, journal: Journal, case: Case) -> None:
        url, _, schema = case.place.partition("#")
        super().__init__(url, schema=schema)
        self._journal = journal

    async def create(self, session: str, **options: Any) -> None:
        async with self._journal.around("create"):
            await super().create(session, **options)

    async def claim(self, session: str, **options: Any) -> Lease:
        async with self._journal.around("claim"):
            return await super().claim(session, **options)

    async def release(self, lease: Lease) -> None:
        async with self._journal.around("release"):
            await super().release(lease)

    async def post(self, session: str, item: Any, **options: Any) -> Posted:
        async with self._journal.around("post"):
            return await super().post(session, item, **options)

    async def put_artifact(self, session: str, handle: str, text: str) -> None:
        async with self._journal.around("put_artifact"):
            await super().put_artifact(session, handle, text)

    async def append(
        self, lease: Lease, expected_seq: int, records: Sequence[Stamped], **options: Any
    ) -> Appended:
        async with self._journal.appending(expected_seq, records):
            return await super().append(lease, expected_seq, records, **options)


def _kind_of(statement: str) -> str:
    """What a statement does, and to which table."""
    table = re.search(r"\b(?:INTO|FROM|UPDATE)\s+(\w+)", statement)
    verb = statement.split(None, 1)[0]
    return f"{verb} {table[1]}" if table else verb


def look_everywhere(journal: Journal) -> Hooks:
    """Handlers at every point, which makes every step a barrier."""

    def look_at(point: HookPoint[Any, Any]) -> Any:
        async def handler(context: Any) -> None:
            journal.point(f"hook {point.name}")

        return handler

    hooks = Hooks()
    for point in POINTS:
        hooks.on(point, look_at(point), name=point.name, on_error="raise")
    return hooks


def store_of(case: Case, journal: Journal) -> DurableStore:
    """The store that the program has, and tells the journal of."""
    return _OnPostgres(journal, case) if case.place else _OnSQLite(journal, case)
