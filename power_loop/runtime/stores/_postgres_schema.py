"""The tables of a store on PostgreSQL: made, brought up to date, or refused with what to run.

A schema carries its version. Each step from one version to the next is one transaction with all
its DDL, under a lock that all hosts share: whatever dies in the middle leaves the step undone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources import files
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeVar

from power_loop.errors import StoreCorrupt, StoreSchemaError, StoreTooNew
from power_loop.runtime.stores._postgres_errors import translate
from power_loop.runtime.stores._postgres_open import Settings, connect

if TYPE_CHECKING or find_spec("psycopg") is not None:
    import psycopg
    from psycopg import Connection
    from psycopg.rows import TupleRow

__all__ = ["SCHEMA_VERSION", "brought_up_to_date", "ensure", "vacuum", "version_of"]

T = TypeVar("T")

_FILES = ("postgres_1.sql", "postgres_2.sql", "postgres_3.sql", "postgres_notes.sql")
"""The steps: the first makes version 1 of nothing, the next version 2 of that, and so on."""
SCHEMA_VERSION = len(_FILES)

# Those of the first version.
_TABLES = ("meta", "sessions", "records", "leases", "inbox", "posted")
_MARK = """INSERT INTO @meta VALUES ('schema', NUMBER)
  ON CONFLICT (key) DO UPDATE SET value = excluded.value;
"""
_LOCK = 7_092_653_114
"""An advisory lock of ours: of several programs that find no schema, one makes it."""


def _ddl_from(settings: Settings, version: int) -> Sequence[str]:
    """The steps that bring a schema of `version` up to date, each to be run as one transaction."""
    steps: list[str] = []
    for number, name in enumerate(_FILES[version:], version + 1):
        text = files("power_loop.runtime.stores").joinpath(name).read_text("utf-8")
        head = f'CREATE SCHEMA IF NOT EXISTS "{settings.schema}";\n' if number == 1 else ""
        mark = _MARK.replace("NUMBER", str(number))
        steps.append(settings.sql(f"{head}{text}{mark}").decode())
    return steps


def version_of(connection: Connection[TupleRow], settings: Settings) -> int:
    """The version of the schema; 0 if there is none.

    Raises:
        StoreCorrupt: tables of these names are there, but are not ours.
        StoreTooNew: a newer version of this package made them.
    """
    wanted = [settings.prefix + name for name in _TABLES]
    found = connection.execute(
        "SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n"
        " ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = ANY (%s)",
        (settings.schema, wanted),
    ).fetchone()
    assert found is not None
    if found[0] == 0:
        return 0
    if found[0] != len(_TABLES):
        raise StoreCorrupt(
            f"{settings.place} has other tables of the names that a power_loop store uses in "
            f"schema {settings.schema!r}. Choose another schema or prefix"
        )
    row = connection.execute(
        settings.sql("SELECT value FROM @meta WHERE key = 'schema'")
    ).fetchone()
    version = 0 if row is None else row[0]
    if not isinstance(version, int) or version < 1:
        raise StoreCorrupt(
            f"the tables in schema {settings.schema!r} of {settings.place} have no version: they "
            "are not those of a power_loop store. Choose another schema or prefix"
        )
    if version > SCHEMA_VERSION:
        raise StoreTooNew(
            f"{settings.place} was written by a newer power_loop: its schema is {version}, this "
            f"one knows {SCHEMA_VERSION}. Upgrade with: pip install --upgrade power-loop"
        )
    return version


def ensure(connection: Connection[TupleRow], settings: Settings) -> None:
    """Returns once the schema is what this version needs.

    Raises:
        StoreSchemaError: it is not, and the policy is to leave it alone; carries the DDL.
        StoreCorrupt, StoreTooNew: see `version_of`.
    """
    version = version_of(connection, settings)
    if version == SCHEMA_VERSION:
        return
    if settings.policy == "verify":
        state = "is missing" if version == 0 else f"is of version {version}, not {SCHEMA_VERSION}"
        steps = [*_ddl_from(settings, version), _grants(connection, settings)]
        raise StoreSchemaError(
            f"the schema of the store at {settings.place} {state}. Have a privileged user run",
            "\n".join(f"BEGIN;\n{step}COMMIT;\n" for step in steps),
        )
    _migrate(connection, settings)


def _grants(connection: Connection[TupleRow], settings: Settings) -> str:
    """What lets the user of `connection` work with tables that somebody else has made."""
    row = connection.execute("SELECT quote_ident(current_user)").fetchone()
    assert row is not None
    tables = ", ".join(
        f"@{name}" for name in (*_TABLES, "snapshots", "artifacts", "notes", "events")
    )
    text = (
        f'GRANT USAGE ON SCHEMA "{settings.schema}" TO USER;\n'
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO USER;\n"
        "GRANT USAGE ON SEQUENCE @sids, @fences TO USER;\n"
    )
    return settings.sql(text.replace("USER", row[0])).decode()


def _migrate(connection: Connection[TupleRow], settings: Settings) -> int:
    """Brings the schema up to date, whatever other programs do meanwhile; returns steps taken."""
    taken = 0
    while True:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            version = version_of(connection, settings)
            if version == SCHEMA_VERSION:
                return taken
            connection.execute(_ddl_from(settings, version)[0].encode(), prepare=False)
            taken += 1


def brought_up_to_date(settings: Settings) -> int:
    """See `PostgresStore.migrate`."""
    return _on(settings, lambda connection: _migrate(connection, settings))


def vacuum(settings: Settings) -> None:
    """See `PostgresStore.vacuum`."""
    tables = ", ".join(f"@{name}" for name in (*_TABLES, "snapshots", "artifacts", "notes"))
    command = settings.sql(f"VACUUM (ANALYZE) {tables}")
    _on(settings, lambda connection: connection.execute(command, prepare=False))


def _on(settings: Settings, act: Callable[[Connection[TupleRow]], T]) -> T:
    with connect(settings) as connection:
        try:
            return act(connection)
        except psycopg.Error as error:
            raise translate(error, settings.place, settings.patience) from error
