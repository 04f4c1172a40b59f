"""A tool may want its long outputs summarised: the model goes on from the summary."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from llm_client.errors import ServerError
from llm_client.types import LLMRequest, ToolResult
from power_loop import (
    AgentConfig,
    AgentLoop,
    Budget,
    MemoryStore,
    OutputPolicy,
    read_output_tool,
    tool,
)
from power_loop.events import CompactionRejected, ModelAsked, Stamped, ViewChanged
from power_loop.runtime.compaction.summary import DefaultCompactor
from tests.agent.scripted import Gate, Reply, Scripted, calls, fails, hangs, says
from tests.agent.support import EVERY_STORE, StoreKind, check_log, events_of, opened_store

pytestmark = pytest.mark.anyio

SHORT = "9,000 lines; one error, at line 7000: disk full."
CONFIG = AgentConfig(result_limit=1000)


@tool(output=OutputPolicy.summarise())
async def read_log(size: int = 9000) -> str:
    """Reads the server's log."""
    return "".join(f"line {n}: {'ERROR disk full' if n == 7000 else 'ok'}\n" for n in range(size))


def is_summary(request: LLMRequest) -> bool:
    """Whether the loop itself asks, for a summary of an output."""
    return (request.system or "").startswith("You summarise what a tool has given")


def working(summary: Callable[[], Reply] = lambda: says(SHORT), size: int = 9000) -> Scripted:
    """A model that reads the log once, and summarises as told."""

    def by(request: LLMRequest) -> Reply:
        if is_summary(request):
            return summary()
        read = any(message.role == "tool" for message in request.messages)
        return says("disk full") if read else calls(("c", "read_log", {"size": size}))

    return Scripted(by=by)


def seen_by(llm: Scripted) -> str:
    """What the model saw of the result when it answered."""
    result = llm.requests[-1].messages[-1].parts[0]
    assert isinstance(result, ToolResult)
    return result.text


@pytest.mark.parametrize("kind", EVERY_STORE)
async def test_a_long_output_is_summarised_before_the_model_goes_on(
    kind: StoreKind, tmp_path: Path
) -> None:
    """From the whole of it; the whole can still be read, and a replay asks nobody."""
    llm = working()
    async with opened_store(kind, tmp_path) as store:
        loop = AgentLoop(llm, store=store, tools=[read_log], config=CONFIG)
        async with loop:
            result = await loop.send("What is wrong?")
            log = await check_log(loop, result.session_id)
    assert result.final_text == "disk full"
    (asked,) = [request for request in llm.requests if is_summary(request)]
    assert "line 0: ok" in asked.messages[0].text
    assert "line 8999: ok" in asked.messages[0].text
    assert asked.tools == ()
    assert seen_by(llm).startswith("[a summary of 124903 characters; the whole is kept as output_")
    assert seen_by(llm).endswith(f"]\n{SHORT}")
    assert [r.purpose for r in log if isinstance(r, ModelAsked)] == ["", "output", ""]
    assert [r.by for r in log if isinstance(r, ViewChanged)] == ["output"]
    assert llm.illegal == []


async def test_a_short_output_needs_no_summary() -> None:
    """It is shown as it is."""
    llm = working(size=3)
    async with AgentLoop(llm, tools=[read_log], config=CONFIG) as loop:
        await loop.send("What is wrong?")
    assert seen_by(llm) == "line 0: ok\nline 1: ok\nline 2: ok\n"
    assert len(llm.requests) == 2


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (lambda: says(""), "there is no summary in the answer"),
        (lambda: says("x" * 5000), "no shorter than what is shown already"),
        (lambda: fails(ServerError("down")), "ServerError: down"),
        (lambda: calls(("x", "read_log", {})), "there is no summary"),
    ],
)
async def test_a_summary_that_is_no_use_leaves_the_ends_of_the_output(
    reply: Callable[[], Reply], told: str
) -> None:
    """It is asked for once; readers are told."""
    llm = working(reply)
    seen: list[Stamped] = []
    async with AgentLoop(llm, tools=[read_log], config=CONFIG) as loop:
        loop.events.subscribe(seen.append)
        result = await loop.send("What is wrong?")
        await check_log(loop, result.session_id)
    assert result.final_text == "disk full"
    assert sum(map(is_summary, llm.requests)) == 1
    assert seen_by(llm).startswith("line 0: ok")
    (event,) = events_of(CompactionRejected, seen)
    assert event.by == "output"
    assert told in event.reason


async def test_a_budget_with_nothing_left_for_a_summary_does_without() -> None:
    """The run has what it needs for its own answer."""
    llm = working()
    config = AgentConfig(result_limit=1000, max_output_tokens=50)
    async with AgentLoop(llm, tools=[read_log], config=config) as loop:
        budget = Budget(tokens=3000, when_short="end")
        result = await loop.send("What is wrong?", budget=budget)
        await check_log(loop, result.session_id)
    assert result.status == "completed"
    assert sum(map(is_summary, llm.requests)) == 0


async def test_a_run_that_is_resumed_does_not_summarise_again_what_it_has() -> None:
    """What is durable is not asked for twice, whatever happened afterwards."""
    gate = Gate()
    stuck = [True]

    def by(request: LLMRequest) -> Reply:
        if is_summary(request):
            return says(SHORT)
        read = any(message.role == "tool" for message in request.messages)
        if not read:
            return calls(("c", "read_log", {}))
        return hangs(gate) if stuck[0] else says("disk full")

    llm = Scripted(by=by)
    async with AgentLoop(llm, tools=[read_log], config=CONFIG) as loop:
        await loop.store.create("s", at=0.0)
        async with anyio.create_task_group() as tasks:

            async def go() -> None:
                await loop.send("What is wrong?", "s")

            tasks.start_soon(go)
            with anyio.fail_after(10):
                await gate.reached.wait()
            tasks.cancel_scope.cancel()
        stuck[0] = False
        result = await loop.resume("s")
        await check_log(loop, "s")
    assert result.final_text == "disk full"
    assert sum(map(is_summary, llm.requests)) == 1
    assert seen_by(llm).endswith(SHORT)


async def test_whoever_summarises_conversations_summarises_outputs_too() -> None:
    """With the same, perhaps cheaper, model; the whole is read with a tool."""
    llm = working()
    config = AgentConfig(result_limit=1000, compactors=[DefaultCompactor(model="cheap")])
    store = MemoryStore()
    async with AgentLoop(llm, store=store, config=config) as loop:
        tools = [read_log, read_output_tool(store)]
        result = await loop.send("What is wrong?", tools=tools)
        await check_log(loop, result.session_id, tools=tools)
    assert [request.model for request in llm.requests if is_summary(request)] == ["cheap"]
