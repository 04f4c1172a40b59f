"""Memory is that of the run a person speaks to: sessions below neither ask it nor are kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest
from msgspec.structs import replace

from llm_client.types import LLMRequest, Message, Text, Usage
from power_loop import (
    AgentConfig,
    AgentLoop,
    FactMemory,
    Hooks,
    MemoryStore,
    NoteMemory,
    SubAgent,
    ToolContext,
    approve,
    note_tools,
    tool,
)
from power_loop.events import ModelAsked, Recalled, ViewChanged
from power_loop.hooks import TOOL_BEFORE, Suspend
from power_loop.runtime.asking import Ask
from power_loop.runtime.compaction.trim import TrimCompactor
from power_loop.runtime.memory.base import MemorySnapshot, RecallQuery
from power_loop.runtime.stores.notes import EVERY_NOTE, all_notes
from power_loop.session.records import RunOpened
from tests.agent.scripted import Gate, Reply, Scripted, calls, says
from tests.agent.support import check_log, log_of

pytestmark = pytest.mark.anyio

TEA = Message("user", (Text("She drinks tea."),), name="memory_notes")


class Memory:
    """Brings up tea, and keeps what it is told."""

    def __init__(self, note: Callable[[Ask | None], Awaitable[None]] | None = None) -> None:
        self.queries: list[RecallQuery] = []
        self.notes: list[MemorySnapshot] = []
        self._note = note

    async def recall(self, query: RecallQuery) -> tuple[Message, ...]:
        """Tea."""
        self.queries.append(query)
        return (TEA,)

    async def remember(self, snapshot: MemorySnapshot, ask: Ask | None) -> None:
        """Keeps it."""
        self.notes.append(snapshot)
        if self._note is not None:
            await self._note(ask)


@tool(idempotent=True)
async def look() -> str:
    """Looks."""
    return "a kettle"


HELPER = SubAgent("helper", "Looks.", system_prompt="You look.", tools=[look])
INNER = SubAgent("helper", "Looks.", system_prompt="You look.", tools=[look, HELPER])


def delegating(request: LLMRequest) -> Reply:
    """Above, two tasks are handed on; below, one is handed on once more, and one has a tool."""
    said = [m.text for m in request.messages]
    given = any(m.role == "tool" for m in request.messages)
    if said[0] == "What shall I serve?":
        if given:
            return says("Green tea.")
        return calls(("c1", "helper", {"task": "hand on"}), ("c2", "helper", {"task": "look"}))
    if given:
        return says("There is a kettle.")
    if said[0] == "hand on":
        return calls(("d1", "helper", {"task": "look"}))
    return calls(("l1", "look", {}))


async def test_memory_is_asked_once_a_run_and_of_no_session_below() -> None:
    """Nor does what was brought up reach one; what is kept is what the person has seen."""
    memory = Memory()
    llm = Scripted(by=delegating)
    async with AgentLoop(llm, tools=[INNER], config=AgentConfig(memory=memory)) as loop:
        await loop.store.create("s")
        result = await loop.send("What shall I serve?", "s", user="ada")
        await check_log(loop, "s")
        view = await loop.get_messages("s")
        logs = {s: await log_of(loop, s) for s in ("s", "s/c1", "s/c1/d1", "s/c2")}
    assert result.final_text == "Green tea."
    assert [(query.text, query.scope.session) for query in memory.queries] == [
        ("What shall I serve?", "s")
    ]
    recalled = {s: [r for r in log if isinstance(r, Recalled)] for s, log in logs.items()}
    assert recalled == {"s": [Recalled((TEA,))], "s/c1": [], "s/c1/d1": [], "s/c2": []}
    told = [r for r in llm.requests if any(m.text == TEA.text for m in r.messages)]
    assert [request.messages[0].text for request in told] == ["What shall I serve?"] * 2
    (note,) = memory.notes
    assert (note.scope.session, note.scope.user, note.final_text) == ("s", "ada", "Green tea.")
    assert list(note.messages) == list(view)


async def test_a_run_that_waits_below_is_recalled_for_again_as_it_goes_on() -> None:
    """Each run of the session asks once; the sessions below, which go on as well, never do."""
    memory = Memory()
    hooks = Hooks()
    hooks.on(TOOL_BEFORE, lambda c: Suspend("look?") if c.name == "look" else None, name="ask")
    llm = Scripted(by=delegating)
    config = AgentConfig(memory=memory)
    async with AgentLoop(llm, tools=[INNER], config=config, hooks=hooks) as loop:
        await loop.store.create("s")
        result = await loop.send("What shall I serve?", "s")
        while result.status == "awaiting_approval":
            pending = await loop.get_pending("s")
            answers = [approve(p.token) for p in pending if p.name == "look"]
            result = await loop.resume("s", answers=answers)
        await check_log(loop, "s")
        runs = [r for r in await log_of(loop, "s") if isinstance(r, RunOpened)]
    assert result.final_text == "Green tea."
    assert len(memory.queries) == len(runs)
    assert {query.scope.session for query in memory.queries} == {"s"}
    assert [note.status for note in memory.notes] == ["awaiting_approval"] * (len(runs) - 1) + [
        "completed"
    ]


async def test_facts_are_drawn_from_what_was_said_above_alone() -> None:
    """Once, by a call that the session's own ledger has; what agents below have said is a result
    of a tool to it."""

    def by(request: LLMRequest) -> Reply:
        if (request.system or "").startswith("You keep the long-term memory"):
            return says('["Ada drinks green tea"]')
        return delegating(request)

    llm, store = Scripted(by=by), MemoryStore()
    config = AgentConfig(memory=FactMemory(store.notes))
    async with AgentLoop(llm, tools=[INNER], store=store, config=config) as loop:
        await store.create("s")
        await loop.send("What shall I serve?", "s", user="ada")
        purposes = {
            s: [r.purpose for r in await log_of(loop, s) if isinstance(r, ModelAsked)]
            for s in ("s", "s/c1", "s/c1/d1", "s/c2")
        }
        await check_log(loop, "s")
        usage = await loop.usage("s", children=True)
    assert purposes == {
        "s": ["", "", "memory"],
        "s/c1": ["", ""],
        "s/c1/d1": ["", ""],
        "s/c2": ["", ""],
    }
    assert usage.all.attempts == len(llm.requests) == 9
    shown = llm.requests[-1].messages[0].text
    assert "assistant: Green tea." in shown
    assert "kettle" not in shown
    notes = await all_notes(store.notes, EVERY_NOTE)
    assert [(n.text, n.user, n.session) for n in notes] == [("Ada drinks green tea", "ada", "s")]


async def test_tools_below_are_told_for_whom_the_run_above_works() -> None:
    """At any depth: what an agent below notes belongs to that person."""
    seen: list[tuple[str, str, str]] = []

    @tool(name="look", idempotent=True)
    async def who(ctx: ToolContext) -> str:
        """Looks."""
        seen.append((ctx.session_id, ctx.user, ctx.agent))
        return "a kettle"

    helper = SubAgent("helper", "Looks.", system_prompt="You look.", tools=[who])
    inner = SubAgent("helper", "Looks.", system_prompt="You look.", tools=[who, helper])
    config = AgentConfig(agent_name="butler", tool_concurrency=1)
    async with AgentLoop(Scripted(by=delegating), tools=[inner], config=config) as loop:
        await loop.store.create("s")
        await loop.send("What shall I serve?", "s", user="ada")
    assert sorted(seen) == [("s/c1/d1", "ada", "butler"), ("s/c2", "ada", "butler")]


async def test_a_note_that_is_taken_below_comes_up_for_its_person_above() -> None:
    """And for nobody else."""
    store = MemoryStore()
    memory = NoteMemory(store.notes)

    def by(request: LLMRequest) -> Reply:
        given = any(m.role == "tool" for m in request.messages)
        if request.system == "You note.":
            return says("noted") if given else calls(("w", "write_note", {"text": "Ada: nuts!"}))
        if request.messages[0].text == "Note it." and not given:
            return calls(("c1", "scribe", {"task": "note it"}))
        return says("fine")

    scribe = SubAgent("scribe", "Notes.", system_prompt="You note.", tools=note_tools(memory))
    llm = Scripted(by=by)
    config = AgentConfig(memory=memory)
    async with AgentLoop(llm, tools=[scribe], store=store, config=config) as loop:
        await loop.send("Note it.", user="ada")
        await loop.send("What may I eat?", user="ada")
        assert "Ada: nuts!" in llm.requests[-1].messages[-1].text
        await loop.send("What may I eat?", user="bob")
        assert [m.text for m in llm.requests[-1].messages] == ["What may I eat?"]


async def test_a_run_whose_view_shrinks_after_it_was_noted_is_noted_again() -> None:
    """A message came meanwhile: three messages leave for a note, and with what was answered the
    view is as long as it was."""
    gate, turns = Gate(), 3

    async def wait(_: Ask | None) -> None:
        if len(memory.notes) == turns:
            await gate.wait()

    memory = Memory(wait)
    words = "The harbour master counts ships, and writes them into a book. " * 64
    llm = Scripted(by=lambda _: replace(says(words), usage=Usage()))
    config = AgentConfig(
        memory=memory,
        max_output_tokens=100,
        compactors=[TrimCompactor(threshold=5_800, keep_exchanges=2)],
    )
    async with AgentLoop(llm, config=config) as loop:
        await loop.store.create("s")
        async with anyio.create_task_group() as tasks:

            async def talk() -> None:
                for _ in range(turns):
                    await loop.send(words, "s")

            tasks.start_soon(talk)
            with anyio.fail_after(20):
                await gate.reached.wait()
            await loop.steer("s", "And with it?")
            gate.opened.set()
        log = await check_log(loop, "s")
    assert len([r for r in log if isinstance(r, ViewChanged)]) == 1
    before, after = memory.notes[-2:]
    assert len(before.messages) == len(after.messages)
    assert after.run_id == before.run_id
    assert after.messages[-2].text == "And with it?"


async def test_what_a_memory_asks_is_asked_of_the_model_that_the_run_was_given() -> None:
    """Not of the service's own, under the name of the run's."""

    async def note(ask: Ask | None) -> None:
        assert ask is not None
        await ask(LLMRequest((Message.user("What did you learn?"),)), within=9)
        await ask(LLMRequest((Message.user("And else?"),), model="cheap"), within=9)

    llm = Scripted(*[says("Tea.")] * 6)
    async with AgentLoop(llm, config=AgentConfig(memory=Memory(note))) as loop:
        session = (await loop.send("What shall I serve?", model="small")).session_id
        await loop.send("Or?", session)
        log = await check_log(loop, session)
    given = ["small", "small", "cheap"]
    assert [request.model for request in llm.requests] == [*given, None, None, "cheap"]
    named = [record.model for record in log if isinstance(record, ModelAsked)]
    assert named == [*given, "scripted", "scripted", "cheap"]
