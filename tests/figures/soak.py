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
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import anyio
import msgspec
import trio.testing
from msgspec import Struct

from llm_client.errors import Overloaded
from llm_client.types import LLMRequest
from power_loop import AgentLoop, MemoryStore, tool
from power_loop.runtime.stores.base import Store
from tests.agent.scripted import Reply, Scripted, calls, fails, says
from tests.agent.stepping import tasks_alive
from tests.stores.places import open_place

__all__ = ["Sample", "Soaked"]

_TURNS = 6
"""Turns of a session, one of each kind."""
_AT_ONCE = 8
_SAMPLES = 24
_KINDS = ("text", "tools", "overloaded", "slow", "stream", "text")


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
    """An event loop on which nobody waits for time to pass."""

    _ahead = 0.0

    def time(self) -> float:
        return super().time() + self._ahead

    def _run_once(self) -> None:
        inside = cast("Any", self)
        if not inside._ready and inside._scheduled:
            self._ahead += max(0.0, inside._scheduled[0].when() - self.time())
        cast("Any", super())._run_once()


def _run(main: Callable[[], Awaitable[None]], backend: str) -> None:
    if backend == "trio":
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
        return
    with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
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
        last, session = request.messages[-1], request.cache_key
        if last.text == "overloaded":
            if session not in self._failed:
                self._failed.add(session)
                return fails(Overloaded("no capacity", status=529), partial="an answer that")
            self._failed.remove(session)
        if last.role == "user" and last.text in ("tools", "slow"):
            seconds = 1.5 if last.text == "tools" else 50
            number = len(request.messages)
            return calls(
                (f"a{number}", "work", {"seconds": seconds}),
                (f"b{number}", "work", {"seconds": 0.5}),
            )
        return says("an answer " * 20)


class _Soak:
    def __init__(self, store: Store, turns: int) -> None:
        self.store = store
        self.samples: list[Sample] = []
        self.failures: list[str] = []
        self._turns = turns
        self._done = 0

    async def run(self) -> None:
        """Batch after batch, with a look at the process after each."""
        llm = Scripted(by=_Model())
        async with AgentLoop(llm, tools=[work], store=self.store) as loop:
            for number in range(1, _SAMPLES + 1):
                async with anyio.create_task_group() as tasks:
                    for _ in range(_AT_ONCE):
                        tasks.start_soon(self._use, loop, number * self._turns // _SAMPLES)
                llm.requests.clear()
                self.failures += llm.illegal
                self._look()
            if await self.store.list():
                self.failures.append("sessions are left")
        await self.store.aclose()

    async def _use(self, loop: AgentLoop, until: int) -> None:
        while self._done < until:
            self._done += _TURNS
            session = (await loop.send("hello")).session_id
            for kind in _KINDS[1:]:
                await self._turn(loop, session, kind)
            if len(await loop.get_messages(session)) < 2 * _TURNS:
                self.failures.append("messages are missing")
            await loop.close_session(session)

    async def _turn(self, loop: AgentLoop, session: str, kind: str) -> None:
        if kind == "stream":
            async with loop.stream(kind, session) as run:
                async for _ in run:
                    pass
            status = (await run.result()).status
        elif kind == "slow":
            status = (await loop.send(kind, session, timeout=5)).status
        else:
            status = (await loop.send(kind, session)).status
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
    _run(soak.run, backend)
    soaked = Soaked(tuple(soak.samples), tuple(soak.failures))
    sys.stdout.buffer.write(msgspec.json.encode(soaked))


if __name__ == "__main__":
    _place, _backend, _wanted = sys.argv[1:]
    _main(_place, _backend, _wanted)
