"""Messages that cannot wait: they stop what is under way, truthfully, and are heard next."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from llm_client.errors import Overloaded
from llm_client.retry import RetryPolicy
from llm_client.types import ToolCall, ToolResult
from power_loop import AgentConfig, AgentLoop, Hooks, MemoryStore, ToolContext, approve, tool
from power_loop.errors import UsageError
from power_loop.hooks import ROUND_START, TOOL_BEFORE, RoundStart, Suspend, ToolBefore
from power_loop.runtime.stores.base import CancelRequested, InboxItem, Store
from power_loop.session.outcome import Cancelled
from power_loop.session.records import (
    MessageAppended,
    ModelEnded,
    RunClosed,
    RunOpened,
    ToolSettled,
    ToolStarted,
)
from tests.agent.scripted import Gate, Scripted, calls, fails, hangs, says
from tests.agent.stepping import tasks_alive
from tests.agent.stores import SlowStore
from tests.agent.support import EVERY_STORE, check_log, opened_store

pytestmark = pytest.mark.anyio


@pytest.fixture(params=EVERY_STORE)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Store]:
    async with opened_store(request.param, tmp_path) as store:
        await store.create("s")
        yield store


class Work:
    """What the tools share with their test."""

    def __init__(self) -> None:
        self.running = anyio.Event()
        self.reasons: list[str | None] = []


@tool
async def stuck(context: ToolContext[Work]) -> None:
    """Works until it is stopped."""
    context.deps.running.set()
    try:
        await anyio.sleep_forever()
    finally:
        context.deps.reasons.append(context.cancel_reason)


@tool
async def quick() -> str:
    """Works for a moment."""
    return "quickly done"


@tool(exclusive=True)
async def alone() -> str:
    """Works while nobody else does."""
    return "alone"


async def _sends(loop: AgentLoop[Any], into: list[Any], deps: object = None) -> None:
    async with loop.stream("go", "s", deps=deps) as run:
        into.append(await run.result())


async def _heard(loop: AgentLoop[Any]) -> None:
    """Returns once the run of "s" knows that it is interrupted."""
    run = loop._runner._runs._of["s"]
    while not run.ports.interrupted():
        await anyio.lowlevel.checkpoint()


async def test_an_interrupting_message_closes_the_model_call_and_keeps_its_text(
    store: Store,
) -> None:
    """The words that had come stay, marked; the run goes on with the message."""
    gate = Gate()
    llm = Scripted(hangs(gate, "It was a dark and"), says("as you like"))
    results: list[Any] = []
    with anyio.fail_after(10):
        async with AgentLoop(llm, store=store) as loop:
            before = tasks_alive()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_sends, loop, results)
                await gate.reached.wait()
                assert (await loop.steer("s", "no stories", mode="interrupt")).running
            assert tasks_alive() == before
            assert (results[0].status, results[0].final_text) == ("completed", "as you like")
            log = await check_log(loop, "s")
            assert await store.inbox("s") == ()
    assert llm.under_way == 0
    assert llm.illegal == []
    told = [(m.role, m.text) for m in llm.requests[1].messages]
    assert told == [("user", "go"), ("assistant", "It was a dark and"), ("user", "no stories")]
    assert llm.requests[1].messages[1].meta == {"interrupted": "true"}
    ended = [r for r in log if isinstance(r, ModelEnded)]
    assert [(r.status, r.partial) for r in ended] == [
        ("cancelled", "It was a dark and"),
        ("ok", ""),
    ]
    assert not ended[0].measured
    assert ended[0].usage.output_tokens
    assert len([r for r in log if isinstance(r, RunOpened)]) == 1


async def test_nothing_but_text_is_kept_of_an_interrupted_answer(store: Store) -> None:
    """Neither a call that had begun to arrive, nor thinking without its signature."""
    gate = Gate()
    partial = calls(("a", "quick", {}), text="I shall")
    thought = says("", thinking="hm", gate=gate)
    llm = Scripted(by=lambda request: reply() if len(request.messages) == 1 else says("fine"))

    def reply() -> Any:
        return type(partial)((*thought.parts[:1], *partial.parts), gate=gate)

    results: list[Any] = []
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[quick], store=store) as loop:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_sends, loop, results)
                await gate.reached.wait()
                await loop.steer("s", "stop", mode="interrupt")
            log = await check_log(loop, "s")
    kept = [r.message for r in log if isinstance(r, MessageAppended)]
    assert [part for m in kept for part in m.parts if isinstance(part, ToolCall)] == []
    assert [m.text for m in kept] == ["I shall", "stop", "fine"]
    assert all(len(m.parts) == 1 for m in kept)


async def test_an_answer_of_which_nothing_has_come_leaves_no_message(store: Store) -> None:
    """Also where nobody reads along, so that nothing is streamed."""
    gate = Gate()
    llm = Scripted(hangs(gate, "unseen"), says("as you like"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, store=store) as loop:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(loop.send, "go", "s")
                await gate.reached.wait()
                await loop.steer("s", "this first", mode="interrupt")
            texts = [m.text for m in await loop.get_messages("s")]
            assert texts == ["go", "this first", "as you like"]
            await check_log(loop, "s")


async def test_running_tools_are_stopped_and_the_truth_is_told_of_each(store: Store) -> None:
    """Finished ones keep their results; what had not begun was not run."""
    llm = Scripted(
        calls(("a", "stuck", {}), ("b", "quick", {}), ("c", "alone", {})), says("I stopped")
    )
    work = Work()
    results: list[Any] = []
    with anyio.fail_after(10):
        async with AgentLoop[Work](llm, tools=[stuck, quick, alone], store=store) as loop:
            async with anyio.create_task_group() as tasks:
                settled = anyio.Event()
                loop.events.subscribe(lambda _: settled.set(), types={ToolSettled}, inline=True)
                tasks.start_soon(_sends, loop, results, work)
                await work.running.wait()
                await settled.wait()
                await loop.steer("s", "stop that", mode="interrupt")
            log = await check_log(loop, "s")
            assert await store.inbox("s") == ()
    assert results[0].status == "completed"
    assert work.reasons == ["a message came that could not wait"]
    hows = {r.message.id: r.how for r in log if isinstance(r, ToolSettled)}
    assert hows == {"a.result": "interrupted", "b.result": "finished", "c.result": "not_run"}
    assert [r.call_id for r in log if isinstance(r, ToolStarted)] == ["a", "b"]
    last = llm.requests[1].messages
    assert [m.role for m in last] == ["user", "assistant", "tool", "tool", "tool", "user"]
    assert last[-1].text == "stop that"
    told = [part.text for m in last for part in m.parts if isinstance(part, ToolResult)]
    assert "stopped before it had finished" in told[0]
    assert told[1] == "quickly done"
    assert "before it had begun" in told[2]


async def test_a_message_that_came_before_the_tools_keeps_all_of_them_from_running(
    store: Store,
) -> None:
    """It is a level: it holds until it is taken, and no hook asks a person for anything then."""
    hooks = Hooks()
    asked: list[str] = []

    @hooks.on(TOOL_BEFORE)
    async def judge(context: ToolBefore[Any]) -> None:
        asked.append(context.call.id)
        await loop.steer("s", "wait", mode="interrupt", dedupe_key="once")
        await _heard(loop)

    llm = Scripted(calls(("a", "quick", {}), ("b", "quick", {})), says("I wait"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[quick], store=store, hooks=hooks) as loop:
            assert (await loop.send("go", "s")).status == "completed"
            log = await check_log(loop, "s")
    assert asked == ["a"]
    assert not any(isinstance(r, ToolStarted) for r in log)
    assert [r.how for r in log if isinstance(r, ToolSettled)] == ["not_run", "not_run"]
    assert llm.requests[1].messages[-1].text == "wait"


async def test_a_message_that_came_before_the_model_is_asked_keeps_it_from_being_asked(
    store: Store,
) -> None:
    """The hook runs to its end; the request that follows knows the message."""
    hooks = Hooks()

    @hooks.on(ROUND_START)
    async def look(context: RoundStart[Any]) -> None:
        if context.round == 0:
            await loop.steer("s", "first this", mode="interrupt")
            await _heard(loop)

    llm = Scripted(says("this first"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, store=store, hooks=hooks) as loop:
            assert (await loop.send("go", "s")).status == "completed"
            log = await check_log(loop, "s")
    assert [m.text for m in llm.requests[0].messages] == ["go", "first this"]
    ended = [r for r in log if isinstance(r, ModelEnded)]
    assert (ended[0].status, ended[0].usage.total_tokens) == ("cancelled", 0)


async def test_an_interrupting_message_does_not_wait_for_a_retry(store: Store) -> None:
    """The pause before the next attempt is under way too."""
    llm = Scripted(fails(Overloaded("no capacity", status=529)), says("here I am"))
    config = AgentConfig(retry=RetryPolicy(initial=3600.0, maximum=3600.0, total=None, jitter=0.0))
    results: list[Any] = []
    with anyio.fail_after(10):
        async with AgentLoop(llm, store=store, config=config) as loop:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_sends, loop, results)
                seen = await store.read("s")
                while not any(isinstance(stamped.event, ModelEnded) for stamped in seen):
                    await store.wait("s", len(seen))
                    seen = await store.read("s")
                await loop.steer("s", "are you there?", mode="interrupt")
            assert results[0].final_text == "here I am"
            await check_log(loop, "s")
    assert [m.text for m in llm.requests[1].messages] == ["go", "are you there?"]


async def test_calls_that_wait_for_approval_are_given_up_with_those_that_run(store: Store) -> None:
    """The run cannot go on while a call is open."""
    hooks = Hooks()
    hooks.on(TOOL_BEFORE, lambda context: Suspend() if context.name == "quick" else None)
    llm = Scripted(calls(("a", "stuck", {}), ("b", "quick", {})), says("I stopped"))
    work = Work()
    results: list[Any] = []
    with anyio.fail_after(10):
        async with AgentLoop[Work](llm, tools=[stuck, quick], store=store, hooks=hooks) as loop:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_sends, loop, results, work)
                await work.running.wait()
                await loop.steer("s", "stop that", mode="interrupt")
            assert results[0].status == "completed"
            assert await loop.get_pending("s") == ()
            log = await check_log(loop, "s")
    assert {r.message.id: r.how for r in log if isinstance(r, ToolSettled)} == {
        "a.result": "interrupted",
        "b.result": "not_run",
    }


async def test_what_nothing_was_doing_is_not_interrupted_when_it_is_resumed(store: Store) -> None:
    """A person's approval given later counts: the call runs, then the message is heard."""
    hooks = Hooks()
    hooks.on(TOOL_BEFORE, lambda _: Suspend())
    llm = Scripted(calls(("a", "quick", {})), says("done"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[quick], store=store, hooks=hooks) as loop:
            assert (await loop.send("go", "s")).status == "awaiting_approval"
            assert not (await loop.steer("s", "hurry", mode="interrupt")).running
            (pending,) = await loop.get_pending("s")
            result = await loop.resume("s", answers=[approve(pending.token)])
            assert result.status == "completed"
            log = await check_log(loop, "s")
    assert [r.how for r in log if isinstance(r, ToolSettled)] == ["finished"]
    assert [m.role for m in llm.requests[1].messages] == ["user", "assistant", "tool", "user"]


async def test_messages_of_all_modes_enter_in_the_order_they_were_posted(store: Store) -> None:
    """An interrupting one takes those along that wait for the next round anyway."""
    gate = Gate()
    llm = Scripted(hangs(gate), says("noted"), says("and that"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, store=store) as loop:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(loop.send, "go", "s")
                await gate.reached.wait()
                await loop.steer("s", "one", mode="next_round")
                await loop.steer("s", "later", mode="when_idle")
                await loop.steer("s", "two", mode="interrupt")
            texts = [m.text for m in await loop.get_messages("s")]
            await check_log(loop, "s")
    assert texts == ["go", "one", "two", "noted", "later", "and that"]


async def test_a_cancel_beats_an_interrupting_message_which_then_waits(store: Store) -> None:
    """The run ends; the next one hears the message."""
    gate = Gate()
    llm = Scripted(hangs(gate), says("fine"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, store=store) as loop:
            async with loop.stream("go", "s") as run:
                await gate.reached.wait()
                run.cancel("enough")
                await loop.steer("s", "instead this", mode="interrupt")
                assert (await run.result()).outcome == Cancelled("enough")
            await loop.send("hello", "s")
            assert [m.text for m in llm.requests[1].messages] == ["go", "hello", "instead this"]
            await check_log(loop, "s")


async def test_a_wish_to_cancel_in_the_inbox_is_heard_in_the_middle_of_a_model_call(
    store: Store,
) -> None:
    """As another process posts it: the run ends at once, and the wish is used up."""
    gate = Gate()
    llm = Scripted(hangs(gate, "half of"), says("fine"))
    results: list[Any] = []
    with anyio.fail_after(10):
        async with AgentLoop(llm, store=store) as loop:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_sends, loop, results)
                await gate.reached.wait()
                await store.post("s", CancelRequested("from elsewhere"))
            assert results[0].outcome == Cancelled("from elsewhere")
            assert await store.inbox("s") == ()
            log = await check_log(loop, "s")
            assert [r.partial for r in log if isinstance(r, ModelEnded)] == ["half of"]
            assert (await loop.send("hello", "s")).status == "completed"


async def test_an_unknown_mode_is_refused_and_nothing_is_stored(store: Store) -> None:
    """Bad input is named at the edge."""
    async with AgentLoop(Scripted(), store=store) as loop:
        with pytest.raises(UsageError, match="mode is one of 'next_round', 'when_idle', 'inter"):
            await loop.steer("s", "hi", mode="now")  # pyright: ignore[reportArgumentType]
    assert await store.inbox("s") == ()


async def test_an_inbox_that_cannot_be_read_for_a_moment_is_read_at_the_next_round(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A failed look ends nothing: the message enters where the run next looks."""
    gate, broken = Gate(), anyio.Event()

    class FailsOnce(SlowStore):
        async def inbox(self, session: str) -> Sequence[InboxItem]:
            if not broken.is_set():
                broken.set()
                raise OSError("the disk is away")
            return await super().inbox(session)

    store = FailsOnce()
    await store.create("s")
    llm = Scripted(says("one", gate=gate), says("two"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, store=store) as loop:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(loop.send, "go", "s")
                await gate.reached.wait()
                await loop.steer("s", "look", mode="interrupt")
                await broken.wait()
                gate.opened.set()
            assert [m.text for m in await loop.get_messages("s")] == ["go", "one", "look", "two"]
            log = await check_log(loop, "s")
    assert "the disk is away" in caplog.text
    assert len([r for r in log if isinstance(r, RunClosed)]) == 1


async def test_an_answer_that_comes_in_the_moment_it_is_stopped_is_kept_as_text() -> None:
    """What was paid for is told as it was measured; its calls do not run."""
    gate = Gate()

    class OpensTheGate(MemoryStore):
        async def inbox(self, session: str) -> Sequence[InboxItem]:
            gate.opened.set()
            return await super().inbox(session)

    store = OpensTheGate()
    await store.create("s")
    answer = replace(calls(("a", "quick", {}), text="I shall"), gate=gate)
    llm = Scripted(answer, says("as you like"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[quick], store=store) as loop:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(loop.send, "go", "s")
                await gate.reached.wait()
                await loop.steer("s", "no", mode="interrupt")
            texts = [m.text for m in await loop.get_messages("s")]
            log = await check_log(loop, "s")
    assert texts == ["go", "I shall", "no", "as you like"]
    ended = next(r for r in log if isinstance(r, ModelEnded))
    assert (ended.status, ended.usage.output_tokens, ended.measured) == ("cancelled", 5, True)
    assert not any(isinstance(r, ToolStarted) for r in log)
