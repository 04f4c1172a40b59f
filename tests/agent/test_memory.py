"""What memory brings up accompanies a run, and never costs it more than what it would have said."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from llm_client.errors import ServerError
from llm_client.tokens import ModelTokens
from llm_client.types import LLMRequest, Message, Text
from power_loop import (
    AgentConfig,
    AgentLoop,
    CancellationToken,
    Hooks,
    RunResult,
    ToolContext,
    tool,
)
from power_loop.errors import OverBudget, UsageError
from power_loop.events import MemoryFailed, ModelAsked, ModelEnded, PrefixChanged, Recalled, Stamped
from power_loop.extensions import Pins
from power_loop.hooks import MEMORY_RECALLED, ROUND_END, MemoryRecalled, RoundEnd, replace
from power_loop.runtime.asking import Ask
from power_loop.runtime.budget.limits import Budget
from power_loop.runtime.memory.base import MemorySnapshot, RecallQuery
from tests.agent.scripted import Gate, Scripted, calls, fails, hangs, says
from tests.agent.support import check_log, events_of, opened_store

pytestmark = pytest.mark.anyio

TEA = Message("user", (Text("She drinks tea."),), name="memory_notes")


class Memory:
    """A memory that keeps what it is told, and brings up what a test wants."""

    def __init__(
        self,
        *found: Message,
        by: Callable[[RecallQuery], Awaitable[Sequence[Message]]] | None = None,
        note: Callable[[Ask | None], Awaitable[None]] | None = None,
    ) -> None:
        self.queries: list[RecallQuery] = []
        self.notes: list[MemorySnapshot] = []
        self._found = found
        self._by = by
        self._note = note

    async def recall(self, query: RecallQuery) -> Sequence[Message]:
        """What was given."""
        self.queries.append(query)
        return self._found if self._by is None else await self._by(query)

    async def remember(self, snapshot: MemorySnapshot, ask: Ask | None) -> None:
        """Keeps it."""
        self.notes.append(snapshot)
        if self._note is not None:
            await self._note(ask)


def texts(request: LLMRequest) -> list[str]:
    """What a request says, message by message."""
    return [message.text for message in request.messages]


@tool
async def look() -> str:
    """Looks."""
    return "a ship"


async def test_what_is_recalled_stands_after_the_conversation_in_every_round() -> None:
    """It is recorded, it is no history, and the prefix of the prompt does not move."""
    memory = Memory(TEA)
    llm = Scripted(calls(("c", "look", {})), says("Green?"), says("Black."))
    seen: list[Stamped] = []
    config = AgentConfig(memory=memory, agent_name="butler", memory_tokens=700)
    async with AgentLoop(llm, tools=[look], config=config) as loop:
        loop.events.subscribe(seen.append)
        result = await loop.send("What shall I serve?", user="ada")
        session = result.session_id
        await loop.send("Or?", session, user="ada")
        log = await check_log(loop, session)
        assert all(m.name is None for m in await loop.get_messages(session))
    assert texts(llm.requests[0]) == ["What shall I serve?", "She drinks tea."]
    assert texts(llm.requests[1])[-1] == "She drinks tea."
    assert texts(llm.requests[2])[-2:] == ["Or?", "She drinks tea."]
    first, second = memory.queries
    assert (first.text, first.tokens) == ("What shall I serve?", 700)
    assert (first.scope.session, first.scope.user, first.scope.agent) == (session, "ada", "butler")
    assert second.text == "Or?"
    assert [record for record in log if isinstance(record, Recalled)] == [Recalled((TEA,))] * 2
    assert events_of(PrefixChanged, seen) == []
    assert llm.illegal == []


async def test_memory_is_asked_for_what_was_said_whatever_an_extension_adds() -> None:
    """What is pinned as the run begins is not what it is about."""
    memory = Memory()
    llm = Scripted(calls(("p", "pin_fact", {"fact": "berth 7 is closed"})), says("left"), says("!"))
    config = AgentConfig(memory=memory)
    async with AgentLoop(llm, extensions=[Pins()], config=config) as loop:
        session = (await loop.send("Pin it.", max_rounds=1)).session_id
        await loop.send("What shall I serve?", session)
        await check_log(loop, session)
    assert texts(llm.requests[-1])[-1] == "Pinned fact: berth 7 is closed"
    assert [query.text for query in memory.queries] == ["Pin it.", "What shall I serve?"]


async def test_what_is_recalled_can_stand_before_the_conversation() -> None:
    """Then the prefix is another one if what is brought up is, which an event says."""
    cake = Message.user("She eats cake.")
    found: list[Sequence[Message]] = [[TEA], [TEA], [TEA, cake], [], []]

    async def next_one(_: RecallQuery) -> Sequence[Message]:
        return found.pop(0)

    llm = Scripted(*[says("Green?")] * 5)
    seen: list[Stamped] = []
    moved: list[list[PrefixChanged]] = []
    config = AgentConfig(memory=Memory(by=next_one), memory_place="front")
    async with AgentLoop(llm, config=config) as loop:
        loop.events.subscribe(seen.append)
        session = (await loop.send("What shall I serve?")).session_id
        moved.append(events_of(PrefixChanged, seen))
        for _ in range(4):
            seen.clear()
            await loop.send("Or?", session)
            moved.append(events_of(PrefixChanged, seen))
        await check_log(loop, session)
    assert texts(llm.requests[0]) == ["She drinks tea.", "What shall I serve?"]
    assert texts(llm.requests[1])[0] == "She drinks tea."
    more, less = PrefixChanged("memory", "messages[1]"), PrefixChanged("memory", "messages[0]")
    assert moved == [[], [], [more], [less], []]


async def test_a_handler_may_rewrite_what_is_recalled() -> None:
    """What it makes of it is what is recorded."""
    hooks = Hooks()

    @hooks.on(MEMORY_RECALLED)
    def milder(context: MemoryRecalled[Any]) -> MemoryRecalled[Any]:
        return replace(context, recalled=(Message.user("She drinks something."),))

    llm = Scripted(says("Water?"))
    async with AgentLoop(llm, config=AgentConfig(memory=Memory(TEA)), hooks=hooks) as loop:
        result = await loop.send("What shall I serve?")
        (recalled,) = [
            r for r in await check_log(loop, result.session_id) if isinstance(r, Recalled)
        ]
    assert recalled.messages[0].text == "She drinks something."
    assert texts(llm.requests[0])[-1] == "She drinks something."


async def _raises(_: RecallQuery) -> Sequence[Message]:
    raise ConnectionError("the index is away; key sk-12345678")


async def _hangs(_: RecallQuery) -> Sequence[Message]:
    await anyio.sleep_forever()
    return ()


async def _nonsense(_: RecallQuery) -> Sequence[Message]:
    return "tea"  # pyright: ignore[reportReturnType]


async def _assistant(_: RecallQuery) -> Sequence[Message]:
    return [Message.assistant("I said so.")]


async def _empty(_: RecallQuery) -> Sequence[Message]:
    return [Message.user("  ")]


@pytest.mark.parametrize(
    ("by", "kind", "told"),
    [
        (_raises, "ConnectionError", "the index is away"),
        (_hangs, "TimeoutError", "it took longer than 0.02 s"),
        (_nonsense, "MemoryUnusable", "a sequence of messages, not a str"),
        (_assistant, "MemoryUnusable", "of role user or system only"),
        (_empty, "MemoryUnusable", "of text only"),
    ],
)
async def test_a_memory_that_is_no_use_costs_its_run_nothing(
    by: Callable[[RecallQuery], Awaitable[Sequence[Message]]], kind: str, told: str
) -> None:
    """The run goes on as if there were none, and an event says what happened."""
    llm = Scripted(says("Tea?"))
    seen: list[Stamped] = []
    config = AgentConfig(memory=Memory(by=by), recall_timeout=0.02)
    async with AgentLoop(llm, config=config) as loop:
        loop.events.subscribe(seen.append)
        with anyio.fail_after(10):
            result = await loop.send("What shall I serve?")
        await check_log(loop, result.session_id)
    assert result.status == "completed"
    assert texts(llm.requests[0]) == ["What shall I serve?"]
    (failed,) = events_of(MemoryFailed, seen)
    assert (failed.operation, failed.provider, failed.error_type) == ("recall", "Memory", kind)
    assert told in failed.message


async def test_a_memory_that_gives_ten_megabytes_is_held_to_its_share_of_the_prompt() -> None:
    """What comes first is kept, cut where its share ends."""

    async def much(_: RecallQuery) -> Sequence[Message]:
        return [TEA, Message.user("x" * 10_000_000), Message.user("never")]

    llm = Scripted(says("Tea?"))
    async with AgentLoop(
        llm, config=AgentConfig(memory=Memory(by=much), memory_tokens=200)
    ) as loop:
        with anyio.fail_after(10):
            result = await loop.send("What shall I serve?")
        await check_log(loop, result.session_id)
    said = texts(llm.requests[0])
    assert said[1] == "She drinks tea."
    assert len(said[2]) < 1000
    assert said[2].endswith(" […]")
    assert len(said) == 3


async def test_characters_that_no_provider_takes_are_replaced_in_what_is_recalled() -> None:
    """A lone surrogate or a NUL would make every request of the run impossible."""
    llm = Scripted(says("Tea?"))
    config = AgentConfig(memory=Memory(Message.user("te\0a \ud800")))
    async with AgentLoop(llm, config=config) as loop:
        result = await loop.send("What shall I serve?")
        await check_log(loop, result.session_id)
    assert texts(llm.requests[0])[1] == "te␀a �"


@pytest.mark.parametrize(
    "found",
    [
        Message("user", (Text("tea"),), name="a\ud800"),
        Message("user", (Text("tea"),), meta={"from": "\ud800"}),
        Message("user", (Text("te\0a"),), meta={"\0": "x"}),
    ],
)
async def test_what_no_store_can_hold_of_a_memory_costs_its_run_nothing(
    found: Message, tmp_path: Path
) -> None:
    """A name, or what a provider has noted beside the text."""
    llm = Scripted(says("Tea?"))
    async with (
        opened_store("sqlite", tmp_path) as store,
        AgentLoop(llm, store=store, config=AgentConfig(memory=Memory(found))) as loop,
    ):
        result = await loop.send("What shall I serve?")
        await check_log(loop, result.session_id)
    assert result.status == "completed"
    assert texts(llm.requests[0])[1].startswith("te")


@pytest.mark.parametrize("text", ["茶" * 6_000, "🍵" * 6_000, "ö" * 6_000, "tea " * 6_000])
async def test_what_is_recalled_is_held_to_its_tokens_in_every_script(text: str) -> None:
    """There are scripts of which a character is more than a quarter of a token."""
    llm = Scripted(says("Tea?"))
    config = AgentConfig(memory=Memory(Message.user(text)), memory_tokens=1_500)
    async with AgentLoop(llm, config=config) as loop:
        result = await loop.send("What shall I serve?")
        await check_log(loop, result.session_id)
    recalled = llm.requests[0].messages[-1]
    assert 1_000 < ModelTokens("").count_message(recalled) <= 1_500
    assert recalled.text.endswith(" […]")


# ── taking note ───────────────────────────────────────────────────────────────────────────────────


async def test_every_run_is_remembered_once_however_it_ends() -> None:
    """Completed, limited, out of reach, failed: with its status and last words."""
    memory = Memory()
    asks: list[bool] = []

    async def note(ask: Ask | None) -> None:
        asks.append(ask is not None)

    memory = Memory(note=note)
    llm = Scripted(
        says("done"),
        calls(("c", "look", {})),
        says("where I stand"),
        fails(ServerError("down", retryable=False)),
    )
    async with AgentLoop(llm, tools=[look], config=AgentConfig(memory=memory)) as loop:
        session = (await loop.send("one", user="ada")).session_id
        await loop.send("two", session, max_rounds=1)
        with pytest.raises(ServerError):
            await loop.send("three", session)
    told = [(each.status, each.final_text, each.rounds) for each in memory.notes]
    assert told == [
        ("completed", "done", 1),
        ("round_limit", "[round_limit] where I stand", 2),
        ("failed", "", 1),
    ]
    assert [each.scope.user for each in memory.notes] == ["ada", "", ""]
    assert asks == [True, False, False]


async def test_a_memory_may_ask_the_model_about_a_run_that_completes() -> None:
    """The call is a part of the run: recorded, in its ledger, and answered before the run ends."""
    said: list[str] = []

    async def note(ask: Ask | None) -> None:
        assert ask is not None
        request = LLMRequest((Message.user("What did you learn?"),), max_output_tokens=50)
        said.append((await ask(request, within=9)).text)

    llm = Scripted(says("Green tea it is."), says("She likes green tea."))
    async with AgentLoop(llm, config=AgentConfig(memory=Memory(note=note))) as loop:
        result = await loop.send("What shall I serve?")
        log = await check_log(loop, result.session_id)
        usage = await loop.usage(result.session_id)
    assert (result.final_text, result.status) == ("Green tea it is.", "completed")
    assert said == ["She likes green tea."]
    assert [r.purpose for r in log if isinstance(r, ModelAsked)] == ["", "memory"]
    assert usage.totals.attempts == 2
    assert all(message.text != said[0] for message in llm.requests[0].messages)


async def test_a_memory_that_ignores_that_its_time_is_over_does_not_hold_its_run() -> None:
    """It is left to itself, and what it comes up with afterwards is not heard."""
    gate = Gate()

    async def clings(_: RecallQuery) -> Sequence[Message]:
        with anyio.CancelScope(shield=True):
            await gate.wait()
        return [TEA]

    llm = Scripted(says("Tea?"))
    seen: list[Stamped] = []
    config = AgentConfig(memory=Memory(by=clings), recall_timeout=0.02)
    async with AgentLoop(llm, config=config) as loop:
        loop.events.subscribe(seen.append)
        with anyio.fail_after(10):
            result = await loop.send("What shall I serve?")
        gate.opened.set()
        await check_log(loop, result.session_id)
    assert result.status == "completed"
    assert texts(llm.requests[0]) == ["What shall I serve?"]
    assert [each.error_type for each in events_of(MemoryFailed, seen)] == ["TimeoutError"]


async def test_a_memory_that_fails_or_hangs_as_the_run_ends_does_not_change_its_end() -> None:
    """The answer is there, and the call it had made is in the ledger."""
    gate = Gate()

    async def note(ask: Ask | None) -> None:
        assert ask is not None
        await ask(LLMRequest((Message.user("What did you learn?"),)), within=60)

    llm = Scripted(says("Green tea."), hangs(gate))
    seen: list[Stamped] = []
    config = AgentConfig(memory=Memory(note=note), remember_timeout=0.05)
    async with AgentLoop(llm, config=config) as loop:
        loop.events.subscribe(seen.append)
        with anyio.fail_after(10):
            result = await loop.send("What shall I serve?")
        log = await check_log(loop, result.session_id)
    assert (result.status, result.final_text) == ("completed", "Green tea.")
    (failed,) = events_of(MemoryFailed, seen)
    assert (failed.operation, failed.error_type) == ("remember", "TimeoutError")
    ended = [record for record in log if isinstance(record, ModelEnded)]
    assert [record.status for record in ended] == ["ok", "cancelled"]
    assert llm.under_way == 0


async def test_a_memory_has_no_more_to_spend_than_its_run() -> None:
    """What is over the budget is not asked."""
    refused: list[BaseException] = []

    async def note(ask: Ask | None) -> None:
        assert ask is not None
        with pytest.raises(OverBudget) as raised:
            await ask(LLMRequest((Message.user("What did you learn?"),)), within=9)
        refused.append(raised.value)

    llm = Scripted(says("Green tea."))
    config = AgentConfig(memory=Memory(note=note), run_budget=Budget(llm_calls=1))
    async with AgentLoop(llm, config=config) as loop:
        result = await loop.send("What shall I serve?")
        await check_log(loop, result.session_id)
    assert result.status == "completed"
    assert "run.llm_calls" in str(refused[0])
    assert len(llm.requests) == 1


async def test_a_message_that_comes_while_the_run_is_being_remembered_is_answered() -> None:
    """It was accepted, so the run may not end without it; what comes of it is remembered too."""
    gate = Gate()
    waits = [True]

    async def note(ask: Ask | None) -> None:
        if waits[0]:
            waits[0] = False
            await gate.wait()

    memory = Memory(note=note)
    llm = Scripted(says("Green tea."), says("With milk."))
    async with AgentLoop(llm, config=AgentConfig(memory=memory)) as loop:
        await loop.store.create("s", at=0.0)
        async with anyio.create_task_group() as tasks:

            async def go() -> None:
                result = await loop.send("What shall I serve?", "s")
                assert result.final_text == "With milk."

            tasks.start_soon(go)
            with anyio.fail_after(10):
                await gate.reached.wait()
            await loop.steer("s", "And with it?")
            gate.opened.set()
        await check_log(loop, "s")
    assert [each.final_text for each in memory.notes] == ["Green tea.", "With milk."]


async def test_a_message_that_cannot_wait_breaks_off_what_memory_asks_of_the_model() -> None:
    """The round that had been answered has ended once, and what comes of the message is noted."""
    gate = Gate()

    async def note(ask: Ask | None) -> None:
        assert ask is not None
        await ask(LLMRequest((Message.user("What did you learn?"),)), within=60)

    hooks = Hooks()
    rounds: list[int] = []

    @hooks.on(ROUND_END)
    def ended(context: RoundEnd[Any]) -> None:
        rounds.append(context.round)

    memory = Memory(note=note)
    llm = Scripted(says("Green tea."), hangs(gate), says("With milk."), says("She likes milk."))
    async with AgentLoop(llm, config=AgentConfig(memory=memory), hooks=hooks) as loop:
        await loop.store.create("s", at=0.0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(loop.send, "What shall I serve?", "s")
            with anyio.fail_after(10):
                await gate.reached.wait()
            await loop.steer("s", "And with it?", mode="interrupt")
        assert rounds == [1, 2]
        log = await check_log(loop, "s")
    assert [each.final_text for each in memory.notes] == ["Green tea.", "With milk."]
    statuses = [record.status for record in log if isinstance(record, ModelEnded)]
    assert statuses == ["ok", "cancelled", "ok", "ok"]
    assert llm.illegal == []


async def test_a_run_that_is_cancelled_waits_for_no_slow_memory() -> None:
    """What it may take to note an answer is not what somebody waits who wants none."""
    gate = Gate()

    async def note(_: Ask | None) -> None:
        await anyio.sleep_forever()

    memory = Memory(note=note)
    seen: list[Stamped] = []
    config = AgentConfig(memory=memory, hook_grace=0.05, remember_timeout=3_600)
    async with AgentLoop(Scripted(hangs(gate)), config=config) as loop:
        loop.events.subscribe(seen.append)
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(loop.send, "What shall I serve?")
                await gate.reached.wait()
                tasks.cancel_scope.cancel()
    assert [each.status for each in memory.notes] == ["cancelled"]
    (failed,) = events_of(MemoryFailed, seen)
    assert (failed.operation, failed.error_type) == ("remember", "TimeoutError")


async def test_a_run_that_ends_otherwise_after_all_is_remembered_as_it_was() -> None:
    """It was about to complete, and was cancelled while that was being noted."""
    gate = Gate()

    async def note(ask: Ask | None) -> None:
        if ask is not None:
            await gate.wait()

    memory = Memory(note=note)
    async with AgentLoop(Scripted(says("Tea.")), config=AgentConfig(memory=memory)) as loop:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(loop.send, "What shall I serve?")
                await gate.reached.wait()
                tasks.cancel_scope.cancel()
    assert [each.status for each in memory.notes] == ["completed", "cancelled"]


async def test_a_tool_is_told_for_whom_the_run_works() -> None:
    """So that it can keep notes in the right place."""
    seen: list[tuple[str, str]] = []

    @tool
    async def who(ctx: ToolContext) -> str:
        """Says it."""
        seen.append((ctx.user, ctx.agent))
        return "noted"

    llm = Scripted(calls(("c", "who", {})), says("done"))
    async with AgentLoop(llm, tools=[who], config=AgentConfig(agent_name="butler")) as loop:
        await loop.send("who?", user="ada")
        with pytest.raises(UsageError, match="the name of a person"):
            await loop.send("who?", user=7)  # pyright: ignore[reportArgumentType]
    assert seen == [("ada", "butler")]


async def test_a_memory_asks_nothing_once_its_run_is_being_cancelled() -> None:
    """Not even if it comes to it before it hears of that itself."""
    gate = Gate()

    async def note(ask: Ask | None) -> None:
        if ask is not None:
            await gate.wait()
            await ask(LLMRequest((Message.user("What did you learn?"),)), within=60)

    token = CancellationToken()
    llm = Scripted(says("Green tea."), says("Nothing."))
    results: list[RunResult[Any]] = []
    async with AgentLoop(llm, config=AgentConfig(memory=Memory(note=note))) as loop:

        async def send() -> None:
            results.append(await loop.send("What shall I serve?", cancel=token))

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send)
                await gate.reached.wait()
                gate.opened.set()
                token.cancel("enough")
        log = await check_log(loop, results[0].session_id)
    assert results[0].status == "cancelled"
    assert len(llm.requests) == 1
    assert [record.purpose for record in log if isinstance(record, ModelAsked)] == [""]
