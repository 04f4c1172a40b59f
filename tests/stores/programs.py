"""Small programs that use a store, for tests with several processes.

python -m tests.stores.programs VERB ARGUMENTS…
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from power_loop.errors import Fenced, NotesFull, PowerLoopError, SessionBusy
from power_loop.runtime.stores._sqlite_open import Settings, connect
from power_loop.runtime.stores.base import CancelRequested
from power_loop.runtime.stores.notes import EVERY_NOTE, WhenFull
from power_loop.runtime.stores.sqlite import SQLiteStore
from tests.stores.places import DurableStore, open_place
from tests.stores.support import a_note, say


def _print(line: object) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def write(place: str, session: str) -> None:
    """Appends record after record and prints each position when it is acknowledged."""
    store = open_place(place)
    await store.create(session)
    lease = await store.claim(session)
    seq = 0
    while True:
        seq = await say(store, lease, seq, f"{session} {seq + 1} a", f"{session} {seq + 2} b")
        _print(seq)


async def note(place: str, owner: str) -> None:
    """Adds note after note and prints the number of each when it is acknowledged."""
    store = open_place(place)
    n = 0
    while True:
        n += 1
        await store.notes.add(a_note(f"{owner}{n}", f"number x{n}", user=owner, created=n))
        _print(n)


async def fill(place: str, name: str, count: str, limit: str, when_full: str) -> None:
    """When told to, adds notes of one person, all at once, and prints how many were refused."""
    store = open_place(place)
    await store.notes.count(EVERY_NOTE)
    _print("ready")
    sys.stdin.readline()
    refused = 0
    policy: WhenFull = "fifo" if when_full == "fifo" else "reject"

    async def add(n: int) -> None:
        nonlocal refused
        try:
            await store.notes.add(
                a_note(f"{name}{n}", "full", user="u"), limit=int(limit), when_full=policy
            )
        except NotesFull:
            refused += 1

    async with anyio.create_task_group() as group:
        for n in range(int(count)):
            group.start_soon(add, n)
    await store.aclose()
    _print(refused)


async def many(place: str, prefix: str, sessions: str, records: str) -> None:
    """Writes many sessions at once, each record by itself."""
    store = open_place(place)
    _print("ready")
    sys.stdin.readline()

    async def one(session: str) -> None:
        await store.create(session)
        lease = await store.claim(session)
        for seq in range(int(records)):
            await say(store, lease, seq, f"{session} {seq}")
        await store.release(lease)

    async with anyio.create_task_group() as group:
        for n in range(int(sessions)):
            group.start_soon(one, f"{prefix}-{n}")
    await store.aclose()


async def contend(place: str, name: str, times: str) -> None:
    """Claims one session again and again, and adds two records each time."""
    store = open_place(place)
    await store.create("shared")
    _print("ready")
    sys.stdin.readline()
    done = 0
    while done < int(times):
        try:
            lease = await store.claim("shared")
        except SessionBusy:
            await anyio.sleep(0.001)
            continue
        await say(store, lease, lease.seq, f"{name} {done} a", f"{name} {done} b", final=True)
        done += 1
    await store.aclose()


async def hold(place: str, session: str, ttl: str) -> None:
    """Holds a lease; told to go on, tries to write."""
    store = open_place(place)
    await store.create(session)
    lease = await store.claim(session, ttl=float(ttl))
    _print(await say(store, lease, 0, "by the first"))
    sys.stdin.readline()
    try:
        await say(store, lease, 1, "too late")
    except Fenced:
        _print("fenced")
    else:
        _print("written")
    await store.aclose()


async def post(place: str, session: str, key: str) -> None:
    """Posts one item."""
    store = open_place(place)
    receipt = await store.post(session, CancelRequested("enough"), dedupe_key=key)
    await store.aclose()
    _print(f"{receipt.id} {receipt.duplicate} {receipt.running}")


async def post_to_new(url: str, schema: str) -> None:
    """Is the first to use a schema."""
    store = open_place(f"{url}#{schema}")
    _print("ready")
    await store.create("s")
    await store.aclose()


async def answer(place: str, session: str) -> None:
    """Appends one record when told to."""
    store = open_place(place)
    lease = await store.claim(session)
    _print("ready")
    sys.stdin.readline()
    await say(store, lease, lease.seq, "from afar", final=True)
    await store.aclose()


async def fork(place: str, when: str) -> None:
    """Forks while the store is in use; parent and child go on with it."""
    store = open_place(place)
    await store.create("parent")
    await store.create("child")
    lease = await store.claim("parent")
    seq = await say(store, lease, 0, "before")
    child = -1
    async with anyio.create_task_group() as group:
        if when == "busy":
            group.start_soon(say, store, lease, seq, "meanwhile")
            await checkpoint()
            seq += 1
        child = os.fork()
        if child == 0:
            _as_child(store)
    for n in range(50):
        seq = await say(store, lease, seq, f"parent {n}")
    status = await anyio.to_thread.run_sync(lambda: os.waitpid(child, 0)[1])
    _print(f"child {os.waitstatus_to_exitcode(status)}, {await store.check()} records")
    await store.aclose()


def migrate_killed(path: str) -> None:
    """Opens copies of a database, killed at its first statement, its second, and so on.

    Prints the version that each death leaves, and how many records; then what a whole one has.
    """
    statement, alive = 0, False
    while not alive:
        statement += 1
        copy = f"{path}.{statement}"
        if Path(path).exists():
            shutil.copy(path, copy)
        alive = _lives_through(_open, copy, statement)
        connection = sqlite3.connect(copy)
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        version = records = 0
        if tables:
            version = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()[
                0
            ]
            records = connection.execute("SELECT count(*) FROM records").fetchone()[0]
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()
        _print(f"{version} {records}")


def note_killed(path: str) -> None:
    """Adds a first note to copies of a database, killed at its first statement, its second, and so
    on. Prints how many notes each death leaves; then those of a whole one.
    """
    statement, alive = 0, False
    while not alive:
        statement += 1
        copy = f"{path}.{statement}"
        shutil.copy(path, copy)
        alive = _lives_through(_note, copy, statement)
        connection = sqlite3.connect(copy)
        _print(connection.execute("SELECT count(*) FROM notes").fetchone()[0])
        connection.close()


def _open(path: str, prepare: Callable[[sqlite3.Connection], object]) -> None:
    connect(Settings(path, prepare=prepare)).close()


def _note(path: str, prepare: Callable[[sqlite3.Connection], object]) -> None:
    async def add() -> None:
        async with SQLiteStore(path, prepare=prepare) as store:
            await store.notes.add(a_note("n", "a first word"))

    asyncio.run(add())


def _lives_through(
    act: Callable[[str, Callable[[sqlite3.Connection], object]], None], path: str, at: int
) -> bool:
    """Whether a child that is killed at its statement number `at` has come to an end before."""
    left = at

    def trace(statement: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        act(path, lambda connection: connection.set_trace_callback(trace))
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status == 0


def _as_child(store: DurableStore) -> None:
    signal.alarm(20)
    try:
        asyncio.run(_in_child(store))  # anyio.run does not know that this is another process
    except BaseException as error:  # noqa: BLE001 - nothing of the parent may run on in the child
        _print(repr(error))
        os._exit(1)
    os._exit(0)


async def _in_child(store: DurableStore) -> None:
    try:
        await store.claim("parent")
    except SessionBusy:
        pass
    else:
        raise PowerLoopError("a child must not have its parent's session")
    lease = await store.claim("child")
    seq = 0
    for n in range(50):
        seq = await say(store, lease, seq, f"child {n}")
    await store.aclose()


VERBS: Mapping[str, Callable[..., Coroutine[Any, Any, None]]] = {
    f.__name__: f for f in (write, note, fill, many, contend, hold, post, post_to_new, answer, fork)
}

KILLED: Mapping[str, Callable[[str], None]] = {f.__name__: f for f in (migrate_killed, note_killed)}

if __name__ == "__main__":
    if sys.argv[1] in KILLED:
        KILLED[sys.argv[1]](sys.argv[2])
    else:
        asyncio.run(VERBS[sys.argv[1]](*sys.argv[2:]))
