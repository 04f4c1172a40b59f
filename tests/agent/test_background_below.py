"""What comes of calls in the background below: told to whoever goes on, once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from llm_client.types import LLMRequest, Message, ToolResult
from power_loop import AgentLoop, SubAgent, ToolContext, tool
from power_loop.runtime.stores.base import Steer, Store
from power_loop.runtime.stores.memory import MemoryStore
from power_loop.runtime.stores.sqlite import SQLiteStore
from tests.agent.scripted import Gate, Reply, Scripted, calls, says

pytestmark = pytest.mark.anyio


@tool(on_cancel="background")
async def slow(context: ToolContext[Any]) -> str:
    """Takes its time."""
    await context.deps["slow"].wait()
    return "at last"


@tool
async def stuck(context: ToolContext[Any]) -> str:
    """Takes for ever."""
    await context.deps["stuck"].wait()
    return "never"


INNER = SubAgent("inner", "Works.", tools=[slow])
OUTER = SubAgent("outer", "Hands on.", tools=[INNER, slow, stuck])


class Posts(MemoryStore):
    """Tells when something has been posted, and lets a test come before a post to a session."""

    def __init__(self) -> None:
        super().__init__()
        self.posted = anyio.Event()
        self.passed_on = anyio.Event()
        self.before: dict[str, Gate] = {}

    async def post(self, session: str, item: Any, *, dedupe_key: str | None = None) -> Any:
        gate = self.before.get(session)
        if gate is not None:
            await gate.wait()
        posted = await super().post(session, item, dedupe_key=dedupe_key)
        if isinstance(item, Steer) and item.mode == "next_round":
            self.posted.set()
            if session == "s":
                self.passed_on.set()
        return posted


def deps() -> dict[str, Gate]:
    """A gate for each tool."""
    return {"slow": Gate(), "stuck": Gate()}


def deep(request: LLMRequest) -> Reply:
    """Two levels down, something takes its time."""
    task, part = request.messages[0].text, request.messages[-1].parts[-1]
    if isinstance(part, ToolResult) or len(request.messages) > 1:
        return says("done")
    if task == "go":
        return calls(("c1", "outer", {"task": "outer"}))
    if task == "outer":
        return calls(("d1", "inner", {"task": "inner"}))
    return calls(("b1", "slow", {}))


async def told(loop: AgentLoop[Any], session: str) -> list[str]:
    """What a session has been told of calls in the background."""
    texts = [m.text for m in await loop.get_messages(session) if m.role == "user"]
    return [text for text in texts if "[background]" in text]


async def inbox(store: Store, session: str) -> list[Message]:
    """What waits in the inbox of a session."""
    items = [each.item for each in await store.inbox(session)]
    return [item.message for item in items if isinstance(item, Steer)]


async def run_until(
    loop: AgentLoop[Any], gates: dict[str, Gate], then: Callable[[], Any], session: str = "s"
) -> None:
    """Runs, and does something once both or one of the tools wait."""

    async def send() -> None:
        await loop.send("go", session, deps=gates)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            await gates["slow"].reached.wait()
            await then()


async def test_what_ends_below_after_its_run_is_told_at_the_root_once() -> None:
    """Named by its session; whoever resumes hears of it, and those who come later do not again."""
    store, gates = Posts(), deps()
    async with AgentLoop[Any](Scripted(by=deep), tools=[OUTER], store=store) as loop:
        await store.create("s")
        await run_until(loop, gates, lambda: loop.cancel("s", "enough"))
        gates["slow"].opened.set()
        with anyio.fail_after(20):
            await store.posted.wait()
        await loop.resume("s", deps=gates)
        (text,) = await told(loop, "s")
        assert "From the session 's/c1/d1' below" in text
        assert "The call b1 of slow" in text
        assert text.endswith("at last")
        await loop.send("and?", "s", deps=gates)
        assert len(await told(loop, "s")) == 1
        assert await store.inbox("s/c1/d1") == await store.inbox("s/c1") == ()


async def test_a_run_that_goes_on_hears_of_what_it_interrupted_below() -> None:
    """It had said what could not wait, so the session below does not run again."""
    store, gates = Posts(), deps()
    answered = Gate()

    def model(request: LLMRequest) -> Reply:
        if request.messages[0].text == "go" and request.messages[-1].text == "leave it":
            return Reply(says("left").parts, gate=answered)
        return deep(request)

    async with AgentLoop[Any](Scripted(by=model), tools=[OUTER], store=store) as loop:
        await store.create("s")

        async def interrupt() -> None:
            await loop.steer("s", "leave it", mode="interrupt")
            await answered.reached.wait()
            gates["slow"].opened.set()
            await store.posted.wait()
            answered.opened.set()

        await run_until(loop, gates, interrupt)
        assert len(await told(loop, "s")) == 1


async def test_a_session_below_that_goes_on_hears_of_it_itself() -> None:
    """Nobody above does."""
    gates = deps()
    store = Posts()

    def model(request: LLMRequest) -> Reply:
        if request.messages[0].text != "outer":
            return deep(request)
        if len(request.messages) == 1:
            return calls(("b1", "slow", {}))
        texts = "".join([each.text for each in request.messages])
        return (
            says("done") if "at last" in texts else Reply(says("well").parts, gate=gates["stuck"])
        )

    async with AgentLoop[Any](Scripted(by=model), tools=[OUTER], store=store) as loop:
        await store.create("s")

        async def interrupt() -> None:
            await loop.steer("s/c1", "go on", mode="interrupt")
            await gates["stuck"].reached.wait()
            gates["slow"].opened.set()
            await store.posted.wait()
            gates["stuck"].opened.set()

        await run_until(loop, gates, interrupt)
        (text,) = await told(loop, "s/c1")
        assert "below" not in text
        assert await told(loop, "s") == []


async def test_what_a_session_below_was_told_too_late_goes_to_the_one_above(
    tmp_path: Path,
) -> None:
    """It lay in the inbox when its run was cancelled: nobody would have read it there."""
    gates = deps()

    def model(request: LLMRequest) -> Reply:
        task, part = request.messages[0].text, request.messages[-1].parts[-1]
        if task == "outer" and len(request.messages) == 1:
            return calls(("b1", "slow", {}), ("x1", "stuck", {}))
        if task == "outer" and request.messages[-1].text == "leave them":
            return calls(("x2", "stuck", {}))
        return says("done") if isinstance(part, ToolResult) else deep(request)

    store = SQLiteStore(tmp_path / "db")
    async with AgentLoop[Any](Scripted(by=model), tools=[OUTER], store=store) as loop:
        await store.create("s")

        async def leave() -> None:
            await loop.steer("s/c1", "leave them", mode="interrupt")
            await _until(lambda: _has_begun(store, "s/c1", "x2"))
            gates["slow"].opened.set()
            await _until(lambda: _has_post(store, "s/c1"))
            await loop.cancel("s", "enough")

        await run_until(loop, gates, leave)
        (message,) = await inbox(store, "s")
        assert "From the session 's/c1' below" in message.text
        await loop.resume("s", deps=gates)
        assert len(await told(loop, "s")) == 1
    await store.aclose()


async def _has_begun(store: Store, session: str, call_id: str) -> bool:
    return any(getattr(e.event, "call_id", "") == call_id for e in await store.read(session))


async def _has_post(store: Store, session: str) -> bool:
    return bool(await store.inbox(session))


async def _until(holds: Callable[[], Any]) -> None:
    while not await holds():
        await anyio.lowlevel.checkpoint()


async def test_what_is_posted_below_when_all_above_has_ended_is_passed_on() -> None:
    """Whoever posts looks again afterwards: the end may have come in between."""
    store, gates = Posts(), deps()

    def model(request: LLMRequest) -> Reply:
        if request.messages[-1].text == "leave it":
            return Reply(gate=gates["stuck"])
        return deep(request)

    async with AgentLoop[Any](Scripted(by=model), tools=[OUTER], store=store) as loop:
        await store.create("s")
        late = Gate()

        async def leave() -> None:
            await loop.steer("s/c1/d1", "leave it", mode="interrupt")
            await gates["stuck"].reached.wait()
            store.before["s/c1/d1"] = late
            gates["slow"].opened.set()
            await late.reached.wait()
            await loop.cancel("s", "enough")

        await run_until(loop, gates, leave)
        assert await inbox(store, "s") == []
        late.opened.set()
        with anyio.fail_after(20):
            await store.passed_on.wait()
        (message,) = await inbox(store, "s")
        assert "From the session 's/c1/d1' below" in message.text
