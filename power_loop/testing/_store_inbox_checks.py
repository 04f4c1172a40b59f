"""What a store promises of inboxes, and of what it lists and deletes."""

from __future__ import annotations

from collections.abc import Sequence
from threading import get_ident
from typing import Any

import anyio

from power_loop.errors import Conflict, SessionBusy, SessionNotFound, Undelivered, UsageError
from power_loop.runtime.stores.base import (
    CancelRequested,
    SessionQuery,
    Steer,
    SteerMode,
    Store,
)
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
    steer,
)

__all__ = ["INBOX_CHECKS"]


async def posted_items_wait_in_order(stores: Stores) -> None:
    """What is posted comes out as it was, oldest first, in its own session only."""
    store = await stores.new()
    await store.create("s")
    demand(not (await store.post("s", steer("one"))).running, "nobody runs the session")
    lease = await leased(store, "t")
    modes: tuple[SteerMode, ...] = ("when_idle", "interrupt")
    items = [steer("two"), CancelRequested("stop"), steer("vier 🐈 \x00")]
    items += [Steer(steer(mode).message, mode) for mode in modes]
    receipts = [await store.post("t", item) for item in items]
    demand(all(r.running and not r.duplicate for r in receipts), "somebody runs this one")
    waiting = await store.inbox("t")
    demand([each.item for each in waiting] == items, "items come back as posted, oldest first")
    demand([each.id for each in waiting] == [r.id for r in receipts], "under the ids given")
    demand(len({each.id for each in [*waiting, *await store.inbox("s")]}) == 6, "unique ids")
    demand(store.inbox_hint("t") and store.inbox_hint("s"), "the hint never denies what waits")
    await store.release(lease)


async def taking_consumes_in_the_same_transaction(stores: Stores) -> None:
    """An item is gone once the append that takes it has landed, and not before."""
    store = await stores.new()
    lease = await leased(store)
    first, second = [(await store.post("s", steer(text))).id for text in ("one", "two")]
    await refused(
        Conflict, append(store, lease, 5, opening(), take=[first]), "taking at a wrong position"
    )
    demand([i.id for i in await store.inbox("s")] == [first, second], "nothing is consumed then")
    await append(store, lease, 0, opening(), take=[first])
    demand([i.id for i in await store.inbox("s")] == [second], "what was taken is gone")
    demand(store.inbox_hint("s"), "the hint knows of the rest")
    await append(store, lease, 1, take=[second])
    demand(
        (await store.inbox("s"), len(await store.read("s"))) == ((), 1), "taking needs no record"
    )


async def nothing_is_taken_twice(stores: Stores) -> None:
    """An item that is not there, or is another session's, refuses the whole append."""
    store = await stores.new()
    lease = await leased(store)
    await store.create("t")
    mine, foreign = (await store.post("s", steer())).id, (await store.post("t", steer())).id
    for wrong in ([mine, foreign], ["no-such-item"]):
        await refused(UsageError, append(store, lease, 0, opening(), take=wrong), "taking it")
    demand(len(await store.read("s")) == 0, "nothing lands then")
    demand(len(await store.inbox("s")) == len(await store.inbox("t")) == 1, "nothing is consumed")
    await append(store, lease, 0, opening(), take=[mine])
    await refused(UsageError, append(store, lease, 1, closing(), take=[mine]), "taking it again")
    demand(len(await store.read("s")) == 1, "what came of it is there once")


async def a_dedupe_key_counts_once_for_ever(stores: Stores) -> None:
    """Posting again under a key gives the first receipt, also after the item was taken."""
    store = await stores.new()
    lease = await leased(store)
    await store.create("t")
    first = await store.post("s", steer("one"), dedupe_key="k")
    again = await store.post("s", steer("one"), dedupe_key="k")
    demand((again.id, again.duplicate) == (first.id, True), "the second post is a duplicate")
    demand(len(await store.inbox("s")) == 1, "the item waits once")
    await append(store, lease, 0, opening(), take=[first.id])
    late = await store.post("s", steer("one"), dedupe_key="k")
    demand(late.duplicate and not await store.inbox("s"), "it stays so after it was taken")
    demand(not (await store.post("s", steer("x"), dedupe_key="l")).duplicate, "keys are distinct")
    demand(not (await store.post("t", steer("x"), dedupe_key="k")).duplicate, "and per session")
    for _ in range(2):
        demand(not (await store.post("t", steer("x"))).duplicate, "no key, no duplicate")


async def a_run_cannot_end_past_its_inbox(stores: Stores) -> None:
    """An append is refused while anything waits that it neither takes nor leaves."""
    store = await stores.new()
    lease = await leased(store)
    await append(store, lease, 0, opening(), leaving=())
    first, second = [(await store.post("s", steer(text))).id for text in ("one", "two")]

    seq = 1

    async def end(*take: str) -> None:
        await append(store, lease, seq, closing(), take=take, final=True, leaving=())

    await refused(Undelivered, end(), "ending with two items waiting")
    await refused(Undelivered, end(first), "ending with one item waiting")
    await refused(Undelivered, end(first, first), "naming one item twice")
    for left in ([first], ["no-such-item"]):
        await refused(
            Undelivered, append(store, lease, 1, closing(), leaving=left), "leaving one of two"
        )
    demand(len(await store.read("s")) == 1, "nothing lands then")
    demand([i.id for i in await store.inbox("s")] == [first, second], "nothing is consumed")
    seq = (await append(store, lease, 1, *answer(), take=[first], leaving=[second])).seq
    demand([i.id for i in await store.inbox("s")] == [second], "what is left stays")
    await refused(SessionBusy, store.claim("s"), "a claim while the run is not over")
    await end(second)
    demand((await store.info("s")).status == "completed", "it ends when all is taken")


async def concurrent_posts_all_arrive_once(stores: Stores) -> None:
    """Many posts at once, half of them under the same keys."""
    store = await stores.new()
    await store.create("s")

    async def post(n: int) -> None:
        await store.post("s", steer(str(n)), dedupe_key=f"key {n % 10}" if n < 20 else None)

    async with anyio.create_task_group() as group:
        for n in range(40):
            group.start_soon(post, n)
    waiting = await store.inbox("s")
    demand(len(waiting) == 30, "twenty without a key, and one for each of ten keys")
    demand(len({each.id for each in waiting}) == 30, "each under its own id")


async def a_post_is_seen_by_other_handles_at_once(stores: Stores) -> None:
    """The holder's hint must not deny what another handle has posted, however lately."""
    store = await stores.new()
    other = await stores.other(store)
    lease = await leased(store)
    seq = 0
    for _ in range(10):
        seq = (await append(store, lease, seq, *answer())).seq
        posted = await other.post("s", steer())
        demand(posted.running, "another handle knows that the session runs")
        demand(store.inbox_hint("s"), "the hint never denies what another handle posted")
        demand([i.id for i in await store.inbox("s")] == [posted.id], "and it is there")
        await append(store, lease, seq, take=[posted.id])
        demand(not await other.inbox("s"), "what one handle takes is gone for the other")


class _Watch:
    """Hears of the posts to one session."""

    def __init__(self, store: Store, session: str = "s") -> None:
        self._news = anyio.Event()
        self._home = get_ident()
        self.away = False
        self.calls = 0
        self.end = store.watch(session, self._notify)

    def _notify(self) -> None:
        self.calls += 1
        self.away = self.away or get_ident() != self._home
        if not self.away:
            self._news.set()

    async def heard(self) -> None:
        """Returns once something was heard since it was called last."""
        await self._news.wait()
        self._news = anyio.Event()


async def a_watcher_is_told_of_posts(stores: Stores) -> None:
    """As often as somebody posts, all who watch, and nobody who has ended that."""
    store = await stores.new()
    await store.create("s")
    one, two = _Watch(store), _Watch(store)
    for n in range(3):
        posted = await store.post("s", steer(str(n)))
        await one.heard()
        await two.heard()
        demand(posted.id in [i.id for i in await store.inbox("s")], "it is there by then")
    two.end()
    before = two.calls
    for _ in range(3):
        await store.post("s", CancelRequested("stop"))
        await one.heard()
    demand(two.calls == before, "who has ended it is told of nothing more")
    demand(not one.away, "one is told in the event loop that one watches from")
    one.end()


async def a_watcher_is_told_of_posts_by_other_handles(stores: Stores) -> None:
    """As another process would post: soon, and in the watcher's own event loop."""
    store = await stores.new()
    other = await stores.other(store)
    lease = await leased(store)
    seq = 0
    watch = _Watch(store)
    for n in range(5):
        posted = await other.post("s", steer(str(n)))
        while posted.id not in [i.id for i in await store.inbox("s")] or not watch.calls:
            await watch.heard()
        watch.calls = 0
        # What this handle itself writes meanwhile hides nothing.
        seq = (await append(store, lease, seq, *answer(), take=[posted.id])).seq
    demand(not watch.away, "one is told in the event loop that one watches from")
    watch.end()
    before = watch.calls
    second = _Watch(store)
    await other.post("s", steer())
    await second.heard()
    demand(watch.calls == before, "who has ended it is told of nothing more")
    second.end()


async def a_session_tells_its_status_and_title(stores: Stores) -> None:
    """Status follows the runs; the title is the first line of the first user message."""
    store = await stores.new()
    await store.create("s", metadata={"k": "v"}, at=5.0)
    info = await store.info("s")
    demand((info.status, info.title, info.seq) == ("new", "", 0), "a new session")
    demand((info.created, info.updated, info.metadata) == (5.0, 5.0, {"k": "v"}), "as created")
    lease = await store.claim("s")
    await append(store, lease, 0, opening("  What is this?\nTell me."))
    info = await store.info("s")
    demand((info.status, info.title) == ("running", "What is this?"), "a running session")
    await append(store, lease, 1, *answer(), closing())
    await append(store, lease, 5, opening("Something else"), closing())
    info = await store.info("s")
    demand((info.status, info.title, info.seq) == ("completed", "What is this?", 7), "a closed one")
    demand((info.created, info.updated) == (5.0, 1007.0), "updated by its last record")
    long = await leased(store, "long")
    await append(store, long, 0, opening("x" * 5000))
    demand(10 < len((await store.info("long")).title) <= 200, "a long title is cut short")


async def sessions_are_listed_by_their_last_change(stores: Stores) -> None:
    """Most recently updated first, page by page."""
    store = await stores.new()
    for n, session in enumerate("abcde"):
        await store.create(session, at=10.0 + n)
    lease = await store.claim("b")
    await append(store, lease, 0, opening())
    demand([i.id for i in await store.list()] == ["b", "e", "d", "c", "a"], "latest change first")
    page = await store.list(limit=2)
    demand([i.id for i in page] == ["b", "e"], "no more than the limit")
    rest = await store.list(limit=9, before=page[-1].updated)
    demand([i.id for i in rest] == ["d", "c", "a"], "the next page goes on from there")
    demand(page[0] == await store.info("b"), "an entry is what `info` says")


async def sessions_are_found_by_what_is_known_of_them(stores: Stores) -> None:
    """By metadata, status, parent and what was said, and by all of it together."""
    store = await stores.new()
    await store.create("a", metadata={"user": "u1", "team": "ü"}, at=1.0)
    await store.create("b", lifecycle="detached", metadata={"user": "u2"}, at=2.0)
    await store.create("a/c", parent="a", metadata={"user": "u1"}, at=3.0)
    await append(store, await store.claim("a"), 0, opening('The "Grünes Haus"\nof 1984'))
    await append(store, await store.claim("b"), 0, opening("hello"), *answer("a GREEN house"))

    async def found(**query: Any) -> Sequence[str]:
        return sorted([info.id for info in await store.list(SessionQuery(**query))])

    demand(await found() == ["a", "a/c", "b"], "no condition, no session left out")
    demand(await found(metadata={"user": "u1"}) == ["a", "a/c"], "by one pair of the metadata")
    demand(await found(metadata={"user": "u1", "team": "ü"}) == ["a"], "by several")
    demand(await found(metadata={"user": "u"}) == [], "a value is compared whole")
    demand(await found(status="running") == ["a", "b"], "by status")
    demand(await found(parent="a") == ["a/c"], "by parent")
    demand(await found(lifecycle="detached") == ["b"], "by lifecycle")
    demand(await found(text="green HOUSE") == ["b"], "by what was said, in either case")
    demand(await found(text='"Grünes haus"\nof') == ["a"], "whatever JSON makes of it")
    demand(await found(text="run_opened") == [], "by what was said, not by how it is stored")
    demand(await found(text="e", status="running", metadata={"user": "u2"}) == ["b"], "by all")
    page = await store.list(SessionQuery(metadata={"user": "u1"}), limit=1)
    demand([info.id for info in page] == ["a"], "the latest change first, up to the limit")


async def deleting_takes_everything_below_along(stores: Stores) -> None:
    """Unless somebody holds one of them; then nothing is deleted."""
    store = await stores.new()
    for name, parent in (("r", None), ("r/a", "r"), ("r/a/x", "r/a"), ("r/b", "r"), ("q", None)):
        await store.create(name, parent=parent)
    held = await store.claim("r/a/x")
    await append(store, held, 0, *answer(), root="r")
    await store.post("r/a", steer(), dedupe_key="k")
    await refused(SessionBusy, store.delete("r"), "deleting what somebody holds below")
    demand(len(await store.list()) == 5, "then nothing is deleted")
    await store.release(held)
    demand(await store.delete("r/a") == 2, "it says how many went")
    demand(sorted(i.id for i in await store.list()) == ["q", "r", "r/b"], "the others stay")
    demand(not await store.read_tree("r"), "their records are gone from the tree")
    rest = await leased(store, "r/b")
    landed = await append(store, rest, 0, opening(), root="r")
    demand(landed.tree_seq == 4, "a place in the tree is never given out twice")
    await store.create("r/a")
    demand(await store.read("r/a") == [] and not await store.inbox("r/a"), "a new one is empty")
    demand(not (await store.post("r/a", steer(), dedupe_key="k")).duplicate, "in every way")


async def what_is_detached_outlives_what_it_came_from(stores: Stores) -> None:
    """It becomes the root of a tree of its own, with all below it; an ephemeral one goes along."""
    store = await stores.new()
    await store.create("r")
    await store.create("r/a", parent="r", lifecycle="detached")
    await store.create("r/b", parent="r", lifecycle="ephemeral")
    demand((await store.info("r/b")).lifecycle == "ephemeral", "the lifecycle is told")
    root, child = await store.claim("r"), await store.claim("r/a")
    below = await leased(store, "r/a/x", "r/a")
    await append(store, root, 0, opening(), final=True)
    await append(store, below, 0, opening(), root="r")
    await append(store, child, 0, opening(), *answer(), root="r")
    demand(await store.delete("r") == 2, "it and the ephemeral one are deleted")
    await refused(SessionNotFound, store.read("r"), "reading what was deleted")
    info = await store.info("r/a")
    demand((info.root, info.parent) == ("r/a", None), "its child is a root now")
    info = await store.info("r/a/x")
    demand((info.root, info.parent) == ("r/a", "r/a"), "with all that was below it")
    tree = await store.read_tree("r/a")
    order = [("r/a/x", 1), *(("r/a", n) for n in range(1, 5))]
    demand([(r.session, r.seq) for r in tree] == order, "records keep their order")
    demand({r.root for r in tree} == {"r/a"}, "and name the new root")
    landed = await append(store, child, 4, closing(), root="r/a")
    demand(landed.tree_seq > tree[-1].tree_seq, "the order goes on")


async def whoever_waits_for_a_deleted_session_is_woken(stores: Stores) -> None:
    """Waiting ends; reading then says that the session is gone."""
    store = await stores.new()
    await store.create("s")

    async def follow() -> None:
        try:
            while not await store.read("s"):
                await store.wait("s", 0)
        except SessionNotFound:
            return
        demand(kept=False, promise="a deleted session must not be read")

    async with anyio.create_task_group() as group:
        group.start_soon(follow)
        await anyio.wait_all_tasks_blocked()
        await store.delete("s")


async def closing_twice_is_fine(stores: Stores) -> None:
    """`aclose` is idempotent, also on a store that was never used."""
    for used in (False, True):
        store = await stores.new()
        if used:
            await leased(store)
        await store.aclose()
        await store.aclose()


INBOX_CHECKS = (
    StoreCheck(posted_items_wait_in_order),
    StoreCheck(taking_consumes_in_the_same_transaction),
    StoreCheck(nothing_is_taken_twice),
    StoreCheck(a_dedupe_key_counts_once_for_ever),
    StoreCheck(a_run_cannot_end_past_its_inbox),
    StoreCheck(concurrent_posts_all_arrive_once),
    StoreCheck(a_post_is_seen_by_other_handles_at_once, needs_reopen=True),
    StoreCheck(a_watcher_is_told_of_posts),
    StoreCheck(a_watcher_is_told_of_posts_by_other_handles, needs_reopen=True),
    StoreCheck(a_session_tells_its_status_and_title),
    StoreCheck(sessions_are_listed_by_their_last_change),
    StoreCheck(sessions_are_found_by_what_is_known_of_them),
    StoreCheck(deleting_takes_everything_below_along),
    StoreCheck(what_is_detached_outlives_what_it_came_from),
    StoreCheck(whoever_waits_for_a_deleted_session_is_woken),
    StoreCheck(closing_twice_is_fine),
)
