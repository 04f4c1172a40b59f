"""Several processes on one store: killed, stopped, forked, and all at once."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import anyio
import pytest

from power_loop.errors import SessionBusy
from power_loop.runtime.stores.base import CancelRequested, Lease
from power_loop.runtime.stores.postgres import PostgresStore
from tests.stores.places import KINDS, DurableStore, Kind, new_place, open_place
from tests.stores.support import Program, say, texts

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals"),
]


@pytest.fixture
def anyio_backend() -> str:
    """The other processes make the work here; one event loop is enough to watch them."""
    return "asyncio"


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new store on SQLite, and one on PostgreSQL."""
    kind: Kind = request.param
    return new_place(kind, tmp_path)


async def test_what_a_killed_process_was_told_is_stored_is_there(place: str) -> None:
    """SIGKILL between and during appends: every acknowledged record is there, whole and in order,
    and the dead owner's session can be claimed at once.
    """
    for round in range(6):
        session = f"s{round}"
        with Program("write", place, session) as program:
            acknowledged = 0
            while acknowledged < 4 + 6 * round:
                acknowledged = int(program.says())
            acknowledged = int([str(acknowledged), *program.kill()][-1])
            store = open_place(place)
            with anyio.fail_after(5):
                lease = await store.claim(session, ttl=3600)
            said = texts(await store.read(session))
            assert len(said) >= acknowledged
            assert len(said) % 2 == 0, "half an append was stored"
            assert said == [f"{session} {n} {'ba'[n % 2]}" for n in range(1, len(said) + 1)]
            assert lease.seq == len(said)
            await say(store, lease, lease.seq, "the successor")
            assert await store.check() >= len(said) + 1
            await store.aclose()


async def test_a_process_that_was_killed_but_not_yet_buried_is_dead(place: str) -> None:
    """A zombie keeps its process id, not its leases."""
    with Program("hold", place, "s", 3600) as program:
        assert program.says() == "1"
        os.kill(program.process.pid, signal.SIGKILL)
        store = open_place(place)
        lease = await _claim_when_free(store, "s")
        assert lease.seq == 1
        await store.aclose()


async def test_a_stopped_holder_that_wakes_up_too_late_can_write_nothing(place: str) -> None:
    """SIGSTOP outlasts the lease, somebody else takes over, SIGCONT: the first is fenced off."""
    with Program("hold", place, "s", 0.6) as program:
        assert program.says() == "1"
        store = open_place(place)
        with pytest.raises(SessionBusy, match=f"process {program.process.pid}"):
            await store.claim("s")
        os.kill(program.process.pid, signal.SIGSTOP)
        try:
            lease = await _claim_when_free(store, "s")
            assert await say(store, lease, 1, "by the second") == 2
        finally:
            os.kill(program.process.pid, signal.SIGCONT)
        program.tell()
        assert program.says() == "fenced"
        assert program.rest() == ""
        assert await say(store, lease, 2, "and on") == 3
        assert texts(await store.read("s")) == ["by the first", "by the second", "and on"]
        await store.aclose()


async def test_many_writers_in_many_processes_lose_nothing_d01(place: str) -> None:
    """4 processes, each opening the fresh file at the same moment and writing 10 sessions at once:
    nothing lost, nothing doubled, and nobody hears that the database is locked (D01).
    """
    programs = [Program("many", place, f"p{n}", 10, 12) for n in range(4)]
    try:
        for program in programs:
            assert program.says() == "ready"
        for program in programs:
            program.tell()
        assert [program.rest() for program in programs] == [""] * 4
    finally:
        for program in programs:
            program.__exit__()
    store = open_place(place)
    assert await store.check() == 4 * 10 * 12
    for session in await store.list():
        assert texts(await store.read(session.id)) == [f"{session.id} {n}" for n in range(12)]
    assert len(await store.list()) == 40
    await store.aclose()


async def test_one_session_is_written_by_one_process_at_a_time(place: str) -> None:
    """3 processes take turns on one session, 15 times each: every pair of records lies together
    (D09).
    """
    programs = [Program("contend", place, f"p{n}", 15) for n in range(3)]
    try:
        for program in programs:
            assert program.says() == "ready"
        for program in programs:
            program.tell()
        assert [program.rest() for program in programs] == [""] * 3
    finally:
        for program in programs:
            program.__exit__()
    store = open_place(place)
    said = texts(await store.read("shared"))
    assert len(said) == 3 * 15 * 2
    assert all(a[:-1] == b[:-1] for a, b in zip(said[::2], said[1::2], strict=True))
    for p in range(3):
        mine = [word for word in said if word.startswith(f"p{p} ")]
        assert mine == [f"p{p} {n} {x}" for n in range(15) for x in "ab"]
    await store.aclose()


async def test_a_post_from_another_process_is_seen_at_the_next_look(place: str) -> None:
    """The hint of the running process is True as soon as the other's post has returned."""
    store = open_place(place)
    await store.create("s")
    lease = await store.claim("s")
    assert not store.inbox_hint("s") or isinstance(store, PostgresStore)
    with Program("post", place, "s", "key") as program:
        assert program.rest().endswith("False True")
    assert store.inbox_hint("s")
    (item,) = await store.inbox("s")
    assert item.item == CancelRequested("enough")
    await store.append(lease, 0, [], take=[item.id])
    with Program("post", place, "s", "key") as program:
        assert program.rest() == f"{item.id} True True"
    assert not store.inbox_hint("s") or isinstance(store, PostgresStore)
    await store.aclose()


async def test_waiting_ends_when_another_process_appends(place: str) -> None:
    """A follower in this process is woken by a writer in another."""
    store = open_place(place)
    await store.create("s")
    with Program("answer", place, "s") as program, anyio.fail_after(20):
        assert program.says() == "ready"
        async with anyio.create_task_group() as group:

            async def follow() -> None:
                while not await store.read("s"):
                    await store.wait("s", 0)

            group.start_soon(follow)
            await anyio.wait_all_tasks_blocked()
            program.tell()
        assert texts(await store.read("s")) == ["from afar"]
        assert program.rest() == ""
    await store.aclose()


@pytest.mark.parametrize("when", ["idle", "busy"])
def test_a_store_survives_a_fork_d03(when: str, place: str) -> None:
    """Parent and child both go on with the store; the child does not have its parent's
    lease (D03).
    """
    records = 101 if when == "idle" else 102
    with Program("fork", place, when) as program:
        assert program.rest() == f"child 0, {records} records"


async def _claim_when_free(store: DurableStore, session: str) -> Lease:
    with anyio.fail_after(20):
        while True:
            try:
                return await store.claim(session)
            except SessionBusy:
                await anyio.sleep(0.02)
