"""A process that lives long: sessions are opened, used, closed and deleted, on virtual time.

python -m tests.figures.soak PLACE BACKEND TURNS

PLACE is "memory", a file, or a schema on a server. It prints what it has measured, as JSON.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import msgspec
import trio.testing
from msgspec import Struct
from msgspec.structs import replace

from llm_client.errors import Overloaded
from llm_client.types import LLMRequest, Message, Usage
from power_loop import (
    AgentConfig,
    AgentLoop,
    FactMemory,
    MemoryStore,
    NoteMemory,
    NotesPolicy,
    note_tools,
    tool,
)
from power_loop.events import MemoryFailed, Stamped, ViewChanged
from power_loop.extensions import Pins, Todo
from power_loop.runtime.asking import Ask
from power_loop.runtime.memory.base import MemorySnapshot, RecallQuery
from power_loop.runtime.memory.tagging import is_memory
from power_loop.runtime.stores.notes import NoteStore, StoreWithNotes
from tests.agent.scripted import Reply, Scripted, calls, fails, says
from tests.agent.stepping import tasks_alive
from tests.stores.places import open_place

__all__ = ["Sample", "Soaked"]

_AT_ONCE = 8
_SAMPLES = 24
_KINDS = (
    "text",
    "tools",
    "overloaded",
    "slow",
    "stream",
    "plan",
    "pin",
    "note",
    "long",
    "long",
    "long",
    "text",
)
"""The turns of a session."""
_LONG = "long " * 400
_CALLS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "plan": ("todo", {"items": [{"text": "count ships", "status": "in_progress"}]}),
    "pin": ("pin_fact", {"fact": "berth 7 is closed"}),
    "note": ("write_note", {"text": "Ada counts ships."}),
}
_PATIENCE = 0.05
"""Real seconds that a store's thread has before virtual time goes on."""
_MAY_FAIL = 0.05
"""For so many of the turns, memory may fail because a thread took longer."""


class Sample(Struct, frozen=True):
    """The process at a moment when nothing is going on."""

    turns: int
    resident: int
    """Bytes."""
    tasks: int
    files: int
    threads: int


class Soaked(Struct, frozen=True):
    """What was measured, and what went wrong."""

    samples: tuple[Sample, ...]
    failures: tuple[str, ...]


class _VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on which nobody waits for time to pass, but for a moment for threads."""

    def __init__(self, patience: float) -> None:
        super().__init__()
        self._patience = patience
        self._ahead = 0.0

    def time(self) -> float:
        return super().time() + self._ahead

    def _run_once(self) -> None:
        inside = cast("Any", self)
        if not inside._ready and inside._scheduled:
            if heard := inside._selector.select(self._patience):
                inside._process_events(heard)
            else:
                self._ahead += max(0.0, inside._scheduled[0].when() - self.time())
        cast("Any", super())._run_once()


def _run(main: Callable[[], Awaitable[None]], backend: str, patience: float) -> None:
    if backend == "trio":
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=patience))
        return
    with asyncio.Runner(loop_factory=partial(_VirtualLoop, patience)) as runner:
        runner.run(cast("Any", main()))


@tool
async def work(seconds: float) -> str:
    """Works for a while."""
    await anyio.sleep(seconds)
    return "done " * 20


class _Model:
    """Every message says what shall become of it."""

    def __init__(self) -> None:
        self._failed: set[str | None] = set()

    def __call__(self, request: LLMRequest) -> Reply:
        return replace(self._reply(request), usage=Usage())

    def _reply(self, request: LLMRequest) -> Reply:
        system = request.system or ""
        if system.startswith("You shorten the record"):
            return says("Task: count ships.")
        if system.startswith("You keep the long-term memory"):
            return says(f'["Ada said {len(request.messages[0].text)} letters."]')
        return self._answer(request)

    def _answer(self, request: LLMRequest) -> Reply:
        last = [message for message in request.messages if not is_memory(message)][-1]
        session = request.cache_key
        if last.text == "overloaded":
            if session not in self._failed:
                self._failed.add(session)
                return fails(Overloaded("no capacity", status=529), partial="an answer that")
            self._failed.remove(session)
        if last.role == "user" and last.text in _CALLS:
            return calls((f"c{last.id}", *_CALLS[last.text]))
        if last.role == "user" and last.text in ("tools", "slow"):
            seconds = 1.5 if last.text == "tools" else 50
            number = last.id
            return calls(
                (f"a{number}", "work", {"seconds": seconds}),
                (f"b{number}", "work", {"seconds": 0.5}),
            )
        return says("an answer " * 20)


class _NotesAndFacts:
    """A memory of as many notes and facts as there may be."""

    def __init__(self, notes: NoteStore) -> None:
        policy = NotesPolicy(notes=20, characters=300, when_full="fifo", recalled=3)
        self.notes = NoteMemory(notes, policy=policy)
        self._facts = FactMemory(notes, policy=policy)

    async def recall(self, query: RecallQuery) -> Sequence[Message]:
        return [*await self.notes.recall(query), *await self._facts.recall(query)]

    async def remember(self, snapshot: MemorySnapshot, ask: Ask | None) -> None:
        await self._facts.remember(snapshot, ask)


class _Soak:
    def __init__(self, store: StoreWithNotes, turns: int) -> None:
        self.store = store
        self.samples: list[Sample] = []
        self.failures: list[str] = []
        self._turns = turns
        self._done = 0
        self._compacted = self._forgot = 0

    async def run(self) -> None:
        """Batch after batch, with a look at the process after each."""
        llm, notes = Scripted(by=_Model()), self.store.notes
        memory = _NotesAndFacts(notes)
        config = AgentConfig(
            context_window=3_000,
            max_output_tokens=200,
            memory=memory,
        )
        tools = [work, *note_tools(memory.notes)]
        extensions = [Todo(), Pins()]
        async with AgentLoop(
            llm, tools=tools, store=self.store, config=config, extensions=extensions
        ) as loop:
            loop.events.subscribe(self._hear, types=[ViewChanged, MemoryFailed], inline=True)
            for number in range(1, _SAMPLES + 1):
                async with anyio.create_task_group() as tasks:
                    for _ in range(_AT_ONCE):
                        tasks.start_soon(self._use, loop, number * self._turns // _SAMPLES)
                llm.requests.clear()
                self.failures += llm.illegal
                self._look()
            if await self.store.list():
                self.failures.append("sessions are left")
            if self._compacted < self._done // len(_KINDS):
                self.failures.append(f"only {self._compacted} views were made smaller")
            if self._forgot > self._done * _MAY_FAIL:
                self.failures.append(f"memory failed {self._forgot} times")
        await self.store.aclose()

    def _hear(self, stamped: Stamped) -> None:
        self._forgot += isinstance(stamped.event, MemoryFailed)
        self._compacted += isinstance(stamped.event, ViewChanged)

    async def _use(self, loop: AgentLoop, until: int) -> None:
        while self._done < until:
            self._done += len(_KINDS)
            session = (await loop.send("hello", user="ada")).session_id
            for kind in _KINDS[1:]:
                await self._turn(loop, session, kind)
            if len(await loop.get_messages(session, include_compacted=True)) < 2 * len(_KINDS):
                self.failures.append("messages are missing")
            await loop.close_session(session)

    async def _turn(self, loop: AgentLoop, session: str, kind: str) -> None:
        said = _LONG if kind == "long" else kind
        if kind == "stream":
            async with loop.stream(said, session, user="ada") as run:
                async for _ in run:
                    pass
            status = (await run.result()).status
        elif kind == "slow":
            status = (await loop.send(said, session, timeout=5, user="ada")).status
        else:
            status = (await loop.send(said, session, user="ada")).status
        if status != ("cancelled" if kind == "slow" else "completed"):
            self.failures.append(f"{kind} ended {status}")

    def _look(self) -> None:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.samples.append(
            Sample(
                self._done,
                pages * os.sysconf("SC_PAGE_SIZE"),
                tasks_alive(),
                len([*Path("/proc/self/fd").iterdir()]),
                threading.active_count(),
            )
        )


def _main(place: str, backend: str, turns: str) -> None:
    store = MemoryStore() if place == "memory" else open_place(place)
    soak = _Soak(store, int(turns))
    _run(soak.run, backend, 0.0 if place == "memory" else _PATIENCE)
    soaked = Soaked(tuple(soak.samples), tuple(soak.failures))
    sys.stdout.buffer.write(msgspec.json.encode(soaked))


if __name__ == "__main__":
    _place, _backend, _wanted = sys.argv[1:]
    _main(_place, _backend, _wanted)
