"""Random steering, random modes, random deaths: what was acknowledged is in the transcript once."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, get_args

import anyio
import anyio.lowlevel
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_client.types import LLMRequest
from power_loop import AgentLoop, tool
from power_loop.errors import FollowUpQueued, NothingToResume, StoreUnavailable
from power_loop.events import Stamped
from power_loop.runtime.stores.base import Appended, Lease, SteerMode, Store
from power_loop.runtime.stores.memory import MemoryStore
from power_loop.runtime.stores.sqlite import SQLiteStore
from power_loop.session.records import MessageAppended, RunOpened
from tests.agent.scripted import Reply, Scripted, calls, says
from tests.agent.stores import SlowStore, records_of
from tests.session.checker import violations

MODES: Sequence[SteerMode] = get_args(SteerMode)
PROCESSES = 3


@tool
async def work(n: int) -> str:
    """Works, in steps."""
    for _ in range(n):
        await anyio.lowlevel.checkpoint()
    return f"worked {n}"


@tool(exclusive=True)
async def alone() -> str:
    """Works while nobody else does."""
    await anyio.lowlevel.checkpoint()
    return "worked alone"


class Process:
    """A store as one process has it: dead from its `dies`-th append on, which may have landed."""

    def __init__(self, store: Store, dies: int | None, *, lands: bool) -> None:
        self._store = store
        self._left = dies
        self._lands = lands
        self.dead = False
        self.lease: Lease | None = None
        self.immediate = store.immediate

    def __getattr__(self, name: str) -> Any:
        self._check()
        return getattr(self._store, name)

    def _check(self) -> None:
        if self.dead:
            raise StoreUnavailable("the process is dead")

    def watch(self, session: str, notify: Callable[[], None]) -> Callable[[], None]:
        return self._store.watch(session, notify)

    async def claim(self, session: str, **options: Any) -> Lease:
        self._check()
        self.lease = await self._store.claim(session, **options)
        return self.lease

    async def append(
        self, lease: Lease, expected_seq: int, records: Sequence[Stamped], **options: Any
    ) -> Appended:
        self._check()
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                if self._lands:
                    await self._store.append(lease, expected_seq, records, **options)
                self.dead = True
                self._check()
        return await self._store.append(lease, expected_seq, records, **options)


class Life:
    """A session through several processes, some of which die, while people say things to it."""

    def __init__(self, seed: int, store: Store) -> None:
        self.random = Random(seed)
        self.store = store
        self.said: list[str] = []
        self.illegal: list[str] = []
        self._numbers = itertools.count()
        self._calls = itertools.count()

    def model(self, request: LLMRequest) -> Reply:
        """Answers, or asks for tools."""
        r = self.random
        if not request.tools or r.randrange(3) == 0:
            return says("an answer of several words")
        wanted: list[tuple[str, str, dict[str, int]]] = []
        for _ in range(r.randrange(1, 4)):
            name = r.choice(("work", "work", "alone"))
            arguments = {"n": r.randrange(4)} if name == "work" else {}
            wanted.append((f"c{next(self._calls)}", name, arguments))
        return calls(*wanted, text=r.choice(("", "I shall work.")))

    async def live(self) -> None:
        await self.store.create("s")
        for number in range(PROCESSES):
            last = number == PROCESSES - 1
            dies = None if last or self.random.randrange(3) == 0 else self.random.randrange(1, 9)
            process = Process(self.store, dies, lands=self.random.randrange(2) == 0)
            await self._process(process)
            if process.lease is not None:
                # Whoever comes next finds its owner dead.
                await self.store.release(process.lease)
        await self._come_to_an_end()

    def _loop(self, store: Any) -> tuple[AgentLoop[None], Scripted]:
        llm = Scripted(by=self.model)
        return AgentLoop(llm, tools=[work, alone], store=store), llm

    async def _process(self, process: Process) -> None:
        loop, llm = self._loop(process)
        async with loop, anyio.create_task_group() as tasks:
            for _ in range(self.random.randrange(4)):
                tasks.start_soon(self._say, self.random.randrange(60), self.random.choice(MODES))
            if self.random.randrange(3) == 0:
                tasks.start_soon(self._send, loop, self.random.randrange(40), "steer")
            await self._guarded(lambda: self._go_on(loop))
        self.illegal += llm.illegal

    async def _say(self, steps: int, mode: SteerMode) -> None:
        """Through a handle of its own, as another process would; sometimes twice."""
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
        text = f"said {next(self._numbers)}"
        other, _ = self._loop(self.store)
        for _ in range(self.random.randrange(1, 3)):
            await other.steer("s", text, mode=mode, dedupe_key=text)
        self.said.append(text)

    async def _send(self, loop: AgentLoop[None], steps: int, on_busy: Any) -> None:
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
        text = f"sent {next(self._numbers)}"

        async def send() -> None:
            try:
                await self._stream(loop, text, on_busy)
            except FollowUpQueued:
                self.said.append(text)

        await self._guarded(send)

    async def _guarded(self, act: Callable[[], Awaitable[None]]) -> None:
        try:
            await act()
        except StoreUnavailable:
            pass
        except Exception as error:
            # Its calls are open, as its last run died.
            if type(error).__name__ != "SessionPendingError":
                raise

    async def _stream(self, loop: AgentLoop[None], text: str, on_busy: Any) -> None:
        async with loop.stream(text, "s", on_busy=on_busy) as run:
            await run.result()

    async def _go_on(self, loop: AgentLoop[None]) -> None:
        try:
            await loop.resume("s")
        except NothingToResume:
            if self.random.randrange(2):
                await loop.send(f"sent {next(self._numbers)}", "s")
            else:
                await self._stream(loop, f"sent {next(self._numbers)}", "wait")

    async def _come_to_an_end(self) -> None:
        loop, llm = self._loop(self.store)
        async with loop:
            while True:
                try:
                    result = await loop.resume("s")
                except NothingToResume:
                    if not await self.store.inbox("s"):
                        break
                    result = await loop.send("anything else?", "s")
                assert result.status in ("completed", "round_limit")
        self.illegal += llm.illegal

    async def judge(self) -> dict[str, int]:
        """What was not heard just once; the log is legal, and so was each request."""
        log = records_of(await self.store.read("s"))
        assert violations(log, closed=True, idempotent=lambda _: False) == []
        assert self.illegal == []
        texts = Counter[str]()
        for record in log:
            match record:
                case RunOpened(input=input):
                    texts.update(message.text for message in input)
                case MessageAppended(message=message):
                    texts[message.text] += 1
                case _:
                    pass
        heard = {text: texts[text] for text in self.said}
        heard |= {text: n for text, n in texts.items() if text.startswith(("said", "sent"))}
        return {text: n for text, n in heard.items() if n != 1}


def _live(seed: int, store: Store, backend: str) -> dict[str, int]:
    """What was said in a life and not heard just once: how often it was."""

    async def main() -> dict[str, int]:
        with anyio.fail_after(20):
            life = Life(seed, store)
            await life.live()
            wrong = await life.judge()
            await store.aclose()
            return wrong

    return anyio.run(main, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("make", [MemoryStore, SlowStore])
@given(seed=st.integers(0, 2**64 - 1))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_said_is_heard_once_whoever_dies(
    make: Callable[[], Store], backend: str, seed: int
) -> None:
    """In memory, at random steps of the program; `_live(seed, …)` repeats a failure."""
    assert _live(seed, make(), backend) == {}


@given(seed=st.integers(0, 2**64 - 1))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_said_is_heard_once_in_a_file_too(seed: int) -> None:
    """With a store that works in threads of its own."""
    with TemporaryDirectory() as folder:
        store = SQLiteStore(Path(folder) / "s.db", durability="normal")
        assert _live(seed, store, "asyncio") == {}
