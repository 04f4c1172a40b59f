"""Messages that wait until a run is done, and second senders that speak to the first one's run."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from llm_client.types import Message, ToolSpec
from power_loop import AgentConfig, AgentLoop, Hooks, Result, ToolContext, tool
from power_loop.errors import FollowUpQueued, SessionBusy, SessionPendingError, UsageError
from power_loop.hooks import COMPLETE_DECIDE, SESSION_END, CompleteDecide, Continue, SessionEnd
from power_loop.runtime.stores.base import Posted, Steer, Store
from power_loop.session.records import RunClosed, RunOpened
from tests.agent.scripted import Gate, Scripted, calls, hangs, says
from tests.agent.stores import SlowStore
from tests.agent.support import EVERY_STORE, check_log, opened_store

pytestmark = pytest.mark.anyio


@pytest.fixture(params=EVERY_STORE)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Store]:
    async with opened_store(request.param, tmp_path) as store:
        await store.create("s")
        yield store


@tool
async def double(n: int) -> int:
    """Doubles a number."""
    return 2 * n


async def _texts(loop: AgentLoop[Any]) -> list[str]:
    return [m.text for m in await loop.get_messages("s") if m.text]


# ── when idle ─────────────────────────────────────────────────────────────────────────────────────


async def test_a_follow_up_enters_after_the_answer_and_is_answered_by_the_same_run(
    store: Store,
) -> None:
    """Never between rounds; with another set of rounds, as a message of its own would have."""
    gate = Gate()

    @tool
    async def wait() -> str:
        """Waits."""
        await gate.wait()
        return "waited"

    llm = Scripted(
        calls(("a", "wait", {})),
        says("the first answer"),
        calls(("b", "double", {"n": 2})),
        says("the second answer"),
    )
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[wait, double], store=store) as loop:
            async with anyio.create_task_group() as tasks:

                async def send() -> None:
                    result = await loop.send("go", "s", max_rounds=2)
                    assert (result.status, result.final_text) == ("completed", "the second answer")

                tasks.start_soon(send)
                await gate.reached.wait()
                posted = await loop.steer("s", "and then this", mode="when_idle")
                assert posted.running
                gate.opened.set()
            assert [m.role for m in llm.requests[1].messages] == ["user", "assistant", "tool"]
            assert [m.text for m in llm.requests[2].messages][-2:] == [
                "the first answer",
                "and then this",
            ]
            log = await check_log(loop, "s")
            assert await store.inbox("s") == ()
    assert len([r for r in log if isinstance(r, RunClosed)]) == 1
    assert llm.illegal == []


async def test_a_run_is_idle_when_the_hooks_say_so_and_they_are_asked_once_of_each_answer() -> None:
    """Also where the message comes while the run is being closed."""
    hooks = Hooks()
    asked: list[str] = []

    @hooks.on(COMPLETE_DECIDE)
    def decide(context: CompleteDecide[Any]) -> Continue | None:
        asked.append(context.final_text)
        return Continue("more", 1) if len(asked) == 1 else None

    class Racing(SlowStore):
        raced = False

        async def append(self, lease: Any, expected_seq: int, records: Any, **options: Any) -> Any:
            if options.get("refuse_if_inbox") and not self.raced:
                self.raced = True
                await self.post("s", steer("at the last moment"))
            return await super().append(lease, expected_seq, records, **options)

    def steer(text: str) -> Steer:
        return Steer(Message.user(text), "when_idle")

    store = Racing()
    await store.create("s")
    llm = Scripted(says("a"), says("b"), says("c"), says("d"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, store=store, hooks=hooks) as loop:
            await store.post("s", steer("from before"))
            await loop.send("go", "s")
            texts = await _texts(loop)
            await check_log(loop, "s", does_the_same=False)  # its handler counts
    assert texts == ["go", "a", "more", "b", "from before", "c", "at the last moment", "d"]
    assert asked == ["a", "b", "c", "d"]


@pytest.mark.parametrize("ending", ["cancelled", "round_limit", "pending_tools"])
async def test_a_run_that_ends_without_an_answer_leaves_a_follow_up_for_the_next(
    store: Store, ending: str
) -> None:
    """Which does its own work first."""
    gate = Gate()
    spec = ToolSpec("ask_user", "Asks.", {"type": "object", "properties": {}})
    script = {
        "cancelled": [hangs(gate)],
        "round_limit": [calls(("a", "double", {"n": 1})), says("there is more to do")],
        "pending_tools": [calls(("a", "ask_user", {}))],
    }[ending]
    llm = Scripted(*script, says("done"), says("and that"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[double, spec], store=store) as loop:
            await loop.steer("s", "later", mode="when_idle")
            results: list[Any] = []

            async def send() -> None:
                results.append(await loop.send("go", "s", max_rounds=1))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send)
                if ending == "cancelled":
                    await gate.reached.wait()
                    await loop.cancel("s")
            assert results[0].status == ending
            assert len(await store.inbox("s")) == 1
            result = await loop.resume(
                "s", decisions={"a": Result("yes")} if "pending" in ending else None
            )
            assert result.status == "completed"
            assert (await _texts(loop))[-3:] == ["done", "later", "and that"]
            assert await store.inbox("s") == ()
            await check_log(loop, "s")


# ── a second sender ───────────────────────────────────────────────────────────────────────────────


async def test_a_second_sender_may_steer_the_run_that_is_going_on(store: Store) -> None:
    """It is told that its message is in good hands, and by which id; it is heard once."""
    gate = Gate()
    llm = Scripted(says("one", gate=gate), says("two"), says("three"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, store=store) as loop:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(loop.send, "first", "s")
                await gate.reached.wait()
                with pytest.raises(FollowUpQueued, match="waits in its inbox") as queued:
                    await loop.send("second", "s", on_busy="steer")
                with pytest.raises(FollowUpQueued):
                    async with loop.stream("third", "s", on_busy="steer"):
                        pass
                waiting = await store.inbox("s")
                assert queued.value.session_id == "s"
                assert queued.value.item_id == waiting[0].id
                gate.opened.set()
            assert await _texts(loop) == ["first", "one", "second", "third", "two"]
            # Nobody is busy now: it is a run like any other.
            assert (await loop.send("fourth", "s", on_busy="steer")).final_text == "three"
            log = await check_log(loop, "s")
            assert await store.inbox("s") == ()
    assert len([r for r in log if isinstance(r, RunOpened)]) == 2


async def test_a_message_whose_run_ends_meanwhile_is_sent_after_all_and_once() -> None:
    """Between the look and the post; what was posted becomes the input, in one transaction."""
    gate = Gate()

    class Racing(SlowStore):
        async def post(self, session: str, item: Any, *, dedupe_key: str | None = None) -> Posted:
            if isinstance(item, Steer):
                gate.opened.set()
                while self.inbox_hint(session) or (await self.info(session)).status == "running":
                    await anyio.lowlevel.checkpoint()
            return await super().post(session, item, dedupe_key=dedupe_key)

    store = Racing()
    await store.create("s")
    llm = Scripted(says("one", gate=gate), says("two"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, store=store) as loop:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(loop.send, "first", "s")
                await gate.reached.wait()
                result = await loop.send("second", "s", on_busy="steer")
                assert result.final_text == "two"
            assert await store.inbox("s") == ()
            log = await check_log(loop, "s")
            assert await _texts(loop) == ["first", "one", "second", "two"]
    assert len([r for r in log if isinstance(r, RunOpened)]) == 2


async def test_a_message_whose_run_suspends_meanwhile_waits_for_the_results() -> None:
    """It is stored by then, so it is queued and not refused."""
    gate = Gate()

    class Racing(SlowStore):
        async def post(self, session: str, item: Any, *, dedupe_key: str | None = None) -> Posted:
            gate.opened.set()
            while (await self.info(session)).status == "running":
                await anyio.lowlevel.checkpoint()
            return await super().post(session, item, dedupe_key=dedupe_key)

    store = Racing()
    await store.create("s")
    spec = ToolSpec("ask_user", "Asks.", {"type": "object", "properties": {}})
    llm = Scripted(replace(calls(("a", "ask_user", {})), gate=gate), says("two"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[spec], store=store) as loop:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(loop.send, "first", "s")
                await gate.reached.wait()
                with pytest.raises(FollowUpQueued):
                    await loop.send("second", "s", on_busy="steer")
            await loop.resume("s", decisions={"a": Result("yes")})
            assert await _texts(loop) == ["first", "second", "two"]
            assert await store.inbox("s") == ()
            await check_log(loop, "s")


async def test_a_session_that_is_held_but_not_run_is_waited_for() -> None:
    """The first run has closed, its last hooks have not ended: nobody would hear a message."""
    closing = Gate()
    hooks = Hooks()

    @hooks.on(SESSION_END)
    async def linger(context: SessionEnd[Any]) -> None:
        await closing.wait()

    llm = Scripted(says("one"), says("two"))
    results: list[Any] = []
    with anyio.fail_after(10):
        async with AgentLoop(llm, hooks=hooks) as loop:
            await loop.store.create("s")

            async def second() -> None:
                results.append(await loop.send("second", "s", on_busy="steer"))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(loop.send, "first", "s")
                await closing.reached.wait()
                tasks.start_soon(second)
                await anyio.wait_all_tasks_blocked()
                assert await loop.store.inbox("s") == ()
                closing.opened.set()
            assert results[0].final_text == "two"
            await check_log(loop, "s")


async def test_a_session_with_open_calls_that_nobody_runs_refuses_a_message_as_ever(
    store: Store,
) -> None:
    """Nothing is stored of it."""
    spec = ToolSpec("ask_user", "Asks.", {"type": "object", "properties": {}})
    async with AgentLoop(Scripted(calls(("a", "ask_user", {}))), tools=[spec], store=store) as loop:
        await loop.send("go", "s")
        with pytest.raises(SessionPendingError):
            await loop.send("hello?", "s", on_busy="steer")
        assert await store.inbox("s") == ()


async def test_a_tool_cannot_send_to_its_own_session_in_any_way() -> None:
    """It would wait for itself once its run has closed; `steer` is the verb for that."""

    @tool
    async def ask(context: ToolContext[None]) -> str:
        """Asks."""
        with pytest.raises(SessionBusy, match="the very run"):
            await loop.send("me", context.session_id, on_busy="steer")
        return "refused"

    with anyio.fail_after(10):
        async with AgentLoop(
            Scripted(calls(("a", "ask", {})), says("so be it")), tools=[ask]
        ) as loop:
            result = await loop.send("go")
            assert result.status == "completed"
            assert await loop.store.inbox(result.session_id) == ()


async def test_a_resumed_run_has_no_message_to_steer_with(store: Store) -> None:
    """Said as a mistake of the caller."""
    async with AgentLoop(Scripted(), store=store) as loop:
        with pytest.raises(UsageError, match="resume"):
            await loop.resume("s", on_busy="steer")


async def test_a_limit_is_left_as_it_is_by_messages_between_rounds(store: Store) -> None:
    """Only a follow-up brings rounds of its own."""
    llm = Scripted(calls(("a", "double", {"n": 1})), says("there is more to do"))
    config = AgentConfig(max_rounds=1)
    async with AgentLoop(llm, tools=[double], store=store, config=config) as loop:
        await loop.steer("s", "hurry")
        assert (await loop.send("go", "s")).status == "round_limit"
        await check_log(loop, "s")
