"""Runs that are cancelled by what their caller holds, whatever that is."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import anyio
import pytest

from llm_client.types import LLMRequest
from power_loop import AgentLoop, CancellationToken, MemoryStore, RunResult, SubAgent
from power_loop.session.outcome import Cancelled, Completed
from power_loop.session.records import RunClosed
from tests.agent.scripted import Gate, Reply, Scripted, calls, hangs, says
from tests.agent.stores import records_of

pytestmark = pytest.mark.anyio


class Switch:
    """Something that says whether to cancel, of one kind or another; `flip` has it say so."""

    def __init__(self, kind: str) -> None:
        self.source: Any
        match kind:
            case "token":
                self.source = CancellationToken()
                self._flip = self.source.cancel
            case "threading":
                self.source = threading.Event()
                self._flip = self.source.set
            case "asyncio":
                self.source = asyncio.Event()
                self._flip = self.source.set
            case "anyio":
                self.source = anyio.Event()
                self._flip = self.source.set
            case _:
                self._said = False
                self.source = lambda: self._said
                self._flip = self._say

    def _say(self) -> None:
        self._said = True

    def flip(self) -> None:
        """Cancels."""
        self._flip()


KINDS = {
    "token": "cancelled",
    "threading": "the event was set",
    "asyncio": "the event was set",
    "anyio": "the event was set",
    "function": "the caller's function said so",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verb", ["send", "stream", "resume"])
async def test_whatever_says_it_each_verb_ends_cancelled_with_the_reason(
    kind: str, verb: str
) -> None:
    """What cannot call back is looked at while the run goes on."""
    switch, gate, store = Switch(kind), Gate(), MemoryStore()
    await store.create("s")
    result: RunResult[None] | None = None
    with anyio.fail_after(5):
        before = [hangs(Gate())] if verb == "resume" else []
        async with AgentLoop(Scripted(*before, hangs(gate)), store=store) as loop:
            if verb == "resume":
                await loop.send("hi", "s", timeout=0.01)
            async with anyio.create_task_group() as tasks:

                async def flip() -> None:
                    await gate.reached.wait()
                    switch.flip()

                tasks.start_soon(flip)
                match verb:
                    case "send":
                        result = await loop.send("hi", "s", cancel=switch.source)
                    case "resume":
                        result = await loop.resume("s", cancel=switch.source)
                    case _:
                        async with loop.stream("hi", "s", cancel=switch.source) as run:
                            async for _ in run:
                                pass
                            result = await run.result()
    assert result is not None
    assert result.outcome == Cancelled(KINDS[kind])
    closed = records_of(await store.read("s"))[-1]
    assert isinstance(closed, RunClosed)
    assert closed.outcome == result.outcome


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_cancelled_before_it_begins_asks_no_model(kind: str) -> None:
    """As if somebody had used the verb by then; the session goes on afterwards."""
    switch, llm, store = Switch(kind), Scripted(says("hello")), MemoryStore()
    await store.create("s")
    switch.flip()
    async with AgentLoop(llm, store=store) as loop:
        result = await loop.send("hi", "s", cancel=switch.source)
        assert result.outcome == Cancelled(KINDS[kind])
        assert llm.requests == []
        assert await store.read("s") == []
        assert isinstance((await loop.send("hi", "s")).outcome, Completed)


async def test_one_token_ends_many_runs_and_keeps_none_of_them() -> None:
    """It is no part of them: once they have ended it has nobody to tell."""
    token, gate = CancellationToken(), Gate()
    child = token.child()
    outcomes: list[Any] = []
    llm = Scripted(by=lambda request: says("quick") if len(outcomes) == 0 else hangs(gate))
    async with AgentLoop(llm) as loop:

        async def send(with_token: CancellationToken) -> None:
            outcomes.append((await loop.send("hi", cancel=with_token)).outcome)

        await send(token)
        assert outcomes == [Completed("quick")]
        assert token._node.listeners == {}
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send, token)
                tasks.start_soon(send, child)
                while llm.under_way < 2:
                    await anyio.lowlevel.checkpoint()
                token.cancel("all of it")
        assert outcomes[1:] == [Cancelled("all of it")] * 2
        assert token._node.listeners == child._node.listeners == {}


async def test_sessions_below_are_cancelled_for_the_same_reason() -> None:
    """Also below those."""
    gate, store = Gate(), MemoryStore()

    def reply(request: LLMRequest) -> Reply:
        if request.system == "inner":
            return hangs(gate)
        return calls(("c", "inner" if request.system == "outer" else "outer", {"task": "t"}))

    inner = SubAgent("inner", "Works.", system_prompt="inner")
    outer = SubAgent("outer", "Works.", system_prompt="outer", tools=[inner])
    await store.create("s")
    with anyio.fail_after(5):
        async with (
            AgentLoop(Scripted(by=reply), tools=[outer], store=store) as loop,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(loop.send, "go", "s")
            await gate.reached.wait()
            assert await loop.cancel("s", "enough")
    for session in ("s", "s/c", "s/c/c"):
        closed = records_of(await store.read(session))[-1]
        assert isinstance(closed, RunClosed), session
        assert closed.outcome == Cancelled("enough"), session
