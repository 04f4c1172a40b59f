"""What is remembered of a person can be listed, taken along, and forgotten."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import anyio

from power_loop.runtime.stores.notes import Note
from power_loop.runtime.stores.opening import open_store
from power_loop.runtime.stores.sqlite import SQLiteStore
from tests.cli.stored import new_database
from tests.cli.support import Terminal, run
from tests.postgres_server import shared_server
from tests.stores.support import a_note

NOTES = (
    a_note("n1", "Ann has a dog", created=1_700_000_000.0),
    a_note("f1", "Ann lives\nin Bern", kind="fact", created=1_700_000_060.0),
    a_note("n2", "The agent's own", scope="agent", agent="helper", created=1_700_000_120.0),
    a_note("n3", "Bob has a dog", user="bob", created=1_700_000_180.0),
)


async def _keep(url: str, notes: Sequence[Note]) -> None:
    store = open_store(url)
    for note in notes:
        await store.notes.add(note)
    await store.aclose()


def remembered_in(place: Path) -> None:
    """Notes of Ann and Bob in the store of the commands."""
    database = place / "db" / "sessions.db"
    database.parent.mkdir()
    anyio.run(_keep, f"sqlite:///{database}", NOTES)


def test_what_is_remembered_is_listed_newest_first_or_best_first(place: Path) -> None:
    """Of all, of one person, or what has some words; a line each."""
    remembered_in(place)
    every = run(place, "memory", "list")
    assert (every.returncode, every.stderr) == (0, "")
    lines = every.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["n3", "n2", "f1", "n1"]
    assert lines[2] == "f1  2023-11-14 22:14  fact  user ann          Ann lives in Bern"
    assert "agent helper" in lines[1]
    found = run(place, "memory", "list", "dogs", "--user", "ann")
    assert [line.split()[0] for line in found.stdout.splitlines()] == ["n1"]
    few = run(place, "memory", "list", "--limit", "1")
    assert len(few.stdout.splitlines()) == 1
    nothing = run(place, "memory", "list", "unheard-of")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert nothing.stderr == "nothing like that is remembered\n"


def test_a_persons_memory_is_exported_whole_and_forgotten_for_good(place: Path) -> None:
    """As lines of JSON; nobody else's is touched."""
    remembered_in(place)
    exported = run(place, "memory", "export", "--user", "ann")
    notes = [json.loads(line) for line in exported.stdout.splitlines()]
    assert [note["id"] for note in notes] == ["n2", "f1", "n1"]
    assert notes[1]["text"] == "Ann lives\nin Bern"
    unasked = run(place, "memory", "forget", "--user", "ann")
    assert unasked.returncode == 1
    assert "say it with --yes" in unasked.stderr
    forgotten = run(place, "memory", "forget", "--user", "ann", "--yes")
    assert (forgotten.returncode, forgotten.stdout) == (0, "deleted 3 notes of ann\n")
    assert run(place, "memory", "export", "--user", "ann").stdout == ""
    again = run(place, "memory", "forget", "--user", "ann", "--yes")
    assert (again.returncode, again.stdout) == (0, "nothing is remembered of ann\n")
    assert [line.split()[0] for line in run(place, "memory", "list").stdout.splitlines()] == ["n3"]


def test_somebody_at_a_terminal_is_asked_before_anything_is_forgotten(place: Path) -> None:
    """And may say no."""
    remembered_in(place)
    for answer, status in (("n", 1), ("yes", 0)):
        with Terminal(place, "memory", "forget", "--user", "bob", variables={}) as terminal:
            terminal.expect("Delete 1 note of bob for good? [y/N] ")
            terminal.type(f"{answer}\n")
            assert terminal.end() == status
    assert run(place, "memory", "list", "--user", "bob").stdout == ""


def test_whose_memory_is_meant_must_be_said(place: Path) -> None:
    """An empty name is nobody's, and not everybody's."""
    remembered_in(place)
    for words in (("export",), ("forget", "--yes"), ("forget", "--user", "", "--yes")):
        wrong = run(place, "memory", *words)
        assert wrong.returncode == 2
        assert "--user" in wrong.stderr
    assert len(run(place, "memory", "list").stdout.splitlines()) == 4


def test_a_memory_on_a_server_is_kept_the_same_way(place: Path) -> None:
    """By its URL."""
    url = shared_server().url(new_database())
    anyio.run(_keep, url, NOTES)
    found = run(place, "memory", "list", "dog", "--db", url)
    assert {line.split()[0] for line in found.stdout.splitlines()} == {"n1", "n3"}
    done = run(place, "memory", "forget", "--user", "ann", "--yes", "--db", url)
    assert done.stdout == "deleted 3 notes of ann\n"


def test_a_store_that_is_not_there_is_not_made_by_looking_into_its_memory(place: Path) -> None:
    """A typing error in its path leaves nothing behind."""
    missing = run(place, "memory", "list")
    assert missing.returncode == 1
    assert "there is no database at" in missing.stderr
    assert not SQLiteStore(place / "db" / "sessions.db").path.exists()
