"""Whatever a strategy of somebody else does, the run goes on and the log can be read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from llm_client.errors import ContextOverflow, LLMError, Overloaded, Timeout
from llm_client.retry import FallbackPolicy, RetryPolicy
from llm_client.tokens import ModelTokens
from llm_client.types import (
    LLMRequest,
    Message,
    Opaque,
    Part,
    Text,
    Thinking,
    Transcript,
    Usage,
)
from power_loop import AgentConfig, AgentLoop, Budget, SharedBudget
from power_loop.driver.detached import Detached
from power_loop.errors import UsageError
from power_loop.events import (
    CompactionRejected,
    ModelAsked,
    ModelEnded,
    Stamped,
    Transient,
    ViewChanged,
)
from power_loop.runtime.asking import Ask
from power_loop.runtime.compaction.base import CompactionPlan, ContextSize
from power_loop.runtime.compaction.keeper import Keeper
from power_loop.runtime.compaction.summary import DefaultCompactor
from power_loop.runtime.compaction.trim import TrimCompactor
from power_loop.runtime.memory.base import MemorySnapshot, RecallQuery
from power_loop.session.records import Record
from tests.agent.scripted import Gate, Reply, Scripted, fails, hangs
from tests.agent.support import check_log, events_of, opened_store
from tests.agent.test_compaction import SUMMARY, WORDS, chatting, is_summary, says, summaries, talk
from tests.runtime.compaction.worlds import asked_of

pytestmark = pytest.mark.anyio

Strategy = Callable[[Transcript, ContextSize, Ask], Awaitable[CompactionPlan | None]]
Plan = Callable[[Transcript], Any]


class Foreign:
    """A strategy that a test has written."""

    name = "foreign"

    def __init__(self, work: Strategy) -> None:
        self._work = work

    def limit(self, window: int | None, reserved_output: int) -> int | None:
        """Three quarters of the window."""
        return None if window is None else window * 3 // 4

    async def compact(self, view: Transcript, size: ContextSize, ask: Ask) -> CompactionPlan | None:
        """What the test wants."""
        return await self._work(view, size, ask)


def with_strategy(work: Strategy) -> AgentConfig:
    """A small window, and one strategy."""
    return AgentConfig(context_window=1200, max_output_tokens=100, compactors=[Foreign(work)])


def _shorter(view: Transcript, *parts: Any, by: Any = "foreign") -> CompactionPlan:
    replaced: Mapping[str, tuple[Part, ...]] = {view[-3].id: parts}
    return CompactionPlan(by=by, replaced=replaced)


def _cut(view: Transcript, note: Any, **stamp: Any) -> CompactionPlan:
    kept = (view[0].id,)
    return CompactionPlan(by="foreign", cut=view[-1].id, kept=kept, note=note, stamp=stamp)


PLANS: Sequence[tuple[Plan, str]] = [
    (lambda view: "shorten it", "'str' object has no attribute"),
    (lambda view: _cut(view, 7), "Expected `str`, got `int`"),
    (lambda view: _cut(view, "short", engine=5), "Expected `str`, got `int`"),
    (lambda view: _cut(view, "short", engine="\ud800"), "no log can hold it"),
    (lambda view: _cut(view, "short", engine="\0"), "what no provider takes"),
    (lambda view: _cut(view, "sho\0rt"), "what no provider takes"),
    (lambda view: _shorter(view, Text("\ud800")), "no log can hold it"),
    (lambda view: _shorter(view, Text("\0")), "what no provider takes"),
    (lambda view: _shorter(view, "short"), "no log can hold it"),
    (lambda view: _shorter(view, Thinking("hm")), "parts that its role does not"),
    (lambda view: _shorter(view, Text("s"), by="\ud800"), "no log can hold it"),
    (lambda view: _shorter(view, Text("s"), by=""), "which strategy"),
]


@pytest.mark.parametrize(("plan", "told"), PLANS)
async def test_a_plan_that_no_log_could_hold_is_not_carried_out(
    plan: Plan, told: str, tmp_path: Path
) -> None:
    """What is stored of it would be all that is ever read of its session again."""

    async def work(view: Transcript, size: ContextSize, ask: Ask) -> Any:
        return plan(view)

    seen: list[Stamped] = []
    async with opened_store("sqlite", tmp_path) as store:
        async with AgentLoop(chatting(), store=store, config=with_strategy(work)) as loop:
            loop.events.subscribe(seen.append)
            session = await talk(loop, 7)
            log = await check_log(loop, session)
        async with AgentLoop(chatting(), store=store) as other:
            assert (await other.send("And now?", session)).status == "completed"
    assert {r.by for r in log if isinstance(r, ViewChanged)} == {"trim"}
    rejected = events_of(CompactionRejected, seen)
    assert {event.by for event in rejected} == {"foreign"}
    assert all(told in event.reason for event in rejected)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_strategy_that_cancels_itself_has_failed_and_nothing_else() -> None:
    """On asyncio, whoever awaits a cancelled future raises what looks like a cancellation."""

    async def work(view: Transcript, size: ContextSize, ask: Ask) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    seen: list[Stamped] = []
    async with AgentLoop(chatting(), config=with_strategy(work)) as loop:
        loop.events.subscribe(seen.append)
        session = await talk(loop, 7)
        log = await check_log(loop, session)
    assert [r.by for r in log if isinstance(r, ViewChanged)] == ["trim"]
    assert "nobody had cancelled it" in events_of(CompactionRejected, seen)[0].reason


async def test_a_refused_prompt_for_which_a_strategy_asks_in_vain_is_replayed_as_it_was() -> None:
    """What leaves the view afterwards had left it because the provider refused it."""

    async def work(view: Transcript, size: ContextSize, ask: Ask) -> None:
        await ask(LLMRequest((Message.user("What now?"),), "aside"), within=9)

    def by(request: LLMRequest) -> Reply:
        huge = any(len(message.text) > 5_000 for message in request.messages)
        return fails(ContextOverflow("too long", status=400)) if huge else says("fine")

    config = replace(with_strategy(work), system_prompt=WORDS * 20)
    async with AgentLoop(Scripted(by=by), config=config) as loop:
        session = (await loop.send("Hello.")).session_id
        with pytest.raises(ContextOverflow):
            await loop.send(WORDS * 40, session)
        log = await check_log(loop, session)
    assert [record.by for record in log if isinstance(record, ViewChanged)] == [""]
    purposes = [record.purpose for record in log if isinstance(record, ModelAsked)]
    assert purposes[-2:] == ["", "compaction"]


async def test_an_ask_that_was_kept_answers_nobody_any_more() -> None:
    """Not even where the strategy has failed, and in no later round of the run."""
    kept: list[Ask] = []
    told: list[str] = []

    async def work(view: Transcript, size: ContextSize, ask: Ask) -> None:
        for old in kept:
            with pytest.raises(UsageError) as raised:
                await old(LLMRequest((Message.user("Still there?"),)), within=9)
            told.append(str(raised.value))
        kept.append(ask)
        raise RuntimeError("no plan")

    llm = chatting()
    async with AgentLoop(llm, config=with_strategy(work)) as loop:
        session = await talk(loop, 9)
        log = await check_log(loop, session)
    assert (len(kept), len(told)) == (2, 1)
    assert summaries(llm) == []
    assert not [record for record in log if isinstance(record, ModelAsked) and record.purpose]


async def test_a_call_that_a_strategy_does_not_wait_for_ends_with_it() -> None:
    """It was made in a task that goes on: it is stopped, and told as cancelled, once."""
    gate = Gate()
    ended: list[BaseException] = []
    log: list[Record] = []
    llm = Scripted(by=lambda request: hangs(gate) if request.system == "aside" else says(WORDS))

    async with anyio.create_task_group() as tasks:

        async def call(ask: Ask) -> None:
            try:
                await ask(LLMRequest((Message.user("?"),), "aside"), within=60)
            except Exception as error:  # noqa: BLE001  whatever the strategy is told
                ended.append(error)

        async def work(view: Transcript, size: ContextSize, ask: Ask) -> None:
            tasks.start_soon(call, ask)
            await gate.reached.wait()

        async with AgentLoop(llm, config=with_strategy(work)) as loop:
            with anyio.fail_after(20):
                session = await talk(loop, 7)
            log += await check_log(loop, session)
    asides = [record.attempt for record in log if isinstance(record, ModelAsked) and record.purpose]
    statuses = {r.attempt: r.status for r in log if isinstance(r, ModelEnded)}
    assert len(asides) == 1
    assert {statuses[attempt] for attempt in asides} == {"cancelled"}
    assert [type(error) for error in ended] == [UsageError] * len(asides)
    assert llm.under_way == 0


async def test_a_call_that_still_waits_for_a_budget_is_not_made_later() -> None:
    """Nothing of it is in the log, and the run's own call does not stand in line behind it."""
    told: list[str] = []
    log: list[Record] = []
    shared = SharedBudget(Budget(tokens=20_000, when_short="wait"))
    gate = Gate()

    async with anyio.create_task_group() as tasks:

        async def call(ask: Ask) -> None:
            request = LLMRequest((Message.user(WORDS * 40),), max_output_tokens=100)
            with pytest.raises(UsageError) as raised:
                await ask(request, within=60)
            told.append(str(raised.value))

        async def work(view: Transcript, size: ContextSize, ask: Ask) -> None:
            tasks.start_soon(call, ask)
            await anyio.wait_all_tasks_blocked()

        much = AgentConfig(max_output_tokens=15_000)
        async with (
            AgentLoop(Scripted(hangs(gate)), config=much, budget=shared) as other,
            AgentLoop(chatting(), config=with_strategy(work), budget=shared) as loop,
        ):
            tasks.start_soon(other.send, "Hold this.")
            await gate.reached.wait()
            with anyio.fail_after(20):
                session = await talk(loop, 6)
            log += await check_log(loop, session)
            gate.opened.set()
    assert told
    assert [r.by for r in log if isinstance(r, ViewChanged)] == ["trim"]
    assert not [record for record in log if isinstance(record, ModelAsked) and record.purpose]
    assert "tenant.tokens" in shared.left


async def test_a_call_waits_for_a_budget_no_longer_than_it_may_take() -> None:
    """The strategy is told, and nothing is asked or set aside."""
    told: list[LLMError] = []
    log: list[Record] = []
    shared = SharedBudget(Budget(tokens=20_000, when_short="wait"))
    gate = Gate()

    async def work(view: Transcript, size: ContextSize, ask: Ask) -> None:
        request = LLMRequest((Message.user(WORDS * 40),), max_output_tokens=100)
        with pytest.raises(Timeout, match=r"others had set its budget aside .* 0\.02 s") as raised:
            await ask(request, within=0.02)
        told.append(raised.value)

    async with anyio.create_task_group() as tasks:
        much = AgentConfig(max_output_tokens=15_000)
        async with (
            AgentLoop(Scripted(hangs(gate)), config=much, budget=shared) as other,
            AgentLoop(chatting(), config=with_strategy(work), budget=shared) as loop,
        ):
            tasks.start_soon(other.send, "Hold this.")
            await gate.reached.wait()
            held = shared.left["tenant.tokens"]
            with anyio.fail_after(20):
                session = await talk(loop, 6)
            log += await check_log(loop, session)
            spent = sum(
                (record.usage.input_tokens or 0) + (record.usage.output_tokens or 0)
                for record in log
                if isinstance(record, ModelEnded)
            )
            assert shared.left["tenant.tokens"] == held - spent
            gate.opened.set()
    assert told
    assert not any(error.sent for error in told)
    assert not [record for record in log if isinstance(record, ModelAsked) and record.purpose]


async def test_two_calls_at_once_are_refused_before_anything_is_set_aside_for_the_second() -> None:
    """A memory gets its one answer, and the run ends as it would."""
    told: list[str] = []
    gate = Gate()

    class Greedy:
        async def recall(self, query: RecallQuery) -> Sequence[Message]:
            return ()

        async def remember(self, snapshot: MemorySnapshot, ask: Ask | None) -> None:
            assert ask is not None
            request = LLMRequest((Message.user("What did you learn?"),), max_output_tokens=9)

            async def first() -> None:
                told.append((await ask(request, within=9)).text)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(first)
                await gate.reached.wait()
                with pytest.raises(UsageError, match="one call at a time"):
                    await ask(request, within=9)
                gate.opened.set()

    llm = Scripted(says("Green tea."), replace(says("She likes tea."), gate=gate))
    config = AgentConfig(memory=Greedy(), run_budget=Budget(tokens=100_000))
    async with AgentLoop(llm, config=config) as loop:
        with anyio.fail_after(20):
            result = await loop.send("What shall I serve?")
        await check_log(loop, result.session_id)
    assert (result.status, told) == ("completed", ["She likes tea."])


# ── strategies that do not end, and providers that count wrongly ─────────────────────────────────


@pytest.mark.parametrize("clings", [False, True])
async def test_a_strategy_that_never_ends_is_stopped_or_left(clings: bool) -> None:
    """The next one is asked, and readers are told, even where it ignores that it was stopped."""
    gate = Gate()

    async def hangs_for_ever(view: Transcript, size: ContextSize, ask: Ask) -> None:
        with anyio.CancelScope(shield=clings):
            await gate.wait()

    counter = ModelTokens("m")
    events: list[Transient] = []

    keeper = Keeper(
        [Foreign(hangs_for_ever)],
        counters=lambda _: counter,
        window_of=lambda _: 1200,
        output=100,
        patience=0.02,
    )
    said = [Message.user(WORDS), *[Message.assistant(WORDS), Message.user(WORDS)] * 6]
    view = Transcript([replace(message, id=f"m{at}") for at, message in enumerate(said)])
    contain = partial(Detached().contain, what="foreign")
    asked = asked_of(("m0",), events.append, contain=contain)
    with anyio.fail_after(10):
        change = await keeper.compact(LLMRequest(view), view, asked, overflow=False)
    gate.opened.set()
    assert change is not None
    assert change.by == "trim"
    assert events == [
        CompactionRejected("foreign", "CompactionRefused: it took longer than 0.02 s")
    ]


async def test_a_strategy_that_cannot_say_its_limit_has_none() -> None:
    """The run goes on as if it were not there."""

    class Broken(Foreign):
        def limit(self, window: int | None, reserved_output: int) -> int | None:
            raise ZeroDivisionError

    async def never(view: Transcript, size: ContextSize, ask: Ask) -> None:
        raise AssertionError("it is not asked")

    llm = chatting()
    config = AgentConfig(context_window=1200, max_output_tokens=100, compactors=[Broken(never)])
    async with AgentLoop(llm, config=config) as loop:
        session = await talk(loop, 3)
        await check_log(loop, session)
    assert summaries(llm) == []


async def test_a_provider_that_counts_next_to_nothing_is_not_believed() -> None:
    """Or its window would be taken for four times as large as it is."""

    def by(request: LLMRequest) -> Reply:
        return replace(says(WORDS), usage=Usage(10, 5))

    llm = Scripted(by=by)
    config = AgentConfig(
        context_window=1200, max_output_tokens=100, compactors=[TrimCompactor(keep_exchanges=1)]
    )
    async with AgentLoop(llm, config=config) as loop:
        session = await talk(loop, 12)
        log = await check_log(loop, session)
    assert [r.by for r in log if isinstance(r, ViewChanged)] == ["trim"] * 3
    counter = ModelTokens("scripted")
    assert max(counter.count_request(request).tokens for request in llm.requests) < 1200


@pytest.mark.parametrize(
    ("json", "told"),
    [
        ('{"type":"compaction","content":"berth 7 is closed"}', True),
        ('{"type":"compaction","encrypted_content":"gAAA"}', False),
    ],
)
async def test_what_a_provider_has_compacted_is_not_lost_to_a_later_summary(
    json: str, told: bool
) -> None:
    """It is a part of what is summarised; if nobody can read it, no summary is made without it."""
    made = [False]

    def by(request: LLMRequest) -> Reply:
        if is_summary(request):
            return says("Berth 7 is closed.")
        if not made[0] and len(request.messages) > 6:
            made[0] = True
            block = Opaque("anthropic", "compaction", json)
            return replace(says(WORDS), parts=(block, Text(WORDS)))
        return says(WORDS)

    llm = Scripted(by=by)
    config = AgentConfig(
        context_window=1200,
        max_output_tokens=100,
        compactors=[DefaultCompactor(keep_exchanges=1)],
    )
    async with AgentLoop(llm, config=config) as loop:
        session = await talk(loop, 14)
        log = await check_log(loop, session)
    asked = [request.messages[0].text for request in summaries(llm)]
    assert any("[what was before] berth 7 is closed" in text for text in asked) == told
    assert ("trim" in [r.by for r in log if isinstance(r, ViewChanged)]) == (not told)


async def test_the_smaller_window_of_a_model_that_stands_in_is_not_the_runs() -> None:
    """What it has refused as too large is compacted for it; the run's own model, back again, may
    have as much as before."""
    down = [True]

    def by(request: LLMRequest) -> Reply:
        if is_summary(request):
            return says(SUMMARY)
        if request.model == "small":
            large = len(request.messages) > 7
            return fails(ContextOverflow("too long", status=400)) if large else says("small")
        return fails(Overloaded("busy")) if len(request.messages) > 8 and down[0] else says(WORDS)

    llm = Scripted(by=by)
    config = AgentConfig(
        retry=RetryPolicy(max_attempts=1), fallback=FallbackPolicy(models=("small",))
    )
    async with AgentLoop(llm, config=config) as loop:
        session = await talk(loop, 5)
        down[0] = False
        before = len(await check_log(loop, session))
        for _ in range(8):
            await loop.send("And?", session)
        log = await check_log(loop, session)
    made = [record for record in log if isinstance(record, ViewChanged)]
    assert [record.by for record in made] == ["summary"]
    assert not [record for record in log[before:] if isinstance(record, ViewChanged)]
    assert [record.note.meta["model"] for record in made if record.note and record.note.meta] == [
        "scripted"
    ]
    asked = [record.model for record in log if isinstance(record, ModelAsked)]
    assert asked.count("small") == 1
    assert max(len(request.messages) for request in llm.requests) > 16
