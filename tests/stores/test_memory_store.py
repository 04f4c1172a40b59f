"""What the store in memory promises beyond the protocol: it never suspends."""

from __future__ import annotations

from collections.abc import Coroutine
from functools import partial
from threading import get_ident
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from power_loop.errors import SessionBusy
from power_loop.runtime.stores.base import CancelRequested
from power_loop.runtime.stores.memory import MemoryStore
from tests.stores.support import in_threads, said, say, stamped

T = TypeVar("T")


def _at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end in one step, without any event loop."""
    with pytest.raises(StopIteration) as end:
        coroutine.send(None)
    result: T = end.value.value
    return result


def test_nothing_but_waiting_suspends() -> None:
    """Every other method runs to its end in one step."""
    store = MemoryStore()
    assert store.immediate
    _at_once(store.create("s"))
    lease = _at_once(store.claim("s"))
    posted = _at_once(store.post("s", CancelRequested("x")))
    assert store.inbox_hint("s")
    landed = _at_once(store.append(lease, 0, [stamped("s", 1, said("x"))], take=[posted.id]))
    assert (landed.seq, landed.tree_seq) == (1, 1)
    assert not store.inbox_hint("s")
    assert len(_at_once(store.read("s"))) == len(_at_once(store.read_tree("s"))) == 1
    _at_once(store.renew(lease))
    _at_once(store.release(lease))
    assert _at_once(store.info("s")).seq == len(_at_once(store.list())) == 1
    assert _at_once(store.delete("s")) == 1
    _at_once(store.aclose())


def test_records_are_kept_as_they_are() -> None:
    """No encoding: the very event that was appended is read."""
    store = MemoryStore()
    _at_once(store.create("s"))
    record = stamped("s", 1, said("x"))
    _at_once(store.append(_at_once(store.claim("s")), 0, [record]))
    assert _at_once(store.read("s"))[0].event is record.event


def test_event_loops_in_several_threads_share_it() -> None:
    """asyncio and trio: claims are exclusive, and appends in one wake those who wait in another."""
    store = MemoryStore()
    _at_once(store.create("s"))

    async def write(name: str) -> None:
        with anyio.fail_after(30):
            done = 0
            while done < 25:
                try:
                    lease = await store.claim("s")
                except SessionBusy:
                    await anyio.lowlevel.checkpoint()
                    continue
                await say(store, lease, lease.seq, f"{name} {done}", final=True)
                done += 1

    async def follow() -> None:
        with anyio.fail_after(30):
            seen = 0
            while seen < 50:
                await store.wait("s", seen)
                seen += len(await store.read("s", after=seen))

    in_threads(("trio", follow), ("asyncio", follow), ("asyncio", write, "a"), ("trio", write, "b"))


@pytest.mark.anyio
async def test_a_watcher_is_told_in_its_own_event_loop_of_posts_from_another() -> None:
    """The store may be used from several event loops at once, each in a thread of its own."""
    store = MemoryStore()
    await store.create("s")
    told = anyio.Event()
    where: list[int] = []

    def notify() -> None:
        where.append(get_ident())
        told.set()

    unwatch = store.watch("s", notify)

    async def post() -> None:
        await store.post("s", CancelRequested("stop"))

    await anyio.to_thread.run_sync(partial(anyio.run, post))
    with anyio.fail_after(5):
        await told.wait()
    unwatch()
    assert where == [get_ident()]
