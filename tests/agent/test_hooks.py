"""Hooks, as a run meets them."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from llm_client.errors import BadRequest
from llm_client.types import LLMResponse, Message, StopReason, Text, ToolResult
from power_loop import AgentConfig, AgentLoop, Hooks, ToolContext, tool
from power_loop.driver.dispatch import OnError
from power_loop.events import HookFailed, Stamped
from power_loop.hooks import (
    COMPLETE_DECIDE,
    LLM_AFTER,
    LLM_BEFORE,
    LLM_ERROR,
    MESSAGE_APPEND,
    POINTS,
    ROUND_DECIDE,
    ROUND_START,
    SESSION_END,
    SESSION_START,
    TOOL_AFTER,
    TOOL_BEFORE,
    TOOL_ERROR,
    TOOLS_BATCH_BEFORE,
    Break,
    HookPoint,
    LlmAfter,
    LlmBefore,
    MessageAppend,
    Retry,
    SessionEnd,
    SessionStart,
    ShortCircuit,
    Skip,
    ToolAfter,
    ToolBefore,
)
from power_loop.session.outcome import Completed
from power_loop.session.records import RunClosed, ToolSettled, ToolStarted
from tests.agent.scripted import Gate, Scripted, calls, fails, says
from tests.agent.stores import SlowStore
from tests.agent.support import check_log, events_of, log_of

pytestmark = pytest.mark.anyio


@tool
async def double(n: int) -> int:
    """Doubles."""
    return 2 * n


@tool
async def broken() -> int:
    """Fails."""
    raise ValueError("no such luck")


async def test_points_fire_in_the_order_of_the_map() -> None:
    """A run with one batch of tools, then an answer; every context says where it is."""
    fired: list[tuple[str, int]] = []
    runs: list[str] = []
    hooks = Hooks()

    def look(point: HookPoint[Any, Any]) -> Any:
        async def handler(context: Any) -> None:
            assert context.deps == "mine"
            assert context.session_id
            runs.append(context.run_id)
            fired.append((point.name, context.round))

        return handler

    for point in POINTS:
        hooks.on(point, look(point), name=point.name, on_error="raise")
    llm = Scripted(calls(("a", "broken", {})), says("done"), says("done again"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[broken], hooks=hooks) as loop:
            first = await loop.send("hi", deps="mine")
            assert set(runs) == {first.run_id}
            del runs[:]
            second = await loop.send("again", first.session_id, deps="mine")
            assert set(runs) == {second.run_id}
    assert fired[21:23] == [("message.append", 0), ("session.start", 0)]
    assert fired[:21] == [
        ("message.append", 0),
        ("session.start", 0),
        ("round.start", 0),
        ("llm.before", 0),
        ("llm.after", 1),
        ("message.append", 1),
        ("round.decide", 1),
        ("tools.batch.before", 1),
        ("tool.before", 1),
        ("tool.error", 1),
        ("tool.after", 1),
        ("message.append", 1),
        ("tools.batch.after", 1),
        ("round.end", 1),
        ("round.start", 1),
        ("llm.before", 1),
        ("llm.after", 2),
        ("message.append", 2),
        ("round.end", 2),
        ("complete.decide", 2),
        ("session.end", 2),
    ]


async def test_what_is_committed_before_a_hook_is_durable_when_it_runs() -> None:
    """A handler that looks into the store finds what its context says."""
    store = SlowStore()
    hooks = Hooks()
    checked: list[str] = []

    def look(point: HookPoint[Any, Any]) -> Any:
        async def handler(context: Any) -> None:
            log = [s.event for s in await store.read("s")]
            messages = getattr(context, "messages", ())
            stored = sum(type(r).__name__ in ("MessageAppended", "RunOpened") for r in log)
            settled = sum(isinstance(r, ToolSettled) for r in log)
            assert len(messages) <= stored + settled
            if point is TOOL_AFTER:
                assert any(isinstance(r, ToolStarted) for r in log)
            checked.append(point.name)

        return handler

    for point in POINTS:
        hooks.on(point, look(point), name=point.name, on_error="raise")
    llm = Scripted(calls(("a", "double", {"n": 1})), says("done"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[double], hooks=hooks, store=store) as loop:
            await store.create("s")
            assert (await loop.send("hi", "s")).status == "completed"
    assert len(checked) > 15


async def test_only_llm_before_rewrites_a_request_and_it_is_not_stored() -> None:
    """Other rewrites are records."""
    hooks = Hooks()

    @hooks.on(LLM_BEFORE)
    def whisper(context: LlmBefore[Any]) -> LlmBefore[Any]:
        request = context.request
        hint = Message.user("(be brief)")
        return replace(context, request=replace(request, messages=[*request.messages, hint]))

    @hooks.on(LLM_AFTER)
    def polish(context: LlmAfter[Any]) -> LlmAfter[Any]:
        response = replace(context.response, parts=(Text(context.response.text.upper()),))
        return replace(context, response=response)

    @hooks.on(MESSAGE_APPEND)
    def redact(context: MessageAppend[Any]) -> MessageAppend[Any] | None:
        message = context.message
        if "secret" not in message.text:
            return None
        return replace(context, message=replace(message, parts=(Text("[redacted]"),)))

    @hooks.on(SESSION_START)
    def greet(context: SessionStart[Any]) -> SessionStart[Any]:
        return replace(context, append=(Message.user("(it is Monday)"),))

    llm = Scripted(says("hello"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, hooks=hooks) as loop:
            result = await loop.send("my secret")
            assert result.final_text == "HELLO"
            asked = [m.text for m in llm.requests[0].messages]
            assert asked == ["[redacted]", "(it is Monday)", "(be brief)"]
            stored = [m.text for m in await loop.get_messages(result.session_id)]
            assert stored == ["[redacted]", "(it is Monday)", "HELLO"]
            await check_log(loop, result.session_id)


async def test_short_circuits_spare_the_model() -> None:
    """Before the call, and after it has failed for good."""
    answer = LLMResponse((Text("from the cache"),), StopReason.END)
    hooks = Hooks()
    hooks.on(LLM_BEFORE, lambda _: ShortCircuit(answer), name="cache")
    llm = Scripted(fails(BadRequest("bad", status=400)))
    with anyio.fail_after(10):
        async with AgentLoop(llm, hooks=hooks) as loop:
            assert (await loop.send("hi")).final_text == "from the cache"
            assert llm.requests == []
            hooks.remove("cache")
            hooks.on(LLM_ERROR, lambda _: ShortCircuit(answer))
            assert (await loop.send("hi")).final_text == "from the cache"
            assert len(llm.requests) == 1


@pytest.mark.parametrize(
    "point", [ROUND_DECIDE, TOOLS_BATCH_BEFORE, TOOL_BEFORE], ids=lambda point: point.name
)
async def test_skip_answers_in_place_of_the_tools(point: HookPoint[Any, Any]) -> None:
    """The tools do not run, and the model reads what the hook says."""
    hooks = Hooks()
    hooks.on(point, lambda _: Skip("the hook says 5"))
    llm = Scripted(calls(("a", "double", {"n": 1}), ("b", "double", {"n": 2})), says("ok"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[double], hooks=hooks) as loop:
            result = await loop.send("hi")
            log = await check_log(loop, result.session_id)
            settled = [r for r in log if isinstance(r, ToolSettled)]
            assert [r.how for r in settled] == ["skipped", "skipped"]
            assert not any(isinstance(r, ToolStarted) for r in log)
            assert "the hook says 5" in str(list(llm.requests[1].messages))


async def test_tool_before_rewrites_what_really_runs() -> None:
    """The log says what ran; the model's own words stay."""
    hooks = Hooks()

    @hooks.on(TOOL_BEFORE)
    def more(context: ToolBefore[Any]) -> ToolBefore[Any]:
        return replace(context, arguments='{"n": 100}')

    @hooks.on(TOOL_AFTER)
    def say(context: ToolAfter[Any]) -> ToolAfter[Any]:
        return replace(context, result=ToolResult(context.call.id, (Text("it gave 200"),)))

    llm = Scripted(calls(("a", "double", {"n": 1})), says("ok"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[double], hooks=hooks) as loop:
            result = await loop.send("hi")
            log = await check_log(loop, result.session_id)
            (started,) = [r for r in log if isinstance(r, ToolStarted)]
            assert started.arguments == '{"n": 100}'
            call, told = llm.requests[1].messages[1:]
            assert call.tool_calls[0].arguments == '{"n":1}'
            assert told.parts == (ToolResult("a", (Text("it gave 200"),)),)


async def test_tool_error_may_try_again_or_answer() -> None:
    """Retry runs the call once more under the same key; Skip stands in."""
    attempts: list[tuple[int, str]] = []
    hooks = Hooks()

    @tool
    async def flaky(context: ToolContext[Any]) -> str:
        """Fails at first."""
        attempts.append((context.attempt, context.idempotency_key))
        if context.attempt == 1:
            raise ConnectionError("at first")
        return "second time lucky"

    hooks.on(TOOL_ERROR, lambda _: Retry(), name="retry")
    llm = Scripted(by=lambda r: _ask("flaky", r))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[flaky, broken], hooks=hooks) as loop:
            result = await loop.send("hi")
            assert [n for n, _ in attempts] == [1, 2]
            assert len({key for _, key in attempts}) == 1
            assert "second time lucky" in str(list(llm.requests[1].messages))
            await check_log(loop, result.session_id)
            hooks.replace("retry", lambda _: Skip("let it be"))
            llm_two = Scripted(by=lambda r: _ask("broken", r))
            async with AgentLoop(llm_two, tools=[broken], hooks=hooks) as other:
                await other.send("hi")
            assert "let it be" in str(list(llm_two.requests[1].messages))


def _ask(name: str, request: Any) -> Any:
    return calls(("a", name, {})) if request.messages[-1].role == "user" else says("ok")


async def test_tool_after_break_stops_the_siblings_and_tells_the_truth_about_them() -> None:
    """Finished is finished, interrupted is interrupted, what never began had no effect."""
    gate = Gate()

    @tool
    async def quick() -> str:
        """Is quick."""
        await gate.reached.wait()
        return "quick"

    @tool
    async def slow() -> str:
        """Is slow."""
        await gate.wait()
        return "slow"

    @tool(exclusive=True)
    async def later() -> str:
        """Runs alone, later."""
        return "later"

    hooks = Hooks()
    hooks.on(TOOL_AFTER, lambda context: Break("enough") if context.name == "quick" else None)
    llm = Scripted(calls(("a", "quick", {}), ("b", "slow", {}), ("c", "later", {})), says("ok"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[quick, slow, later], hooks=hooks) as loop:
            result = await loop.send("hi")
            assert (result.status, str(result.outcome)) == ("stopped", "stopped(reason='enough')")
            log = await check_log(loop, result.session_id)
            how = {r.message.id: r.how for r in log if isinstance(r, ToolSettled)}
            assert how == {
                "a.result": "finished",
                "b.result": "interrupted",
                "c.result": "not_run",
            }
            assert (await loop.resume(result.session_id)).status == "completed"
    assert llm.illegal == []


async def test_a_handler_that_hangs_is_left_out_with_an_event() -> None:
    """Per handler, after its own bound; the others still run."""
    seen: list[Stamped] = []
    after: list[bool] = []
    hooks = Hooks()

    async def hang(context: Any) -> None:
        await anyio.sleep_forever()

    hooks.on(ROUND_START, hang, name="hanging", timeout=0.02)
    hooks.on(ROUND_START, lambda _: after.append(True), order=1)
    with anyio.fail_after(10):
        async with AgentLoop(Scripted(says("ok")), hooks=hooks) as loop:
            loop.events.subscribe(seen.append, inline=True)
            assert (await loop.send("hi")).status == "completed"
    (failed,) = events_of(HookFailed, seen)
    assert (failed.point, failed.handler) == ("round.start", "hanging")
    assert failed.error_type == "TimeoutError"
    assert after == [True]


async def test_a_guard_that_fails_keeps_the_tool_from_running() -> None:
    """tool.before fails closed unless told otherwise; others are skipped."""

    def guard(context: ToolBefore[Any]) -> None:
        raise ValueError("cannot judge")

    choices: list[tuple[OnError | None, bool]] = [(None, False), ("skip", True)]
    for on_error, ran in choices:
        hooks = Hooks()
        hooks.on(TOOL_BEFORE, guard, on_error=on_error)
        seen: list[Stamped] = []
        llm = Scripted(calls(("a", "double", {"n": 1})), says("ok"))
        with anyio.fail_after(10):
            async with AgentLoop(llm, tools=[double], hooks=hooks) as loop:
                loop.events.subscribe(seen.append, inline=True)
                result = await loop.send("hi")
                log = await check_log(loop, result.session_id)
                assert any(isinstance(r, ToolStarted) for r in log) is ran
                assert len(events_of(HookFailed, seen)) == 1


async def test_an_error_of_one_call_stops_its_siblings_and_is_raised_alone_o05() -> None:
    """on_error=raise in a parallel batch: no group, all calls settled truthfully (O05)."""
    gate = Gate()

    @tool
    async def quick() -> str:
        """Is quick."""
        await gate.reached.wait()
        return "quick"

    @tool
    async def slow() -> str:
        """Is slow."""
        await gate.wait()
        return "slow"

    class Mine(Exception):
        pass

    def judge(context: ToolAfter[Any]) -> None:
        raise Mine

    hooks = Hooks()
    hooks.on(TOOL_AFTER, judge, on_error="raise")
    llm = Scripted(calls(("a", "quick", {}), ("b", "slow", {})))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[quick, slow], hooks=hooks) as loop:
            await loop.store.create("s")
            with pytest.raises(Mine):
                await loop.send("hi", "s")
            log = await check_log(loop, "s")
            how = {r.message.id: r.how for r in log if isinstance(r, ToolSettled)}
            assert how == {"a.result": "finished", "b.result": "interrupted"}


async def test_session_end_tells_of_every_ending_and_may_not_take_for_ever() -> None:
    """It hears of cancellations too; one that hangs is stopped and told of."""
    seen: list[Stamped] = []
    endings: list[str] = []
    hooks = Hooks()

    @hooks.on(SESSION_END)
    async def end(context: SessionEnd[Any]) -> None:
        endings.append(f"{type(context.outcome).__name__}: {context.final_text}")
        if isinstance(context.outcome, Completed):
            await anyio.sleep_forever()

    gate = Gate()
    llm = Scripted(says("fine"), says("never", gate=gate))
    config = AgentConfig(hook_grace=0.05)
    with anyio.fail_after(10):
        async with AgentLoop(llm, hooks=hooks, config=config) as loop:
            loop.events.subscribe(seen.append, inline=True)
            result = await loop.send("hi")
            assert result.status == "completed"
            (failed,) = events_of(HookFailed, seen)
            assert (failed.point, failed.error_type) == ("session.end", "TimeoutError")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(loop.send, "again", result.session_id)
                await gate.reached.wait()
                await loop.cancel(result.session_id)
    assert endings == ["Completed: fine", "Cancelled: "]


@pytest.mark.parametrize("slow", [False, True])
async def test_session_end_hears_of_a_run_whose_caller_was_cancelled(slow: bool) -> None:
    """It may even await something; the cancellation comes out afterwards."""
    endings: list[str] = []
    hooks = Hooks()

    @hooks.on(SESSION_END)
    async def end(context: SessionEnd[Any]) -> None:
        await anyio.lowlevel.checkpoint()
        endings.append(type(context.outcome).__name__)

    llm = Scripted(says("never", gate=Gate()))
    with anyio.fail_after(10):
        async with AgentLoop(llm, hooks=hooks, store=SlowStore() if slow else None) as loop:
            with anyio.move_on_after(0.02) as scope:
                await loop.send("hi")
            assert scope.cancelled_caught
    assert endings == ["Cancelled"]


async def test_a_session_end_that_raises_is_raised_with_the_true_result() -> None:
    """The run has completed, and stays so."""
    hooks = Hooks()

    def end(context: Any) -> None:
        raise ValueError("at the very end")

    hooks.on(SESSION_END, end, on_error="raise")
    with anyio.fail_after(10):
        async with AgentLoop(Scripted(says("fine"), says("fine")), hooks=hooks) as loop:
            await loop.store.create("s")
            with pytest.raises(ValueError, match="very end"):
                await loop.send("hi", "s")
            log = await log_of(loop, "s")
            assert isinstance(log[-1], RunClosed)
            assert log[-1].outcome == Completed("fine")


async def test_handlers_can_come_and_go_while_a_run_goes_on() -> None:
    """The next firing sees the change."""
    hooks = Hooks()
    heard: list[str] = []

    def once(context: Any) -> None:
        heard.append("once")
        hooks.remove("once")
        hooks.on(COMPLETE_DECIDE, lambda _: heard.append("added"))

    hooks.on(COMPLETE_DECIDE, once, name="once")
    with anyio.fail_after(10):
        async with AgentLoop(Scripted(says("a"), says("b")), hooks=hooks) as loop:
            session = (await loop.send("hi")).session_id
            await loop.send("hi", session)
    assert heard == ["once", "added"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_handler_that_raises_cancelled_error_has_failed_and_nobody_is_cancelled() -> None:
    """It awaited a task that somebody cancelled; the run is not."""

    async def confused(context: Any) -> None:
        task = asyncio.ensure_future(anyio.sleep_forever())
        await asyncio.sleep(0)
        task.cancel()
        await task

    hooks = Hooks()
    hooks.on(ROUND_START, confused, name="confused")
    seen: list[Stamped] = []
    async with AgentLoop(Scripted(says("fine")), hooks=hooks) as loop:
        loop.events.subscribe(seen.append, inline=True)
        assert (await loop.send("hi")).status == "completed"
    (failed,) = events_of(HookFailed, seen)
    assert "CancelledError" in failed.message
