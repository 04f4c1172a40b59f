"""Nothing is left of a run, however it ends: no task, no coroutine, no warning.

Each program is run in an event loop of its own, so that what only shows when one is closed, or when
the garbage is collected afterwards, is seen as well.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
import threading
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import copy_context
from types import AsyncGeneratorType, CoroutineType
from typing import Any, Literal, get_args

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest

from llm_client.errors import AuthenticationFailed
from llm_client.types import LLMRequest
from power_loop import (
    AgentConfig,
    AgentLoop,
    CancellationToken,
    MemoryStore,
    SubAgent,
    ToolContext,
    tool,
)
from power_loop.driver.run import Run
from power_loop.session.records import RunClosed
from tests.agent.scripted import Gate, Reply, Scripted, calls, fails, hangs, says
from tests.agent.stepping import Backend, tasks_alive
from tests.agent.stores import records_of
from tests.session.checker import violations

What = Literal["streamed", "whole", "tool", "thread", "tools", "background", "child"]
Way = Literal[
    "returned",
    "failed",
    "token",
    "verb",
    "scope",
    "native",
    "break",
    "timeout",
    "close",
    "interrupt",
]

BACKENDS: tuple[Backend, ...] = ("asyncio", "trio")


class Deps:
    """What tools share with their test."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.in_thread = threading.Event()
        self.looked = threading.Event()
        self.from_thread: Callable[[Callable[[], object]], object] = anyio.from_thread.run_sync


@tool
async def waits(context: ToolContext[Deps]) -> str:
    """Waits."""
    await context.deps.gate.wait()
    return "done"


@tool(on_cancel="finish", grace=0.01)
async def lingers(context: ToolContext[Deps]) -> str:
    """Waits, also when it is told to stop."""
    await context.deps.gate.wait()
    return "done"


@tool(on_cancel="background")
async def goes_on(context: ToolContext[Deps]) -> str:
    """Waits, and is left to."""
    await context.deps.gate.wait()
    return "done"


@tool
def looks(context: ToolContext[Deps]) -> str:
    """Waits in a thread, and looks whether it is wanted."""
    context.deps.from_thread(context.deps.gate.reached.set)
    while not context.cancelled and not context.deps.in_thread.wait(0.001):
        pass
    context.deps.looked.set()
    return "done"


_CALLED: dict[str, tuple[str, ...]] = {
    "tool": ("waits",),
    "thread": ("looks",),
    "tools": ("waits", "lingers", "waits", "looks"),
    "background": ("goes_on",),
    "child": ("agent",),
}


class Program:
    """A run that is ended in some way while it waits for something."""

    def __init__(self, what: What, way: Way) -> None:
        self._what, self._way = what, way
        self._deps = Deps()
        self._asked = 0
        self._token = CancellationToken()
        self._scope = anyio.CancelScope()
        self._ended = anyio.Event()

    async def main(self) -> None:
        """Runs it, and judges what is alive at its end, and what it has written."""
        store, before = MemoryStore(), tasks_alive()
        await store.create("s")
        loop = AgentLoop[Deps](
            Scripted(by=self._reply),
            tools=[waits, lingers, goes_on, looks, SubAgent("agent", "Works.", system_prompt="B")],
            store=store,
            config=AgentConfig(shutdown_grace=0.02),
        )
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks, loop:
                opened = tasks_alive()
                tasks.start_soon(self._run, loop)
                await self._deps.gate.reached.wait()
                await self._end(loop)
                if self._way != "close":
                    await self._ended.wait()
                    await anyio.wait_all_tasks_blocked()
                    left = self._what == "background" and self._way not in (
                        "returned",
                        "failed",
                    )
                    assert tasks_alive() - opened == int(left)
            await anyio.wait_all_tasks_blocked()
        assert tasks_alive() == before
        if self._what == "thread":
            assert self._deps.looked.wait(5)
        log = records_of(await store.read("s"))
        assert violations(log, closed=True) == []
        assert isinstance(log[-1], RunClosed)

    def _reply(self, request: LLMRequest) -> Reply:
        self._asked += 1
        below = self._what == "child" and request.system == "B"
        if below or (self._what in ("streamed", "whole") and self._asked == 1):
            return hangs(self._deps.gate, "a beginning")
        if self._asked == 1:
            names = _CALLED[self._what]
            return calls(*[(str(n), name, _given(name)) for n, name in enumerate(names)])
        return (
            fails(AuthenticationFailed("no", status=401)) if self._way == "failed" else says("done")
        )

    async def _end(self, loop: AgentLoop[Deps]) -> None:
        match self._way:
            case "returned" | "failed":
                self._deps.gate.opened.set()
                self._deps.in_thread.set()
            case "token":
                await anyio.to_thread.run_sync(self._token.cancel, "enough")
            case "verb":
                assert await loop.cancel("s", "enough")
            case "scope":
                self._scope.cancel()
            case "interrupt":
                await loop.steer("s", "listen", mode="interrupt")
            case _:
                pass

    async def _run(self, loop: AgentLoop[Deps]) -> None:
        before = dict(copy_context())
        if self._way == "native":
            await self._natively(loop)
        else:
            with self._scope:
                await self._send(loop)
            assert dict(copy_context()) == before
        self._ended.set()

    async def _natively(self, loop: AgentLoop[Deps]) -> None:
        task = asyncio.ensure_future(self._send(loop))
        await self._deps.gate.reached.wait()
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()

    async def _send(self, loop: AgentLoop[Deps]) -> None:
        deps, token, timeout = self._deps, self._token, 9.0
        if self._way == "timeout":
            timeout = 0.03
        try:
            if self._what == "streamed" or self._way == "break":
                async with loop.stream("go", "s", deps=deps, cancel=token, timeout=timeout) as run:
                    async for _ in run:
                        if self._way == "break":
                            await deps.gate.reached.wait()
                            break
            else:
                await loop.send("go", "s", deps=deps, cancel=token, timeout=timeout)
        except AuthenticationFailed:
            assert self._way == "failed"


def _given(name: str) -> dict[str, Any]:
    return {"task": "work"} if name == "agent" else {}


@contextmanager
def _nothing_left() -> Generator[None]:
    """Afterwards nobody has complained of what was done inside, and nothing of a run is alive."""
    told: list[str] = []
    unraisable, uncaught = sys.unraisablehook, threading.excepthook
    sys.unraisablehook = lambda args: told.append(f"{args.err_msg} {args.exc_value!r}")
    threading.excepthook = lambda args: told.append(f"in a thread: {args.exc_value!r}")
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield
            alive = _alive()
    finally:
        sys.unraisablehook, threading.excepthook = unraisable, uncaught
    told += [str(each.message) for each in warned]
    assert told + alive == []


def _alive() -> list[str]:
    """What is left; a thread that has just ended holds its call for a moment more."""
    left: list[str] = []
    for _ in range(10):
        gc.collect()
        left = [f"alive: {each!r}" for each in gc.get_objects() if _is_left(each)]
        if not left:
            break
    return left


def _is_left(found: object) -> bool:
    match found:
        case Run():
            return True
        case CoroutineType():
            return _of_ours(found.cr_code.co_filename) and found.cr_frame is not None
        case AsyncGeneratorType():
            return _of_ours(found.ag_code.co_filename) and found.ag_frame is not None
        case _:
            return False


def _of_ours(path: str) -> bool:
    return "power_loop" in path or "llm_client" in path or path == __file__


@pytest.mark.parametrize(
    ("backend", "way"),
    [
        (backend, way)
        for backend in get_args(Backend)
        for way in get_args(Way)
        if (backend, way) != ("trio", "native")  # it has no such thing
    ],
)
@pytest.mark.parametrize("what", get_args(What))
def test_nothing_is_left_of_a_run_however_it_ends(
    backend: Backend, what: What, way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither while its loop is open, nor after that, nor in the garbage."""

    async def main() -> None:
        await Program(what, way).main()

    with _nothing_left():
        anyio.run(main, backend=backend)
    assert [r.getMessage() for r in caplog.records if r.name in ("asyncio", "trio")] == []


async def _forgotten() -> None:
    """Nobody awaits it."""


class _Unraisable:
    def __del__(self) -> None:
        raise ValueError("on the way out")


@pytest.mark.parametrize("what", ["coroutine", "unraisable", "thread", "alive"])
def test_what_is_left_is_found(what: str) -> None:
    """The judge can find fault."""
    kept: list[object] = []

    async def pause() -> None:
        await anyio.lowlevel.checkpoint()

    def leave() -> None:
        match what:
            case "coroutine":
                _forgotten()  # pyright: ignore[reportUnusedCoroutine]
            case "unraisable":
                _Unraisable()
            case "thread":
                thread = threading.Thread(target=lambda: 1 / 0)
                thread.start()
                thread.join()
            case _:
                kept.append(pause())

    with pytest.raises(AssertionError), _nothing_left():
        leave()
    for each in kept:
        assert inspect.iscoroutine(each)
        each.close()
