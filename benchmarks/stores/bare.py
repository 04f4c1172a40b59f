"""The same inserts by the drivers alone: rows in one table, a counter, durable at each commit."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import tempfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import psycopg

from benchmarks.floor import opened
from benchmarks.floor_parts import asked
from benchmarks.measuring import Repeat, Watch, expect
from benchmarks.scenarios import ANSWER, Sample
from benchmarks.stores.figures import CONNECTIONS, RECORDS, StoreSize
from benchmarks.stores.work import long_history, round_of
from power_loop.runtime.stores.stored import encode_record

__all__ = ["append", "open_session", "turn"]

_TABLES = """
CREATE TABLE log (session TEXT, seq INTEGER, body {blob}, PRIMARY KEY (session, seq));
CREATE TABLE counts (session TEXT PRIMARY KEY, seq INTEGER)
"""


class Bare(Protocol):
    """**Protocol**: what a program of its own would do with a driver."""

    async def append(self, session: str, after: int, bodies: Sequence[bytes]) -> None:
        """One transaction: the rows, and how many there are now."""
        ...

    async def load(self, session: str) -> Sequence[bytes]:
        """All rows of a session."""
        ...

    async def kib(self) -> float:
        """What lies on the disk."""
        ...


class BareSQLite:
    """One connection, in the event loop's own thread."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "bare.db"
        self._connection = sqlite3.connect(self._path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.executescript(_TABLES.format(blob="BLOB"))

    async def append(self, session: str, after: int, bodies: Sequence[bytes]) -> None:
        """See `Bare`."""
        rows = [(session, after + n, body) for n, body in enumerate(bodies, 1)]
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT INTO log VALUES (?, ?, ?)", rows)
        self._connection.execute(
            "INSERT INTO counts VALUES (?, ?) ON CONFLICT DO UPDATE SET seq = excluded.seq",
            (session, after + len(rows)),
        )
        self._connection.execute("COMMIT")

    async def load(self, session: str) -> Sequence[bytes]:
        """See `Bare`."""
        rows = self._connection.execute(
            "SELECT body FROM log WHERE session = ? ORDER BY seq", (session,)
        )
        return [body for (body,) in rows]

    async def kib(self) -> float:
        """See `Bare`."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return self._path.stat().st_size / 1024

    async def close(self) -> None:
        """Closes it."""
        self._connection.close()


class BarePostgres:
    """A few connections, which take turns."""

    def __init__(self) -> None:
        self._free: asyncio.Queue[psycopg.AsyncConnection[Any]] = asyncio.Queue()
        self._all: list[psycopg.AsyncConnection[Any]] = []

    async def open(self, url: str) -> None:
        """Makes the tables anew."""
        for _ in range(CONNECTIONS):
            connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
            self._all.append(connection)
            self._free.put_nowait(connection)
        await self._all[0].execute("DROP TABLE IF EXISTS log, counts")
        await self._all[0].execute(_TABLES.format(blob="BYTEA").encode(), prepare=False)

    async def append(self, session: str, after: int, bodies: Sequence[bytes]) -> None:
        """See `Bare`."""
        rows = [(session, after + n, body) for n, body in enumerate(bodies, 1)]
        connection = await self._free.get()
        async with connection.transaction(), connection.cursor() as cursor:
            await cursor.executemany("INSERT INTO log VALUES (%s, %s, %s)", rows)
            await cursor.execute(
                "INSERT INTO counts VALUES (%s, %s) ON CONFLICT (session)"
                " DO UPDATE SET seq = excluded.seq",
                (session, after + len(rows)),
            )
        self._free.put_nowait(connection)

    async def load(self, session: str) -> Sequence[bytes]:
        """See `Bare`."""
        async with self._all[0].cursor(binary=True) as cursor:
            await cursor.execute("SELECT body FROM log WHERE session = %s ORDER BY seq", (session,))
            return [body for (body,) in await cursor.fetchall()]

    async def kib(self) -> float:
        """See `Bare`."""
        query = "SELECT pg_total_relation_size('log') + pg_total_relation_size('counts')"
        row = await (await self._all[0].execute(query)).fetchone()
        assert row is not None
        return row[0] / 1024

    async def close(self) -> None:
        """Closes them."""
        for connection in self._all:
            await connection.close()


@asynccontextmanager
async def bare(database: str, server: str) -> AsyncGenerator[BareSQLite | BarePostgres]:
    """The driver of a database, with empty tables."""
    with tempfile.TemporaryDirectory() as directory:
        if database == "sqlite":
            driver = BareSQLite(Path(directory))
        else:
            driver = BarePostgres()
            await driver.open(server)
        try:
            yield driver
        finally:
            await driver.close()


@asynccontextmanager
async def append(
    database: str, at_once: int, server: str, size: StoreSize
) -> AsyncGenerator[Repeat]:
    """Appends to so many sessions at once."""

    async def repeat() -> Mapping[str, Sample]:
        async with bare(database, server) as driver:
            each = size.appends // at_once

            async def one(session: str) -> None:
                for n in range(each):
                    bodies = [encode_record(record) for record in round_of(f"{session} {n}")]
                    await driver.append(session, n * RECORDS, bodies)

            watch = Watch()
            await asyncio.gather(*[one(f"s{n}") for n in range(at_once)])
            sample = watch.sample(each * at_once, 1e6)
            expect(len(await driver.load("s0")), each * RECORDS, "rows")
            return {"append": sample}

    yield repeat


@asynccontextmanager
async def turn(database: str, url: str, server: str, size: StoreSize) -> AsyncGenerator[Repeat]:
    """Turns of one stored session, by the loop written by hand."""

    async def repeat() -> Mapping[str, Sample]:
        async with opened(url, "tools:1:1") as loop, bare(database, server) as driver:
            count = 0
            messages: list[dict[str, Any]] = []

            async def save(new: list[dict[str, Any]]) -> None:
                nonlocal count
                await driver.append("s", count, [json.dumps(each).encode() for each in new])
                count += len(new)

            watch = Watch()
            for _ in range(size.turns):
                messages += asked()
                await save(messages[-1:])
                expect(await loop.run(messages, save), ANSWER, "the answer")
            sample = watch.sample(size.turns)
            stored = [json.loads(body) for body in await driver.load("s")]
            expect(stored, messages, "what is stored")
            kib = await driver.kib()
            return {"turn": sample, "turn.storage": Sample(kib / size.turns)}

    yield repeat


@asynccontextmanager
async def open_session(database: str, server: str, size: StoreSize) -> AsyncGenerator[Repeat]:
    """Reads and decodes a long session's rows."""
    async with bare(database, server) as driver:
        count = 0
        for records in long_history(size.messages):
            await driver.append("s", count, [encode_record(record) for record in records])
            count += len(records)

        async def repeat() -> Mapping[str, Sample]:
            watch = Watch()
            rows = [json.loads(body) for body in await driver.load("s")]
            sample = watch.sample(1)
            expect(len(rows), count, "rows")
            return {"open": sample}

        yield repeat
