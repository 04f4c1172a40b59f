"""What a store promises of its leases: one holder, and no way back for a former one."""

from __future__ import annotations

import anyio

from power_loop.errors import Conflict, Fenced, SessionBusy
from power_loop.runtime.stores.base import CancelRequested, Store
from power_loop.testing._store_harness import (
    StoreCheck,
    Stores,
    answer,
    append,
    closing,
    demand,
    leased,
    opening,
    refused,
)

__all__ = ["LEASE_CHECKS"]


async def _busy(store: Store, session: str, why: str) -> None:
    await refused(SessionBusy, store.claim(session), why)


async def a_session_has_one_holder(stores: Stores) -> None:
    """A second claim is refused until the first is released; the lease says where the log is."""
    store = await stores.new()
    lease = await leased(store)
    await _busy(store, "s", "a second claim")
    await refused(SessionBusy, store.claim("s", steal="never"), "a second claim without stealing")
    await append(store, lease, 0, opening(), *answer())
    await leased(store, "t")
    await store.release(lease)
    again = await store.claim("s")
    demand((again.session, again.seq) == ("s", 4), "a lease names its session and position")
    demand(again.owner, "a lease names its owner")
    await store.release(again)
    await store.release(again)


async def of_many_claims_one_is_granted(stores: Stores) -> None:
    """Claims at the same time: one holder."""
    store = await stores.new()
    await store.create("s")
    granted: list[int] = []

    async def attempt() -> None:
        try:
            granted.append((await store.claim("s")).fence)
        except SessionBusy:
            return

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(attempt)
    demand(len(granted) == 1, "exactly one of many claims is granted")


async def a_fence_is_never_given_out_twice(stores: Stores) -> None:
    """Fences grow over all sessions, also when a session is deleted and made again."""
    store = await stores.new()
    fences: list[int] = []
    for session in ("a", "b", "a", "c", "a"):
        await store.create(session)
        lease = await store.claim(session)
        fences.append(lease.fence)
        await store.release(lease)
        if session == "a":
            await store.delete(session)
    demand(fences == sorted(set(fences)), "every claim has a higher fence than all before")


async def a_session_made_again_is_another_generation(stores: Stores) -> None:
    """Whoever folded the old session notices that the new one is not it."""
    store = await stores.new()
    generations: list[int] = []
    for session in ("a", "b", "a", "a"):
        await store.create(session)
        lease = await store.claim(session)
        generations.append(lease.generation)
        await store.release(lease)
        same = await store.claim(session)
        demand(same.generation == lease.generation, "a generation lasts as long as its session")
        await store.release(same)
        await store.delete(session)
    demand(len(set(generations)) == len(generations), "no generation is given out twice")


async def a_former_holder_can_write_nothing(stores: Stores) -> None:
    """A released lease is refused, at the right position too, while the new one works."""
    store = await stores.new()
    old = await leased(store)
    await append(store, old, 0, opening())
    await store.release(old)
    await refused(Fenced, append(store, old, 1, *answer()), "an append without a lease")
    await refused(Fenced, store.renew(old), "renewing a lease that was given back")
    new = await store.claim("s")
    await refused(Fenced, append(store, old, 1, *answer()), "an append of a former holder")
    await refused(Fenced, append(store, old, 1, final=True), "a former holder's empty append")
    await store.release(old)
    await _busy(store, "s", "a claim after a former holder gave back what it had not")
    demand(len(await store.read("s")) == 1, "a former holder leaves nothing behind")
    await append(store, new, 1, *answer())
    await store.renew(new)


async def a_lease_does_not_outlive_its_session(stores: Stores) -> None:
    """A writer from before a session was deleted cannot write into its successor."""
    store = await stores.new()
    old = await leased(store)
    await append(store, old, 0, opening(), final=True)
    await store.delete("s")
    await refused(Fenced, append(store, old, 1, closing()), "an append to a deleted session")
    new = await leased(store)
    await refused(Fenced, append(store, old, 0, opening()), "an append under the old lease")
    demand((new.seq, await store.read("s")) == (0, []), "the new session is empty")


async def a_final_append_gives_the_lease_back(stores: Stores) -> None:
    """With its records, and only if they land."""
    store = await stores.new()
    lease = await leased(store)
    await append(store, lease, 0, opening())
    await refused(Conflict, append(store, lease, 0, closing(), final=True), "a wrong position")
    await _busy(store, "s", "a claim after a final append that was refused")
    await append(store, lease, 1, closing(), final=True)
    demand((await store.claim("s")).seq == 2, "the lease is free once a final append has landed")


async def a_lease_is_kept_while_it_is_held(stores: Stores) -> None:
    """The store renews it: it does not run out however short its time to live."""
    store = await stores.new()
    await store.create("s")
    lease = await store.claim("s", ttl=0.2)
    with anyio.move_on_after(0.5):
        while True:
            await _busy(store, "s", "a claim while the store should keep the lease alive")
            await anyio.sleep(0.02)
    await append(store, lease, 0, opening())


async def a_holder_keeps_other_handles_out(stores: Stores) -> None:
    """A lease counts for every handle; closing a handle gives its leases back."""
    store = await stores.new()
    other = await stores.other(store)
    await store.create("s")
    lease = await store.claim("s", ttl=0.3)
    with anyio.move_on_after(0.6):
        while True:
            await _busy(other, "s", "a claim through another handle")
            await anyio.sleep(0.05)
    demand(
        (await other.post("s", CancelRequested("enough"))).running,
        "a post knows that somebody will take it",
    )
    await store.aclose()
    new = await other.claim("s")
    demand(new.fence > lease.fence, "fences grow across handles")


LEASE_CHECKS = (
    StoreCheck(a_session_has_one_holder),
    StoreCheck(of_many_claims_one_is_granted),
    StoreCheck(a_fence_is_never_given_out_twice),
    StoreCheck(a_session_made_again_is_another_generation),
    StoreCheck(a_former_holder_can_write_nothing),
    StoreCheck(a_lease_does_not_outlive_its_session),
    StoreCheck(a_final_append_gives_the_lease_back),
    StoreCheck(a_lease_is_kept_while_it_is_held),
    StoreCheck(a_holder_keeps_other_handles_out, needs_reopen=True),
)
