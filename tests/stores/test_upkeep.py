"""What an operator does: migrations, backups, room given back, and old sessions deleted."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from importlib.resources import files
from pathlib import Path

import anyio
import psycopg
import pytest

from power_loop.errors import StoreSchemaError, StoreUnavailable, UsageError
from power_loop.runtime.stores._postgres_open import Settings
from power_loop.runtime.stores._postgres_rows import checksum
from power_loop.runtime.stores.base import SessionQuery, Store
from power_loop.runtime.stores.memory import MemoryStore
from power_loop.runtime.stores.postgres import PostgresStore
from power_loop.runtime.stores.pruning import prune
from power_loop.runtime.stores.sqlite import SQLiteStore
from power_loop.runtime.stores.stored import encode_record
from power_loop.session.outcome import Completed
from power_loop.session.records import RunClosed, RunOpened
from tests.postgres_server import new_schema, shared_server
from tests.stores.places import KINDS, new_place, open_place
from tests.stores.support import Program, said, say, stamped, texts

pytestmark = pytest.mark.anyio

WORDS = [f"word {n}" for n in range(20)]


@pytest.fixture
def anyio_backend() -> str:
    """This is about files and tables; the event loop does not matter."""
    return "asyncio"


# ── migrations ───────────────────────────────────────────────────────────────────────────────────


async def _of_version_1(path: Path) -> None:
    """A database as the first version of the tables had it."""
    store = SQLiteStore(path)
    await store.create("s", metadata={"k": "v"})
    await say(store, await store.claim("s"), 0, *WORDS, final=True)
    await store.aclose()
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE sessions DROP COLUMN lifecycle")
    connection.execute("DROP TABLE snapshots")
    connection.execute("DROP TABLE artifacts")
    connection.execute("UPDATE meta SET value = 1 WHERE key = 'schema'")
    connection.commit()
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()


async def test_a_database_of_an_earlier_version_is_brought_up_to_date(tmp_path: Path) -> None:
    """Nothing is lost, and what is new has its default."""
    path = tmp_path / "s.db"
    await _of_version_1(path)
    async with SQLiteStore(path) as store:
        assert texts(await store.read("s")) == WORDS
        assert (await store.info("s")).lifecycle == "linked"
        await store.create("t", parent="s", lifecycle="detached")
        assert (await store.info("t")).lifecycle == "detached"
        assert await store.check() == len(WORDS)


@pytest.mark.parametrize("kind", ["new", "of version 1"])
async def test_a_program_killed_at_any_statement_of_a_migration_leaves_it_undone(
    tmp_path: Path, kind: str
) -> None:
    """SIGKILL at each: the tables are as they were or as they shall be, and every record is there.

    What the next program finds can be used.
    """
    path = tmp_path / "s.db"
    newest = SQLiteStore.schema_version
    records, versions = 0, {0, newest}
    if kind != "new":
        await _of_version_1(path)
        records, versions = len(WORDS), {1, newest}
    with Program("migrate_killed", path) as program:
        left = [tuple(map(int, line.split())) for line in program.rest().splitlines()]
    assert len(left) >= 12
    assert {version for version, _ in left} == versions
    assert left[-1] == (newest, records)
    assert all(count in ((0, records) if kind == "new" else (records,)) for _, count in left)
    for n in range(1, len(left) + 1):
        async with SQLiteStore(f"{path}.{n}") as store:
            await store.create("after")
            assert await say(store, await store.claim("after"), 0, "works") == 1
            assert await store.check() == records + 1


def _on_postgres_version_1(schema: str) -> None:
    """The first version of the tables, and a session with one record in them."""
    settings = Settings("", "", schema, "", "create", 1.0)
    text = files("power_loop.runtime.stores").joinpath("postgres_1.sql").read_text("utf-8")
    record = stamped("s", 1, said("from version 1"))
    body = encode_record(record.event)
    with psycopg.connect(shared_server().url(), autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}".encode())
        connection.execute(settings.sql(text))
        connection.execute(settings.sql("INSERT INTO @meta VALUES ('schema', 1)"))
        query = "SELECT @create_session('s', NULL, '{\"k\": \"v\"}', 5); SELECT nextval('@sids')"
        connection.execute(settings.sql(query))
        connection.execute(
            settings.sql("INSERT INTO @records VALUES (1, 1, 1, 1, %s, %s, %s, %s, %s)"),
            (record.at, record.run, record.round, checksum(1, record, body), body),
        )
        connection.execute(settings.sql("UPDATE @sessions SET seq = 1, tree_seq = 1"))


async def test_a_schema_of_an_earlier_version_is_brought_up_to_date() -> None:
    """Nothing is lost; what is new has its default; and it can be left to a privileged user."""
    schema = new_schema()
    _on_postgres_version_1(schema)
    url = shared_server().url()
    async with PostgresStore(url, schema=schema, schema_policy="verify") as store:
        with pytest.raises(StoreSchemaError, match="is of version 1, not") as told:
            await store.read("s")
        assert "ALTER TABLE" in told.value.ddl
        assert "CREATE SCHEMA" not in told.value.ddl
        assert await store.migrate() == store.schema_version - 1
        assert texts(await store.read("s")) == ["from version 1"]
        assert (await store.info("s")).lifecycle == "linked"
        await store.create("t", parent="s", lifecycle="detached")
        assert await store.check() == 1
        assert await store.migrate() == 0


def _files(directory: Path) -> Sequence[str]:
    return sorted([path.name for path in directory.iterdir()])


# ── backups and room ─────────────────────────────────────────────────────────────────────────────


async def test_a_backup_made_while_the_store_is_written_is_whole(tmp_path: Path) -> None:
    """It holds what was acknowledged before it was asked for, and no part of an append."""
    store = SQLiteStore(tmp_path / "s.db")
    await store.create("s")
    lease = await store.claim("s")
    done = anyio.Event()
    acknowledged = 0

    async def write() -> None:
        nonlocal acknowledged
        while not done.is_set():
            acknowledged = await say(store, lease, acknowledged, "a", "b")

    async with anyio.create_task_group() as group:
        group.start_soon(write)
        for n in range(5):
            await store.wait("s", acknowledged + 5)
            before = acknowledged
            await store.backup(tmp_path / f"backup {n}.db")
            async with SQLiteStore(tmp_path / f"backup {n}.db") as copy:
                found = texts(await copy.read("s"))
                assert len(found) >= before
                assert found == ["a", "b"] * (len(found) // 2)
                assert await copy.check() == len(found)
        done.set()
    await store.aclose()
    assert _files(tmp_path) == [*(f"backup {n}.db" for n in range(5)), "s.db"]


async def test_a_backup_overwrites_nothing_and_says_where_it_cannot_be(tmp_path: Path) -> None:
    """The target stays as it is, and no half of a backup is left."""
    async with SQLiteStore(tmp_path / "s.db") as store:
        await store.create("s")
        target = tmp_path / "precious"
        target.write_text("precious")
        with pytest.raises(UsageError, match="overwrites nothing"):
            await store.backup(target)
        assert target.read_text() == "precious"
        with pytest.raises(UsageError, match="create it first"):
            await store.backup(tmp_path / "missing" / "b.db")
    assert _files(tmp_path) == ["precious", "s.db"]


async def test_what_was_deleted_gives_its_room_back(tmp_path: Path) -> None:
    """The file shrinks, also while the store is open."""
    path = tmp_path / "s.db"
    async with SQLiteStore(path) as store:
        for n in range(20):
            await store.create(f"s{n}")
            await say(store, await store.claim(f"s{n}"), 0, "x" * 50_000, final=True)
        assert await store.checkpoint()
        full = path.stat().st_size
        for n in range(19):
            await store.delete(f"s{n}")
        await store.vacuum()
        assert path.stat().st_size < full / 5
        assert path.with_name("s.db-wal").stat().st_size == 0
        assert texts(await store.read("s19")) == ["x" * 50_000]


async def test_a_reader_in_the_middle_of_the_log_keeps_a_part_of_it(tmp_path: Path) -> None:
    """A checkpoint says that it could not do all."""
    path = tmp_path / "s.db"
    async with SQLiteStore(path, busy_timeout=0.1) as store:
        await store.create("s")
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM sessions").fetchall()
        await store.create("t")
        assert not await store.checkpoint()
        reader.close()
        assert await store.checkpoint()


async def test_postgres_is_vacuumed_while_it_is_used() -> None:
    """Nothing changes for anybody but the planner."""
    async with PostgresStore(shared_server().url(), schema=(schema := new_schema())) as store:
        await store.create("s")
        lease = await store.claim("s")
        with psycopg.connect(shared_server().url(), autocommit=True) as connection:
            query = "SELECT reltuples FROM pg_class WHERE oid = %s::regclass"
            names = [f"{schema}.{name}" for name in ("sessions", "leases")]
            before = [connection.execute(query, (name,)).fetchone() for name in names]
            await store.vacuum()
            after = [connection.execute(query, (name,)).fetchone() for name in names]
        assert (before, after) == ([(-1.0,), (-1.0,)], [(1.0,), (1.0,)])
        assert await say(store, lease, 0, "on") == 1


# ── retention ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=["memory", *KINDS])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """One of each kind."""
    if request.param == "memory":
        yield MemoryStore()
        return
    opened = open_place(new_place(request.param, tmp_path))
    yield opened
    await opened.aclose()


async def _run_at(store: Store, session: str, at: float, *, closed: bool = True) -> None:
    """A session that has had one run, of that time."""
    lease = await store.claim(session)
    root = (await store.info(session)).root
    records = [RunOpened("r", (said("hi").message,)), *([RunClosed("r", Completed("x"))] * closed)]
    line = [
        type(each)(each.session, each.seq, 0, root, 0, at, "r", 1, each.event)
        for each in (stamped(session, n, record) for n, record in enumerate(records, 1))
    ]
    await store.append(lease, 0, line, final=True)


async def _names(store: Store) -> Sequence[str]:
    return sorted([info.id for info in await store.list()])


async def test_sessions_that_have_not_changed_for_long_are_pruned(store: Store) -> None:
    """With all below them, unless something there is younger, or somebody runs it."""
    for name, parent in [
        ("old", None),
        ("old/a", "old"),
        ("young", None),
        ("mixed", None),
        ("mixed/a", "mixed"),
        ("mixed/a/b", "mixed/a"),
        ("busy", None),
        ("empty", None),
    ]:
        await store.create(name, parent=parent, at=10.0)
    for name, at in [("old", 11.0), ("old/a", 12.0), ("young", 30.0), ("mixed/a/b", 25.0)]:
        await _run_at(store, name, at)
    lease = await store.claim("busy")
    preview = await prune(store, 20.0, preview=True)
    assert (preview.deleted, sorted(preview.sessions)) == (0, ["busy", "empty", "old"])
    assert len(await _names(store)) == 8
    pruned = await prune(store, 20.0)
    assert (pruned.deleted, sorted(pruned.sessions), pruned.busy) == (
        3,
        ["empty", "old"],
        ("busy",),
    )
    assert await _names(store) == ["busy", "mixed", "mixed/a", "mixed/a/b", "young"]
    await store.release(lease)
    assert (await prune(store, 100.0)).deleted == 5


async def test_only_what_is_asked_for_is_pruned_and_served_ones_at_any_age(store: Store) -> None:
    """By a query; and ephemeral sessions that have completed, below one that stays."""
    for user in ("u1", "u2"):
        await store.create(user, metadata={"user": user}, at=10.0)
    for name in ("done", "going on"):
        await store.create(name, parent="u1", lifecycle="ephemeral", at=10.0)
    await _run_at(store, "done", 99.0)
    await _run_at(store, "going on", 99.0, closed=False)
    one = await prune(store, 20.0, query=SessionQuery(metadata={"user": "u2"}))
    assert (one.deleted, one.sessions) == (1, ("u2",))
    for other in (SessionQuery(status="failed"), SessionQuery(lifecycle="detached")):
        assert (await prune(store, 20.0, query=other)).sessions == ()
    rest = await prune(store, 20.0)
    assert (rest.deleted, rest.sessions) == (1, ("done",))
    assert await _names(store) == ["going on", "u1"]


async def test_many_sessions_of_one_moment_are_all_pruned() -> None:
    """However many share the time at which a page of the list ends."""
    store = MemoryStore()
    for n in range(700):
        await store.create(f"s{n}", at=float(n // 500))
    pruned = await prune(store, 10.0)
    assert pruned.deleted == 700
    assert Counter(pruned.sessions).most_common(1)[0][1] == 1


# ── databases that may not be changed ────────────────────────────────────────────────────────────


async def test_an_old_database_that_may_not_be_changed_is_refused_as_it_is(tmp_path: Path) -> None:
    """`verify`: not a byte of it changes, and what the error says brings it up to date."""
    path = tmp_path / "s.db"
    await _of_version_1(path)
    before = path.read_bytes()
    async with SQLiteStore(path, schema_policy="verify") as store:
        with pytest.raises(StoreSchemaError, match="are of version 1, not") as told:
            await store.read("s")
        assert path.read_bytes() == before
        with sqlite3.connect(path) as connection:
            connection.executescript(told.value.ddl)
        connection.close()
        assert texts(await store.read("s")) == WORDS
        assert (await store.info("s")).lifecycle == "linked"
        assert await store.migrate() == 0


async def test_a_database_that_is_missing_is_not_made_by_looking(tmp_path: Path) -> None:
    """By `verify`, a backup, or giving room back; `migrate` makes it, whatever the policy."""
    path = tmp_path / "s.db"
    async with SQLiteStore(path, schema_policy="verify") as store:
        for look in (store.check, store.vacuum, store.checkpoint, lambda: store.backup("b.db")):
            with pytest.raises(StoreUnavailable, match="there is no database at"):
                await look()
        assert not path.exists()
        path.touch()
        with pytest.raises(StoreSchemaError, match="are missing") as told:
            await store.check()
        assert "CREATE TABLE meta" in told.value.ddl
        assert path.read_bytes() == b""
        assert await store.migrate() == SQLiteStore.schema_version
        assert await store.check() == 0
    with pytest.raises(UsageError, match="'create' or 'verify'"):
        SQLiteStore(path, schema_policy="as_is")  # pyright: ignore[reportArgumentType]


async def test_a_backup_is_of_what_is_there_and_can_be_looked_at_only(tmp_path: Path) -> None:
    """An old database is backed up before it is migrated; a check leaves a backup as it is."""
    path, copy = tmp_path / "s.db", tmp_path / "copy.db"
    await _of_version_1(path)
    async with SQLiteStore(path) as store:
        await store.backup(copy)
        assert await store.migrate() == store.schema_version - 1
    with pytest.raises(StoreSchemaError):
        async with SQLiteStore(copy, schema_policy="verify") as old:
            await old.check()
    async with SQLiteStore(path) as store:
        await store.backup(tmp_path / "new.db")
    before = (tmp_path / "new.db").read_bytes()
    async with SQLiteStore(tmp_path / "new.db", schema_policy="verify") as new:
        assert await new.check() == len(WORDS)
    assert (tmp_path / "new.db").read_bytes() == before
