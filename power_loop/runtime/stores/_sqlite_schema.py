"""The tables of a store on SQLite: made, and brought up to date.

A database carries the version of its tables. All steps to the newest version are one transaction:
whatever dies in the middle leaves the database as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from sqlite3 import Connection

from power_loop.errors import StoreCorrupt, StoreSchemaError, StoreTooNew
from power_loop.runtime.stores._sqlite_errors import damaged

__all__ = ["SCHEMA_VERSION", "migrate", "require_current", "version_of"]

# A record's place is its session's number << 32 | its seq, so that a session's records lie together
# and in order without an index, and long bodies do not spill as they would from an index tree.
_FIRST = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE sessions (
  sid INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
  root INTEGER NOT NULL, parent INTEGER,
  seq INTEGER NOT NULL, tree_seq INTEGER NOT NULL, created REAL NOT NULL, updated REAL NOT NULL,
  status TEXT NOT NULL, title TEXT NOT NULL, metadata TEXT NOT NULL);
CREATE INDEX sessions_parent ON sessions (parent) WHERE parent IS NOT NULL;
CREATE TABLE records (
  place INTEGER PRIMARY KEY, root INTEGER NOT NULL, tree_seq INTEGER NOT NULL, at REAL NOT NULL,
  run TEXT NOT NULL, round INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL);
CREATE UNIQUE INDEX records_tree ON records (root, tree_seq);
CREATE TABLE inbox (
  id INTEGER PRIMARY KEY AUTOINCREMENT, sid INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX inbox_session ON inbox (sid);
CREATE TABLE posted (
  sid INTEGER, key TEXT, item INTEGER NOT NULL, PRIMARY KEY (sid, key)) WITHOUT ROWID;
CREATE TABLE leases (
  sid INTEGER PRIMARY KEY, fence INTEGER NOT NULL, holder TEXT NOT NULL, owner TEXT NOT NULL,
  ttl REAL NOT NULL, expires REAL NOT NULL, expires_uptime REAL NOT NULL);
CREATE VIEW log AS
  SELECT s.id AS session, r.place & 0xffffffff AS seq, r.tree_seq,
    datetime(r.at, 'unixepoch') AS at, r.run, r.round, CAST(r.body AS TEXT) AS body
  FROM records r JOIN sessions s ON s.sid = r.place >> 32;
"""
# Those of the first version.
_TABLES = frozenset({"meta", "sessions", "records", "inbox", "posted", "leases"})
_SECOND = """
ALTER TABLE sessions ADD COLUMN lifecycle TEXT NOT NULL DEFAULT 'linked';
CREATE TABLE snapshots (sid INTEGER PRIMARY KEY, seq INTEGER NOT NULL, body BLOB NOT NULL);
"""
_THIRD = """
CREATE TABLE artifacts (
  sid INTEGER NOT NULL, handle TEXT NOT NULL, chars INTEGER NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY (sid, handle));
"""
# The index of their words is made with the first note: see `_sqlite_notes`.
_NOTES = """
CREATE TABLE notes (
  nid INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, place TEXT NOT NULL,
  scope TEXT NOT NULL, person TEXT NOT NULL, agent TEXT NOT NULL, session TEXT NOT NULL,
  kind TEXT NOT NULL, created REAL NOT NULL, run TEXT NOT NULL,
  text TEXT NOT NULL, words TEXT NOT NULL);
CREATE INDEX notes_place ON notes (place, kind, created, id);
CREATE INDEX notes_person ON notes (person, created, id);
CREATE INDEX notes_created ON notes (created, id);
CREATE INDEX notes_session ON notes (session) WHERE scope = 'session';
CREATE TRIGGER notes_of_session AFTER DELETE ON sessions BEGIN
  DELETE FROM notes WHERE scope = 'session' AND session = old.id; END;
"""
_STEPS = (_FIRST, _SECOND, _THIRD, _NOTES)
"""The first makes version 1 of nothing, the next version 2 of that, and so on."""
SCHEMA_VERSION = len(_STEPS)
_MARK = "UPDATE meta SET value = NUMBER WHERE key = 'schema'"


def version_of(connection: Connection, path: str) -> int:
    """The version of the tables; 0 if there are none.

    Raises:
        StoreCorrupt: the database is another program's.
        StoreTooNew: a newer version of this package made it.
    """
    tables = {
        name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
    }
    if not tables:
        return 0
    if not tables >= _TABLES:
        raise StoreCorrupt(f"{path} is an SQLite database of another program. Choose another path")
    row = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    version: object = None if row is None else row[0]
    if not isinstance(version, int) or version < 1:
        raise damaged(path, f"its schema version is {version!r}")
    if version > SCHEMA_VERSION:
        raise StoreTooNew(
            f"{path} was written by a newer power_loop: its schema is {version}, this one knows "
            f"{SCHEMA_VERSION}. Upgrade with: pip install --upgrade power-loop"
        )
    return version


def _ddl_from(version: int) -> Sequence[str]:
    """The statements that bring tables of `version` up to date, to be run as one transaction."""
    statements = [text.strip() for step in _STEPS[version:] for text in step.split(";\n")]
    if version == 0:
        statements.append("INSERT INTO meta VALUES ('schema', 0), ('fence', 0)")
    statements.append(_MARK.replace("NUMBER", str(SCHEMA_VERSION)))
    return [statement for statement in statements if statement]


def require_current(version: int, path: str) -> None:
    """Raises StoreSchemaError: the tables are missing or old; it says what would mend them."""
    if version == SCHEMA_VERSION:
        return
    state = "are missing" if version == 0 else f"are of version {version}, not {SCHEMA_VERSION}"
    raise StoreSchemaError(
        f"the tables in {path} {state}. Any program that may change them brings them up to date, "
        "and so does `power-loop store migrate`. It runs",
        "".join(f"{text};\n" for text in ("BEGIN IMMEDIATE", *_ddl_from(version), "COMMIT")),
    )


def migrate(connection: Connection, path: str) -> int:
    """Makes the tables, or brings them up to date, unless somebody else was faster; returns steps
    taken."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = version_of(connection, path)
        if version != SCHEMA_VERSION:
            for statement in _ddl_from(version):
                connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return SCHEMA_VERSION - version
