"""An index in an SQLite file of its own, with sqlite-vec.

A search measures the distance to every memory of those that are meant, which an index over users,
agents and sessions finds: it is exact, and 10,000 memories take some 10 ms. sqlite-vec's own tables
are faster over many, but take a megabyte for each user.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from sqlite3 import Connection
from typing import Any, TypeVar

from llm_client.embedding.base import Vector
from power_loop.errors import PowerLoopError, UsageError
from power_loop.log import logger
from power_loop.runtime.memory.base import MemoryScope
from power_loop.runtime.memory.vectors._sqlite_driver import (
    connect,
    driver,
    require_extension,
    typed,
)
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
from power_loop.runtime.stores._sqlite_open import Settings
from power_loop.runtime.stores.waiting import Home
from power_loop.runtime.stores.workers import Work, Worker, signals_of

__all__ = ["SQLiteVectorIndex"]

T = TypeVar("T")

_COLUMNS = "id, user, agent, session, source, at, text"


class SQLiteVectorIndex(ThreadedIndex[Connection]):
    """A `VectorIndex` in the SQLite file `path`; needs the extra `vectors-sqlite`.

    Close it, or let a block do that: `async with SQLiteVectorIndex("memory.db") as index:`.

    Args:
        path: the file, in an existing directory of a local disk; made if there is none. It is not
            the one of a store. Two more files appear beside it while it is in use.
        busy_timeout: seconds to wait for a lock that another process holds.

    What is acknowledged survives a loss of power. What is forgotten is overwritten in the file, and
    gone from its log as soon as no other process reads. A program may fork: see `SQLiteStore`.

    Raises:
        UsageError: the extra is not installed, or `path` is no path of a file.
    """

    def __init__(self, path: str | os.PathLike[str], *, busy_timeout: float = 10.0) -> None:
        require_extension()
        name = os.fspath(path)
        if name in {"", ":memory:"} or name.startswith("file:"):
            raise UsageError(f"{name!r} is no path of a file")
        self.path = Path(name).absolute()
        place = str(self.path)
        super().__init__(_Thread(Settings(place, busy_timeout=busy_timeout)), place)

    async def add(self, space: Space, entries: Sequence[Entry]) -> int:
        """See `VectorIndex.add`."""
        check_entries(space, entries)
        rows = [_row(*entry) for entry in entries]
        place = self._place
        return await self._do(lambda cx: _in_transaction(cx, lambda: _add(cx, space, rows, place)))

    async def search(
        self, space: Space, vector: Vector, k: int, whose: Whose = ANYBODY
    ) -> Sequence[Found]:
        """See `VectorIndex.search`."""
        check_query(space, vector, k)
        place = self._place
        return await self._do(lambda cx: _search(cx, space, vector.tobytes(), k, whose, place))

    async def delete(self, whose: Whose = ANYBODY, *, ids: Sequence[str] | None = None) -> int:
        """See `VectorIndex.delete`."""
        return await self._do(lambda cx: _delete(cx, whose, ids, self._place))

    async def export(
        self, whose: Whose = ANYBODY, *, after: str = "", limit: int = 1000
    ) -> Sequence[Remembered]:
        """See `VectorIndex.export`."""
        return await self._do(lambda cx: _export(cx, whose, after, limit))

    async def count(self, whose: Whose = ANYBODY) -> int:
        """See `VectorIndex.count`."""
        where, arguments = _where(whose)
        sql = f"SELECT count(*) FROM memories{where}"  # noqa: S608 - names of columns only
        return await self._do(lambda cx: cx.execute(sql, arguments).fetchone()[0])


class _Thread(Worker):
    """The thread that has the connection."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__("power_loop vector index", settings.path)

    def reset(self) -> None:
        super().reset()
        self._connection: Connection | None = None

    def _serve(self, works: Sequence[Work[Any]]) -> Iterable[Home]:
        for work in works:
            assert isinstance(work, Job)
            try:
                if self._connection is None:
                    self._connection = connect(self._settings)
                work.result = work.act(self._connection)
            except PowerLoopError as error:
                work.error = error
            except Exception as error:  # noqa: BLE001 - the top handler of this thread
                # It may be in disorder; a new one costs a millisecond.
                self._close()
                work.error = typed(error, self._settings)
        return signals_of(works)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _patience(self) -> float | None:
        return None


def _in_transaction(connection: Connection, act: Callable[[], T]) -> T:
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = act()
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result


def _add(
    connection: Connection, space: Space, rows: Sequence[tuple[object, ...]], place: str
) -> int:
    there = _space(connection)
    if there is None:
        connection.execute("INSERT INTO space VALUES (?, ?)", (space.model, space.dimensions))
    else:
        require_same(there, space, place)
    before = connection.total_changes
    connection.executemany(
        f"INSERT INTO memories ({_COLUMNS}, vector) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
        " ON CONFLICT (id) DO NOTHING",
        rows,
    )
    return connection.total_changes - before


def _search(
    connection: Connection, space: Space, vector: bytes, k: int, whose: Whose, place: str
) -> Sequence[Found]:
    there = _space(connection)
    if there is None:
        return ()
    require_same(there, space, place)
    where, arguments = _where(whose)
    sql = (
        f"SELECT vec_distance_cosine(vector, ?) AS distance, {_COLUMNS} FROM memories"  # noqa: S608
        f"{where} ORDER BY distance, seq LIMIT ?"
    )
    rows = connection.execute(sql, (vector, *arguments, k)).fetchall()
    return [Found(_memory(row), 1.0 - distance) for distance, *row in rows]


def _delete(connection: Connection, whose: Whose, ids: Sequence[str] | None, place: str) -> int:
    where, arguments = _where(whose)
    every = f"DELETE FROM memories{where}"  # noqa: S608 - names of columns only

    def act() -> int:
        before = connection.total_changes
        if ids is None:
            connection.execute(every, arguments)
        else:
            one = f"{every}{' AND' if where else ' WHERE'} id = ?"
            connection.executemany(one, [(*arguments, id) for id in ids])
        count = connection.total_changes - before
        # An empty index may take vectors of any model.
        connection.execute("DELETE FROM space WHERE NOT EXISTS (SELECT 1 FROM memories)")
        return count

    count = _in_transaction(connection, act)
    try:
        # Otherwise the log would keep, until it is written over, what the file has lost already.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except driver.Error as error:
        logger.warning(
            "what was forgotten is in the log of %s until that is written over: %s", place, error
        )
    return count


def _export(connection: Connection, whose: Whose, after: str, limit: int) -> Sequence[Remembered]:
    where, arguments = _where(whose, "id > ?")
    sql = f"SELECT {_COLUMNS} FROM memories{where} ORDER BY id LIMIT ?"  # noqa: S608
    rows = connection.execute(sql, (*arguments, after, limit)).fetchall()
    return [_memory(row) for row in rows]


def _space(connection: Connection) -> Space | None:
    rows = connection.execute("SELECT model, dimensions FROM space").fetchall()
    return Space(*rows[0]) if rows else None


def _where(whose: Whose, *also: str) -> tuple[str, Sequence[str]]:
    named = whose.named()
    terms = [*(f"{name} = ?" for name in named), *also]
    return (f" WHERE {' AND '.join(terms)}" if terms else ""), tuple(named.values())


def _row(memory: Remembered, vector: Vector) -> tuple[object, ...]:
    scope = memory.scope
    who = (scope.user, scope.agent, scope.session)
    return (memory.id, *who, memory.source, memory.at, memory.text, vector.tobytes())


def _memory(row: Sequence[Any]) -> Remembered:
    id, user, agent, session, source, at, text = row
    scope = MemoryScope(session=session, user=user, agent=agent)
    return Remembered(id=id, text=text, scope=scope, source=source, at=at)
