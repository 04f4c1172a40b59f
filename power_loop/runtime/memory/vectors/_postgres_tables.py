"""The tables of an index on PostgreSQL, and the extension they need."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from power_loop.errors import StoreSchemaError, StoreUnavailable
from power_loop.runtime.stores._postgres_open import Settings

if TYPE_CHECKING or find_spec("psycopg") is not None:
    import psycopg
    from psycopg import Connection
    from psycopg.rows import TupleRow

__all__ = ["ensure"]

_LOCK = 7_092_653_115
"""An advisory lock of ours: of several programs that find no tables, one makes them."""

_DDL = """CREATE SCHEMA IF NOT EXISTS "%SCHEMA";
CREATE TABLE IF NOT EXISTS @space (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  model text NOT NULL,
  dimensions integer NOT NULL
);
CREATE TABLE IF NOT EXISTS @memories (
  seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id text COLLATE "C" NOT NULL UNIQUE,
  user_id text NOT NULL,
  agent text NOT NULL,
  session text NOT NULL,
  source text NOT NULL,
  at double precision NOT NULL,
  text text NOT NULL,
  vector vector NOT NULL
);
CREATE INDEX IF NOT EXISTS "%PREFIXmemories_by_user" ON @memories (user_id);
CREATE INDEX IF NOT EXISTS "%PREFIXmemories_by_agent" ON @memories (agent);
CREATE INDEX IF NOT EXISTS "%PREFIXmemories_by_session" ON @memories (session);
"""


def ensure(connection: Connection[TupleRow], settings: Settings) -> None:
    """Returns once the tables are there.

    Raises:
        StoreUnavailable: the server has no pgvector, or lets this user not have it.
        StoreSchemaError: this user may not make the tables; carries the DDL.
    """
    memories = f'"{settings.schema}".{settings.prefix}memories'
    row = connection.execute(
        "SELECT to_regtype('vector') IS NOT NULL, to_regclass(%s) IS NOT NULL", (memories,)
    ).fetchone()
    if row == (True, True):
        return
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        _extend(connection, settings)
        _make(connection, settings)


def _extend(connection: Connection[TupleRow], settings: Settings) -> None:
    try:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector", prepare=False)
    except (psycopg.errors.FeatureNotSupported, psycopg.errors.UndefinedFile) as error:
        raise StoreUnavailable(
            f"the server of {settings.place} has no pgvector. Install it there, on Debian as "
            "postgresql-NUMBER-pgvector, or use SQLiteVectorIndex"
        ) from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise StoreUnavailable(
            f"{settings.place} has pgvector, but this user may not turn it on. Have a privileged "
            "user run there: CREATE EXTENSION vector"
        ) from error


def _make(connection: Connection[TupleRow], settings: Settings) -> None:
    text = _DDL.replace("%SCHEMA", settings.schema).replace("%PREFIX", settings.prefix)
    ddl = settings.sql(text)
    try:
        connection.execute(ddl, prepare=False)
    except psycopg.errors.InsufficientPrivilege as error:
        raise StoreSchemaError(
            f"the tables of the index at {settings.place} are missing, and this user may not make "
            "them. Have a privileged user run, and grant this one their use",
            ddl.decode(),
        ) from error
