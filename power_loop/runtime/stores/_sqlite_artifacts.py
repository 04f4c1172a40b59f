"""Large outputs in SQLite."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from sqlite3 import Connection
from typing import TypeVar

from power_loop.errors import ArtifactNotFound, SessionNotFound
from power_loop.runtime.artifacts.base import ArtifactPage, check_artifact, check_page
from power_loop.runtime.stores._sqlite_work import Transaction, Write

__all__ = ["SQLiteArtifacts"]

T = TypeVar("T")

_SESSION = "SELECT sid FROM sessions WHERE id = ?"
_PUT = "INSERT OR REPLACE INTO artifacts (sid, handle, chars, body) VALUES (?, ?, ?, ?)"
_PAGE = """SELECT chars, substr(body, ?, ?) FROM artifacts
  WHERE sid = (SELECT sid FROM sessions WHERE id = ?) AND handle = ?"""
_LIST = """SELECT handle FROM artifacts WHERE sid = (SELECT sid FROM sessions WHERE id = ?)
  ORDER BY handle"""
_COPY = """INSERT OR REPLACE INTO artifacts (sid, handle, chars, body)
  SELECT ?, handle, chars, body FROM artifacts
  WHERE sid = (SELECT sid FROM sessions WHERE id = ?)"""
_DELETE = "DELETE FROM artifacts WHERE sid = (SELECT sid FROM sessions WHERE id = ?)"


class SQLiteArtifacts(ABC):
    """What makes an `SQLiteStore` an `ArtifactStore`."""

    @abstractmethod
    async def _ask(self, ask: Callable[[Connection], T]) -> T: ...

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
        return await self._ask(partial(_page, session, handle, offset, length))

    async def list_artifacts(self, session: str) -> Sequence[str]:
        """See `ArtifactStore.list_artifacts`."""
        return await self._ask(
            lambda cx: [handle for (handle,) in cx.execute(_LIST, (session,)).fetchall()]
        )

    async def copy_artifacts(self, session: str, to: str) -> int:
        """See `ArtifactStore.copy_artifacts`."""
        return await self._write(_Copy(session, to))

    async def delete_artifacts(self, session: str) -> int:
        """See `ArtifactStore.delete_artifacts`."""
        return await self._write(_Delete(session))


class _Put(Write[None]):
    __slots__ = ("handle", "session", "text")

    def __init__(self, session: str, handle: str, text: str) -> None:
        super().__init__()
        self.session = session
        self.handle = handle
        self.text = text

    def execute(self, tx: Transaction) -> None:
        sid = _sid(tx, self.session)
        tx.connection.execute(_PUT, (sid, self.handle, len(self.text), self.text))


class _Copy(Write[int]):
    __slots__ = ("session", "to")

    def __init__(self, session: str, to: str) -> None:
        super().__init__()
        self.session = session
        self.to = to

    def execute(self, tx: Transaction) -> int:
        return tx.connection.execute(_COPY, (_sid(tx, self.to), self.session)).rowcount


class _Delete(Write[int]):
    __slots__ = ("session",)

    def __init__(self, session: str) -> None:
        super().__init__()
        self.session = session

    def execute(self, tx: Transaction) -> int:
        return tx.connection.execute(_DELETE, (self.session,)).rowcount


def _sid(tx: Transaction, session: str) -> int:
    row = tx.connection.execute(_SESSION, (session,)).fetchone()
    if row is None:
        raise SessionNotFound(session)
    return row[0]


def _page(
    session: str, handle: str, offset: int, length: int | None, connection: Connection
) -> ArtifactPage:
    # SQLite counts characters from 1, in 32 bits.
    begin, most = min(offset, _MOST) + 1, min(_MOST if length is None else length, _MOST)
    row = connection.execute(_PAGE, (begin, most, session, handle)).fetchone()
    if row is None:
        raise ArtifactNotFound(session, handle)
    return ArtifactPage(row[1], row[0])


_MOST = 2**31 - 2
"""Characters; a value of SQLite has fewer."""
