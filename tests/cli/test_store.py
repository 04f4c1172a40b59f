"""What an operator does with a store: a file, or a schema on a server."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import psycopg

from power_loop import PostgresStore, SQLiteStore
from tests.cli.stored import died_in, new_database, sql
from tests.cli.support import run
from tests.postgres_server import shared_server

NEWEST = SQLiteStore.schema_version
ON_SERVER = PostgresStore.schema_version


def test_a_database_is_checked_backed_up_and_its_room_is_freed(place: Path) -> None:
    """The backup is a database like the first one, and overwrites nothing."""
    died_in(place, "s", {"c1": "pay"})
    sound = run(place, "store", "check")
    assert (sound.returncode, sound.stderr) == (0, "")
    assert sound.stdout.endswith(f"is sound: 1 session, 5 records, schema version {NEWEST}\n")
    copied = run(place, "store", "backup", "copy.db")
    assert copied.returncode == 0, copied.stderr
    assert copied.stdout.endswith(" is in copy.db\n")
    assert (
        "is sound: 1 session, 5 records" in run(place, "store", "check", "--db", "copy.db").stdout
    )
    again = run(place, "store", "backup", "copy.db")
    assert again.returncode == 1
    assert "overwrites nothing" in again.stderr
    freed = run(place, "store", "vacuum", "--db", "sqlite:///copy.db")
    assert freed.returncode == 0, freed.stderr


def test_a_database_that_is_not_there_is_not_made_by_looking(place: Path) -> None:
    """Nor is its directory; to migrate makes it."""
    looking = (
        ("store", "check"),
        ("store", "backup", "copy.db"),
        ("store", "vacuum"),
        ("sessions", "list"),
        ("explain", "s"),
        ("resume", "s"),
    )
    for words in looking:
        missing = run(place, *words, "--db", "far/away.db")
        assert missing.returncode == 1
        assert "there is no database at" in missing.stderr
    assert not (place / "far").exists()
    assert not (place / "copy.db").exists()
    made = run(place, "store", "migrate", "--db", "far/away.db")
    assert made.stdout == f"made the schema of far/away.db, version {NEWEST}\n"
    assert run(place, "store", "check", "--db", "far/away.db").returncode == 0


def test_a_damaged_database_is_told_by_a_check(place: Path) -> None:
    """A checksum that does not fit."""
    died_in(place, "s", {"c1": "pay"})
    with sqlite3.connect(place / "db" / "sessions.db") as connection:
        connection.execute("UPDATE records SET crc = crc + 1")
    connection.close()
    done = run(place, "store", "check")
    assert done.returncode == 1
    assert "is damaged" in done.stderr


def test_an_old_database_is_told_what_would_mend_it_and_migrated(place: Path) -> None:
    """The statements go to standard output alone; a check runs none of them."""
    died_in(place, "s", {"c1": "pay"})
    with sqlite3.connect(place / "db" / "sessions.db") as connection:
        connection.execute("ALTER TABLE sessions DROP COLUMN lifecycle")
        connection.execute("DROP TABLE snapshots")
        connection.execute("DROP TABLE artifacts")
        connection.execute("UPDATE meta SET value = 1 WHERE key = 'schema'")
    connection.close()
    for _ in range(2):
        old = run(place, "store", "check")
        assert old.returncode == 1
        assert f"are of version 1, not {NEWEST}" in old.stderr
        assert old.stdout.startswith("BEGIN IMMEDIATE;\nALTER TABLE sessions")
    migrated = run(place, "store", "migrate")
    assert migrated.stdout.endswith(f" from version 1 to {NEWEST}\n")
    assert run(place, "store", "migrate").stdout.startswith("nothing to do: ")
    assert run(place, "store", "check").returncode == 0


def test_a_schema_on_a_server_is_made_by_whoever_may(place: Path) -> None:
    """A check prints the exact statements; a privileged user runs them, and the other may work."""
    name = new_database()
    sql(f"CREATE ROLE {name}_app LOGIN PASSWORD 'hidden'")
    url = shared_server().tcp_url(f"{name}_app", "hidden", name)
    missing = run(place, "store", "check", "--db", url)
    assert missing.returncode == 1
    assert "is missing. Have a privileged user run" in missing.stderr
    assert "hidden" not in missing.stderr + missing.stdout
    refused = run(place, "store", "migrate", "--db", url)
    assert refused.returncode == 1
    assert "`power-loop store check` prints" in refused.stderr
    with psycopg.connect(shared_server().url(name), autocommit=True) as connection:
        connection.execute(missing.stdout.encode())
    sound = run(place, "store", "check", "--db", url)
    assert sound.returncode == 0, sound.stderr
    assert sound.stdout.endswith(f"is sound: 0 sessions, 0 records, schema version {ON_SERVER}\n")


def test_a_store_on_a_server_is_migrated_and_vacuumed_and_backed_up_by_its_own_tool(
    place: Path,
) -> None:
    """The command is told, without the password; that is no success."""
    name = new_database()
    url = shared_server().tcp_url(name, "hidden", name)
    shown = url.replace(":hidden", "")
    variables = {"POWER_LOOP_DB": url}
    assert run(place, "store", "migrate", variables=variables).stdout == (
        f"made the schema of {shown}, version {ON_SERVER}\n"
    )
    nothing = run(place, "store", "migrate", variables=variables)
    assert nothing.stdout == f"nothing to do: the schema of {shown} is of version {ON_SERVER}\n"
    assert run(place, "store", "vacuum", variables=variables).returncode == 0
    backup = run(place, "store", "backup", "all of it.dump", variables=variables)
    assert (backup.returncode, backup.stdout) == (2, "")
    assert backup.stderr.splitlines()[1] == (
        f"  pg_dump --schema=power_loop --format=custom '--file=all of it.dump' {shown}"
    )
    assert not (place / "all of it.dump").exists()
