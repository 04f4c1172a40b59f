"""Runs that are stopped while tools are at work: told truthfully, and never left open."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import anyio
import pytest

from llm_client.testing import ScriptedLLM, call, reply
from llm_client.types import StopReason, ToolResult
from power_loop import AgentLoop, SQLiteStore, ToolContext, tool
from power_loop.session.outcome import Cancelled
from power_loop.session.records import ModelEnded, RunClosed, ToolSettled
from tests.agent.scripted import Gate
from tests.agent.stepping import tasks_alive
from tests.agent.support import check_log, events_of

pytestmark = pytest.mark.anyio


class Work:
    """What two tools that run at once share with their test."""

    def __init__(self) -> None:
        self.both = anyio.Event()
        self.running: set[str] = set()
        self.cleaned: list[str] = []


@tool
async def stuck(context: ToolContext[Work]) -> None:
    """Works until it is stopped, and then cleans up, which takes a few turns."""
    work = context.deps
    work.running.add(context.call_id)
    if len(work.running) == 2:
        work.both.set()
    try:
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            for _ in range(5):
                await anyio.lowlevel.checkpoint()
            work.cleaned.append(context.call_id)
        work.running.discard(context.call_id)


TWO = reply("I shall work.", call("stuck", {}, id="a"), call("stuck", {}, id="b"))


async def _assert_goes_on(loop: AgentLoop[Work], llm: ScriptedLLM, work: Work) -> None:
    """The log is closed and true, and the next message is answered knowing what happened."""
    assert work.running == set()
    assert sorted(work.cleaned) == ["a", "b"]
    log = await check_log(loop, "s")
    assert isinstance(log[-1], RunClosed)
    assert isinstance(log[-1].outcome, Cancelled)
    assert [r.how for r in log if isinstance(r, ToolSettled)] == ["interrupted", "interrupted"]
    result = await loop.send("What has happened?", "s", deps=work)
    assert (result.status, result.final_text) == ("completed", "I was stopped.")
    told = [p for m in llm.requests[-1].messages for p in m.parts if isinstance(p, ToolResult)]
    assert [each.call_id for each in told] == ["a", "b"]
    for each in told:
        assert each.is_error
        assert "stopped before it had finished" in each.text
        assert "effects are unknown" in each.text
    await check_log(loop, "s")


@pytest.mark.parametrize("streamed", [False, True])
async def test_tools_of_a_cancelled_run_are_stopped_settled_and_told_of_o03_o04_o06(
    streamed: bool, tmp_path: Path
) -> None:
    """No tool outlives its run (O04); each has a result (O02) that says interrupted, not refused
    (O06); and the session takes the next message (O03).
    """
    llm, work = ScriptedLLM(TWO, "I was stopped."), Work()
    store = SQLiteStore(tmp_path / "s.db")
    with anyio.fail_after(20):
        async with AgentLoop[Work](llm, tools=[stuck], store=store) as loop:
            await store.create("s")
            before = tasks_alive()

            async def run() -> None:
                if not streamed:
                    await loop.send("go", "s", deps=work)
                    return
                async with loop.stream("go", "s", deps=work) as events:
                    async for _ in events:
                        pass

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run)
                await work.both.wait()
                tasks.cancel_scope.cancel()
            assert tasks_alive() == before
            await _assert_goes_on(loop, llm, work)
        await store.aclose()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_cancelled_task_ends_with_cancelled_error_and_nothing_else_o02_o07(
    streamed: bool, tmp_path: Path
) -> None:
    """Neither a group nor an error of closed streams comes out, and the calls are settled
    (O02, O07).
    """
    llm, work = ScriptedLLM(TWO, "I was stopped."), Work()
    store = SQLiteStore(tmp_path / "s.db")
    async with asyncio.timeout(20):
        async with AgentLoop[Work](llm, tools=[stuck], store=store) as loop:
            await store.create("s")

            async def run() -> None:
                if not streamed:
                    await loop.send("go", "s", deps=work)
                    return
                async with loop.stream("go", "s", deps=work) as events:
                    async for _ in events:
                        pass

            task = asyncio.ensure_future(run())
            await work.both.wait()
            task.cancel()
            with pytest.raises(BaseException) as raised:
                await task
            assert type(raised.value) is asyncio.CancelledError
            assert task.cancelled()
            await _assert_goes_on(loop, llm, work)
        await store.aclose()


async def test_a_tool_that_raises_does_not_take_its_siblings_with_it(tmp_path: Path) -> None:
    """The others finish, and every call of the answer has its own result, in call order (O05)."""
    failed = Gate()

    @tool
    async def broken() -> str:
        """Fails at once."""
        failed.opened.set()
        raise OSError("the disk is on fire")

    @tool
    async def patient(name: str) -> str:
        """Goes on after the other has failed."""
        await failed.opened.wait()
        await anyio.lowlevel.checkpoint()
        return f"{name} is done"

    llm = ScriptedLLM(
        reply(
            "",
            call("patient", {"name": "first"}, id="a"),
            call("broken", {}, id="b"),
            call("patient", {"name": "last"}, id="c"),
        ),
        "ok",
    )
    store = SQLiteStore(tmp_path / "s.db")
    with anyio.fail_after(20):
        async with AgentLoop(llm, tools=[broken, patient], store=store) as loop:
            result = await loop.send("go")
            assert result.status == "completed"
            log = await check_log(loop, result.session_id)
        await store.aclose()
    assert [r.how for r in log if isinstance(r, ToolSettled)] == ["finished"] * 3
    told = [p for m in llm.requests[1].messages for p in m.parts if isinstance(p, ToolResult)]
    assert [(each.call_id, each.is_error) for each in told] == [
        ("a", False),
        ("b", True),
        ("c", False),
    ]
    assert [told[0].text, told[2].text] == ["first is done", "last is done"]
    assert "the disk is on fire" in told[1].text


async def test_results_belong_to_the_call_of_their_own_turn(tmp_path: Path) -> None:
    """One id in three turns, the first of them interrupted: each result stands behind the call that
    it answers (O09).
    """
    gate = Gate()

    @tool
    async def count(n: int, context: ToolContext[Any]) -> str:
        """Counts; the first one hangs."""
        if n == 1:
            await gate.wait()
        return f"counted {n}"

    llm = ScriptedLLM(
        reply("", call("count", {"n": 1}, id="x")),
        reply("", call("count", {"n": 2}, id="x")),
        reply("", call("count", {"n": 3}, id="x")),
        "done",
    )
    store = SQLiteStore(tmp_path / "s.db")
    with anyio.fail_after(20):
        async with AgentLoop(llm, tools=[count], store=store) as loop:
            await store.create("s")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(loop.send, "one", "s")
                await gate.reached.wait()
                await loop.cancel("s", "enough")
            assert (await loop.send("two and three", "s")).final_text == "done"
            await check_log(loop, "s")
        await store.aclose()
    parts = [part for message in llm.requests[-1].messages for part in message.parts]
    at = [n for n, part in enumerate(parts) if isinstance(part, ToolResult)]
    results = [part for part in parts if isinstance(part, ToolResult)]
    assert [getattr(parts[n - 1], "id", None) for n in at] == [each.call_id for each in results]
    assert len({each.call_id for each in results}) == 3
    assert "interrupted" in results[0].text
    assert [each.text for each in results[1:]] == ["counted 2", "counted 3"]


@pytest.mark.parametrize("stop_reason", [StopReason.LENGTH, StopReason.END])
async def test_an_answer_that_hit_the_output_limit_does_not_look_like_a_whole_one(
    stop_reason: StopReason, tmp_path: Path
) -> None:
    """The result says why the model stopped, and so does the stored event (F04)."""
    llm = ScriptedLLM(reply("The three rules are: 1. Never", stop_reason=stop_reason))
    store = SQLiteStore(tmp_path / "s.db")
    with anyio.fail_after(20):
        async with AgentLoop(llm, store=store) as loop:
            async with loop.stream("What are the rules?") as run:
                seen = [event async for event in run]
                result = await run.result()
            assert result.stop_reason is stop_reason
            assert [each.stop_reason for each in events_of(ModelEnded, seen)] == [stop_reason]
            log = await check_log(loop, result.session_id)
            assert [r.stop_reason for r in log if isinstance(r, ModelEnded)] == [stop_reason]
        await store.aclose()
