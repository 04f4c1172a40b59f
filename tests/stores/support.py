"""What the tests of stores share: programs in other processes, and short ways to say things."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Self

import anyio
from msgspec.structs import replace

from llm_client.types import Message
from power_loop.events import Stamped
from power_loop.runtime.stores._sqlite_schema import _STEPS
from power_loop.runtime.stores.base import Lease, Store
from power_loop.runtime.stores.notes import Note
from power_loop.session.records import MessageAppended, Record

ROOT = Path(__file__).resolve().parents[2]


def said(text: str) -> MessageAppended:
    """A record that says `text`."""
    return MessageAppended(Message.assistant(text))


def texts(records: Sequence[Stamped]) -> list[str]:
    """What the records of a log say."""
    return [r.event.message.text for r in records if isinstance(r.event, MessageAppended)]


def stamped(session: str, seq: int, event: Record) -> Stamped:
    """A record as a driver hands it over."""
    return Stamped(session, seq, 0, session, 0, 1000.0 + seq, "run", 1, event)


async def say(store: Store, lease: Lease, after: int, *words: str, final: bool = False) -> int:
    """Appends one record for each of `words`; returns the new position."""
    records = [stamped(lease.session, after + n, said(word)) for n, word in enumerate(words, 1)]
    return (await store.append(lease, after, records, final=final)).seq


def set_back(path: Path, version: int) -> None:
    """Makes a database on SQLite what it would be, had an earlier version of us written it."""
    earlier = path.with_name(f"{path.name}.earlier")
    connection = sqlite3.connect(earlier, isolation_level=None)
    for step in _STEPS[:version]:
        connection.executescript(step)
    tables = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    ).fetchall()
    connection.execute("ATTACH ? AS later", (str(path),))
    for (table,) in tables:
        rows = connection.execute("SELECT name FROM pragma_table_info(?)", (table,)).fetchall()
        columns = ", ".join([name for (name,) in rows])
        connection.execute(
            f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM later.{table}"
        )
    connection.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (version,))
    connection.close()
    for name in (path.name + "-wal", path.name + "-shm"):
        path.with_name(name).unlink(missing_ok=True)
    earlier.replace(path)


def a_note(id: str, text: str, *, created: float = 0.0, **changes: Any) -> Note:
    """A note, of Ann's if nothing else is said."""
    return replace(Note(id=id, scope="user", user="ann", text=text, created=created), **changes)


def in_threads(*jobs: tuple[Any, ...]) -> None:
    """Runs (backend, async function, arguments…) at once, each in an event loop and thread."""
    failures: list[BaseException] = []

    def run(backend: str, job: Callable[..., Awaitable[object]], *arguments: object) -> None:
        try:
            anyio.run(job, *arguments, backend=backend)
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=run, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert failures == []


class Program:
    """A verb of `module` in a process of its own, spoken to line by line."""

    module = "tests.stores.programs"

    def __init__(self, verb: str, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.module, verb, *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def says(self) -> str:
        """The next line it prints; empty at its end."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> list[str]:
        """Kills it; returns the lines that it had printed by then."""
        self.process.kill()
        self.process.wait(30)
        assert self.process.stdout is not None
        return self.process.stdout.read().splitlines()

    def tell(self, line: str = "go") -> None:
        """Sends it a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def rest(self) -> str:
        """Waits for its end; returns what else it printed."""
        output, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, f"it ended with {self.process.returncode}: {output}"
        return output.strip()
