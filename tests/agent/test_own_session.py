"""Sessions that nobody asked for, and runs that ask for themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from anyio import from_thread

from power_loop import AgentLoop, Hooks, MemoryStore, ToolContext, result_of, tool
from power_loop.errors import SessionBusy, StoreError, StoreFull
from power_loop.events import Stamped
from power_loop.hooks import MESSAGE_APPEND, ROUND_END, MessageAppend, RoundEnd
from power_loop.runtime.stores.base import Appended, Lease
from tests.agent.scripted import Scripted, calls, says
from tests.agent.support import check_log

pytestmark = pytest.mark.anyio


class Full(MemoryStore):
    """Takes sessions, but no records."""

    deletes = True

    async def append(
        self,
        lease: Lease,
        expected_seq: int,
        records: Sequence[Stamped],
        *,
        take: Sequence[str] = (),
        final: bool = False,
        leaving: Sequence[str] | None = None,
    ) -> Appended:
        raise StoreFull("no space is left")

    async def delete(self, session: str) -> int:
        if not self.deletes:
            raise StoreError("read-only")
        return await super().delete(session)


def refuse(context: MessageAppend) -> None:
    raise PermissionError("not in here")


async def test_a_run_that_cannot_open_leaves_no_empty_session_behind() -> None:
    """Here a hook forbids its first message. A session that was there before stays."""
    hooks = Hooks()
    hooks.on(MESSAGE_APPEND, refuse, on_error="raise")
    async with AgentLoop(Scripted(), hooks=hooks) as loop:
        with pytest.raises(PermissionError) as raised:
            await loop.send("hi")
        assert result_of(raised.value) is None
        with pytest.raises(PermissionError):
            async with loop.stream("hi") as run:
                async for _ in run:
                    pass
        assert await loop.store.list() == []
        await loop.store.create("mine")
        with pytest.raises(PermissionError):
            await loop.send("hi", "mine")
        assert [info.id for info in await loop.store.list()] == ["mine"]


async def test_an_error_that_kept_a_run_from_being_stored_names_its_session() -> None:
    """Where the store cannot even delete it, the session stays, and is not nameless."""
    store = Full()
    async with AgentLoop(Scripted(says("hi")), store=store) as loop:
        with pytest.raises(StoreFull):
            await loop.send("hi")
        assert await store.list() == []
        store.deletes = False
        with pytest.raises(StoreFull) as raised:
            await loop.send("hi")
        (left,) = await store.list()
        assert raised.value.__notes__ == [f"This was a run of session {left.id!r}."]


@tool
async def ask_myself(context: ToolContext[AgentLoop[Any]]) -> str:
    """Sends to its own session."""
    return (await context.deps.send("hi", context.session_id)).final_text


@tool
def ask_myself_from_a_thread(context: ToolContext[AgentLoop[Any]]) -> str:
    """The same, from a thread."""

    async def send() -> str:
        return (await context.deps.send("hi", context.session_id)).final_text

    return from_thread.run(send)


@pytest.mark.parametrize("name", ["ask_myself", "ask_myself_from_a_thread"])
async def test_a_tool_that_waits_for_its_own_session_is_told_at_once(name: str) -> None:
    """It would hang until its timeout."""
    llm = Scripted(calls(("c", name, {})), says("done"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[ask_myself, ask_myself_from_a_thread]) as loop:
            result = await loop.send("go", deps=loop)
            assert result.final_text == "done"
            told = llm.requests[1].messages[-1].parts[0]
            assert "SessionBusy" in getattr(told, "text", "")
            await check_log(loop, result.session_id)


async def test_a_hook_that_waits_for_its_own_session_is_told_at_once() -> None:
    """As a tool is."""
    hooks = Hooks()

    async def again(context: RoundEnd[AgentLoop[Any]]) -> None:
        await context.deps.resume(context.session_id)

    hooks.on(ROUND_END, again, on_error="raise")
    with anyio.fail_after(10):
        async with AgentLoop(Scripted(says("done")), hooks=hooks) as loop:
            with pytest.raises(SessionBusy, match="very run"):
                await loop.send("go", deps=loop)


@tool
async def ask_another(context: ToolContext[AgentLoop[Any]]) -> str:
    """Sends to a session of its own, which sends no further."""
    return (await context.deps.send("hi")).final_text


async def test_a_tool_may_run_another_session_of_its_loop() -> None:
    """Only its own would wait for itself."""
    llm = Scripted(calls(("c", "ask_another", {})), says("inner"), says("outer"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[ask_another]) as loop:
            result = await loop.send("go", deps=loop)
            assert result.final_text == "outer"
            assert llm.requests[2].messages[-1].parts[0] is not None
            again = Scripted(says("more"))
            async with AgentLoop(again, store=loop.store) as other:
                assert (await other.send("go on", result.session_id)).final_text == "more"
