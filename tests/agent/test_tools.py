"""Tools inside a run: bounded, honest, and never a danger to the session."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

from llm_client.types import Image, Text, ToolResult, ToolSpec
from power_loop import (
    AgentConfig,
    AgentLoop,
    JsonSchemaTool,
    Result,
    SQLiteStore,
    ToolContext,
    ToolOutput,
    tool,
)
from power_loop.errors import ToolError
from power_loop.events import Stamped, TextRepaired
from power_loop.session.records import ModelEnded, Settlement, ToolSettled, ToolStarted
from tests.agent.scripted import Gate, Scripted, calls, hangs, says
from tests.agent.stepping import tasks_alive
from tests.agent.support import check_log, events_of

pytestmark = pytest.mark.anyio


def once(name: str, arguments: Any = None) -> Scripted:
    """A model that calls one tool and is then content."""
    return Scripted(calls(("a", name, {} if arguments is None else arguments)), says("ok"))


async def outcome_of(
    tool: Any, arguments: Any = None, config: AgentConfig | None = None
) -> tuple[ToolResult, Settlement, Scripted]:
    """What the model reads of one call, how it was settled, and the model."""
    llm = once(tool.name, arguments)
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[tool], config=config) as loop:
            before = tasks_alive()
            result = await loop.send("go")
            assert result.status == "completed"
            assert tasks_alive() == before
            log = await check_log(loop, result.session_id)
    assert llm.illegal == []
    (settled,) = [r for r in log if isinstance(r, ToolSettled)]
    part = llm.requests[1].messages[-1].parts[0]
    assert isinstance(part, ToolResult)
    assert settled.message.parts == (part,)
    return part, settled.how, llm


async def test_a_tool_that_raises_is_told_to_the_model() -> None:
    """An error result; the run goes on."""

    @tool
    async def broken() -> str:
        """Fails."""
        raise KeyError("where is it?")

    @tool
    async def refuses() -> str:
        """Refuses."""
        raise ToolError("not on a Sunday")

    told, how, _ = await outcome_of(broken)
    assert (told.is_error, how) == (True, "finished")
    assert "KeyError: 'where is it?'" in told.text
    told, how, _ = await outcome_of(refuses)
    assert (told.text, told.is_error, how) == ("not on a Sunday", True, "finished")


@pytest.mark.parametrize("own", [True, False])
async def test_a_tool_that_hangs_is_stopped_after_its_own_bound_or_the_config_s(own: bool) -> None:
    """The model is told that its effects are unknown."""
    stopped: list[bool] = []

    async def hang() -> str:
        """Hangs."""
        try:
            await anyio.sleep_forever()
        finally:
            stopped.append(True)
        return "never"

    if own:
        told, how, _ = await outcome_of(tool(timeout=0.03)(hang))
    else:
        told, how, _ = await outcome_of(tool(hang), config=AgentConfig(tool_timeout=0.03))
    assert how == "interrupted"
    assert told.is_error
    assert "stopped after 0.03 s" in told.text
    assert "unknown" in told.text
    assert stopped == [True]


async def test_a_synchronous_tool_that_hangs_is_left_behind_and_knows_it() -> None:
    """The run does not wait for its thread; the thread can see that nobody waits for it."""
    release, noticed = threading.Event(), threading.Event()

    # Long enough for a thread to begin on a busy machine.
    @tool(timeout=0.5)
    def stubborn(context: ToolContext[Any]) -> str:
        """Does not stop."""
        release.wait(10)
        if context.cancelled:
            noticed.set()
        return "late"

    told, how, _ = await outcome_of(stubborn)
    release.set()
    assert (how, told.is_error) == ("interrupted", True)
    assert await anyio.to_thread.run_sync(noticed.wait, 10)


async def test_what_cannot_be_shown_to_a_model_is_an_error_of_the_tool() -> None:
    """It ran, and the model learns that its result is lost."""

    @tool
    async def odd() -> Any:
        """Returns something odd."""
        return {"socket": threading.Lock()}

    told, how, _ = await outcome_of(odd)
    assert (told.is_error, how) == (True, "finished")
    assert "cannot be shown" in told.text


async def test_five_megabytes_are_cut_in_the_middle_k08() -> None:
    """Beginning and end stay, and the model is told how much is missing (K08)."""

    @tool
    async def huge() -> str:
        """Returns far too much."""
        return "begin" + "x" * 5_000_000 + "end"

    told, how, _ = await outcome_of(huge)
    assert how == "finished"
    assert len(told.text) < 101_000
    assert told.text.startswith("begin")
    assert told.text.endswith("end")
    assert "of 5000008 characters are kept as output_" in told.text


async def test_the_bound_of_a_result_holds_for_all_its_parts_together() -> None:
    """Many parts of moderate size are too much as well; images are not text."""
    image = Image(url="https://example.com/x.png")

    @tool
    async def many() -> ToolOutput:
        """Returns many parts."""
        parts = [Text(f"<{n}>" + "x" * 600) for n in range(100)]
        return ToolOutput((*parts[:50], image, *parts[50:]))

    told, _, _ = await outcome_of(many, config=AgentConfig(result_limit=2000))
    assert len(told.text) < 3000
    assert told.text.startswith("<0>")
    assert image in told.content
    assert "characters are kept as output_" in told.text


async def test_unknown_tools_and_wrong_arguments_go_back_to_the_model() -> None:
    """Structured, and nothing is run."""
    ran: list[int] = []

    @tool
    async def double(n: int) -> int:
        """Doubles."""
        ran.append(n)
        return 2 * n

    llm = Scripted(
        calls(("a", "triple", {"n": 1}), ("b", "double", {"n": "one"}), ("c", "double", "{n: 1}")),
        says("sorry"),
    )
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[double]) as loop:
            result = await loop.send("go")
            log = await check_log(loop, result.session_id)
    how = {r.message.id: (r.how, r.message) for r in log if isinstance(r, ToolSettled)}
    assert [how[f"{id}.result"][0] for id in "abc"] == ["not_run", "finished", "not_run"]
    assert "There is no tool 'triple'" in str(how["a.result"][1])
    assert "invalid_arguments" in str(how["b.result"][1])
    assert "not valid JSON" in str(how["c.result"][1])
    assert ran == []
    assert llm.illegal == []


async def test_call_ids_that_the_model_uses_twice_are_kept_apart() -> None:
    """In one answer and in later ones: each call has its own result."""
    ran: list[tuple[int, str]] = []

    @tool
    async def note(n: int, context: ToolContext[Any]) -> str:
        """Notes."""
        ran.append((n, context.call_id))
        return f"noted {n}"

    llm = Scripted(
        calls(("x", "note", {"n": 1}), ("x", "note", {"n": 2}), ("", "note", {"n": 3})),
        calls(("x", "note", {"n": 4})),
        says("ok"),
    )
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[note]) as loop:
            result = await loop.send("go")
            await check_log(loop, result.session_id)
    assert [n for n, _ in sorted(ran)] == [1, 2, 3, 4]
    assert len({id for _, id in ran}) == 4
    assert llm.illegal == []


async def test_text_that_no_provider_takes_is_replaced_with_an_event() -> None:
    """From a tool and from the model; the store takes it, and readers are told."""
    seen: list[Stamped] = []

    @tool
    async def odd() -> str:
        """Returns odd text."""
        return "nul \x00 and lone \ud800"

    llm = Scripted(calls(("a", "odd", {}), text="thinking \ud801"), says("lone \udfff too"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[odd]) as loop:
            loop.events.subscribe(seen.append, inline=True)
            result = await loop.send("go")
            assert result.final_text == "lone \ufffd too"
            await check_log(loop, result.session_id)
    repaired = events_of(TextRepaired, seen)
    assert [(e.source, e.surrogates, e.nuls) for e in repaired] == [
        ("model", 1, 0),
        ("tool", 1, 1),
        ("model", 1, 0),
    ]
    told = llm.requests[1].messages[-1].parts[0]
    assert isinstance(told, ToolResult)
    assert told.text == "nul \u2400 and lone \ufffd"


async def test_odd_text_of_an_error_or_a_reason_does_not_keep_a_run_from_closing(
    tmp_path: Path,
) -> None:
    """Neither a tool's message nor a caller's reason nor a partial answer can poison the log."""
    gate = Gate()
    store = SQLiteStore(tmp_path / "s.db")
    llm = Scripted(hangs(gate, "partial \ud800"), says("fine"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, store=store) as loop:
            await store.create("s")

            async def run() -> None:
                async with loop.stream("hi", "s") as stream:
                    await stream.result()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run)
                await gate.reached.wait()
                await loop.cancel("s", "because \ud800\x00")
            assert (await loop.send("again", "s")).status == "completed"
            log = await check_log(loop, "s")
            (cut, _) = [r for r in log if isinstance(r, ModelEnded)]
            assert cut.partial == "partial \ufffd"
        await store.aclose()


async def test_exclusive_tools_run_alone() -> None:
    """No other tool of the same answer runs beside one, before or after."""
    running: set[str] = set()
    together: list[frozenset[str]] = []

    async def work(context: ToolContext[Any]) -> str:
        """Works."""
        running.add(context.call_id)
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
            together.append(frozenset(running))
        running.discard(context.call_id)
        return "worked"

    tools = [tool(name="shared")(work), tool(name="alone", exclusive=True)(work)]
    names = {"a": "shared", "b": "shared", "c": "alone", "d": "shared", "e": "shared"}
    llm = Scripted(calls(*[(id, name, "{}") for id, name in names.items()]), says("ok"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=tools) as loop:
            result = await loop.send("go")
            await check_log(loop, result.session_id)
    assert frozenset("ab") in together
    assert frozenset("de") in together
    assert all(group == frozenset("c") for group in together if "c" in group)


async def test_only_so_many_tools_run_at_once_and_those_that_wait_are_not_in_doubt() -> None:
    """A queued call has no record of a start."""
    gate = Gate()
    most = 0
    running = 0

    @tool
    async def work() -> str:
        """Works."""
        nonlocal most, running
        running += 1
        most = max(most, running)
        await gate.wait()
        running -= 1
        return "worked"

    llm = Scripted(calls(*[(f"c{n}", "work", "{}") for n in range(6)]))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[work], config=AgentConfig(tool_concurrency=2)) as loop:
            await loop.store.create("s")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(loop.send, "go", "s")
                await gate.reached.wait()
                await anyio.wait_all_tasks_blocked()
                await loop.cancel("s")
            log = await check_log(loop, "s")
    assert most == 2
    assert sum(isinstance(r, ToolStarted) for r in log) == 2
    hows = [r.how for r in log if isinstance(r, ToolSettled)]
    assert sorted(hows) == ["interrupted"] * 2 + ["not_run"] * 4


async def test_a_tool_sees_why_it_is_cancelled() -> None:
    """The reason of the verb, in the tool's own clean-up."""
    reasons: list[str | None] = []
    gate = Gate()

    @tool
    async def wait(context: ToolContext[Any]) -> str:
        """Waits."""
        try:
            await gate.wait()
        finally:
            reasons.append(context.cancel_reason)
        return "waited"

    with anyio.fail_after(10):
        async with AgentLoop(once("wait"), tools=[wait]) as loop:
            await loop.store.create("s")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(loop.send, "go", "s")
                await gate.reached.wait()
                await loop.cancel("s", "lunch time")
    assert reasons == ["lunch time"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_cancelled_error_of_a_tool_s_own_making_is_its_error() -> None:
    """It awaited a task that was cancelled; nobody has cancelled the run."""

    @tool
    async def confused() -> str:
        """Awaits what is cancelled."""
        task = asyncio.ensure_future(anyio.sleep_forever())
        await asyncio.sleep(0)
        task.cancel()
        await task
        return "never"

    told, how, _ = await outcome_of(confused)
    assert (told.is_error, how) == (True, "finished")
    assert "CancelledError" in told.text


async def test_a_tool_with_a_group_of_its_own_that_fails_is_an_ordinary_failure() -> None:
    """An exception group of a tool stays inside the run."""

    @tool
    async def grouped() -> str:
        """Fails in a task."""

        async def fail() -> None:
            raise ValueError("inside")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fail)
        return "never"

    told, how, _ = await outcome_of(grouped)
    assert (told.is_error, how) == (True, "finished")


async def test_tools_of_a_json_schema_and_bare_specs_live_side_by_side() -> None:
    """One is run here, the other is left to the caller; their results come together."""

    async def run(arguments: dict[str, Any], context: ToolContext[Any]) -> str:
        return f"got {arguments['x']}"

    schema = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    here = JsonSchemaTool("here", "Runs here.", schema, run)
    there = ToolSpec("there", "Runs there.", schema)
    llm = Scripted(calls(("a", "there", {"x": 1}), ("b", "here", {"x": 2})), says("ok"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[here, there]) as loop:
            result = await loop.send("go")
            assert result.status == "pending_tools"
            after = await loop.resume(result.session_id, decisions={"a": Result("from there")})
            assert after.status == "completed"
            told = [m.parts[0] for m in llm.requests[1].messages[2:]]
            assert [getattr(part, "text", "") for part in told] == ["from there", "got 2"]
            await check_log(loop, result.session_id)
