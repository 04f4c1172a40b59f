"""How the SQLite store shares its threads: group commit, cancellation, loops, and its end."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from power_loop.errors import SessionBusy, StoreUnavailable
from power_loop.runtime.stores.base import CancelRequested, Lease
from power_loop.runtime.stores.sqlite import SQLiteStore
from tests.stores.support import in_threads, say, texts

pytestmark = pytest.mark.anyio

_NAME = "power_loop store"


def _files(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def _threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith(_NAME)]


def _traced(statements: list[str]) -> Callable[[sqlite3.Connection], object]:
    return lambda connection: connection.set_trace_callback(statements.append)


async def test_appends_of_many_sessions_share_their_commits(tmp_path: Path) -> None:
    """100 sessions × 10 appends take far fewer than 1,000 transactions."""
    statements: list[str] = []
    store = SQLiteStore(tmp_path / "s.db", prepare=_traced(statements))

    async def run(session: str) -> None:
        await store.create(session)
        lease = await store.claim(session)
        for seq in range(10):
            await say(store, lease, seq, f"{seq}")

    async with anyio.create_task_group() as group:
        for n in range(100):
            group.start_soon(run, f"s{n}")
    assert await store.check() == 1000
    await store.aclose()
    assert statements.count("BEGIN IMMEDIATE") == statements.count("COMMIT") < 400


async def test_a_block_closes_the_store_however_it_is_left(tmp_path: Path) -> None:
    """At its end, by an exception, and by a cancellation, which waits for it."""
    async with SQLiteStore(tmp_path / "s.db") as first:
        await first.create("s")
        await first.claim("s")
    second = SQLiteStore(tmp_path / "s.db")
    with pytest.raises(ZeroDivisionError):
        async with second:
            await second.claim("s")
            raise ZeroDivisionError
    third = SQLiteStore(tmp_path / "s.db")
    with anyio.CancelScope() as scope:
        async with third:
            await third.claim("s")
            scope.cancel()
            await checkpoint()
    assert scope.cancelled_caught
    assert _threads() == []
    for store in (first, second, third):
        with pytest.raises(StoreUnavailable, match="is closed"):
            await store.list()
    assert _files(tmp_path) == ["s.db"]


async def test_a_cancelled_close_closes_all_the_same(tmp_path: Path) -> None:
    """Whoever has no time to wait for the threads does not keep them alive."""
    store = SQLiteStore(tmp_path / "s.db")
    await store.create("s")
    await store.claim("s")
    await store.list()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await store.aclose()
    assert scope.cancelled_caught
    for thread in threading.enumerate():
        if thread.name.startswith(_NAME):
            await anyio.to_thread.run_sync(thread.join, 10)
    assert _threads() == []
    again = SQLiteStore(store.path)
    await again.claim("s")
    await again.aclose()


@pytest.mark.parametrize("durability", ["full", "normal"])
async def test_durability_is_the_level_of_synchronisation(durability: Any, tmp_path: Path) -> None:
    """`full` and `normal` are SQLite's own words for it."""
    statements: list[str] = []
    store = SQLiteStore(tmp_path / "s.db", durability=durability, prepare=_traced(statements))
    await store.create("s")
    await store.aclose()
    assert f"PRAGMA synchronous = {durability.upper()}" in statements
    assert "PRAGMA journal_mode = WAL" in statements


async def test_nothing_is_opened_before_it_is_used_nor_left_after(tmp_path: Path) -> None:
    """No file, no thread; and afterwards one file and no thread."""
    store = SQLiteStore(tmp_path / "s.db")
    assert store.inbox_hint("s"), "before anything is known, one must look"
    assert _files(tmp_path) == []
    assert _threads() == []
    await store.create("s")
    await store.list()
    assert len(_threads()) == 2
    await store.aclose()
    assert _threads() == []
    assert _files(tmp_path) == ["s.db"]
    for attempt in (store.create("t"), store.read("s"), store.claim("s")):
        with pytest.raises(StoreUnavailable, match="is closed"):
            await attempt


async def test_closing_finishes_what_is_queued(tmp_path: Path) -> None:
    """What was under way when the store is closed lands, or is told that it is closed."""
    store = SQLiteStore(tmp_path / "s.db")
    await store.create("s")
    ends: list[str] = []

    async def post() -> None:
        try:
            ends.append((await store.post("s", CancelRequested("x"))).id)
        except StoreUnavailable:
            ends.append("closed")

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(post)
        group.start_soon(store.aclose)
        for _ in range(20):
            group.start_soon(post)
    again = SQLiteStore(store.path)
    assert len(ends) == 40
    assert {item.id for item in await again.inbox("s")} == set(ends) - {"closed"}
    await again.aclose()


async def test_a_cancelled_append_lands_whole_or_not_at_all(tmp_path: Path) -> None:
    """Cancelled before, while and after it is under way; the next goes on from what is there."""
    store = SQLiteStore(tmp_path / "s.db", durability="normal")
    await store.create("s")
    lease = await store.claim("s")
    expected: list[str] = []
    for n in range(60):
        words = [f"{n} a", f"{n} b"]
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(say, store, lease, len(expected), *words)
                for _ in range(n % 6):
                    await checkpoint()
                scope.cancel()
        await store.renew(lease)  # whatever had been queued before it is done
        told = texts(await store.read("s"))
        assert told in (expected, expected + words)
        expected = told
    assert await say(store, lease, len(expected), "end") == len(expected) + 1
    await store.aclose()


async def test_a_cancelled_claim_leaves_the_session_free(tmp_path: Path) -> None:
    """Nobody can give back a lease that nobody was told of, so the store does."""
    store = SQLiteStore(tmp_path / "s.db", durability="normal")
    await store.create("s")
    granted: list[Lease] = []
    cancelled = 0

    async def claim() -> None:
        granted.append(await store.claim("s"))

    for n in range(60):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(claim)
                for _ in range(n % 6):
                    await checkpoint()
                scope.cancel()
        if granted:
            await store.release(granted.pop())
        else:
            cancelled += 1
            await store.release(await store.claim("s"))
    assert cancelled > 10
    await store.aclose()


async def test_a_withdrawn_wait_leaves_nothing_behind(tmp_path: Path) -> None:
    """Nobody waits any more, so nobody is looked out for."""
    store = SQLiteStore(tmp_path / "s.db")
    await store.create("s")
    with anyio.move_on_after(0.03) as scope:
        await store.wait("s", 0)
    assert scope.cancelled_caught
    assert store._waiters.sessions() == ()
    await store.aclose()


async def test_a_second_handle_in_one_process_is_somebody_else(tmp_path: Path) -> None:
    """The same process does not get a session twice, and closing one handle frees only its own."""
    first, second = (SQLiteStore(tmp_path / "s.db") for _ in range(2))
    for session in ("a", "b"):
        await first.create(session)
    await first.claim("a")
    lease = await second.claim("b")
    with pytest.raises(SessionBusy):
        await second.claim("a")
    await first.aclose()
    await second.claim("a")
    assert await say(second, lease, 0, "still mine") == 1
    await second.aclose()


def test_one_store_serves_event_loops_in_several_threads(tmp_path: Path) -> None:
    """asyncio and trio at once: each is woken in its own loop, by the other's appends too."""
    store = SQLiteStore(tmp_path / "s.db", durability="normal")
    anyio.run(store.create, "relay")

    async def work(name: str) -> None:
        with anyio.fail_after(30):
            await store.create(name)
            own = await store.claim(name)
            for seq in range(30):
                await say(store, own, seq, f"{name} {seq}")
            await store.release(own)

    async def lead() -> None:
        await work("leader")
        with anyio.fail_after(30):
            lease = await store.claim("relay")
            for seq in range(20):
                await say(store, lease, seq, f"{seq}")

    async def follow(name: str) -> None:
        await work(name)
        with anyio.fail_after(30):
            seen = 0
            while seen < 20:
                await store.wait("relay", seen)
                seen += len(await store.read("relay", after=seen))

    in_threads(
        ("asyncio", lead),
        ("trio", follow, "a"),
        ("asyncio", follow, "b"),
        ("trio", follow, "c"),
    )
    assert anyio.run(store.check) == 4 * 30 + 20
    anyio.run(store.aclose, backend="trio")


def test_a_loop_that_ended_while_it_waited_disturbs_nobody(tmp_path: Path) -> None:
    """A task abandoned with its loop is not woken; the store goes on for others."""
    store = SQLiteStore(tmp_path / "s.db")

    async def abandon() -> None:
        await store.create("s")
        with anyio.move_on_after(0.01):
            await store.wait("s", 0)
        store._waiters.add("s", 0)  # as if it had had no time to clean up

    async def go_on() -> int:
        return await say(store, await store.claim("s"), 0, "on")

    for backend in ("asyncio", "trio"):
        anyio.run(abandon, backend=backend)
    assert anyio.run(go_on) == 1
    anyio.run(store.aclose)


async def test_watching_a_store_that_is_closed_or_was_never_opened_does_no_harm(
    tmp_path: Path,
) -> None:
    """It neither waits nor raises, and leaves no thread behind."""
    store = SQLiteStore(tmp_path / "s.db")
    unwatch = store.watch("s", lambda: None)
    unwatch()
    await store.aclose()
    before = threading.active_count()
    store.watch("s", lambda: None)()
    assert threading.active_count() == before
