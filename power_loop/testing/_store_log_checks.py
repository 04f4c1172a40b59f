"""What a store promises of its logs: order, wholeness, and news of what was appended."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
from anyio.lowlevel import checkpoint

from power_loop.errors import Conflict, SessionNotFound, UsageError
from power_loop.events import RoundStarted, Stamped
from power_loop.runtime.stores.base import Snapshot, Store
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
    stamped,
)

__all__ = ["LOG_CHECKS"]


def _seqs(records: Sequence[Stamped]) -> list[int]:
    return [record.seq for record in records]


async def _log(store: Store, session: str, rounds: int) -> int:
    lease = await leased(store, session)
    seq = (await append(store, lease, 0, opening())).seq
    for _ in range(rounds):
        seq = (await append(store, lease, seq, *answer())).seq
    await store.release(lease)
    return seq


async def what_is_appended_is_read_back_whole(stores: Stores) -> None:
    """Records come back equal, with their tree order filled in."""
    store = await stores.new()
    lease = await leased(store)
    written = [
        stamped("s", n, event, at=5.5 + n) for n, event in enumerate([opening(), *answer()], 1)
    ]
    landed = await store.append(lease, 0, written)
    demand((landed.seq, landed.tree_seq) == (4, 4), "append says where its last record landed")
    read = await store.read("s")
    demand(
        [(r.session, r.seq, r.n, r.root, r.at, r.run, r.round, r.event) for r in read]
        == [(r.session, r.seq, r.n, r.root, r.at, r.run, r.round, r.event) for r in written],
        "records are read back as they were written",
    )
    demand([r.tree_seq for r in read] == [1, 2, 3, 4], "the store assigns the tree order")


async def a_log_is_read_in_order_from_a_position_up_to_a_limit(stores: Stores) -> None:
    """`after` excludes, `limit` cuts, and nothing is out of order, in a long log too."""
    store = await stores.new()
    seq = await _log(store, "s", 200)
    demand(_seqs(await store.read("s")) == list(range(1, seq + 1)), "all records, in order")
    demand(_seqs(await store.read("s", after=3)) == list(range(4, seq + 1)), "only those after")
    demand(_seqs(await store.read("s", after=3, limit=2)) == [4, 5], "no more than the limit")
    demand(_seqs(await store.read("s", limit=0)) == [], "a limit of nothing")
    demand(_seqs(await store.read("s", after=seq)) == [], "nothing after the last")
    demand(_seqs(await store.read("s", after=seq + 9)) == [], "nothing beyond the last")
    demand(_seqs(await store.read_tree("s", seq - 1)) == [seq], "a tree is read after a position")
    demand(len(await store.read_tree("s", limit=550)) == 550, "a tree is read up to a limit")


async def an_append_at_another_position_is_refused(stores: Stores) -> None:
    """Too early and too late a position are a Conflict, and nothing changes."""
    store = await stores.new()
    lease = await leased(store)
    await append(store, lease, 0, opening())
    for position in (0, 2):
        await refused(
            Conflict, append(store, lease, position, *answer()), f"appending after {position} of 1"
        )
    demand(_seqs(await store.read("s")) == [1], "a refused append leaves nothing behind")
    demand((await store.info("s")).seq == 1, "a refused append does not move the position")
    await append(store, lease, 1, *answer())


async def of_two_appends_at_one_position_one_lands(stores: Stores) -> None:
    """Concurrent appends at the same position: one lands whole, the others conflict."""
    store = await stores.new()
    lease = await leased(store)
    landed: list[str] = []

    async def attempt(text: str) -> None:
        try:
            await append(store, lease, 0, opening(text), *answer(text))
        except Conflict:
            return
        landed.append(text)

    async with anyio.create_task_group() as group:
        for n in range(8):
            group.start_soon(attempt, f"no {n}")
    demand(len(landed) == 1, "exactly one of several appends at one position lands")
    read = [record.event for record in await store.read("s")]
    demand(len(read) == 4, "it lands whole")
    demand(landed[0] in repr(read[0]) and landed[0] in repr(read[3]), "it is the one acknowledged")


async def a_refused_append_does_not_hurt_its_neighbours(stores: Stores) -> None:
    """Appends of many sessions at once are refused or land one by one."""
    store = await stores.new()
    leases = [await leased(store, f"s{n}") for n in range(12)]
    refusals: list[str] = []

    async def attempt(n: int) -> None:
        try:
            await append(store, leases[n], 7 if n % 3 == 0 else 0, opening(), *answer())
        except Conflict as error:
            refusals.append(error.session_id)

    async with anyio.create_task_group() as group:
        for n in range(12):
            group.start_soon(attempt, n)
    demand(sorted(refusals) == ["s0", "s3", "s6", "s9"], "those at a wrong position are refused")
    for n in range(12):
        count = len(await store.read(f"s{n}"))
        demand(count == (0 if n % 3 == 0 else 4), "the others land whole")


async def a_tree_has_one_order(stores: Stores) -> None:
    """Records of a session and those below it have one gap-free order, which reading follows."""
    store = await stores.new()
    names = ["r", "r/a", "r/b", "r/a/x"]
    leases = [
        await leased(store, name, None if name == "r" else name.rpartition("/")[0])
        for name in names
    ]
    await leased(store, "stranger")
    landed: list[tuple[str, int, int]] = []

    async def work(n: int) -> None:
        seq = 0
        for _ in range(5):
            where = await append(store, leases[n], seq, *answer(), root="r")
            seq = where.seq
            landed.append((names[n], where.seq, where.tree_seq))

    async with anyio.create_task_group() as group:
        for n in range(len(names)):
            group.start_soon(work, n)
    tree = await store.read_tree("r")
    demand([r.tree_seq for r in tree] == list(range(1, 61)), "one order without gaps or repeats")
    demand({r.root for r in tree} == {"r"}, "every record names the root")
    places = {(r.session, r.seq): r.tree_seq for r in tree}
    demand(len(places) == 60, "every record of the tree is in it once")
    for session, seq, tree_seq in landed:
        mine = [places[session, seq - back] for back in (0, 1, 2)]
        demand(mine == [tree_seq, tree_seq - 1, tree_seq - 2], "one append lies together")
    demand(await store.read_tree("r", 20, 7) == tree[20:27], "a tree is read from a position")
    own = [r for r in tree if r.session == "r/a"]
    demand(await store.read("r/a") == own, "a session's log has the same order")


async def records_that_are_not_next_are_refused(stores: Stores) -> None:
    """A record stamped for another place, and a transient event, never get in."""
    store = await stores.new()
    lease = await leased(store)
    await leased(store, "t")
    transient = Stamped("s", 1, 1, "s", 0, 1.0, "run-1", 1, RoundStarted(1))
    for wrong in (stamped("s", 2, opening()), stamped("t", 1, opening()), transient):
        await refused(UsageError, store.append(lease, 0, [wrong]), "a record out of place")
    await refused(
        UsageError,
        store.append(lease, 0, [stamped("s", 1, opening()), stamped("s", 3, closing())]),
        "a gap between records",
    )
    demand(_seqs(await store.read("s")) == [], "nothing of it lands")


async def an_unknown_session_is_said_to_be_unknown(stores: Stores) -> None:
    """Whatever is asked of a session that does not exist raises SessionNotFound."""
    store = await stores.new()
    await leased(store)
    unknown = SessionNotFound
    await refused(unknown, store.read("nobody"), "reading an unknown session")
    await refused(unknown, store.read_tree("nobody"), "reading an unknown tree")
    await refused(unknown, store.info("nobody"), "information on an unknown session")
    await refused(unknown, store.claim("nobody"), "claiming an unknown session")
    await refused(unknown, store.inbox("nobody"), "the inbox of an unknown session")
    await refused(unknown, store.delete("nobody"), "deleting an unknown session")
    await refused(unknown, store.create("child", parent="nobody"), "an unknown parent")
    await refused(unknown, store.info("child"), "what had no parent")
    await refused(UsageError, store.create(""), "an empty session id")


async def creating_twice_changes_nothing(stores: Stores) -> None:
    """`create` of what exists keeps its log, parent and metadata."""
    store = await stores.new()
    await store.create("r", at=1.0)
    await store.create("s", parent="r", metadata={"user": "ü"}, at=2.0)
    lease = await store.claim("s")
    await append(store, lease, 0, opening())
    await store.create("s", metadata={"user": "other"}, at=3.0)
    info = await store.info("s")
    demand(info.metadata == {"user": "ü"}, "metadata stays")
    demand(
        (info.parent, info.root, info.created, info.seq) == ("r", "r", 2.0, 1), "so does all else"
    )


async def a_snapshot_is_of_its_session_and_no_older_than_another(stores: Stores) -> None:
    """What is given back is what was kept for that very session; it may be forgotten."""
    store = await stores.new()
    lease = await leased(store)
    seq = (await append(store, lease, 0, opening(), *answer())).seq
    generation = lease.generation

    async def kept() -> Snapshot | None:
        return await store.snapshot("s")

    newest = Snapshot(generation, seq, b"\x00\xffbody")
    demand(await kept() is None and await store.snapshot("t") is None, "nothing was kept")
    for snapshot in (
        Snapshot(generation, 2, b"older"),
        newest,
        Snapshot(generation, 3, b"older"),
        Snapshot(generation + 1, seq, b"of another generation"),
    ):
        await store.keep_snapshot("s", snapshot)
    demand(await kept() in (None, newest), "the newest is given back as it was")
    await store.release(lease)
    await store.delete("s")
    demand(await kept() is None, "it is gone with its session")
    await store.create("s")
    await store.keep_snapshot("s", newest)
    demand(await kept() is None, "a session made again is another one")


async def waiting_ends_when_the_log_has_grown(stores: Stores) -> None:
    """Everybody who waits is woken by the append they wait for, and by no other session's."""
    store = await stores.new()
    lease, other = await leased(store), await leased(store, "t")
    await append(store, lease, 0, opening())
    await store.wait("s", 0)
    woken: list[int] = []

    async def follow(reader: int) -> None:
        while not await store.read("s", after=1):
            await store.wait("s", 1)
        woken.append(reader)

    async with anyio.create_task_group() as group:
        for reader in range(5):
            group.start_soon(follow, reader)
        await anyio.wait_all_tasks_blocked()
        await append(store, other, 0, opening())
        demand(not woken, "nobody sees what is not there")
        await append(store, lease, 1, *answer())
    demand(sorted(woken) == [0, 1, 2, 3, 4], "everybody who waits is woken")
    with anyio.move_on_after(0.05) as scope:
        while True:
            await store.wait("s", 4)
            await checkpoint()
    demand(scope.cancelled_caught, "waiting can be cancelled")


async def a_reader_beside_a_writer_sees_a_growing_prefix(stores: Stores) -> None:
    """Reads during writes see whole appends only, in order, and never less than before."""
    store = await stores.new()
    lease = await leased(store)
    done = False

    async def write() -> None:
        nonlocal done
        seq = 0
        for _ in range(40):
            seq = (await append(store, lease, seq, *answer())).seq
            await checkpoint()
        done = True

    async with anyio.create_task_group() as group:
        group.start_soon(write)
        seen = 0
        while not done or seen < 120:
            seqs = _seqs(await store.read("s"))
            demand(seqs == list(range(1, len(seqs) + 1)), "a reader never sees a gap")
            demand(len(seqs) % 3 == 0, "a reader never sees half an append")
            demand(len(seqs) >= seen, "what was seen stays")
            seen = len(seqs)
            await checkpoint()


async def what_is_acknowledged_is_there_for_others(stores: Stores) -> None:
    """Another handle reads what was appended, is woken by it, and goes on from there."""
    store = await stores.new()
    other = await stores.other(store)
    lease = await leased(store)
    await append(store, lease, 0, opening())
    demand(_seqs(await other.read("s")) == [1], "an acknowledged record is there for others")

    async def follow() -> None:
        seq = 1
        while seq < 7:
            await other.wait("s", seq)
            seq += len(await other.read("s", after=seq))

    async with anyio.create_task_group() as group:
        group.start_soon(follow)
        await anyio.wait_all_tasks_blocked()
        await append(store, lease, 1, *answer())
        await append(store, lease, 4, *answer(), final=True)
    demand((await other.info("s")).seq == 7, "and so is its position")
    await refused(Conflict, append(other, await other.claim("s"), 0, opening()), "an old position")


async def what_is_acknowledged_outlives_the_handle(stores: Stores) -> None:
    """Closing and opening again loses nothing: records, inbox, and the count of fences."""
    store = await stores.new()
    lease = await leased(store)
    await append(store, lease, 0, opening(), *answer())
    records = await store.read("s")
    await store.aclose()
    again = await stores.other(store)
    demand(await again.read("s") == records, "records are there after opening again")
    demand((await again.claim("s")).fence > lease.fence, "fences go on from the last")


LOG_CHECKS = (
    StoreCheck(what_is_appended_is_read_back_whole),
    StoreCheck(a_log_is_read_in_order_from_a_position_up_to_a_limit),
    StoreCheck(an_append_at_another_position_is_refused),
    StoreCheck(of_two_appends_at_one_position_one_lands),
    StoreCheck(a_refused_append_does_not_hurt_its_neighbours),
    StoreCheck(a_tree_has_one_order),
    StoreCheck(records_that_are_not_next_are_refused),
    StoreCheck(an_unknown_session_is_said_to_be_unknown),
    StoreCheck(creating_twice_changes_nothing),
    StoreCheck(a_snapshot_is_of_its_session_and_no_older_than_another),
    StoreCheck(waiting_ends_when_the_log_has_grown),
    StoreCheck(a_reader_beside_a_writer_sees_a_growing_prefix),
    StoreCheck(what_is_acknowledged_is_there_for_others, needs_reopen=True),
    StoreCheck(what_is_acknowledged_outlives_the_handle, needs_reopen=True),
)
