"""The same work by SQLiteStore and PostgresStore."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import psycopg

from benchmarks.measuring import Repeat, Watch, expect
from benchmarks.ours import ASK, check, check_calls, opened
from benchmarks.scenarios import Sample
from benchmarks.stores.figures import RECORDS, StoreSize
from benchmarks.stores.work import long_history, round_of, stamped
from llm_client.testing import ScriptedLLM
from power_loop import AgentLoop
from power_loop.runtime.stores.postgres import PostgresStore
from power_loop.runtime.stores.sqlite import SQLiteStore

__all__ = ["append", "open_session", "turn"]


class Place:
    """Where one repetition's store is."""

    def __init__(self, database: str, server: str, directory: Path) -> None:
        self._path = directory / "ours.db" if database == "sqlite" else None
        self._server = server
        self._schema = f"ours_{uuid4().hex[:20]}"

    def open(self) -> SQLiteStore | PostgresStore:
        """A handle on it."""
        if self._path is not None:
            return SQLiteStore(self._path)
        return PostgresStore(self._server, schema=self._schema)

    def kib(self) -> float:
        """What lies on the disk, once the store is closed."""
        if self._path is not None:
            return self._path.stat().st_size / 1024
        with psycopg.connect(self._server) as connection:
            row = connection.execute(
                "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c"
                " JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind = 'r' AND nspname = %s",
                (self._schema,),
            ).fetchone()
        assert row is not None
        return float(row[0]) / 1024


@asynccontextmanager
async def append(
    database: str, at_once: int, server: str, size: StoreSize
) -> AsyncGenerator[Repeat]:
    """Appends to so many sessions at once."""

    async def repeat() -> Mapping[str, Sample]:
        with tempfile.TemporaryDirectory() as name:
            async with Place(database, server, Path(name)).open() as store:
                each = size.appends // at_once
                for n in range(at_once):
                    await store.create(f"s{n}")
                leases = [await store.claim(f"s{n}") for n in range(at_once)]

                async def one(n: int) -> None:
                    for k in range(each):
                        records = round_of(f"s{n} {k}")
                        seq = k * RECORDS
                        await store.append(leases[n], seq, stamped(f"s{n}", seq, records))

                watch = Watch()
                await asyncio.gather(*[one(n) for n in range(at_once)])
                sample = watch.sample(each * at_once, 1e6)
                expect(len(await store.read("s0")), each * RECORDS, "records")
                return {"append": sample}

    yield repeat


@asynccontextmanager
async def turn(database: str, url: str, server: str, size: StoreSize) -> AsyncGenerator[Repeat]:
    """Turns of one stored session, by an `AgentLoop` with hooks and a subscriber."""

    async def repeat() -> Mapping[str, Sample]:
        with tempfile.TemporaryDirectory() as name:
            place = Place(database, server, Path(name))
            store = place.open()
            async with opened(url, "tools:1:1", store=store) as loop:
                session_id = (await loop.send(ASK)).session_id
                watch = Watch()
                results = [await loop.send(ASK, session_id) for _ in range(size.turns - 1)]
                sample = watch.sample(size.turns - 1)
                check(results, 2)
                await check_calls(loop, session_id, size.turns)
            await store.aclose()
            return {"turn": sample, "turn.storage": Sample(place.kib() / size.turns)}

    yield repeat


@asynccontextmanager
async def open_session(database: str, server: str, size: StoreSize) -> AsyncGenerator[Repeat]:
    """What comes before the first model call, in a program that has just been started."""
    with tempfile.TemporaryDirectory() as name:
        place = Place(database, server, Path(name))
        async with place.open() as store:
            await store.create("s")
            lease = await store.claim("s")
            seq = 0
            for records in long_history(size.messages):
                seq = (await store.append(lease, seq, stamped("s", seq, records))).seq
            await store.release(lease)

        async def repeat() -> Mapping[str, Sample]:
            async with place.open() as store, AgentLoop(ScriptedLLM("hi"), store=store) as loop:
                await store.info("s")  # the connection is not what is measured
                watch = Watch()
                messages = await loop.get_messages("s")
                sample = watch.sample(1)
                expect(len(messages), size.messages, "messages")
                return {"open": sample}

        yield repeat
