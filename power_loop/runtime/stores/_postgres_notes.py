"""Notes in a database of PostgreSQL, found by a tsvector.

Their words come from `words` and go into the vector as they are, so that neither the locale of the
database nor its parser decides what a word is. The server has no measure that knows how rare a word
is; the search computes one: that of BM25, of the notes in question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from power_loop.errors import NotesFull
from power_loop.runtime.stores._notes_sql import (
    Condition,
    condition,
    filled,
    note_of,
    older_than,
)
from power_loop.runtime.stores._postgres_open import Settings
from power_loop.runtime.stores._postgres_reads import rows_of
from power_loop.runtime.stores._postgres_threads import Read
from power_loop.runtime.stores._postgres_work import Call, Me, Transaction, Write
from power_loop.runtime.stores.notes import (
    Note,
    NoteFilter,
    WhenFull,
    check_note,
    check_text,
    place_of,
)
from power_loop.runtime.stores.words import Term, terms_of, words_of
from power_loop.runtime.stores.workers import Doing, Worker

if TYPE_CHECKING:
    from psycopg import Cursor
    from psycopg.rows import TupleRow

__all__ = ["PostgresNotes"]

T = TypeVar("T")

_Rows = Sequence[Sequence[Any]]

# Without a join, whose plan would hang on statistics that a young table has not.
_SEARCH = """WITH asked AS MATERIALIZED (
    SELECT i, term::tsquery AS term FROM unnest(%s::text[]) WITH ORDINALITY a(term, i)),
  found AS MATERIALIZED (
    SELECT COLUMNS, length(n.search)::float8 AS size,
      ARRAY(SELECT a.i FROM asked a WHERE n.search @@ a.term) AS hits
    FROM @notes n WHERE WHICH AND n.search @@ %s::tsquery),
  total AS (SELECT count(*)::float8 AS notes FROM @notes n WHERE WHICH),
  counts AS (SELECT i, count(*)::float8 AS notes FROM found, unnest(hits) i GROUP BY i),
  worth AS (
    SELECT array_agg(ln(1 + (t.notes - h.notes + 0.5) / (h.notes + 0.5)) ORDER BY a.i) AS each
    FROM total t, asked a LEFT JOIN counts h USING (i))
  SELECT COLUMNS FROM found n ORDER BY
    (SELECT sum((SELECT w.each FROM worth w)[i]) FROM unnest(n.hits) i)
      / (1.3 + 0.9 * n.size / (SELECT avg(size) FROM found)) DESC, NEWEST LIMIT %s
"""
_LIST = "SELECT COLUMNS FROM @notes n WHERE WHICH ORDER BY NEWEST LIMIT %s"
_UPDATE = """UPDATE @notes n SET text = %s, created = %s, search = array_to_tsvector(%s::text[])
  WHERE WHICH"""


class PostgresNotes:
    """A `NoteStore` in the schema of a `PostgresStore`, whose threads do its work."""

    def __init__(self, settings: Settings, reader: Worker, writer: Worker, do: Doing) -> None:
        self._settings = settings
        self._reader = reader
        self._writer = writer
        self._do = do

    async def add(
        self, note: Note, *, limit: int | None = None, when_full: WhenFull = "reject"
    ) -> None:
        """See `NoteStore.add`."""
        check_note(note, limit, when_full)
        await self._do(self._writer, _Add(note, limit, when_full))

    async def update(self, which: NoteFilter, text: str, created: float) -> int:
        """See `NoteStore.update`."""
        check_text(text)
        where, values = condition(which, "%s")
        change = _Change(
            filled(_UPDATE, where), (text, created, _lexemes(text), *values), repeatable=True
        )
        return await self._do(self._writer, change)

    async def search(self, query: str, which: NoteFilter, *, limit: int = 10) -> Sequence[Note]:
        """See `NoteStore.search`."""
        terms = [_lexeme(term) for term in terms_of(query)]
        if not terms:
            return ()
        where, values = condition(which, "%s")
        arguments = (terms, *values, " | ".join(terms), *values, max(0, limit))
        return await self._notes((filled(_SEARCH, where), arguments))

    async def list(
        self, which: NoteFilter, *, limit: int = 100, before: Note | None = None
    ) -> Sequence[Note]:
        """See `NoteStore.list`."""
        where, values = condition(which, "%s")
        older, than = older_than(before, "%s")
        sql = filled(_LIST, f"{where} AND {older}")
        return await self._notes((sql, (*values, *than, max(0, limit))))

    async def count(self, which: NoteFilter) -> int:
        """See `NoteStore.count`."""
        where, values = condition(which, "%s")
        sql = filled("SELECT count(*) FROM @notes n WHERE WHICH", where)
        settings = self._settings
        return await self._ask(lambda cursor: rows_of(cursor, settings, sql, *values)[0][0])

    async def delete(self, which: NoteFilter) -> int:
        """See `NoteStore.delete`."""
        where, values = condition(which, "%s")
        sql = filled("DELETE FROM @notes n WHERE WHICH", where)
        return await self._do(self._writer, _Change(sql, values, repeatable=False))

    async def _notes(self, query: Condition) -> Sequence[Note]:
        sql, arguments = query
        settings = self._settings
        return await self._ask(
            lambda cursor: [note_of(row) for row in rows_of(cursor, settings, sql, *arguments)]
        )

    async def _ask(self, ask: Callable[[Cursor[TupleRow]], T]) -> T:
        return await self._do(self._reader, Read(ask))


class _Add(Write[None]):
    """See `NoteStore.add`."""

    __slots__ = ("_arguments", "_full")

    def __init__(self, note: Note, limit: int | None, when_full: WhenFull) -> None:
        super().__init__()
        self._full = (note.owner, limit or 0)
        whose = (note.scope, note.user, note.agent, note.session)
        what = (note.kind, note.created, note.run, note.text, _lexemes(note.text))
        place = place_of(note.scope, note.owner)
        self._arguments = (note.id, place, *whose, *what, limit, when_full == "fifo")

    def call(self, me: Me) -> Call:
        return Call(_ADD, self._arguments)

    def settle(self, rows: _Rows, tx: Transaction) -> bool:
        self.result = None
        if not rows[0][0]:
            self.error = NotesFull(*self._full)
        return False


_ADD = "SELECT @add_note(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::text[], %s, %s)"


_COUNTED = "WITH changed AS (CHANGE RETURNING 1) SELECT count(*) FROM changed"


class _Change(Write[int]):
    """One statement; results in how many notes it changed."""

    __slots__ = ("_arguments", "_sql", "repeatable")

    def __init__(self, sql: str, arguments: Sequence[Any], *, repeatable: bool) -> None:
        super().__init__()
        self._sql = _COUNTED.replace("CHANGE", sql)
        self._arguments = arguments
        self.repeatable = repeatable

    def call(self, me: Me) -> Call:
        return Call(self._sql, self._arguments)

    def settle(self, rows: _Rows, tx: Transaction) -> bool:
        self.result = rows[0][0]
        return False


def _lexemes(text: str) -> Sequence[str]:
    return [*dict.fromkeys(words_of(text))]


def _lexeme(term: Term) -> str:
    return f"'{term.word}':*" if term.prefix else f"'{term.word}'"
