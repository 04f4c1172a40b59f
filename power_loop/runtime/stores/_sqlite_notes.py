"""Notes in a database of SQLite, found by FTS5.

Their words come from `words`, so FTS5 has only to split them at spaces, and a note is found by the
same words in every store. Each has its owner's place as one more word: the index finds what one
person has noted without a look at what everybody else has.

The index is no part of the schema's steps: it is made with the first note. So a library without
FTS5 opens every database, and refuses nothing but notes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from sqlite3 import Connection
from typing import TypeVar

from power_loop.errors import NotesFull, StoreCorrupt, StoreUnavailable
from power_loop.runtime.stores._notes_sql import (
    condition,
    filled,
    note_of,
    older_than,
)
from power_loop.runtime.stores._sqlite_threads import Read
from power_loop.runtime.stores._sqlite_work import Transaction, Write
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

__all__ = ["SQLiteNotes", "check_notes", "rebuild_index"]

T = TypeVar("T")

# To FTS5's tokenizer `ascii`, every character beyond ASCII is one of a word.
_INDEX = """
CREATE VIRTUAL TABLE notes_text USING fts5
  (place, words, content='notes', content_rowid='nid', tokenize='ascii');

CREATE TRIGGER notes_added AFTER INSERT ON notes BEGIN
  INSERT INTO notes_text (rowid, place, words) VALUES (new.nid, new.place, new.words); END;

CREATE TRIGGER notes_deleted AFTER DELETE ON notes BEGIN
  INSERT INTO notes_text (notes_text, rowid, place, words)
    VALUES ('delete', old.nid, old.place, old.words); END;

CREATE TRIGGER notes_changed AFTER UPDATE OF words ON notes BEGIN
  INSERT INTO notes_text (notes_text, rowid, place, words)
    VALUES ('delete', old.nid, old.place, old.words);
  INSERT INTO notes_text (rowid, place, words) VALUES (new.nid, new.place, new.words); END;
"""
# An owner's place finds a note, and says nothing of how well it fits.
_SEARCH = """SELECT COLUMNS FROM notes_text t JOIN notes n ON n.nid = t.rowid
  WHERE WHICH AND notes_text MATCH ? ORDER BY bm25(notes_text, 0.0, 1.0), NEWEST LIMIT ?"""
_LIST = "SELECT COLUMNS FROM notes n WHERE WHICH ORDER BY NEWEST LIMIT ?"
_INSERT = """INSERT INTO notes
  (id, place, scope, person, agent, session, kind, created, run, text, words)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_OLDEST = """DELETE FROM notes WHERE nid IN (
  SELECT nid FROM notes WHERE place = ? AND kind = ? ORDER BY created, id LIMIT ?)"""


class SQLiteNotes:
    """A `NoteStore` in the file of an `SQLiteStore`, whose threads do its work."""

    def __init__(self, path: str, reader: Worker, writer: Worker, do: Doing) -> None:
        self._path = path
        self._reader = reader
        self._writer = writer
        self._do = do

    async def add(
        self, note: Note, *, limit: int | None = None, when_full: WhenFull = "reject"
    ) -> None:
        """See `NoteStore.add`.

        Raises:
            StoreUnavailable: Python's SQLite library was built without FTS5.
        """
        check_note(note, limit, when_full)
        await self._do(self._writer, _Add(note, limit, when_full))

    async def update(self, which: NoteFilter, text: str, created: float) -> int:
        """See `NoteStore.update`."""
        check_text(text)
        where, values = condition(which, "?")
        words = " ".join(words_of(text))
        sql = filled("UPDATE notes AS n SET text = ?, created = ?, words = ? WHERE WHICH", where)
        return await self._do(self._writer, _Change(sql, (text, created, words, *values)))

    async def search(self, query: str, which: NoteFilter, *, limit: int = 10) -> Sequence[Note]:
        """See `NoteStore.search`."""
        terms = terms_of(query)
        if not terms or which.owners == {}:
            return ()
        match = f"words : ({' OR '.join(map(_phrase, terms))})"
        if which.owners is not None:
            places = [f'"{place_of(scope, owner)}"' for scope, owner in which.owners.items()]
            match = f"place : ({' OR '.join(places)}) AND {match}"
        where, values = condition(which, "?")
        sql = filled(_SEARCH, where)
        arguments = (*values, match, max(0, limit))

        def search(connection: Connection) -> Sequence[Note]:
            if not _has_index(connection, self._path):
                return ()
            return [note_of(row) for row in connection.execute(sql, arguments)]

        return await self._ask(search)

    async def list(
        self, which: NoteFilter, *, limit: int = 100, before: Note | None = None
    ) -> Sequence[Note]:
        """See `NoteStore.list`."""
        where, values = condition(which, "?")
        older, than = older_than(before, "?")
        sql = filled(_LIST, f"{where} AND {older}")
        arguments = (*values, *than, max(0, limit))
        return await self._ask(
            lambda connection: [note_of(row) for row in connection.execute(sql, arguments)]
        )

    async def count(self, which: NoteFilter) -> int:
        """See `NoteStore.count`."""
        where, values = condition(which, "?")
        sql = filled("SELECT count(*) FROM notes n WHERE WHICH", where)
        return await self._ask(lambda connection: connection.execute(sql, values).fetchone()[0])

    async def delete(self, which: NoteFilter) -> int:
        """See `NoteStore.delete`."""
        where, values = condition(which, "?")
        sql = filled("DELETE FROM notes AS n WHERE WHICH", where)
        return await self._do(self._writer, _Change(sql, values))

    async def _ask(self, ask: Callable[[Connection], T]) -> T:
        return await self._do(self._reader, Read(ask))


class _Add(Write[None]):
    """See `NoteStore.add`."""

    __slots__ = ("limit", "note", "when_full", "words")

    def __init__(self, note: Note, limit: int | None, when_full: WhenFull) -> None:
        super().__init__()
        self.note = note
        self.limit = limit
        self.when_full: WhenFull = when_full
        self.words = " ".join(words_of(note.text))

    def execute(self, tx: Transaction) -> None:
        connection, note = tx.connection, self.note
        if connection.execute("SELECT 1 FROM notes WHERE id = ?", (note.id,)).fetchone():
            return
        place = place_of(note.scope, note.owner)
        excess = self._excess(connection, place)
        if excess > 0 and self.when_full == "reject":
            assert self.limit is not None
            raise NotesFull(note.owner, self.limit)
        if not _has_index(connection, tx.path):
            for statement in _INDEX.split(";\n\n"):
                connection.execute(statement)
        if excess > 0:
            connection.execute(_OLDEST, (place, note.kind, excess))
        whose = (note.scope, note.user, note.agent, note.session)
        connection.execute(
            _INSERT,
            (note.id, place, *whose, note.kind, note.created, note.run, note.text, self.words),
        )

    def _excess(self, connection: Connection, place: str) -> int:
        """How many notes there are too many of, to let this one in."""
        if self.limit is None:
            return 0
        kept: int = connection.execute(
            "SELECT count(*) FROM notes WHERE place = ? AND kind = ?", (place, self.note.kind)
        ).fetchone()[0]
        return kept - self.limit + 1


class _Change(Write[int]):
    """One statement; results in how many notes it changed."""

    __slots__ = ("arguments", "sql")

    def __init__(self, sql: str, arguments: Sequence[object]) -> None:
        super().__init__()
        self.sql = sql
        self.arguments = arguments

    def execute(self, tx: Transaction) -> int:
        return tx.connection.execute(self.sql, self.arguments).rowcount


def check_notes(connection: Connection, path: str) -> None:
    """Raises StoreCorrupt: the index of notes has lost some, or has too many."""
    if not _is_indexed(connection):
        return
    notes, indexed = connection.execute(
        "SELECT (SELECT count(*) FROM notes), (SELECT count(*) FROM notes_text_docsize)"
    ).fetchone()
    if notes != indexed:
        raise StoreCorrupt(
            f"{path} is damaged: the index of its {notes} notes has {indexed}. No note is lost; "
            "SQLiteStore.vacuum(), or `power-loop store vacuum`, makes the index anew"
        )


def rebuild_index(connection: Connection) -> None:
    """Makes the index of notes anew, if there is one: of the notes that there are, no others."""
    if _is_indexed(connection) and _has_fts5(connection):
        connection.execute("INSERT INTO notes_text (notes_text) VALUES ('rebuild')")


def _has_fts5(connection: Connection) -> bool:
    query = "SELECT sqlite_compileoption_used('ENABLE_FTS5')"
    return connection.execute(query).fetchone() == (1,)


def _is_indexed(connection: Connection) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE name = 'notes_text'"
    return connection.execute(query).fetchone() is not None


def _has_index(connection: Connection, path: str) -> bool:
    """Whether notes have their index: every note is made with it.

    Raises:
        StoreUnavailable: the library has no FTS5.
    """
    if not _has_fts5(connection):
        raise StoreUnavailable(
            f"notes in {path} need SQLite's FTS5, without which the library of this Python was "
            "built. Use another build of Python, or PostgresStore"
        )
    return _is_indexed(connection)


def _phrase(term: Term) -> str:
    return f'"{term.word}"*' if term.prefix else f'"{term.word}"'
