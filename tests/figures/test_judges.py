"""The judges of the figures find what they are there to find."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from random import Random

import anyio
import pytest
from msgspec.structs import replace

from llm_client.types import Message, Text, ToolResult
from power_loop import MemoryStore, NoteMemory
from power_loop.governance import RepetitionGuard
from power_loop.runtime.asking import Ask
from power_loop.runtime.memory.base import MemorySnapshot, RecallQuery
from power_loop.runtime.stores.base import CancelRequested, Posted, Steer
from power_loop.session.records import (
    MessageAppended,
    ModelAsked,
    ModelEnded,
    Recalled,
    RunOpened,
    ToolSettled,
    ViewChanged,
)
from tests.agent.cancel_context import FACT
from tests.agent.cancel_scenarios import SCENARIOS
from tests.agent.cancel_world import World
from tests.crash.judging import Tried
from tests.crash.judging import faults as crash_faults
from tests.crash.program import STEERED
from tests.figures.attacked import Shop
from tests.figures.cancelling import Case, Sweep
from tests.figures.contention import Outcome, _of_calls, _of_runs, _of_writes
from tests.figures.figure_12 import _faults, _slope
from tests.figures.figure_18 import _replayed
from tests.figures.figure_18_kills import _asking, _brought_to_its_end, _started
from tests.figures.figure_19 import _TOOLS, _judged_loop, _judged_work, _polling, _same_call
from tests.figures.judging_calls import output_faults
from tests.figures.killing import Bench
from tests.figures.soak import Sample, Soaked
from tests.pipeline.scripts import send, succeed
from tests.stores.support import said, stamped


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench() as bench:
        yield bench


def _lose_a_record(tried: Tried) -> None:
    tried.log = [r for r in tried.log if not isinstance(r, RunOpened) or "third" not in str(r)]


def _double_the_steering(tried: Tried) -> None:
    at = next(
        n
        for n, record in enumerate(tried.log)
        if isinstance(record, MessageAppended) and record.message.text == STEERED
    )
    tried.log.insert(at, tried.log[at])


def _run_twice(tried: Tried) -> None:
    tried.effects.append(["begin", "charge", "a", "s/a", "2"])


def _never_finish(tried: Tried) -> None:
    tried.effects = [words for words in tried.effects if words[:3] != ["done", "look", "c"]]


def _book_twice(tried: Tried) -> None:
    tried.effects.append(["done", "book", "d", "s/d", "2"])


def _answer_twice(tried: Tried) -> None:
    tried.effects.append(["answered", "first", "completed"])


def _ask_illegally(tried: Tried) -> None:
    tried.effects.append(["illegal", "a_call_without_result"])


def _lose_an_output(tried: Tried) -> None:
    tried.kept.pop(next(iter(tried.kept)))


def _hide_the_handles(tried: Tried) -> None:
    for at, record in enumerate(tried.log):
        if isinstance(record, ToolSettled):
            (part,) = record.message.parts
            assert isinstance(part, ToolResult)
            hidden = replace(part, content=(Text("[cut]"),))
            tried.log[at] = replace(record, message=replace(record.message, parts=(hidden,)))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_lose_a_record, "was acknowledged"),
        (_double_the_steering, "delivered 2 times"),
        (_run_twice, "charge a ran 2 times"),
        (_never_finish, "told as finished"),
        (_book_twice, "book had its effect"),
        (_answer_twice, "answered were"),
        (_ask_illegally, "illegal request"),
        (_lose_an_output, "is not kept"),
        (_hide_the_handles, "the model is not told where the output of a is kept"),
    ],
)
def test_what_a_killed_program_must_not_do_is_found(
    bench: Bench, damage: Callable[[Tried], None], words: str
) -> None:
    """A run without a fault, changed as a defect would have it, has that very fault."""
    tried, wrong = bench.judged(bench.case())
    assert wrong == []
    damage(tried)
    assert words in "\n".join(crash_faults(tried))


def _summarise_again(tried: Tried) -> None:
    at, asked = next(
        (n, r) for n, r in enumerate(tried.log) if isinstance(r, ModelAsked) and r.purpose
    )
    while not isinstance(tried.log[at], ViewChanged):
        at += 1
    again = replace(asked, attempt="again", purpose="compaction")
    tried.log[at + 1 : at + 1] = [again, ModelEnded("again", "ok")]


def _lose_the_task(tried: Tried) -> None:
    at, change = next((n, r) for n, r in enumerate(tried.log) if isinstance(r, ViewChanged))
    tried.log[at] = replace(change, kept=())


def _fold_by_rule(tried: Tried) -> None:
    for at, record in enumerate(tried.log):
        if isinstance(record, ViewChanged):
            tried.log[at] = replace(record, by="trim")


def _recall_nothing(tried: Tried) -> None:
    tried.log[:] = [r for r in tried.log if not isinstance(r, Recalled)]


def _forget(tried: Tried) -> None:
    tried.notes = [note for note in tried.notes if "Berth 7" not in note.text]


def _remember_twice(tried: Tried) -> None:
    tried.notes += [note for note in tried.notes if "ship 3" in note.text]


def _throw_away(tried: Tried) -> None:
    tried.effects = [words[:-3] if words[0] == "kept" else words for words in tried.effects]


def _ask_unrecorded(tried: Tried) -> None:
    tried.effects.append(["asked", "memory"])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_summarise_again, "a summary is made again"),
        (_lose_the_task, "'Ship 0' is 0 times in the view"),
        (_fold_by_rule, "trim after a summary that is ok"),
        (_recall_nothing, "what was noted is not brought up"),
        (_forget, "'Berth 7 is closed.' is remembered 0 times"),
        (_remember_twice, "'Ada told of ship 3.' is remembered 2 times"),
        (_throw_away, "the store still has"),
        (_ask_unrecorded, "was asked 9 times for memory, recorded are 8"),
    ],
)
def test_what_a_killed_program_must_not_do_with_its_memory_is_found(
    bench: Bench, damage: Callable[[Tried], None], words: str
) -> None:
    """The same where the session is compacted."""
    tried, wrong = bench.judged(bench.case("summary"))
    assert wrong == []
    damage(tried)
    assert words in "\n".join(crash_faults(tried))


def test_a_write_under_a_lease_that_was_taken_over_is_found() -> None:
    """What was tried before the other's claim may land; what is tried after it may not."""
    legal = "p0 claimed 1|p0 appending 1|p1 claimed 2|p0 appended 1|p0 appending 1|p0 refused 1"
    told = "p0 fenced s 1"
    for diary, words in (
        (f"{legal}|{told}", ""),
        ("p0 claimed 1|p1 claimed 2|p0 appending 1|p0 appended 1", "stale lease 1"),
        (legal, "0 runs ended telling so"),
    ):
        found = _of_writes(outcome := Outcome([]), [line.split() for line in diary.split("|")])
        assert words in "\n".join(found)
        assert bool(found) == bool(words)
        assert outcome.refused == diary.count("refused")


def test_runs_that_interleave_and_calls_made_too_often_are_found() -> None:
    """Records of one run lie together; a takeover explains one more model call, no second tool."""
    log = [stamped("s", n, said("x")) for n in range(3)]
    other = [replace(each, run="another") for each in log]
    assert _of_runs([*log, *other]) == []
    assert _of_runs([log[0], other[1], log[2]]) == ["run 'run' interleaves"]
    diary = [line.split() for line in ("p0 asked x", "p1 asked x", "p0 begin c", "p1 begin c")]
    assert _of_calls(diary[:3], 1) == []
    assert len(_of_calls(diary[:3], 0)) == 1
    assert len(_of_calls(diary, 1)) == 1


def test_a_leak_is_found_and_a_cache_is_not() -> None:
    """Memory that grows with every turn; memory that grows once; a thread that stays."""

    def soaked(grow: Callable[[int], int], threads: Callable[[int], int] = lambda _: 3) -> Soaked:
        samples = [Sample(100 * n, grow(n), 1, 9, threads(n)) for n in range(1, 25)]
        return Soaked(tuple(samples), ())

    leaking = soaked(lambda n: 100 * n * 1200)
    caching = soaked(lambda n: 500_000 * (n > 16))
    starting = soaked(lambda _: 0, lambda n: n // 20)
    assert _faults(leaking, _slope(leaking.samples)) == ["every turn leaves 1200 bytes behind"]
    assert _faults(caching, _slope(caching.samples)) == []
    assert len(_faults(starting, _slope(starting.samples))) == 1


@pytest.mark.parametrize(
    ("guard", "told"),
    [
        (RepetitionGuard(stop=99), "not stopped"),
        (RepetitionGuard(refuse=4, stop=4), "stopped after 4 repeats"),
        (RepetitionGuard(polling=_TOOLS), "not stopped"),
    ],
)
def test_a_guard_that_stops_too_late_is_found_out(guard: RepetitionGuard, told: str) -> None:
    """Or never."""
    trace = _same_call(Random(1))
    wrong, *_ = anyio.run(_judged_loop, trace, guard)
    assert wrong[0].startswith(told)


def test_a_guard_that_stops_too_much_is_found_out() -> None:
    """As one that is not told what polls."""
    counts, wrong = anyio.run(_judged_work, _polling(Random(1)), RepetitionGuard())
    assert counts["false stops"] == 1
    assert wrong[0].startswith("ended as no_progress")


def test_payments_that_nobody_allowed_are_found() -> None:
    """A shop without its rule; one that pays once more than it was allowed; another amount."""

    async def attacked(*, guarded: bool, more: tuple[int, ...] = ()) -> list[str]:
        shop = Shop(MemoryStore(), "hook", "alone", "s")
        await shop.store.create("s")
        shop.guarded = guarded
        if guarded:
            await _replayed(shop)
        else:
            await shop.ask()
        shop.paid += [("s", "a", amount) for amount in more]
        await shop.finished(["s"])
        return shop.faults

    assert anyio.run(partial(attacked, guarded=True)) == []
    assert anyio.run(partial(attacked, guarded=True, more=(3,))) == ["nobody allowed ('s', 'a', 3)"]
    assert anyio.run(partial(attacked, guarded=True, more=(4,))) == ["nobody allowed ('s', 'a', 4)"]
    unasked = anyio.run(partial(attacked, guarded=False))
    assert "it paid before anybody was asked" in unasked


def test_a_payment_that_a_crash_has_doubled_or_lost_is_found() -> None:
    """What was paid before the crash counts with what is paid after it."""
    io = _asking(1)
    send(io)
    left = io.log[: io.durable]
    once = ("pay1", "pay", '{"n":1}')
    assert _brought_to_its_end(left, [], "approve") == []
    assert _brought_to_its_end(left, [once], "approve") != []
    assert _brought_to_its_end(left, [], "edit") == []
    assert _brought_to_its_end(left, [once], "deny") != []
    done = _started(left, "deny", "d")
    succeed(done)
    assert _brought_to_its_end(done.log, [], "approve") == [
        "it paid [], told as denied",
        "it was told as denied",
    ]


class _Deaf(MemoryStore):
    """A store in which what is posted is lost."""

    async def post(
        self, session: str, item: Steer | CancelRequested, *, dedupe_key: str | None = None
    ) -> Posted:
        return Posted("lost", duplicate=False, running=False)


def test_what_is_lost_of_a_call_in_the_background_is_found_out() -> None:
    """Figure 3 asks what came of each call that was left."""
    scenario = next(each for each in SCENARIOS if each.name == "tool in the background")
    sweep = Sweep({"sqlite": _Deaf()})
    sweep.over(Case(scenario, "asyncio", "scope", "sqlite", 1, 0), 1)
    assert any("what came of a was told 0 times" in each for each in sweep.failures)


class _Muddled(MemoryStore):
    """A store that keeps something else than it was given."""

    async def put_artifact(self, session: str, handle: str, text: str) -> None:
        await super().put_artifact(session, handle, f"not {text}")


def test_an_output_that_is_not_what_is_kept_of_it_is_found_out() -> None:
    """Or is shown whole, although it is too long."""
    scenario = next(each for each in SCENARIOS if each.name == "large outputs")
    sweep = Sweep({"sqlite": _Muddled()})
    sweep.over(Case(scenario, "asyncio", "scope", "sqlite", 9_999, 0), 1)
    assert any("a.result is not what is kept of it" in each for each in sweep.failures)
    whole = Message("tool", (ToolResult("a", (Text("worked 1"),)),), id="a.result")
    log = [ToolSettled(whole, "finished")]
    found = anyio.run(output_faults, scenario, World(MemoryStore(), ("s",)), "s", log)
    assert found == ["a.result is shown whole"]


class _Parrot:
    """A memory that keeps the same under another name each time; it was told of the first run not
    at all, and of the second twice."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._told = 0
        self._notes = NoteMemory(world.store.notes, scopes=("session",))

    async def recall(self, query: RecallQuery) -> Sequence[Message]:
        return ()

    async def remember(self, snapshot: MemorySnapshot, ask: Ask | None) -> None:
        told = snapshot.scope.session, snapshot.run_id, snapshot.status
        self._world.remembered += [told] * self._told
        self._told += 2
        await self._notes.write(snapshot.scope, FACT)


def test_a_memory_that_keeps_a_fact_twice_is_found_out() -> None:
    """Or does not say what it was to bring up, or was not told of a run, or twice."""
    scenario = next(each for each in SCENARIOS if each.name == "memory")
    sweep = Sweep({})
    sweep.over(Case(replace(scenario, memory=_Parrot), "asyncio", "scope", "memory", 9_999, 0), 1)
    told = "\n".join(sweep.failures)
    assert f"{FACT!r} is remembered 2 times" in told
    assert f"{[FACT]} is remembered" in told
    assert "was told to memory as []" in told
    assert "was told to memory as ['completed', 'completed']" in told
