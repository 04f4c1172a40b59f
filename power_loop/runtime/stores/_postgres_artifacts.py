"""Large outputs in PostgreSQL."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from power_loop.errors import ArtifactNotFound, SessionNotFound
from power_loop.runtime.artifacts.base import ArtifactPage, check_artifact, check_page
from power_loop.runtime.stores._postgres_open import Settings
from power_loop.runtime.stores._postgres_reads import rows_of
from power_loop.runtime.stores._postgres_work import Call, Me, Transaction, Write

if TYPE_CHECKING:
    from psycopg import Cursor
    from psycopg.rows import TupleRow

__all__ = ["PostgresArtifacts"]

T = TypeVar("T")

_MOST = 2**31 - 2
"""Characters; a value of PostgreSQL has fewer."""

# The lock keeps the session from being deleted meanwhile: a code is wanted then, not an error.
_PUT = """WITH owner AS (SELECT sid FROM @sessions WHERE id = %s FOR KEY SHARE)
  INSERT INTO @artifacts (sid, handle, chars, body) SELECT sid, %s, %s, %s FROM owner
  ON CONFLICT (sid, handle) DO UPDATE SET chars = excluded.chars, body = excluded.body
  RETURNING 1"""
_COPY = """WITH owner AS (SELECT sid FROM @sessions WHERE id = %s FOR KEY SHARE), copied AS (
    INSERT INTO @artifacts (sid, handle, chars, body)
    SELECT owner.sid, a.handle, a.chars, a.body FROM owner, @artifacts a
    WHERE a.sid = (SELECT sid FROM @sessions WHERE id = %s)
    ON CONFLICT (sid, handle) DO UPDATE SET chars = excluded.chars, body = excluded.body
    RETURNING 1)
  SELECT (SELECT count(*) FROM owner), (SELECT count(*) FROM copied)"""
_DELETE = """WITH gone AS (
    DELETE FROM @artifacts WHERE sid = (SELECT sid FROM @sessions WHERE id = %s) RETURNING 1)
  SELECT count(*) FROM gone"""
_PAGE = """SELECT chars, substr(body, %s, %s) FROM @artifacts
  WHERE sid = (SELECT sid FROM @sessions WHERE id = %s) AND handle = %s"""
_LIST = """SELECT handle FROM @artifacts
  WHERE sid = (SELECT sid FROM @sessions WHERE id = %s) ORDER BY handle"""


class PostgresArtifacts(ABC):
    """What makes a `PostgresStore` an `ArtifactStore`."""

    _settings: Settings

    @abstractmethod
    async def _ask(self, ask: Callable[[Cursor[TupleRow]], T]) -> T: ...

    @abstractmethod
    async def _write(self, write: Write[T]) -> T: ...

    async def put_artifact(self, session: str, handle: str, text: str) -> None:
        """See `ArtifactStore.put_artifact`."""
        check_artifact(handle, text)
        await self._write(_Put(session, handle, text))

    async def read_artifact(
        self, session: str, handle: str, offset: int = 0, length: int | None = None
    ) -> ArtifactPage:
        """See `ArtifactStore.read_artifact`."""
        check_page(offset, length)
        ask = partial(_page, self._settings, session, handle, offset, length)
        return await self._ask(ask)

    async def list_artifacts(self, session: str) -> Sequence[str]:
        """See `ArtifactStore.list_artifacts`."""
        settings = self._settings
        rows = await self._ask(lambda cursor: rows_of(cursor, settings, _LIST, session))
        return [handle for (handle,) in rows]

    async def copy_artifacts(self, session: str, to: str) -> int:
        """See `ArtifactStore.copy_artifacts`."""
        return await self._write(_Copy(session, to))

    async def delete_artifacts(self, session: str) -> int:
        """See `ArtifactStore.delete_artifacts`."""
        return await self._write(_Delete(session))


class _Put(Write[None]):
    __slots__ = ("_arguments", "_session")

    def __init__(self, session: str, handle: str, text: str) -> None:
        super().__init__()
        self._session = session
        self._arguments = (session, handle, len(text), text)

    def call(self, me: Me) -> Call:
        return Call(_PUT, self._arguments)

    def settle(self, rows: Sequence[Sequence[Any]], tx: Transaction) -> bool:
        self.result = None
        if not rows:
            self.error = SessionNotFound(self._session)
        return False


class _Copy(Write[int]):
    __slots__ = ("_session", "_to")

    def __init__(self, session: str, to: str) -> None:
        super().__init__()
        self._session = session
        self._to = to

    def call(self, me: Me) -> Call:
        return Call(_COPY, (self._to, self._session))

    def settle(self, rows: Sequence[Sequence[Any]], tx: Transaction) -> bool:
        found, self.result = rows[0]
        if not found:
            self.error = SessionNotFound(self._to)
        return False


class _Delete(Write[int]):
    __slots__ = ("_session",)

    def __init__(self, session: str) -> None:
        super().__init__()
        self._session = session

    def call(self, me: Me) -> Call:
        return Call(_DELETE, (self._session,))

    def settle(self, rows: Sequence[Sequence[Any]], tx: Transaction) -> bool:
        self.result = rows[0][0]
        return False


def _page(
    settings: Settings,
    session: str,
    handle: str,
    offset: int,
    length: int | None,
    cursor: Cursor[TupleRow],
) -> ArtifactPage:
    # PostgreSQL counts characters from 1, in 32 bits, also where a page would end.
    begin = min(offset, _MOST) + 1
    most = min(_MOST if length is None else length, _MOST - begin + 1)
    rows = rows_of(cursor, settings, _PAGE, begin, most, session, handle)
    if not rows:
        raise ArtifactNotFound(session, handle)
    return ArtifactPage(rows[0][1], rows[0][0])
