"""What becomes of tools when their run does not go on: aborted, finished, or left to go on."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest

from llm_client.types import LLMRequest, LLMResponse, ToolResult
from power_loop import (
    AgentConfig,
    AgentLoop,
    CancellationToken,
    Hooks,
    JsonSchemaTool,
    MemoryStore,
    ToolContext,
    tool,
)
from power_loop.errors import ToolDefinitionError
from power_loop.events import Stamped, ToolLeftBehind
from power_loop.hooks import LLM_BEFORE, TOOL_AFTER, Break
from power_loop.runtime.stores.base import Steer
from power_loop.session.outcome import Cancelled, Completed, Outcome
from power_loop.session.records import Record, RunClosed, ToolSettled
from power_loop.tools import FunctionTool
from tests.agent.scripted import Scripted, calls, says
from tests.agent.stepping import tasks_alive
from tests.agent.stores import records_of
from tests.agent.support import events_of
from tests.session.checker import violations

pytestmark = pytest.mark.anyio

Way = Literal["token", "verb", "scope", "stream", "timeout", "close", "interrupt", "nobody"]
CANCELLED: tuple[Way, ...] = ("token", "verb", "scope", "stream", "timeout", "close")
EVERY: tuple[Way, ...] = (*CANCELLED, "interrupt")


class Deps:
    """What tools share with their test."""

    def __init__(self, tools: int) -> None:
        """`begun` is set once so many tools have begun that wait."""
        self.begun = anyio.Event()
        self.go = anyio.Event()
        self.saw = threading.Event()
        self.tick = threading.Event()
        self.stopped = anyio.Event()
        self.seen: list[str] = []
        self.from_thread: Callable[[Callable[[], object]], object] = anyio.from_thread.run_sync
        self._missing = tools

    def begin(self) -> None:
        """One more waits."""
        self._missing -= 1
        if not self._missing:
            self.begun.set()


async def until_begun(context: ToolContext[Deps], *, deaf: bool = False) -> str:
    """Waits for the test."""
    deps = context.deps
    deps.begin()
    try:
        with anyio.CancelScope(shield=deaf):
            await deps.go.wait()
    except anyio.get_cancelled_exc_class():
        deps.seen.append(f"cancelled, {context.cancelled}")
        deps.stopped.set()
        raise
    deps.seen.append(f"ended, {context.cancelled}")
    return "all of it"


@tool
async def abort(context: ToolContext[Deps]) -> str:
    """Stops when it is told to."""
    return await until_begun(context)


@tool(on_cancel="finish", grace=30)
async def finish(context: ToolContext[Deps]) -> str:
    """Has its time to finish."""
    return await until_begun(context)


@tool(on_cancel="finish", grace=0.01)
async def finish_late(context: ToolContext[Deps]) -> str:
    """Has too little of it."""
    return await until_begun(context)


@tool(on_cancel="background")
async def background(context: ToolContext[Deps]) -> str:
    """Goes on."""
    return await until_begun(context)


@tool(on_cancel="finish", grace=30)
async def finish_asking(context: ToolContext[Deps]) -> str:
    """Finishes with a question."""
    await until_begun(context)
    return context.request_user_input("Which one?")


@tool(on_cancel="background")
async def background_asking(context: ToolContext[Deps]) -> str:
    """Goes on, and then asks."""
    await until_begun(context)
    return context.request_user_input("Which one?")


@tool(grace=0.01)
async def abort_soon(context: ToolContext[Deps]) -> str:
    """Stops, and has no time for more."""
    return await until_begun(context)


@tool(grace=0.01)
async def deaf(context: ToolContext[Deps]) -> str:
    """Does not listen."""
    return await until_begun(context, deaf=True)


@tool
def abort_in_thread(context: ToolContext[Deps]) -> str:
    """Looks whether it is wanted."""
    return _in_thread(context)


@tool(on_cancel="finish", grace=30)
def finish_in_thread(context: ToolContext[Deps]) -> str:
    """Looks, and finishes."""
    return _in_thread(context)


@tool(on_cancel="background")
def background_in_thread(context: ToolContext[Deps]) -> str:
    """Looks, and goes on."""
    return _in_thread(context)


def _in_thread(context: ToolContext[Deps]) -> str:
    context.deps.from_thread(context.deps.begin)
    while not context.cancelled:
        context.deps.tick.wait(0.001)
    context.deps.saw.set()
    return "all of it"


@tool
async def quick(context: ToolContext[Deps]) -> str:
    """Ends once all others have begun."""
    await context.deps.begun.wait()
    return "quick"


TOOLS: Sequence[FunctionTool[..., Any]] = (
    abort,
    abort_soon,
    finish,
    finish_late,
    finish_asking,
    background,
    background_asking,
    deaf,
    abort_in_thread,
    finish_in_thread,
    background_in_thread,
    quick,
)


class Bench:
    """A loop whose model asks for some tools, and whose run is stopped while they run."""

    def __init__(self, *names: str, hooks: Hooks | None = None, grace: float = 30) -> None:
        self.deps = Deps(len([name for name in names if name != quick.name]))
        self.store = MemoryStore()
        self.llm = Scripted(
            calls(*[(name, name, "{}") for name in names]), says("I see"), says("and now?")
        )
        self.loop = AgentLoop[Deps](
            self.llm,
            tools=TOOLS,
            store=self.store,
            hooks=hooks,
            config=AgentConfig(shutdown_grace=grace),
        )
        self.seen: list[Stamped] = []
        self.ended = anyio.Event()
        self._token = CancellationToken()
        self._scope = anyio.CancelScope()
        self._close = anyio.Event()

    @asynccontextmanager
    async def stopped(self, way: Way) -> AsyncGenerator[None]:
        """Inside, the run has been stopped in some way once its tools had begun; afterwards it and
        the loop have ended, and nothing is left.
        """
        self.loop.events.subscribe(self.seen.append, inline=True)
        await self.store.create("s")
        before = tasks_alive()
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._live, way)
                await self.deps.begun.wait()
                match way:
                    case "token":
                        await anyio.to_thread.run_sync(self._token.cancel, "enough")
                    case "verb":
                        assert await self.loop.cancel("s", "enough")
                    case "scope":
                        self._scope.cancel()
                    case "interrupt":
                        await self.loop.steer("s", "wait", mode="interrupt")
                    case "close":
                        self._close.set()
                    case _:
                        pass
                try:
                    yield
                    self._close.set()
                except BaseException:
                    # Else what does not listen would hold a test that has failed.
                    self.deps.go.set()
                    raise
            await anyio.wait_all_tasks_blocked()
        assert tasks_alive() == before

    async def _live(self, way: Way) -> None:
        async with anyio.create_task_group() as tasks, self.loop:
            tasks.start_soon(self._run, way)
            await self._close.wait()

    async def _run(self, way: Way) -> None:
        deps, token = self.deps, self._token
        try:
            with self._scope:
                if way == "stream":
                    async with self.loop.stream("go", "s", deps=deps):
                        await deps.begun.wait()
                else:
                    timeout = 0.05 if way == "timeout" else 25.0
                    await self.loop.send("go", "s", deps=deps, cancel=token, timeout=timeout)
        finally:
            self.ended.set()

    async def log(self) -> list[Record]:
        """The records, legal and closed."""
        log = records_of(await self.store.read("s"))
        assert violations(log, closed=True) == []
        return log

    async def told(self) -> dict[str, tuple[str, str]]:
        """How each call was told, and its text."""
        return {
            part.call_id: (record.how, part.text)
            for record in await self.log()
            if isinstance(record, ToolSettled)
            for part in record.message.parts
            if isinstance(part, ToolResult)
        }

    async def outcome(self) -> Outcome:
        """How the run ended."""
        last = (await self.log())[-1]
        assert isinstance(last, RunClosed)
        return last.outcome

    async def posted(self) -> list[str]:
        """What waits in the inbox."""
        items = [each.item for each in await self.store.inbox("s")]
        return [each.message.text for each in items if isinstance(each, Steer)]

    async def replays(self) -> bool:
        """Whether the log replays to the byte."""
        return (await self.loop.replay("s", deps=self.deps)).identical


@pytest.mark.parametrize("way", EVERY)
async def test_an_ordinary_tool_is_stopped_at_once(way: Way) -> None:
    """And told as interrupted."""
    bench = Bench("abort")
    async with bench.stopped(way):
        await bench.ended.wait()
    assert bench.deps.seen == ["cancelled, True"]
    how, text = (await bench.told())["abort"]
    assert (how, "stopped before it had finished" in text) == ("interrupted", True)
    assert isinstance(await bench.outcome(), Completed if way == "interrupt" else Cancelled)
    assert await bench.replays()


@pytest.mark.parametrize("way", EVERY)
async def test_a_tool_that_may_finish_does_and_its_result_is_the_truth(way: Way) -> None:
    """It knows that its run is over; until it has ended, the run has not."""
    bench = Bench("finish")
    async with bench.stopped(way):
        if way != "timeout":
            await anyio.wait_all_tasks_blocked()
        else:
            await anyio.sleep(0.1)
        assert bench.deps.seen == []
        assert not bench.ended.is_set()
        bench.deps.go.set()
        await bench.ended.wait()
    assert bench.deps.seen == ["ended, True"]
    assert await bench.told() == {"finish": ("finished", "all of it")}
    assert isinstance(await bench.outcome(), Completed if way == "interrupt" else Cancelled)
    assert await bench.replays()


@pytest.mark.parametrize("way", EVERY)
async def test_a_tool_that_does_not_finish_within_its_grace_is_stopped(way: Way) -> None:
    """Then it is told as interrupted."""
    bench = Bench("finish_late")
    async with bench.stopped(way):
        await bench.ended.wait()
    assert bench.deps.seen == ["cancelled, True"]
    assert (await bench.told())["finish_late"][0] == "interrupted"
    assert await bench.replays()


@pytest.mark.parametrize("way", EVERY)
async def test_a_tool_in_the_background_goes_on_and_is_heard_of_once(way: Way) -> None:
    """The run does not wait for it; the model is told so, and in its next round what came of it."""
    bench = Bench("background")
    async with bench.stopped(way):
        await bench.ended.wait()
        how, text = (await bench.told())["background"]
        assert (how, "goes on in the background" in text) == ("interrupted", True)
        assert bench.deps.seen == []
        assert await bench.replays()
        assert await bench.posted() == []
        bench.deps.go.set()
        await anyio.wait_all_tasks_blocked()
        assert bench.deps.seen == ["ended, True"]
        (told,) = await bench.posted()
        assert "background background, which" not in told
        assert "The call background of background" in told
        assert "has ended:" in told
        assert told.endswith("all of it")
        if way != "close":
            await bench.loop.send("what now?", "s")
            assert await bench.posted() == []
            said = [message.text for message in bench.llm.requests[-1].messages]
            assert said.count(told) == 1
    assert bench.llm.illegal == []


async def test_a_call_that_ends_with_a_question_has_no_result() -> None:
    """Its run is cancelled, so that nobody is asked, and none is made up."""
    bench = Bench("finish_asking")
    async with bench.stopped("verb"):
        bench.deps.go.set()
        await bench.ended.wait()
    assert (await bench.told())["finish_asking"][0] == "interrupted"
    assert await bench.replays()


async def test_a_question_from_the_background_is_told_as_unanswered() -> None:
    """Its call is closed by then."""
    bench = Bench("background_asking")
    async with bench.stopped("verb"):
        await bench.ended.wait()
        bench.deps.go.set()
        await anyio.wait_all_tasks_blocked()
        (told,) = await bench.posted()
    assert "has failed:" in told
    assert told.endswith("nobody could be asked any more: Which one?")


async def test_what_is_in_the_background_when_the_loop_closes_is_stopped_and_told() -> None:
    """After the loop's grace; what it came to is not known."""
    bench = Bench("background", grace=0.05)
    async with bench.stopped("verb"):
        await bench.ended.wait()
    assert bench.deps.seen == ["cancelled, True"]
    (told,) = await bench.posted()
    assert "has failed:" in told
    assert "stopped before it had finished" in told


async def test_a_background_tool_that_nobody_stops_is_an_ordinary_one() -> None:
    """Its result is the call's; nothing is posted."""
    bench = Bench("background")
    bench.deps.go.set()
    async with bench.loop as loop:
        await bench.store.create("s")
        result = await loop.send("go", "s", deps=bench.deps)
        assert result.status == "completed"
    assert await bench.told() == {"background": ("finished", "all of it")}
    assert await bench.posted() == []
    assert bench.deps.seen == ["ended, False"]


@pytest.mark.parametrize("way", CANCELLED)
async def test_a_tool_that_ignores_it_does_not_hold_the_end_of_its_run(
    way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    """It is left behind, and that is told; what it gives afterwards nobody hears."""
    bench = Bench("deaf", "abort_soon")
    async with bench.stopped(way):
        await bench.ended.wait()
        assert isinstance(await bench.outcome(), Cancelled)
        told = await bench.told()
        assert {id: how for id, (how, _) in told.items()} == {
            "deaf": "interrupted",
            "abort_soon": "interrupted",
        }
        assert events_of(ToolLeftBehind, bench.seen) == [ToolLeftBehind("deaf", "deaf")]
        assert isinstance(bench.seen[-1].event, RunClosed)
        assert "ends without what ignores that: deaf (deaf)" in caplog.text
        assert await bench.replays()
        heard = len(bench.seen)
        bench.deps.go.set()
        await anyio.wait_all_tasks_blocked()
        assert bench.deps.seen[-1] == "ended, True"
        assert len(bench.seen) == heard
        assert await bench.told() == told
        if way != "close":
            assert (await bench.loop.send("go on", "s")).final_text == "I see"


@pytest.mark.parametrize("where", ["model", "hook"])
async def test_whatever_ignores_it_is_left_when_the_loop_closes(where: str) -> None:
    """A model's service and a hook have their time as well, and not more."""
    begun, go = anyio.Event(), anyio.Event()

    async def hold(_: object = None) -> None:
        begun.set()
        with anyio.CancelScope(shield=True):
            await go.wait()

    class Deaf(Scripted):
        async def complete(self, request: LLMRequest) -> LLMResponse:
            if where == "model":
                await hold()
            return await super().complete(request)

    hooks = Hooks()
    if where == "hook":
        hooks.on(LLM_BEFORE, lambda _: hold(), name="deaf")
    store = MemoryStore()
    before = tasks_alive()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            config = AgentConfig(shutdown_grace=0.02)
            loop = AgentLoop(Deaf(says("never")), store=store, hooks=hooks, config=config)
            async with loop:
                await store.create("s")
                tasks.start_soon(loop.send, "hi", "s")
                await begun.wait()
        log = records_of(await store.read("s"))
        assert violations(log, closed=True) == []
        assert isinstance(log[-1], RunClosed)
        assert log[-1].outcome == Cancelled("the loop is closing")
        go.set()
        await anyio.wait_all_tasks_blocked()
    assert records_of(await store.read("s")) == log
    assert tasks_alive() == before


@pytest.mark.parametrize("name", ["abort_in_thread", "finish_in_thread", "background_in_thread"])
async def test_a_thread_sees_that_it_is_not_wanted_whatever_its_tool_says(name: str) -> None:
    """What it does about that is its own affair."""
    bench = Bench(name)
    async with bench.stopped("verb"):
        await bench.ended.wait()
        assert await anyio.to_thread.run_sync(bench.deps.saw.wait, 10)
        how, _ = (await bench.told())[name]
        assert how == ("finished" if name == "finish_in_thread" else "interrupted")
        if name == "background_in_thread":
            while not await bench.posted():
                await anyio.lowlevel.checkpoint()


async def test_siblings_of_a_broken_batch_are_treated_as_their_tools_say() -> None:
    """One is stopped, one goes on, and one is waited for."""
    hooks = Hooks()
    hooks.on(TOOL_AFTER, lambda context: Break("seen enough") if context.name == "quick" else None)
    bench = Bench("quick", "abort", "finish", "background", hooks=hooks)
    async with bench.stopped("nobody"):
        await bench.deps.stopped.wait()
        bench.deps.go.set()
        await bench.ended.wait()
        await anyio.wait_all_tasks_blocked()
        told = await bench.told()
        assert {id: how for id, (how, _) in told.items()} == {
            "quick": "finished",
            "abort": "interrupted",
            "finish": "finished",
            "background": "interrupted",
        }
        assert "goes on in the background" in told["background"][1]
        assert [text.endswith("all of it") for text in await bench.posted()] == [True]


def test_a_word_or_a_time_that_there_is_not_is_refused() -> None:
    """For functions and for schemas, when they are made."""
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"on_cancel": "ignore"}, "'abort', 'finish', 'background', not 'ignore'"),
        ({"on_cancel": None}, "not None"),
        ({"grace": -1.0}, "no time"),
        ({"grace": float("nan")}, "no time"),
        ({"grace": float("inf")}, "no time"),
        ({"grace": "5"}, "no time"),
    ]
    for options, told in wrong:
        with pytest.raises(ToolDefinitionError, match=told):
            tool(name="x", description="X.", **options)(lambda: None)
        with pytest.raises(ToolDefinitionError, match=told):
            JsonSchemaTool("x", "X.", {"type": "object"}, lambda a, c: None, **options)
    made = JsonSchemaTool(
        "x", "X.", {"type": "object"}, lambda a, c: None, on_cancel="finish", grace=0
    )
    assert (made.on_cancel, made.grace, abort.on_cancel, abort.grace) == ("finish", 0, "abort", 5.0)
