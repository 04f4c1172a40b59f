"""Figure 18: approvals under attack, on every store, by a hook's rule and by a policy's.

Whoever attacks has the token, or another one, and everything that a program may do between the
question and the answer: rewrite the call, change the world or the rule, be late, answer twice, die.
Each attack is refused, or what was allowed is done exactly once, as its function says. What was
paid is kept outside of the stores, and held against the answers in the logs.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import product
from pathlib import Path

import anyio

from power_loop import Answer, MemoryStore, Store, answer, approve, deny
from power_loop.session.records import CallAnswered, Decided
from tests.agent.support import EVERY_STORE, StoreKind
from tests.figures.attacked import Rule, Shape, Shop
from tests.figures.figure_18_kills import killed_anywhere
from tests.figures.result import FigureResult
from tests.stores.places import new_place, open_place

Attack = Callable[[Shop], Awaitable[None]]

_RULES: tuple[Rule, ...] = ("hook", "policy")
_SHAPES: tuple[Shape, ...] = ("alone", "batch")
_BACKENDS = ("asyncio", "trio")


def run(full: bool) -> FigureResult:
    """Every attack on every store in every way; then the program dies at every step."""
    failures: list[str] = []
    counts: Counter[str] = Counter()
    for kind, backend in product(EVERY_STORE, _BACKENDS if full else _BACKENDS[:1]):
        with tempfile.TemporaryDirectory() as folder:
            work = partial(_every_attack, kind, Path(folder), counts, times=4 if full else 1)
            wrong = anyio.run(work, backend=backend)
        failures += [f"{kind}: {each}" for each in wrong]
    kills = killed_anywhere(full=full)
    failures += kills.failures
    stores = ", ".join(f"{counts[kind]} on {kind}" for kind in EVERY_STORE)
    return FigureResult(
        sum(counts[kind] for kind in EVERY_STORE) + kills.deaths,
        tuple(failures),
        f"{len(_ATTACKS)} attacks, {stores}: {counts['refusals']} answers refused, "
        f"{counts['payments']} payments of which each was allowed; {kills.told}",
    )


async def _every_attack(
    kind: StoreKind, folder: Path, counts: Counter[str], *, times: int
) -> list[str]:
    failures: list[str] = []
    place = "" if kind == "memory" else new_place(kind, folder)
    store: Store = open_place(place) if place else MemoryStore()
    other = open_place(place) if place else store
    try:
        for nth, rule, shape, attack in product(range(times), _RULES, _SHAPES, _ATTACKS):
            name = f"{attack.__name__.strip('_')} ({rule}, {shape})"
            shop = Shop(store, rule, shape, f"{name} {nth}", other)
            await store.create(shop.session)
            await attack(shop)
            await shop.finished([shop.session])
            failures += [f"{name}: {fault}" for fault in shop.faults]
            counts.update({kind: 1, "refusals": shop.refusals, "payments": len(shop.paid)})
    finally:
        await other.aclose()
        await store.aclose()
    return failures


# ── other arguments ───────────────────────────────────────────────────────────────────────────────


async def _swapped_by_a_hook(shop: Shop, order: int = 1) -> None:
    """What runs is not what was allowed: it is asked for, and what was shown then runs."""
    before = await shop.ask()
    shop.rewrite, shop.rewrite_order = 999, order
    await shop.resume(approve(before["a"]))
    shop.paid_just()
    after = await shop.tokens()
    shop.asked_anew(before, after)
    await shop.refused(approve(before["a"]))
    await shop.resume(approve(after["a"]))
    shop.paid_just(999)


async def _swapped_before_the_rule(shop: Shop) -> None:
    await _swapped_by_a_hook(shop, -1)


async def _swapped_back(shop: Shop) -> None:
    """The question was about what a hook had made of the call; without that hook it is another."""
    shop.rewrite, shop.rewrite_order = 999, -1
    before = await shop.ask()
    shop.rewrite = None
    await shop.resume(approve(before["a"]))
    shop.paid_just()
    shop.asked_anew(before, await shop.tokens())


async def _swapped_where_nobody_asks(shop: Shop) -> None:
    """The rule has gone with the old program, and another hook has come with the new one."""
    before = await shop.ask()
    shop.guarded, shop.rewrite = False, 999
    await shop.resume(approve(before["a"]))
    shop.paid_just()
    shop.asked_anew(before, await shop.tokens())


async def _edited(shop: Shop) -> None:
    before = await shop.ask()
    await shop.resume(approve(before["a"], {"amount": 1}))
    shop.paid_just(1)
    await shop.refused(approve(before["a"]))


async def _edited_twice(shop: Shop) -> None:
    """The world has changed after the first edit; the second is of a new question."""
    before = await shop.ask()
    shop.world = "war"
    await shop.resume(approve(before["a"], {"amount": 1}))
    shop.paid_just()
    after = await shop.tokens()
    shop.asked_anew(before, after)
    await shop.resume(approve(after["a"], {"amount": 2}))
    shop.paid_just(2)


async def _arguments_that_are_none(shop: Shop) -> None:
    before = await shop.ask()
    for text in ("{", "[3]", "3", '{"amount":NaN}', "\ud800"):
        await shop.refused(Answer(before["a"], "approve", arguments=text))
    await shop.resume(approve(before["a"]))
    shop.paid_just(3)


# ── tokens of something else ──────────────────────────────────────────────────────────────────────


async def _replayed(shop: Shop) -> None:
    before = await shop.ask()
    await shop.resume(*map(approve, before.values()))
    shop.paid_just(3)
    for token in before.values():
        await shop.refused(approve(token))
        await shop.refused(deny(token))
    shop.paid_just(3)


async def _of_another_call(shop: Shop) -> None:
    """What is allowed is the call that was asked about, and not its neighbour."""
    before = await shop.ask()
    last = list(before)[-1]
    await shop.resume(approve(before[last]))
    shop.paid_just(*([3] if last == "a" else []))
    shop.paid_just(*([5] if last == "b" else []), call="b")


async def _of_another_session(shop: Shop) -> None:
    other = Shop(shop.store, shop.rule, shop.shape, f"{shop.session}, other")
    await shop.store.create(other.session)
    theirs = await other.ask()
    before = await shop.ask()
    await shop.refused(approve(theirs["a"]))
    await shop.resume(approve(before["a"]))
    shop.paid_just(3)
    await other.finished([other.session])
    shop.must(other.paid == [], "the other session paid")
    shop.faults += other.faults


async def _of_another_store(shop: Shop) -> None:
    """With a session of the same name, and calls of the same names."""
    other = Shop(MemoryStore(), shop.rule, shop.shape, shop.session)
    await other.store.create(other.session)
    theirs = await other.ask()
    await shop.ask()
    await shop.refused(approve(theirs["a"]))
    shop.paid_just()


async def _of_a_session_that_waits_for_nothing(shop: Shop) -> None:
    before = await shop.ask()
    await shop.resume(*map(deny, before.values()))
    await shop.refused(approve(before["a"]))
    await shop.refused(approve("made up"))
    shop.paid_just()


async def _of_the_original(shop: Shop) -> None:
    """A copy of a session asks for itself; each has what was allowed to it."""
    before = await shop.ask()
    async with shop.loop() as loop:
        copy = await loop.fork(shop.session)
    await shop.refused(approve(before["a"]), session=copy)
    await shop.resume(session=copy)
    theirs = await shop.tokens(copy)
    shop.asked_anew(before, theirs)
    await shop.resume(approve(before["a"]))
    shop.paid_just(3)
    shop.paid_just(session=copy)
    await shop.resume(approve(theirs["a"]), session=copy)
    shop.paid_just(3, session=copy)


async def _copied_after_the_answer(shop: Shop) -> None:
    """The leave that the copy seems to have is one that has been used; not even without the rule
    does it run there."""
    before = await shop.ask()
    await shop.resume(approve(before["a"]))
    log = await shop.log()
    at = next(n for n, r in enumerate(log, 1) if isinstance(r, CallAnswered))
    async with shop.loop() as loop:
        copy = await loop.fork(shop.session, at)
    shop.guarded = False
    await shop.resume(session=copy)
    shop.paid_just(3)
    shop.paid_just(session=copy)
    shop.asked_anew(before, await shop.tokens(copy))


# ── another time, world or rule ───────────────────────────────────────────────────────────────────


async def _late(shop: Shop) -> None:
    """The answer counts for nothing; what is asked next, without haste, does."""
    shop.ttl = 0.002
    before = await shop.ask()
    await shop.late()
    result = await shop.resume(approve(before["a"]))
    shop.must(result is not None and result.status == "approval_expired", f"it ended {result}")
    shop.paid_just()
    shop.ttl = None
    await shop.resume()
    after = await shop.tokens()
    shop.asked_anew(before, after)
    await shop.refused(approve(before["a"]))
    await shop.resume(approve(after["a"]))
    shop.paid_just(3)


async def _late_where_nobody_asks(shop: Shop) -> None:
    """To let time pass and start a program without the rule is no way past it."""
    shop.ttl = 0.002
    before = await shop.ask()
    await shop.late()
    shop.guarded = False
    await shop.resume()
    shop.paid_just()
    shop.asked_anew(before, await shop.tokens())


async def _in_another_world(shop: Shop) -> None:
    before = await shop.ask()
    shop.world = "war"
    await shop.resume(approve(before["a"]))
    shop.paid_just()
    after = await shop.tokens()
    shop.asked_anew(before, after)
    void = [r for r in await shop.log() if isinstance(r, Decided) and r.what == "void"]
    shop.must(len(void) == 1, "it is not recorded that the leave was worth nothing")
    await shop.refused(approve(before["a"]))
    await shop.resume(approve(after["a"]))
    shop.paid_just(3)


async def _in_a_world_that_turned_back(shop: Shop) -> None:
    """A leave that has died stays dead, also when everything is as it was."""
    before = await shop.ask()
    shop.world = "war"
    await shop.resume(approve(before["a"]))
    after = await shop.tokens()
    shop.world = "calm"
    await shop.resume(approve(after["a"]))
    shop.paid_just()
    last = await shop.tokens()
    shop.asked_anew(after, last)
    await shop.resume(approve(last["a"]))
    shop.paid_just(3)


async def _under_another_rule(shop: Shop) -> None:
    before = await shop.ask()
    shop.version = "2"
    await shop.resume(approve(before["a"]))
    shop.paid_just()
    after = await shop.tokens()
    shop.asked_anew(before, after)
    await shop.resume(approve(after["a"]))
    shop.paid_just(3)


async def _without_the_rule(shop: Shop) -> None:
    """Just what was allowed is still allowed."""
    before = await shop.ask()
    shop.guarded = False
    await shop.resume(approve(before["a"]))
    shop.paid_just(3)
    await shop.refused(approve(before["a"]))


async def _to_another_handler(shop: Shop) -> None:
    """A handler is not bound by what another one was told."""
    before = await shop.ask()
    shop.guard = "another guard"
    await shop.resume(approve(before["a"]))
    shop.paid_just()
    after = await shop.tokens()
    shop.asked_anew(before, after)
    await shop.resume(approve(after["a"]))
    shop.paid_just(3)


# ── several answers ───────────────────────────────────────────────────────────────────────────────


async def _denied_and_then_approved(shop: Shop) -> None:
    before = await shop.ask()
    await shop.resume(*map(deny, before.values()))
    await shop.refused(approve(before["a"]))
    shop.paid_just()


async def _twice_at_once(shop: Shop) -> None:
    """In one call of resume: nothing is taken of it."""
    before = await shop.ask()
    length = len(await shop.log())
    result = await shop.resume(approve(before["a"]), approve(before["a"], {"amount": 1}))
    shop.must(result is None and len(await shop.log()) == length, "something was taken")
    shop.paid_just()


async def _of_the_wrong_kind(shop: Shop) -> None:
    before = await shop.ask()
    await shop.refused(answer(before["a"], "yes"))
    shop.paid_just()


async def _two_approvers(shop: Shop, second: Callable[[str], Answer] = approve) -> None:
    """Each with a handle of its own on the store; one is heard, the other one refused."""
    before = await shop.ask()
    refused = shop.refusals
    paying: list[bool] = []

    async def say(given: Answer, store: Store) -> None:
        result = await shop.resume(given, store=store)
        if result is not None:
            paying.append(given.kind == "approve")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(say, approve(before["a"]), shop.store)
        tasks.start_soon(say, second(before["a"]), shop.other)
    shop.must(len(paying) == 1 and shop.refusals == refused + 1, f"{len(paying)} were heard")
    shop.paid_just(*([3] if any(paying) else []))
    told = [r for r in await shop.log() if isinstance(r, Decided) and r.what == "refused"]
    shop.must(len(told) == 1, "nothing is recorded of the other one")


async def _an_approver_and_a_denier(shop: Shop) -> None:
    await _two_approvers(shop, deny)


_ATTACKS: tuple[Attack, ...] = (
    _swapped_by_a_hook,
    _swapped_before_the_rule,
    _swapped_back,
    _swapped_where_nobody_asks,
    _edited,
    _edited_twice,
    _arguments_that_are_none,
    _replayed,
    _of_another_call,
    _of_another_session,
    _of_another_store,
    _of_a_session_that_waits_for_nothing,
    _of_the_original,
    _copied_after_the_answer,
    _late,
    _late_where_nobody_asks,
    _in_another_world,
    _in_a_world_that_turned_back,
    _under_another_rule,
    _without_the_rule,
    _to_another_handler,
    _denied_and_then_approved,
    _twice_at_once,
    _of_the_wrong_kind,
    _two_approvers,
    _an_approver_and_a_denier,
)
