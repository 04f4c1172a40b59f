"""Opening and closing: whatever is cut short, nothing is left running."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from power_loop import AgentConfig, AgentLoop, Extension, MemoryStore, tool
from power_loop.errors import UsageError
from power_loop.session.machine import Session
from power_loop.session.outcome import Cancelled
from power_loop.session.records import RunClosed
from tests.agent.scripted import Gate, Scripted, calls, hangs, says
from tests.agent.stepping import Backend, Steps, run_stepwise, tasks_alive
from tests.agent.stores import SlowStore, records_of
from tests.agent.support import log_of
from tests.session.checker import violations

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parent.parent.parent


class Life(Extension):
    """A lifespan that takes steps to open and to close."""

    def __init__(self) -> None:
        self.open = 0

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        self.open += 1
        try:
            await anyio.lowlevel.checkpoint()
            yield
            await anyio.lowlevel.checkpoint()
        finally:
            self.open -= 1


async def test_closing_a_loop_cancels_its_runs_and_waits_for_them() -> None:
    """They end `cancelled`, with the reason, and their callers get results."""
    gate = Gate()
    llm = Scripted(hangs(gate))
    store = MemoryStore()
    results: list[Any] = []
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            async with AgentLoop(llm, store=store) as loop:
                await store.create("s")

                async def send() -> None:
                    results.append(await loop.send("hi", "s"))

                tasks.start_soon(send)
                await gate.reached.wait()
            assert isinstance((await log_of(loop, "s"))[-1], RunClosed)
            assert llm.under_way == 0
    assert results[0].outcome == Cancelled("the loop is closing")


async def test_a_loop_can_be_closed_before_its_block_ends_and_again() -> None:
    """As by leaving the block: runs end, lifespans close, and nothing is left to do there."""
    gate, life = Gate(), Life()
    llm = Scripted(hangs(gate), says("again"))
    results: list[Any] = []
    loop = AgentLoop(llm, extensions=[life])
    await loop.aclose()  # nothing is open yet

    async def send() -> None:
        results.append(await loop.send("hi"))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks, loop:
            tasks.start_soon(send)
            await gate.reached.wait()
            assert life.open == 1
            await loop.aclose()
            assert (life.open, llm.under_way) == (0, 0)
            await loop.aclose()
            with pytest.raises(UsageError, match="open the loop first"):
                await loop.send("hi")
    assert results[0].outcome == Cancelled("the loop is closing")
    async with loop:
        assert (await loop.send("hi")).final_text == "again"


async def test_closing_has_the_grace_of_the_loop_and_then_goes_on_without() -> None:
    """By whichever of the two ways."""
    release = anyio.Event()
    entered = anyio.Event()

    @tool
    async def deaf() -> str:
        """Does not listen."""
        entered.set()
        with anyio.CancelScope(shield=True):
            await release.wait()
        return "done at last"

    llm = Scripted(calls(("a", "deaf", {})), says("never"))
    loop = AgentLoop(llm, tools=[deaf], config=AgentConfig(shutdown_grace=0.05))
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks, loop:
            await loop.store.create("s")
            tasks.start_soon(loop.send, "hi", "s")
            await entered.wait()
            await loop.aclose()
            assert not release.is_set()
            release.set()
    last = (await log_of(loop, "s"))[-1]
    assert isinstance(last, RunClosed)
    assert last.outcome == Cancelled("the loop is closing")


async def test_closing_does_not_wait_for_ever_for_a_tool_that_ignores_it() -> None:
    """After the grace the loop is closed; the caller's run ends when its tool does."""
    release = anyio.Event()
    entered = anyio.Event()

    @tool
    async def deaf() -> str:
        """Does not listen."""
        entered.set()
        with anyio.CancelScope(shield=True):
            await release.wait()
        return "done at last"

    llm = Scripted(calls(("a", "deaf", {})), says("never"))
    store = MemoryStore()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            config = AgentConfig(shutdown_grace=0.05)
            async with AgentLoop(llm, tools=[deaf], store=store, config=config) as loop:
                await store.create("s")
                tasks.start_soon(loop.send, "hi", "s")
                await entered.wait()
            release.set()
        log = records_of(await store.read("s"))
        assert violations(log, closed=True) == []
        assert isinstance(log[-1], RunClosed)
        assert log[-1].outcome == Cancelled("the loop is closing")


async def test_a_task_that_is_cancelled_with_a_loop_open_comes_to_its_end() -> None:
    """Its cancellation must not be its own context: who follows such a chain never ends."""
    chain: list[BaseException] = []

    async def live() -> None:
        try:
            async with AgentLoop(Scripted(says("never"))):
                await anyio.sleep_forever()
        except BaseException as error:
            at: BaseException | None = error
            while at is not None and at not in chain:
                chain.append(at)
                at = at.__context__
            assert at is None
            raise

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(live)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
    assert chain


@pytest.mark.parametrize("kind", ["return", "raise", "timeout", "scope", "break"])
@pytest.mark.parametrize("slow", [False, True])
async def test_no_task_outlives_what_started_it_c09(kind: str, slow: bool) -> None:
    """After each way out of a run, and after the loop (fault C09)."""
    llm = Scripted(by=lambda r: says("x" * 50) if kind == "return" else hangs(Gate(), "x" * 50))

    async def subscriber(stamped: Any) -> None:
        await anyio.lowlevel.checkpoint()

    with anyio.fail_after(10):
        outside = tasks_alive()
        async with AgentLoop(llm, store=SlowStore() if slow else None) as loop:
            loop.events.subscribe(subscriber)
            await anyio.wait_all_tasks_blocked()
            before = tasks_alive()
            match kind:
                case "return":
                    await loop.send("hi")
                case "timeout":
                    await loop.send("hi", timeout=0.02)
                case "scope":
                    with anyio.move_on_after(0.02):
                        await loop.send("hi")
                case "raise":
                    with pytest.raises(ValueError, match="out"):
                        async with loop.stream("hi"):
                            raise ValueError("out")
                case _:
                    async with loop.stream("hi") as run:
                        async for _ in run:
                            break
            assert tasks_alive() == before
            assert llm.under_way == 0
        assert tasks_alive() == outside


def _sweep(
    backend: Backend, way: str, build: Callable[[], tuple[AgentLoop[Any], Life, list[str]]]
) -> int:
    """Cancels a whole program at each step, from opening to closing; how many steps there were."""
    step = 0
    while True:
        step += 1
        steps = Steps()
        loop, life, told = build()
        hit: list[bool] = []
        box: list[Any] = []

        async def program(loop: AgentLoop[Any] = loop) -> None:
            async with loop:
                await loop.send("hi")

        async def main(box: list[Any] = box, steps: Steps = steps, hit: list[bool] = hit) -> None:
            before = tasks_alive()
            steps.counting = True
            with anyio.fail_after(10):
                if way == "native":
                    box.append(asyncio.ensure_future(program()))
                    await asyncio.wait({box[0]})
                    steps.counting = False
                    assert box[0].cancelled() or True not in hit
                else:
                    with anyio.CancelScope() as scope:
                        box.append(scope)
                        await program()
                    steps.counting = False
            assert tasks_alive() == before

        def cancel(box: list[Any] = box, hit: list[bool] = hit) -> None:
            # A task that is done already says so.
            hit.append(bool(box) and box[0].cancel() is not False)

        steps.at(step, cancel)
        steps.at(step + 2, cancel)
        run_stepwise(main, steps, backend)
        assert life.open == 0, f"{way} at {step}"
        assert told == [] or told[-1] == "RunClosed", f"{way} at {step}: {told}"
        if not hit:
            return step


@pytest.mark.parametrize("way", ["scope", "native", "trio"])
def test_a_program_cancelled_anywhere_closes_everything_it_opened(way: str) -> None:
    """From entering the loop to leaving it, and a second time two steps later."""

    def build() -> tuple[AgentLoop[Any], Life, list[str]]:
        told: list[str] = []
        life = Life()
        loop: AgentLoop[Any] = AgentLoop(
            Scripted(says("yes")), store=SlowStore(), extensions=[life]
        )

        async def hear(stamped: Any) -> None:
            told.append(type(stamped.event).__name__)
            await anyio.lowlevel.checkpoint()

        loop.events.subscribe(hear, types=[RunClosed])
        return loop, life, told

    backend: Backend = "trio" if way == "trio" else "asyncio"
    assert _sweep(backend, "scope" if way == "trio" else way, build) > 20


def test_a_program_leaves_no_warning_behind_c06() -> None:
    """Streams broken off, followers abandoned, runs cancelled: silent under -W
    error (fault C06).
    """
    program = """
import asyncio, gc, sys
import anyio
from power_loop import AgentLoop
from tests.agent.scripted import Gate, Scripted, hangs, says

async def main(backend):
    if backend == "asyncio":  # That a busy machine is slow is no warning of ours.
        asyncio.get_running_loop().slow_callback_duration = 60
    llm = Scripted(by=lambda _: hangs(Gate(), "a beginning"))
    async with AgentLoop(llm) as loop:
        async with loop.stream("hi") as run:
            async for _ in run:
                break
        async for _ in loop.events.stream(run.session_id, follow=True):
            break
        with anyio.move_on_after(0.01):
            await loop.send("hi")
        loop.stream("never entered")
        loop.events.stream("never iterated")
        gc.collect()

for backend in ("asyncio", "trio"):
    anyio.run(main, backend, backend=backend)
gc.collect()
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


async def test_sessions_are_forgotten_when_nobody_uses_them() -> None:
    """A loop that serves very many sessions keeps a bounded number of them in memory."""
    llm = Scripted(by=lambda _: says("x"))
    with anyio.fail_after(20):
        async with AgentLoop(llm, config=AgentConfig(cached_sessions=4)) as loop:
            first = await loop.send("first")
            for _ in range(20):
                await loop.send("hi")
            gc.collect()
            alive = sum(type(each) is Session for each in gc.get_objects())
            assert alive <= 6
            again = await loop.send("and again", first.session_id)
            assert len(await loop.get_messages(again.session_id)) == 4
