"""A schema on PostgreSQL: made, verified, refused, and never left half made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import anyio
import psycopg
import pytest

from power_loop.errors import (
    InvalidInput,
    StoreCorrupt,
    StoreSchemaError,
    StoreTooNew,
    StoreUnavailable,
    UsageError,
)
from power_loop.runtime.stores.base import CancelRequested
from power_loop.runtime.stores.opening import open_store
from power_loop.runtime.stores.postgres import PostgresStore
from tests.postgres_server import new_schema, shared_server
from tests.stores.support import ROOT, say, texts

pytestmark = pytest.mark.anyio


def sql(query: str, *arguments: Any) -> Sequence[tuple[Any, ...]]:
    """What the server's superuser is told, in a transaction of its own."""
    with psycopg.connect(shared_server().url(), autocommit=True) as connection:
        cursor = connection.execute(query.encode(), arguments or None)
        return cursor.fetchall() if cursor.description else []


def tables_of(schema: str) -> Sequence[str]:
    """The names of its tables."""
    return [row[0] for row in sql("SELECT tablename FROM pg_tables WHERE schemaname = %s", schema)]


@pytest.fixture
def schema() -> str:
    """A name that nobody has."""
    return new_schema()


def store_in(schema: str, **options: Any) -> PostgresStore:
    """A handle on a store in that schema."""
    return PostgresStore(shared_server().url(), schema=schema, **options)


async def test_two_prefixes_of_one_schema_are_two_stores(schema: str) -> None:
    """Nobody needs a schema of their own."""
    async with store_in(schema, prefix="a_") as first, store_in(schema, prefix="b_") as second:
        await first.create("s")
        assert [info.id for info in await first.list()] == ["s"]
        assert await second.list() == []
    tables = {
        row[0] for row in sql("SELECT tablename FROM pg_tables WHERE schemaname = %s", schema)
    }
    assert {"a_sessions", "b_sessions"} < tables


async def test_a_person_can_query_what_happened(schema: str) -> None:
    """Records are in a view, as jsonb; a body that jsonb cannot hold is NULL there."""
    async with store_in(schema) as store:
        await store.create("s")
        lease = await store.claim("s")
        await say(store, lease, 0, "one", "nul \x00")
        assert texts(await store.read("s")) == ["one", "nul \x00"]
    rows = sql(
        f"SELECT seq, type, event #>> '{{message,parts,0,text}}', at FROM {schema}.events"
        " WHERE session = 's' ORDER BY seq"
    )
    assert [row[:3] for row in rows] == [(1, "message_appended", "one"), (2, None, None)]
    assert rows[0][3].timestamp() == 1001.0


async def test_a_schema_that_may_not_be_made_is_told_as_ddl(schema: str) -> None:
    """`verify`: the error carries the exact DDL, and with it another user can work."""
    sql(f"CREATE ROLE {schema}_app LOGIN PASSWORD 'pw'")
    url = shared_server().tcp_url(f"{schema}_app", "pw")
    async with PostgresStore(url, schema=schema, schema_policy="verify") as store:
        with pytest.raises(StoreSchemaError, match="Have a privileged user run") as told:
            await store.create("s")
        assert told.value.ddl in str(told.value)
        assert sql("SELECT 1 FROM pg_namespace WHERE nspname = %s", schema) == []
        sql(told.value.ddl)
        await store.create("s")
        lease = await store.claim("s")
        assert await say(store, lease, 0, "by an unprivileged user") == 1
        await store.post("s", CancelRequested("x"))
        assert len(await store.inbox("s")) == 1
        await store.release(lease)
        assert await store.delete("s") == 1


async def test_a_user_who_may_not_make_the_schema_is_told_what_to_do(schema: str) -> None:
    """`create` without the right to: no half of a schema, and an error that says what helps."""
    sql(f"CREATE ROLE {schema}_app LOGIN PASSWORD 'pw'")
    async with PostgresStore(
        shared_server().tcp_url(f"{schema}_app", "pw"), schema=schema
    ) as store:
        with pytest.raises(StoreUnavailable, match="Let a privileged user run the DDL"):
            await store.create("s")
    assert sql("SELECT 1 FROM pg_namespace WHERE nspname = %s", schema) == []


@pytest.mark.parametrize(
    "foreign",
    [
        "CREATE TABLE {s}.sessions (id int)",
        "; ".join(
            f"CREATE TABLE {{s}}.{name} (key text, value text)"
            for name in ("meta", "sessions", "records", "leases", "inbox", "posted")
        ),
    ],
    ids=["one table of ours", "all, with other columns"],
)
async def test_tables_of_another_program_are_left_alone(schema: str, foreign: str) -> None:
    """A schema with tables of our names that are not ours is refused and not touched."""
    sql(f"CREATE SCHEMA {schema}; {foreign.format(s=schema)}")
    async with store_in(schema) as store:
        with pytest.raises(StoreCorrupt, match="Choose another schema or prefix"):
            await store.create("s")
    assert (
        sql(
            "SELECT 1 FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace"
            " WHERE nspname = %s",
            schema,
        )
        == []
    )


async def test_a_column_that_somebody_changed_is_told_of(schema: str) -> None:
    """The tables are ours, but not as they were made."""
    async with store_in(schema) as store:
        await store.create("s")
    sql(f"ALTER TABLE {schema}.sessions DROP COLUMN title CASCADE")
    async with store_in(schema) as store:
        with pytest.raises(StoreCorrupt, match="are not those of a power_loop store"):
            await store.info("s")


async def test_a_newer_schema_is_refused(schema: str) -> None:
    """What a later version wrote is not for this one to touch."""
    async with store_in(schema) as store:
        await store.create("s")
    sql(f"UPDATE {schema}.meta SET value = 999 WHERE key = 'schema'")
    async with store_in(schema) as store:
        with pytest.raises(StoreTooNew, match=r"schema is 999.*pip install --upgrade"):
            await store.list()


async def test_a_lost_version_is_told_of(schema: str) -> None:
    """Tables without a version are nobody's."""
    async with store_in(schema) as store:
        await store.create("s")
    sql(f"DELETE FROM {schema}.meta")
    async with store_in(schema) as store:
        with pytest.raises(StoreCorrupt, match="have no version"):
            await store.list()


async def test_many_handles_that_find_nothing_make_one_schema(schema: str) -> None:
    """Programs that start at the same moment do not trip over each other."""
    stores = [store_in(schema) for _ in range(8)]
    async with anyio.create_task_group() as group:
        for n, store in enumerate(stores):
            group.start_soon(_create, store, f"s{n}")
    assert len(await stores[0].list()) == 8
    for store in stores:
        await store.aclose()


async def _create(store: PostgresStore, session: str) -> None:
    await store.create(session)


def test_a_program_killed_while_it_makes_the_schema_leaves_none_of_it() -> None:
    """SIGKILL at many moments of it: no step of it is there in part, and the next one works."""
    made = tried = 0
    while made < 2:
        schema = new_schema()
        program = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.stores.programs",
                "post_to_new",
                shared_server().url(),
                schema,
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        until = time.perf_counter() + tried * 0.008
        while time.perf_counter() < until:
            pass
        with suppress(ProcessLookupError):
            os.kill(program.pid, signal.SIGKILL)
        program.communicate(timeout=30)
        _wait_for_idle_server(schema)
        tables = len(tables_of(schema))
        assert tables in (0, 6, 7, 8), "each step is there whole or not at all"
        made += tables == 8
        tried += 1

        async def go_on(schema: str = schema) -> None:
            async with store_in(schema) as store:
                await store.create("after")
                assert await say(store, await store.claim("after"), 0, "works") == 1

        anyio.run(go_on)
    assert tried > 3


def _wait_for_idle_server(schema: str) -> None:
    """The server needs a moment to notice that a client is gone."""
    until = time.monotonic() + 20
    while sql("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"):
        assert time.monotonic() < until, "the dead program's transaction goes on"


# ── bad input ─────────────────────────────────────────────────────────────────────────────────────

SECRET = "s3cr3t-pa55word"


async def test_wrong_credentials_are_told_at_once_and_never_shown() -> None:
    """A wrong password, user or database: an error that says which, without the password."""
    server = shared_server()
    sql("DROP ROLE IF EXISTS somebody")
    sql("CREATE ROLE somebody LOGIN PASSWORD 'another'")
    cases = [
        (server.tcp_url("somebody", SECRET), "Check the user name and password"),
        (server.tcp_url("nobody_at_all", SECRET), "Check the user name and password"),
        (server.url("no_such_database"), "Create it first"),
    ]
    for url, words in cases:
        store = PostgresStore(url)
        with anyio.fail_after(5), pytest.raises(StoreUnavailable, match=words) as told:
            await store.create("s")
        assert SECRET not in f"{told.value} {told.value!r} {told.value.__cause__!r} {store!r}"
        assert SECRET not in repr(vars(store))
        await store.aclose()


async def test_a_server_that_is_not_there_is_told_at_once() -> None:
    """Nobody listens: the first use fails, without waiting for a server that never was."""
    store = PostgresStore(f"postgresql://user:{SECRET}@127.0.0.1:1/db")
    with anyio.fail_after(5), pytest.raises(StoreUnavailable, match="cannot be reached") as told:
        await store.list()
    assert SECRET not in f"{told.value!r}{told.value.__cause__!r}"
    await store.aclose()


@pytest.mark.parametrize(
    "url",
    [f"postgresql://u:{SECRET}@h:port/db", f"postgresql://u:{SECRET}@h/db?nonsense=1", "host='x"],
)
def test_a_url_that_cannot_be_read_is_refused_without_being_shown(url: str) -> None:
    """Its own words could hold a password."""
    with pytest.raises(UsageError, match="cannot be read") as told:
        PostgresStore(url)
    assert SECRET not in f"{told.value!r}{told.value.__cause__!r}"


@pytest.mark.parametrize(
    "options",
    [
        {"schema": 'x"; DROP TABLE y; --'},
        {"schema": ""},
        {"schema": "Mixed"},
        {"prefix": "a-b"},
        {"prefix": "x" * 21},
        {"schema_policy": "maybe"},
    ],
)
def test_names_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    """Nothing that a caller passes gets into SQL as it is."""
    with pytest.raises(UsageError, match=r"must be lower-case|'create' or 'verify'"):
        PostgresStore("postgresql://localhost/db", **options)


async def test_text_that_postgres_cannot_hold_is_refused_at_the_edge(schema: str) -> None:
    """A NUL in an id or a key; inside of a message it is no matter."""
    async with store_in(schema) as store:
        await store.create("s")
        for attempt in (
            store.create("a\x00b"),
            store.create("t", parent="a\x00b"),
            store.create("t", metadata={"k": "a\x00b"}),
            store.post("s", CancelRequested("x"), dedupe_key="a\x00b"),
        ):
            with pytest.raises((InvalidInput, UsageError), match="NUL"):
                await attempt
        assert [info.id for info in await store.list()] == ["s"]


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("memory:", "MemoryStore"),
        ("sqlite:///agent.db", "SQLiteStore('"),
        ("sqlite:////var/lib/a%20b.db", "SQLiteStore('/var/lib/a b.db')"),
        ("postgresql://u:pw@h:5433/db", "PostgresStore('postgresql://u@h:5433/db')"),
        ("postgres://h/db", "PostgresStore('postgresql://h/db')"),
    ],
)
def test_a_store_is_opened_by_its_url(url: str, kind: str) -> None:
    """Nothing is opened before it is used."""
    assert kind in repr(open_store(url))


@pytest.mark.parametrize(
    "url", ["", "agent.db", "sqlite:agent.db", "sqlite:///", "mysql://u:s3cr3t@h/d", "memory://x"]
)
def test_a_url_of_no_store_is_refused(url: str) -> None:
    """The error says which forms there are, and not what may be a password."""
    with pytest.raises(UsageError, match=r"sqlite:///relative\.db") as told:
        open_store(url)
    assert "s3cr3t" not in str(told.value)
