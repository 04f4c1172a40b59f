"""A program whose session outgrows its window, and that remembers; killed like `program`.

It talks of one ship after the other. The model notes something with the first, and looks something
up in the middle; facts are drawn from every run that completes. Whoever a session is for is called
as the session is, so that programs which share a database share no memory.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

import anyio
import msgspec
from msgspec.structs import replace

from llm_client.errors import ContextOverflow, ServerError
from llm_client.types import LLMRequest, Message, Usage
from power_loop import AgentConfig, AgentLoop, FactMemory, NoteMemory, NotesPolicy, note_tools, tool
from power_loop.errors import NothingToResume
from power_loop.runtime.asking import Ask
from power_loop.runtime.memory.base import MemorySnapshot, RecallQuery
from power_loop.runtime.stores.notes import Note, NoteFilter, NoteStore, WhenFull
from tests.agent.scripted import Reply, Scripted, calls, fails, says
from tests.crash.journal import Case, Journal, Program, look_everywhere, store_of

__all__ = ["ALWAYS", "NOTED", "TASKS", "fact_of", "run"]

NOTED = "Berth 7 is closed."
"""What the model writes down itself."""
ALWAYS = "Ada counts ships."
"""What is found in every run."""

_WORDS = "The harbour master writes each ship into a book of blue paper, with its masts. " * 6
TASKS = tuple([f"Ship {number} has come in. {_WORDS}" for number in range(8)])
"""What it is told, in order."""
_LOOKING = 3
_FACTS = NotesPolicy(notes=50, characters=300, recalled=3)
_WINDOW = 2_000
_REFUSED = 4_000
"""Characters that are too many for the provider, where nobody knows its window."""


def fact_of(number: int) -> str:
    """What is found in the run of a task."""
    return f"Ada told of ship {number}."


@tool(idempotent=True)
async def look() -> str:
    """Looks."""
    return "A mast of fir, a sail of flax. " * 20


class _Model:
    """What the model, the summariser and whoever draws facts say; each is told of as it is asked.

    What it must not be asked is told as well, before it can be lost.
    """

    def __init__(self, journal: Journal, program: Program) -> None:
        self._journal = journal
        self._program = program

    def __call__(self, request: LLMRequest) -> Reply:
        return replace(self._reply(request), usage=Usage())

    def _reply(self, request: LLMRequest) -> Reply:
        said, system = [message.text for message in request.messages], request.system or ""
        if system.startswith("You shorten the record"):
            self._asked("compaction")
            if self._program == "rule":
                return fails(ServerError("down"), partial="Task: cou")
            return says("Task: count ships. Facts: the book is blue.")
        if system.startswith("You keep the long-term memory"):
            self._asked("memory")
            newest = max(map(int, re.findall(r"Ship (\d+) has come in", said[0])))
            return says(msgspec.json.encode([ALWAYS, fact_of(newest)]).decode())
        if self._program == "overflow" and sum(map(len, said)) > _REFUSED:
            return fails(ContextOverflow("too long", status=400))
        newest = max([TASKS.index(text) for text in said if text in TASKS])
        since = request.messages[said.index(TASKS[newest]) :]
        answered = any(message.role == "tool" for message in since)
        if newest == 0 and not answered:
            return calls(("n", "write_note", {"text": NOTED}))
        if newest == _LOOKING and not answered:
            return calls(("l", "look", {}))
        return says(f"Written. {_WORDS}")

    def _asked(self, purpose: str) -> None:
        self._journal.effect("asked", purpose)
        self._journal.point(f"asked for {purpose}")


class _JournaledNotes:
    """Notes, with a point before and after whatever a run does with them."""

    def __init__(self, notes: NoteStore, journal: Journal) -> None:
        self._notes = notes
        self._journal = journal

    async def add(
        self, note: Note, *, limit: int | None = None, when_full: WhenFull = "reject"
    ) -> None:
        async with self._journal.around(f"{note.kind} is kept"):
            await self._notes.add(note, limit=limit, when_full=when_full)

    async def update(self, which: NoteFilter, text: str, created: float) -> int:
        return await self._notes.update(which, text, created)

    async def search(self, query: str, which: NoteFilter, *, limit: int = 10) -> Sequence[Note]:
        async with self._journal.around(f"{which.kind}s are searched"):
            return await self._notes.search(query, which, limit=limit)

    async def list(
        self, which: NoteFilter, *, limit: int = 100, before: Note | None = None
    ) -> Sequence[Note]:
        return await self._notes.list(which, limit=limit, before=before)

    async def count(self, which: NoteFilter) -> int:
        return await self._notes.count(which)

    async def delete(self, which: NoteFilter) -> int:
        return await self._notes.delete(which)


class _NotesAndFacts:
    """A memory that is two."""

    def __init__(self, notes: NoteMemory, facts: FactMemory) -> None:
        self._notes = notes
        self._facts = facts

    async def recall(self, query: RecallQuery) -> Sequence[Message]:
        return [*await self._notes.recall(query), *await self._facts.recall(query)]

    async def remember(self, snapshot: MemorySnapshot, ask: Ask | None) -> None:
        await self._facts.remember(snapshot, ask)


def run(case: Case) -> None:
    """Runs the program until it is done or dies."""
    logging.getLogger("psycopg").setLevel(logging.ERROR)  # it tells of every lost connection
    anyio.run(_main, case)


async def _main(case: Case) -> None:
    journal = Journal(case)
    store = store_of(case, journal)
    notes = _JournaledNotes(store.notes, journal)
    written = NoteMemory(notes)
    config = AgentConfig(
        system_prompt="You count ships.",
        context_window=None if case.program == "overflow" else _WINDOW,
        max_output_tokens=100,
        memory=_NotesAndFacts(written, FactMemory(notes, policy=_FACTS)),
        recall_timeout=30.0,
    )
    llm = Scripted(by=_Model(journal, case.program))
    hooks = look_everywhere(journal) if case.hooks else None
    tools = [*note_tools(written), look]
    async with store, AgentLoop(llm, tools=tools, store=store, hooks=hooks, config=config) as loop:
        await store.create(case.session)
        journal.point("created")
        await _go_on(loop, journal, case.session)
        for number, text in enumerate(TASKS):
            if text not in await _said(loop, case.session):
                result = await loop.send(text, case.session, user=case.session)
                journal.effect("answered", number, result.status)
                journal.point(f"answered {number}")
        kept = [TASKS.index(text) for text in await _said(loop, case.session) if text in TASKS]
        journal.effect("kept", *kept)
        for fault in llm.illegal:
            journal.effect("illegal", fault.replace(" ", "_"))


async def _go_on(loop: AgentLoop, journal: Journal, session: str) -> None:
    """What a program does when it starts: what was begun is brought to its end."""
    try:
        result = await loop.resume(session, user=session)
    except NothingToResume:
        pass
    else:
        journal.effect("resumed", result.status)
        journal.point("resumed")
    journal.recovers = False


async def _said(loop: AgentLoop, session: str) -> Sequence[str]:
    """All that the user has ever said."""
    messages = await loop.get_messages(session, include_compacted=True)
    return [message.text for message in messages if message.role == "user"]
