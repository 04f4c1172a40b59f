"""Synchronous tools run in threads: the event loop stays free, a cancelled one is left behind."""

from __future__ import annotations

import threading
from contextvars import ContextVar

import anyio
import anyio.from_thread
import pytest

from power_loop.errors import UsageError
from power_loop.tools import Threads, ToolCancelled, ToolContext, ToolError, tool

pytestmark = pytest.mark.anyio

USER: ContextVar[str] = ContextVar("USER", default="nobody")


async def test_the_event_loop_is_free_while_a_synchronous_tool_runs() -> None:
    """The tool waits for something that only the event loop can do meanwhile."""
    gate = threading.Event()
    thread: list[int] = []

    @tool
    def waits() -> str:
        """Waits for the event loop."""
        thread.append(threading.get_ident())
        return "free" if gate.wait(5) else "blocked"

    answers: list[str] = []
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:

            async def run() -> None:
                answers.append((await waits.invoke("", ToolContext.for_test())).text)

            group.start_soon(run)
            await anyio.wait_all_tasks_blocked()
            gate.set()
    assert answers == ["free"]
    assert thread != [threading.get_ident()]


async def test_the_result_is_converted_off_the_event_loop_too() -> None:
    """A large result would block it as much as the work itself."""
    threads: list[int] = []

    @tool
    def numbers() -> object:
        """Yields while it is converted."""

        def squares() -> object:
            threads.append(threading.get_ident())
            yield 1

        return squares()

    assert (await numbers.invoke("", ToolContext.for_test())).text == "[1]"
    assert threads
    assert threads != [threading.get_ident()]


async def test_context_variables_reach_the_thread() -> None:
    """As they are where the tool is called."""

    @tool
    def who() -> str:
        """Says who."""
        return USER.get()

    token = USER.set("ann")
    try:
        assert (await who.invoke("", ToolContext.for_test())).text == "ann"
    finally:
        USER.reset(token)


async def test_a_cancelled_call_is_left_behind_and_knows_it() -> None:
    """The caller goes on at once; the thread sees `cancelled`, and stops being counted."""
    began, seen, gate = threading.Event(), threading.Event(), threading.Event()
    reasons: list[str | None] = []

    @tool
    def hangs(context: ToolContext) -> None:
        """Hangs until it is cancelled."""
        began.set()
        gate.wait(10)
        reasons.append(context.cancel_reason)
        try:
            context.check_cancelled()
        except ToolCancelled:
            seen.set()
            raise

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(hangs.invoke, "", ToolContext[None].for_test())
            await anyio.to_thread.run_sync(began.wait)
            group.cancel_scope.cancel()
        assert hangs.threads.abandoned == 1
        gate.set()
        await anyio.to_thread.run_sync(seen.wait)
        while hangs.threads.abandoned:
            await anyio.lowlevel.checkpoint()
    assert reasons == ["nobody waits for it any more"]


async def test_the_reason_that_the_loop_gives_is_the_one_the_tool_sees() -> None:
    """A cancel verb's own words go before ours."""
    reason: list[str] = []
    context = ToolContext.for_test(cancel_reason=lambda: reason[0] if reason else None)
    assert not context.cancelled
    context.check_cancelled()
    reason.append("the user pressed Ctrl-C")
    assert context.cancelled
    with pytest.raises(ToolCancelled, match="the user pressed Ctrl-C"):
        context.check_cancelled()


async def test_no_more_threads_than_the_bound_run_at_once() -> None:
    """The rest wait their turn."""
    lock, gate = threading.Lock(), threading.Event()
    running: list[int] = [0, 0]

    @tool(threads=Threads(2))
    def works() -> None:
        """Works."""
        with lock:
            running[0] += 1
            running[1] = max(running)
        gate.wait(5)
        with lock:
            running[0] -= 1

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            for _ in range(6):
                group.start_soon(works.invoke, "", ToolContext[None].for_test())
            await anyio.wait_all_tasks_blocked()
            while running[0] < 2:
                await anyio.lowlevel.checkpoint()
            gate.set()
    assert running == [0, 2]


async def test_a_call_cancelled_while_it_waits_for_a_thread_never_runs() -> None:
    """Nothing of it happens later."""
    began, gate = threading.Event(), threading.Event()
    calls: list[str] = []

    @tool(threads=Threads(1))
    def works(who: str) -> None:
        """Works."""
        calls.append(who)
        began.set()
        gate.wait(5)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(works.invoke, '{"who":"first"}', ToolContext[None].for_test())
            await anyio.to_thread.run_sync(began.wait)
            async with anyio.create_task_group() as inner:
                inner.start_soon(works.invoke, '{"who":"second"}', ToolContext[None].for_test())
                await anyio.wait_all_tasks_blocked()
                inner.cancel_scope.cancel()
            gate.set()
    assert calls == ["first"]


async def test_a_tool_that_hangs_again_and_again_is_refused() -> None:
    """Threads that are left behind are bounded too."""
    gate = threading.Event()
    hanging = 0

    @tool(threads=Threads(2))
    def hangs() -> None:
        """Hangs."""
        began.set()
        gate.wait(10)

    with anyio.fail_after(10):
        for hanging in (1, 2):
            began = threading.Event()
            async with anyio.create_task_group() as group:
                group.start_soon(hangs.invoke, "", ToolContext[None].for_test())
                await anyio.to_thread.run_sync(began.wait)
                group.cancel_scope.cancel()
            assert hangs.threads.abandoned == hanging
        with pytest.raises(ToolError, match="2 earlier calls were given up and still run"):
            await hangs.invoke("", ToolContext.for_test())
        gate.set()
        while hangs.threads.abandoned:
            await anyio.lowlevel.checkpoint()
        await hangs.invoke("", ToolContext.for_test())


def test_one_tool_serves_several_event_loops() -> None:
    """Its bound on threads belongs to each of them anew."""

    @tool(threads=Threads(1))
    def answer() -> str:
        """Answers."""
        return "42"

    async def run() -> str:
        return (await answer.invoke("", ToolContext.for_test())).text

    assert [anyio.run(run, backend=name) for name in ("asyncio", "trio", "asyncio")] == ["42"] * 3


def test_a_bound_of_no_threads_is_refused() -> None:
    """It would wait for ever."""
    with pytest.raises(UsageError, match="at least 1"):
        Threads(0)


async def test_progress_reaches_its_listener_from_the_thread() -> None:
    """With message, fraction and data; without a listener it goes nowhere."""
    heard: list[tuple[str, float | None, object]] = []

    @tool
    def steps(context: ToolContext) -> None:
        """Reports."""
        context.progress("half", 0.5, {"rows": 3})
        context.progress("done")

    def hear(message: str, fraction: float | None, data: object) -> None:
        heard.append((message, fraction, data))

    context = ToolContext.for_test(report=hear)
    await steps.invoke("", context)
    await steps.invoke("", ToolContext.for_test())
    assert heard == [("half", 0.5, {"rows": 3}), ("done", None, None)]


async def test_a_synchronous_tool_may_call_back_into_the_event_loop() -> None:
    """Through anyio.from_thread, as anywhere else."""

    async def double(x: int) -> int:
        await anyio.lowlevel.checkpoint()
        return 2 * x

    @tool
    def calls_back(x: int) -> int:
        """Calls back."""
        return anyio.from_thread.run(double, x)

    assert (await calls_back.invoke('{"x":4}', ToolContext.for_test())).text == "8"


def test_a_context_shows_its_call_and_nothing_of_the_deps() -> None:
    """Dependencies may hold keys."""
    assert "sesame" not in repr(ToolContext.for_test({"key": "sesame"}))
    assert "call_id='c1'" in repr(ToolContext.for_test(call_id="c1"))
