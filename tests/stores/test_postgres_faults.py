"""A server, or the way to it, goes away: nothing acknowledged is lost, nothing is done twice."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import anyio
import psycopg
import pytest

from power_loop.errors import SessionBusy, StoreUnavailable
from power_loop.runtime.stores.base import CancelRequested
from power_loop.runtime.stores.notes import NoteFilter, all_notes, forget_memory
from power_loop.runtime.stores.postgres import PostgresStore
from tests.postgres_proxy import PostgresProxy
from tests.postgres_server import PostgresServer, new_schema, shared_server
from tests.stores.support import a_note, say, texts

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The work is done in threads; one event loop is enough to ask for it."""
    return "asyncio"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server that may be stopped: nobody else uses it."""
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture
def proxy() -> Iterator[PostgresProxy]:
    """A way to the shared server that can be cut."""
    with PostgresProxy(shared_server()) as proxy:
        yield proxy


def sql(server: PostgresServer, query: str, *arguments: Any) -> Sequence[tuple[Any, ...]]:
    """What the server's superuser is told."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        cursor = connection.execute(query.encode(), arguments or None)
        return cursor.fetchall() if cursor.description else []


def nothing() -> None:
    """For who need not know of each record."""


async def write(
    store: PostgresStore, session: str, count: int, acknowledged: Callable[[], None] = nothing
) -> None:
    """Appends records one by one; each must be acknowledged at its place."""
    await store.create(session)
    lease = await store.claim(session)
    for n in range(count):
        assert await say(store, lease, n, f"{session} {n}") == n + 1
        acknowledged()
    await store.release(lease)


async def test_appends_ride_over_connections_that_are_terminated() -> None:
    """An administrator ends all connections again and again, while sessions are written by tens
    until that has met some of them."""
    server = shared_server()
    schema = new_schema()
    done = False
    progress = anyio.Event()

    def acknowledged() -> None:
        progress.set()

    def terminate() -> int:
        query = """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
          WHERE application_name = 'power_loop' AND query LIKE %s"""
        return sql(server, query, f"%{schema}%")[0][0]

    terminated = 0

    async def terminate_all() -> None:
        # Each connection does something before it is ended: none is what no store can ride over.
        nonlocal terminated, progress
        while not done:
            await progress.wait()
            progress = anyio.Event()
            terminated += await anyio.to_thread.run_sync(terminate)

    async with PostgresStore(server.url(), schema=schema) as store:
        await store.create("first")
        written: list[str] = []
        async with anyio.create_task_group() as group:
            group.start_soon(terminate_all)
            # How many meet a connection that is in use is a matter of luck.
            while terminated <= 3 and len(written) < 200:
                more = [f"s{len(written) + n}" for n in range(10)]
                async with anyio.create_task_group() as writers:
                    for session in more:
                        writers.start_soon(write, store, session, 30, acknowledged)
                written += more
            done = True
            progress.set()
        for session in written:
            assert texts(await store.read(session)) == [f"{session} {k}" for k in range(30)]
        assert await store.check() == 30 * len(written)
    assert terminated > 3


@pytest.mark.parametrize("order", ["stop", "kill"])
async def test_appends_ride_over_a_server_that_is_restarted(
    server: PostgresServer, order: str
) -> None:
    """Shut down, or killed like by a crash, and started again: what was under way is done once."""
    async with PostgresStore(server.url(), schema=new_schema()) as store:
        await store.create("first")
        async with anyio.create_task_group() as group:
            for n in range(4):
                group.start_soon(write, store, f"s{n}", 60)
            for _ in range(2):
                await anyio.to_thread.run_sync(server.tell, order)
                await anyio.to_thread.run_sync(server.tell, "start")
        for n in range(4):
            assert texts(await store.read(f"s{n}")) == [f"s{n} {k}" for k in range(60)]
        assert await store.check() == 240


async def test_a_server_that_stays_away_is_told_of_and_nothing_is_lost(
    server: PostgresServer,
) -> None:
    """After the store's patience every call says so; when the server is back, all goes on."""
    async with PostgresStore(server.url(), schema=new_schema(), patience=0.3) as store:
        await store.create("s")
        lease = await store.claim("s")
        await say(store, lease, 0, "before")
        await anyio.to_thread.run_sync(server.tell, "stop")
        for attempt in (say(store, lease, 1, "lost"), store.read("s"), store.wait("s", 9)):
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                await attempt
        await anyio.to_thread.run_sync(server.tell, "start")
        assert await say(store, lease, 1, "after") == 2
        assert texts(await store.read("s")) == ["before", "after"]


# ── the way to the server, cut at each byte ──────────────────────────────────────────────────────


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_an_append_cut_off_at_any_byte_lands_once(
    proxy: PostgresProxy, direction: Any
) -> None:
    """Before the server has it, and after it has answered: the caller hears of one append."""
    async with PostgresStore(proxy.url, schema=new_schema()) as store:
        await store.create("s")
        lease = await store.claim("s")
        seq = await say(store, lease, 0, "first")
        seq = await say(store, lease, seq, "second")
        proxy.watch()
        seq = await say(store, lease, seq, "measured")
        length, cuts = proxy.seen[direction], 0
        assert length > 40
        for count in range(0, length, max(1, length // 60)):
            proxy.cut_after(direction, count)
            before = proxy.cuts
            final = count % 3 == 0
            seq = await say(store, lease, seq, f"{count} a", f"{count} b", final=final)
            cuts += proxy.cuts - before
            if final:
                lease = await store.claim("s")
                assert lease.seq == seq
        said = texts(await store.read("s"))
        assert len(said) == len(set(said)) == seq
        assert cuts > 30


async def test_claims_and_posts_cut_off_at_any_byte_happen_once(proxy: PostgresProxy) -> None:
    """A claim is not refused by itself; a post under a key waits once."""
    async with PostgresStore(proxy.url, schema=new_schema()) as store:
        await store.create("s")
        for n in range(3):  # so that the statements are prepared
            await store.release(await store.claim("s"))
            await store.post("s", CancelRequested("x"), dedupe_key=f"warm {n}")
        for count in range(0, 160, 8):
            proxy.cut_after("down", count)
            lease = await store.claim("s")
            with pytest.raises(SessionBusy):
                await store.claim("s")
            await store.release(lease)
            proxy.cut_after("down", count)
            posted = await store.post("s", CancelRequested("x"), dedupe_key=str(count))
            assert [item.id for item in await store.inbox("s")][-1] == posted.id
        assert len(await store.inbox("s")) == 3 + 20
        assert proxy.cuts > 10


async def test_notes_cut_off_at_any_byte_are_kept_once(proxy: PostgresProxy) -> None:
    """Also with a limit, which a note that had landed must not meet itself at."""
    async with PostgresStore(proxy.url, schema=new_schema()) as store:
        for n in range(3):  # so that the statements are prepared
            await store.notes.add(a_note(f"warm {n}", "warm", user="w"), limit=10)
        for count in range(0, 160, 8):
            proxy.cut_after("down", count)
            await store.notes.add(a_note(str(count), f"x{count}"), limit=1 + count // 8)
            proxy.cut_after("down", count)
            assert await store.notes.update(NoteFilter(ids=[str(count)]), f"y{count}", 1.0) == 1
        kept = await all_notes(store.notes, NoteFilter(user="ann"))
        assert {note.text for note in kept} == {f"y{count}" for count in range(0, 160, 8)}
        assert proxy.cuts > 10


async def test_whether_notes_were_forgotten_is_told_to_be_uncertain(proxy: PostgresProxy) -> None:
    """A deletion whose answer was lost is not repeated: how many there were is not known."""
    async with PostgresStore(proxy.url, schema=new_schema()) as store:
        await store.notes.add(a_note("n", "x"))
        proxy.cut_after("down", 0)
        with pytest.raises(StoreUnavailable, match="may or may not have been"):
            await forget_memory(store.notes, "ann")
        assert await forget_memory(store.notes, "ann") == 0


async def test_what_cannot_be_repeated_is_told_to_be_uncertain(proxy: PostgresProxy) -> None:
    """A post without a key whose answer was lost: it is there, and nobody posts it again."""
    async with PostgresStore(proxy.url, schema=new_schema()) as store:
        await store.create("s")
        await store.post("s", CancelRequested("x"))
        proxy.watch()
        await store.post("s", CancelRequested("x"))
        proxy.cut_after("down", 0)
        with pytest.raises(StoreUnavailable, match="may or may not have been"):
            await store.post("s", CancelRequested("x"))
        assert len(await store.inbox("s")) == 3
        proxy.cut_after("down", 0)
        with pytest.raises(StoreUnavailable, match="may or may not have been"):
            await store.delete("s")
        assert await store.list() == []


async def test_neighbours_of_what_cannot_be_repeated_land_all_the_same(
    proxy: PostgresProxy,
) -> None:
    """One batch, one lost connection: appends are done once, the post says that it is uncertain."""
    async with PostgresStore(proxy.url, schema=new_schema()) as store:
        for n in range(5):
            await store.create(f"s{n}")
        leases = [await store.claim(f"s{n}") for n in range(5)]
        told: list[str] = []

        async def post() -> None:
            try:
                await store.post("s0", CancelRequested("x"))
            except StoreUnavailable as error:
                told.append(str(error))

        for round in range(6):
            proxy.cut_after("down", round * 10)
            async with anyio.create_task_group() as group:
                group.start_soon(post)
                for lease in leases:
                    group.start_soon(say, store, lease, round, f"{round}")
        for n in range(5):
            assert texts(await store.read(f"s{n}")) == [str(round) for round in range(6)]
        assert len(told) > 0
        assert all("may or may not" in words for words in told)


async def test_a_follower_hears_of_what_was_written_while_its_connection_was_lost(
    proxy: PostgresProxy,
) -> None:
    """The listener's connection is cut again and again: every record arrives, in order."""
    schema = new_schema()
    async with (
        PostgresStore(proxy.url, schema=schema) as follower,
        PostgresStore(shared_server().url(), schema=schema) as writer,
    ):
        await writer.create("s")
        assert await follower.read("s") == []  # a server that was never reached is not waited for
        heard: list[str] = []

        async def follow() -> None:
            while len(heard) < 40:
                await follower.wait("s", len(heard))
                heard.extend(texts(await follower.read("s", after=len(heard))))

        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                group.start_soon(follow)
                lease = await writer.claim("s")
                for n in range(40):
                    if n % 5 == 0:
                        proxy.cut_all()
                    await say(writer, lease, n, str(n))
        assert heard == [str(n) for n in range(40)]


# ── others on the same server ────────────────────────────────────────────────────────────────────


async def test_a_lock_that_somebody_keeps_is_told_of_and_hurts_no_other_session() -> None:
    """A transaction left open on one session's row: its writer hears of it, others go on."""
    server, schema = shared_server(), new_schema()
    async with PostgresStore(server.url(), schema=schema, patience=0.2) as store:
        for session in ("locked", "free"):
            await store.create(session)
        locked, free = await store.claim("locked"), await store.claim("free")
        with psycopg.connect(server.url()) as connection:
            connection.execute(
                f"SELECT 1 FROM {schema}.sessions WHERE id = 'locked' FOR UPDATE".encode()
            )
            told: list[str] = []

            async def write_locked() -> None:
                with pytest.raises(StoreUnavailable, match=r"stayed locked for 0\.2 s") as error:
                    await say(store, locked, 0, "x")
                told.append(str(error.value))

            async with anyio.create_task_group() as group:
                group.start_soon(write_locked)
                group.start_soon(say, store, free, 0, "x")
            assert len(told) == 1
        assert await say(store, locked, 0, "now") == 1
        assert texts(await store.read("free")) == ["x"]


async def test_of_a_holder_on_another_host_only_expiry_counts() -> None:
    """Its process cannot be seen from here: its lease holds until the server's clock ends it."""
    server, schema = shared_server(), new_schema()
    async with PostgresStore(server.url(), schema=schema) as store:
        await store.create("s")
        sql(
            server,
            f"INSERT INTO {schema}.leases SELECT sid, 999, 'c', 'h', %s, 30,"
            f" clock_timestamp() + interval '1 hour' FROM {schema}.sessions",
            '{"pid":1,"host":"elsewhere","boot":"another boot","pids":"x","started":"1"}',
        )
        with pytest.raises(SessionBusy, match="process 1 on elsewhere"):
            await store.claim("s")
        assert (await store.post("s", CancelRequested("x"))).running
        with pytest.raises(SessionBusy, match="elsewhere"):
            await store.delete("s")
        sql(server, f"UPDATE {schema}.leases SET expires = clock_timestamp()")
        assert (await store.claim("s")).fence != 999


def test_the_server_of_the_tests_ends_with_whoever_started_it() -> None:
    """A closed guard leaves no process and no directory behind; so would a killed test run."""
    server = PostgresServer()
    pid = int((server.directory / "data" / "postmaster.pid").read_text().splitlines()[0])
    assert sql(server, "SELECT 1") == [(1,)]
    server.close()
    assert not server.directory.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
