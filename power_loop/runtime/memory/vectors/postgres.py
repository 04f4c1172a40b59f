"""An index on a PostgreSQL server, with pgvector.

A search measures the distance to every memory of those that are meant, which an index over users,
agents and sessions finds: it is exact. An approximate index (HNSW) over everybody's memories would
find the nearest of all first, and of one user's perhaps none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar

from llm_client.embedding.base import Vector
from power_loop.errors import UsageError
from power_loop.runtime.memory.base import MemoryScope
from power_loop.runtime.memory.vectors._postgres_tables import ensure
from power_loop.runtime.memory.vectors._threaded import Job, ThreadedIndex
from power_loop.runtime.memory.vectors.base import (
    ANYBODY,
    Entry,
    Found,
    Remembered,
    Space,
    Whose,
    check_entries,
    check_query,
    require_same,
)
from power_loop.runtime.stores._postgres_open import Settings, make_settings
from power_loop.runtime.stores._postgres_threads import PostgresWorker
from power_loop.runtime.stores.waiting import Home
from power_loop.runtime.stores.workers import Work, signals_of

_INSTALLED = find_spec("psycopg") is not None
if TYPE_CHECKING or _INSTALLED:
    from psycopg import Connection
    from psycopg.rows import TupleRow

__all__ = ["PostgresVectorIndex"]

T = TypeVar("T")

_COLUMNS = "id, user_id, agent, session, source, at, text"
# It locks the row, so that nobody finds the index empty, and of another model, meanwhile.
_CLAIM = """
INSERT INTO @space AS there (model, dimensions) VALUES (%s, %s)
ON CONFLICT (one) DO UPDATE SET model = there.model
RETURNING there.model, there.dimensions
"""
_ADD = f"""
INSERT INTO @memories ({_COLUMNS}, vector)
SELECT id, user_id, agent, session, source, at, text, vector::vector
  FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::float8[],
    %s::text[], %s::text[])
    AS given (id, user_id, agent, session, source, at, text, vector)
ON CONFLICT (id) DO NOTHING
"""  # noqa: S608 - names of columns only


class PostgresVectorIndex(ThreadedIndex["Connection[TupleRow]"]):
    """A `VectorIndex` in a PostgreSQL database with pgvector; needs the extra `postgres`.

    Close it, or let a block do that: `async with PostgresVectorIndex("postgresql://…") as index:`.

    Args:
        url: as libpq takes it: `postgresql://user:password@host:5432/database`.
        schema: where the tables are; made if it is missing.
        prefix: what the names of the tables begin with.
        patience: seconds to wait for a lock, and for a server that went away to come back.

    The extension and the tables are made by the first call. A connection that is lost is opened
    again, and what was under way is done once. A program may fork: see `SQLiteStore`.

    Raises:
        UsageError: the extra is not installed, or the URL or a name cannot be.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str = "power_loop",
        prefix: str = "vectors_",
        patience: float = 10.0,
    ) -> None:
        if not _INSTALLED:
            raise UsageError(
                "PostgresVectorIndex needs the extra 'postgres': pip install 'power-loop[postgres]'"
            )
        self._settings = make_settings(url, schema, prefix, "create", patience)
        super().__init__(_Thread(self._settings), self._settings.place)

    async def add(self, space: Space, entries: Sequence[Entry]) -> int:
        """See `VectorIndex.add`."""
        check_entries(space, entries)
        if not entries:
            return 0
        columns = list(map(list, zip(*[_row(*entry) for entry in entries], strict=True)))
        return await self._do(lambda cx: _add(cx, self._settings, space, columns))

    async def search(
        self, space: Space, vector: Vector, k: int, whose: Whose = ANYBODY
    ) -> Sequence[Found]:
        """See `VectorIndex.search`."""
        check_query(space, vector, k)
        text = _text(vector)
        return await self._do(lambda cx: _search(cx, self._settings, space, text, k, whose))

    async def delete(self, whose: Whose = ANYBODY, *, ids: Sequence[str] | None = None) -> int:
        """See `VectorIndex.delete`. The server keeps the room, and what is in its own log and
        backups, until it writes over them: that is its administrator's business."""
        return await self._do(lambda cx: _delete(cx, self._settings, whose, ids))

    async def export(
        self, whose: Whose = ANYBODY, *, after: str = "", limit: int = 1000
    ) -> Sequence[Remembered]:
        """See `VectorIndex.export`."""
        where, arguments = _where(whose, "id > %s")
        sql = f"SELECT {_COLUMNS} FROM @memories{where} ORDER BY id LIMIT %s"  # noqa: S608
        rows = await self._do(lambda cx: self._rows(cx, sql, (*arguments, after, limit)))
        return [_memory(row) for row in rows]

    async def count(self, whose: Whose = ANYBODY) -> int:
        """See `VectorIndex.count`."""
        where, arguments = _where(whose)
        sql = f"SELECT count(*) FROM @memories{where}"  # noqa: S608 - names of columns only
        rows = await self._do(lambda cx: self._rows(cx, sql, arguments))
        return rows[0][0]

    def _rows(
        self, connection: Connection[TupleRow], sql: str, arguments: Sequence[object]
    ) -> Sequence[TupleRow]:
        return connection.execute(self._settings.sql(sql), arguments).fetchall()


class _Thread(PostgresWorker):
    """The thread that has the connection."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, "power_loop vector index", Event())

    def reset(self) -> None:
        super().reset()
        self._connection = None

    def _prepare(self, connection: Connection[TupleRow]) -> None:
        ensure(connection, self.settings)

    def _serve(self, works: Sequence[Work[Any]]) -> Iterable[Home]:
        for work in works:
            assert isinstance(work, Job)
            try:
                work.result = self._patiently(work.act, lambda: None)
            except Exception as error:  # noqa: BLE001 - the top handler of this thread
                self._recover()
                work.error = self._typed(error)
        return signals_of(works)

    def _patience(self) -> float | None:
        return None


def _add(
    connection: Connection[TupleRow],
    settings: Settings,
    space: Space,
    columns: Sequence[Sequence[object]],
) -> int:
    with connection.transaction():
        row = connection.execute(settings.sql(_CLAIM), (space.model, space.dimensions)).fetchone()
        assert row is not None
        require_same(Space(*row), space, settings.place)
        return connection.execute(settings.sql(_ADD), columns).rowcount


def _search(
    connection: Connection[TupleRow],
    settings: Settings,
    space: Space,
    vector: str,
    k: int,
    whose: Whose,
) -> Sequence[Found]:
    there = connection.execute(settings.sql("SELECT model, dimensions FROM @space")).fetchone()
    if there is None:
        return ()
    require_same(Space(*there), space, settings.place)
    where, arguments = _where(whose)
    sql = (
        f"SELECT vector <=> %s::vector AS distance, {_COLUMNS} FROM @memories{where}"  # noqa: S608
        " ORDER BY distance, seq LIMIT %s"
    )
    rows = connection.execute(settings.sql(sql), (vector, *arguments, k)).fetchall()
    return [Found(_memory(row), 1.0 - distance) for distance, *row in rows]


def _delete(
    connection: Connection[TupleRow],
    settings: Settings,
    whose: Whose,
    ids: Sequence[str] | None,
) -> int:
    where, arguments = _where(whose, *(() if ids is None else ("id = ANY (%s)",)))
    sql = f"DELETE FROM @memories{where}"  # noqa: S608 - names of columns only
    chosen = () if ids is None else (list(ids),)
    with connection.transaction():
        connection.execute(settings.sql("SELECT FROM @space FOR UPDATE"))
        count = connection.execute(settings.sql(sql), (*arguments, *chosen)).rowcount
        # An empty index may take vectors of any model.
        connection.execute(
            settings.sql("DELETE FROM @space WHERE NOT EXISTS (SELECT 1 FROM @memories)")
        )
    return count


def _where(whose: Whose, *also: str) -> tuple[str, Sequence[str]]:
    # "user" means something else to PostgreSQL.
    named = {name.replace("user", "user_id"): value for name, value in whose.named().items()}
    terms = [*(f"{name} = %s" for name in named), *also]
    return (f" WHERE {' AND '.join(terms)}" if terms else ""), tuple(named.values())


def _row(memory: Remembered, vector: Vector) -> Sequence[object]:
    scope = memory.scope
    who = (scope.user, scope.agent, scope.session)
    return (memory.id, *who, memory.source, memory.at, memory.text, _text(vector))


def _memory(row: Sequence[Any]) -> Remembered:
    id, user, agent, session, source, at, text = row
    scope = MemoryScope(session=session, user=user, agent=agent)
    return Remembered(id=id, text=text, scope=scope, source=source, at=at)


def _text(vector: Vector) -> str:
    """As pgvector reads it; nine digits give back the same 32 bits."""
    return f"[{','.join([format(number, '.9g') for number in vector])}]"
