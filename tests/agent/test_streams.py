"""Reading a run while it goes on."""

from __future__ import annotations

import gc
from typing import Any, cast

import anyio
import pytest

from llm_client.errors import BadRequest
from power_loop import AgentConfig, AgentLoop, ToolContext, tool
from power_loop.driver.hub import Overflow
from power_loop.events import (
    DeltasDropped,
    Stamped,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolProgress,
    is_record,
)
from power_loop.session.records import RunClosed
from tests.agent.scripted import Gate, Scripted, calls, fails, hangs, says
from tests.agent.stepping import tasks_alive
from tests.agent.stores import SlowStore
from tests.agent.support import check_log, events_of

pytestmark = pytest.mark.anyio


@tool
async def step(context: ToolContext[Any]) -> str:
    """Reports."""
    context.progress("half", 0.5, {"n": 1})
    await anyio.lowlevel.checkpoint()
    context.progress("done", 1.0)
    return "stepped"


def _assert_ordered(seen: list[Stamped], *, start: int = 1) -> None:
    """Records count up without gaps; transients follow the record that they name."""
    seq, n = start - 1, 0
    for stamped in seen:
        if is_record(stamped.event):
            assert (stamped.seq, stamped.n) == (seq + 1, 0)
            seq, n = stamped.seq, 0
        else:
            assert stamped.seq == seq
            assert stamped.n > n
            n = stamped.n


@pytest.mark.parametrize("slow", [False, True])
async def test_a_stream_shows_everything_in_order_and_ends_with_the_run(slow: bool) -> None:
    """Deltas follow the record that announces their attempt; progress its call."""
    llm = Scripted(calls(("a", "step", {}), text="I shall step."), says("Done.", thinking="hm"))
    with anyio.fail_after(10):
        store = SlowStore() if slow else None
        async with AgentLoop(llm, tools=[step], store=store) as loop:
            async with loop.stream("step") as run:
                seen = [stamped async for stamped in run]
                result = await run.result()
            assert result.status == "completed"
            assert {stamped.run for stamped in seen} == {run.run_id}
            _assert_ordered(seen)
            records = [stamped for stamped in seen if is_record(stamped.event)]
            assert records == list(await loop.store.read(run.session_id))
            assert "".join(e.text for e in events_of(TextDelta, seen)) == "I shall step.Done."
            assert "".join(e.text for e in events_of(ThinkingDelta, seen)) == "hm"
            (pieces,) = ["".join(e.arguments for e in events_of(ToolCallDelta, seen))]
            assert pieces == "{}"
            progress = events_of(ToolProgress, seen)
            assert [(e.message, e.fraction) for e in progress] == [("half", 0.5), ("done", 1.0)]
            assert isinstance(seen[-1].event, RunClosed)
            with pytest.raises(StopAsyncIteration):
                await run.__anext__()


async def test_leaving_the_block_early_cancels_the_run_at_once() -> None:
    """No second model call is paid for, and nothing is left running."""
    llm = Scripted(calls(("a", "step", {})), says("never said"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[step]) as loop:
            before = tasks_alive()
            async with loop.stream("step") as run:
                async for stamped in run:
                    if isinstance(stamped.event, ToolCallDelta):
                        break
            assert tasks_alive() == before
            assert llm.under_way == 0
            assert len(llm.requests) == 1
            assert (await run.result()).status == "cancelled"
            log = await check_log(loop, run.session_id)
            assert isinstance(log[-1], RunClosed)
            assert (await loop.send("again", run.session_id)).status == "completed"


@pytest.mark.parametrize("error", [ValueError("mine"), SystemExit(3)])
async def test_what_the_block_raises_comes_out_as_it_is(error: BaseException) -> None:
    """Not in a group, and the run is cancelled."""
    llm = Scripted(hangs(Gate(), "a beginning"), says("fine"))
    with anyio.fail_after(10):
        async with AgentLoop(llm) as loop:
            await loop.store.create("s")
            with pytest.raises(type(error)) as raised:
                async with loop.stream("hi", "s") as run:
                    async for stamped in run:
                        if isinstance(stamped.event, TextDelta):
                            raise error
            assert raised.value is error
            log = await check_log(loop, "s")
            assert isinstance(log[-1], RunClosed)


async def test_result_passes_over_what_has_not_been_read() -> None:
    """A caller may look at a few events and then only want the end."""
    llm = Scripted(says("a long answer"))
    with anyio.fail_after(10):
        async with AgentLoop(llm) as loop, loop.stream("hi", overflow="wait") as run:
            async for _ in run:
                break
            assert (await run.result()).final_text == "a long answer"
            assert (await run.result()).final_text == "a long answer"


async def test_an_error_that_ends_the_run_is_raised_at_the_end_of_the_iteration() -> None:
    """And again by result()."""
    llm = Scripted(fails(BadRequest("bad", status=400), "partial"))
    with anyio.fail_after(10):
        async with AgentLoop(llm) as loop:
            seen: list[Stamped] = []
            async with loop.stream("hi") as run:
                with pytest.raises(BadRequest):
                    while True:
                        seen.append(await run.__anext__())
                with pytest.raises(BadRequest):
                    await run.result()
            assert isinstance(seen[-1].event, RunClosed)


async def test_cancel_of_a_stream_ends_its_iteration_regularly() -> None:
    """The reader sees the closing record."""
    gate = Gate()
    llm = Scripted(hangs(gate, "once"))
    with anyio.fail_after(10):
        async with AgentLoop(llm) as loop, loop.stream("hi") as run:
            seen: list[Stamped] = []
            async for stamped in run:
                seen.append(stamped)
                if isinstance(stamped.event, TextDelta):
                    run.cancel("enough")
            assert isinstance(seen[-1].event, RunClosed)
            assert str((await run.result()).outcome) == "cancelled(reason='enough')"


@pytest.mark.parametrize("overflow", ["wait", "merge", "drop"])
async def test_a_slow_reader_gets_every_record_and_is_told_what_it_missed(overflow: str) -> None:
    """Far more deltas than a reader may have waiting, all while it does not read."""
    text = "x" * 3000
    llm = Scripted(calls(("a", "step", {}), text=text), says(text, thinking=text), piece=1)
    with anyio.fail_after(20):
        async with AgentLoop(llm, tools=[step]) as loop:
            policy = cast("Overflow", overflow)
            async with loop.stream("hi", overflow=policy) as run:
                # Everything that can happen without us has happened.
                await anyio.wait_all_tasks_blocked()
                seen = [stamped async for stamped in run]
            records = [stamped for stamped in seen if is_record(stamped.event)]
            assert records == list(await loop.store.read(run.session_id))
            _assert_ordered(seen)
            got = "".join(e.text for e in events_of(TextDelta, seen))
            dropped = sum(e.count for e in events_of(DeltasDropped, seen))
            transients = [s for s in seen if not is_record(s.event)]
            match overflow:
                case "wait":
                    assert (got, dropped) == (text + text, 0)
                case "merge":
                    # Text is joined; what cannot be joined is counted.
                    assert got == text + text
                    assert len(transients) <= 2 * 1024 + 10
                case _:
                    assert len(transients) <= 1024 + 10
                    lost = 6000 - len(events_of(TextDelta, seen))
                    lost += 3000 - len(events_of(ThinkingDelta, seen))
                    assert lost <= dropped <= lost + 10
                    assert lost > 3000


async def test_a_reader_that_waits_slows_the_run_and_never_stops_it() -> None:
    """Back-pressure ends with the reader: cancelling is always possible."""
    llm = Scripted(says("x" * 5000), piece=1)
    with anyio.fail_after(10):
        async with AgentLoop(llm) as loop:
            async with loop.stream("hi", overflow="wait") as run:
                await anyio.wait_all_tasks_blocked()
                assert llm.under_way == 1
                run.cancel("nobody reads")
                result = await run.result()
            assert result.status == "cancelled"
            await check_log(loop, run.session_id)


async def test_one_slow_reader_holds_several_runs_and_lets_all_of_them_go() -> None:
    """A subscriber that waits is shared by all sessions of the loop."""
    llm = Scripted(by=lambda _: says("x" * 400), piece=1)
    gate = anyio.Event()
    seen: list[Stamped] = []

    async def slow(stamped: Stamped) -> None:
        await gate.wait()
        seen.append(stamped)

    with anyio.fail_after(10):
        async with AgentLoop(llm) as loop:
            loop.events.subscribe(slow, types=[TextDelta], overflow="wait", limit=10)
            async with anyio.create_task_group() as tasks:
                for _ in range(4):
                    tasks.start_soon(loop.send, "hi")
                await anyio.wait_all_tasks_blocked()
                assert llm.under_way == 4
                gate.set()
        assert len(seen) == 1600


async def test_without_a_reader_the_model_is_not_asked_to_stream() -> None:
    """Nobody pays for server-sent events that nobody reads."""
    whole: list[bool] = []

    class Told(Scripted):
        async def complete(self, request: Any) -> Any:
            whole.append(True)
            return await super().complete(request)

        def stream(self, request: Any) -> Any:
            whole.append(False)
            return super().stream(request)

    llm = Told(by=lambda _: says("fine"))
    with anyio.fail_after(10):
        async with AgentLoop(llm) as loop:
            await loop.send("hi")
            stop = loop.events.subscribe(lambda _: None, types=[RunClosed])
            await loop.send("hi")
            stop()
            async with loop.stream("hi") as run:
                await run.result()
            await loop.send("hi")
    assert whole == [True, True, False, True]


async def test_abandoned_streams_leave_nothing_behind_c07() -> None:
    """Not entered at all, or entered by a task that was cancelled (fault C07)."""
    llm = Scripted(by=lambda _: hangs(Gate(), "x"), piece=1)
    with anyio.fail_after(10):
        async with AgentLoop(llm, config=AgentConfig(shutdown_grace=1)) as loop:
            before = tasks_alive()
            loop.stream("never entered")
            await loop.store.create("s")
            with anyio.move_on_after(0.05):
                async with loop.stream("hi", "s") as run:
                    async for _ in run:
                        pass
            assert tasks_alive() == before
            assert llm.under_way == 0
            gc.collect()
            await check_log(loop, "s")
