"""What is interrupted in the cancellation sweeps: small programs that use every part of a run."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
from msgspec import Struct

import power_loop
from llm_client.errors import Overloaded
from llm_client.retry import RetryPolicy
from llm_client.types import LLMRequest
from power_loop import AgentConfig, AgentLoop, Hooks, ToolContext, tool
from power_loop.hooks import POINTS, TOOL_BEFORE, Suspend
from power_loop.runtime.stores.base import Store
from tests.agent.scripted import Reply, Scripted, calls, fails, says

__all__ = ["SCENARIOS", "Scenario", "World", "approve"]


class World:
    """One run of a scenario, and what happened outside of the framework while it ran."""

    def __init__(self, store: Store, sessions: tuple[str, ...]) -> None:
        self.store = store
        self.sessions = sessions
        self.llm = Scripted()
        self.effects: list[tuple[str, str, str]] = []
        self.lock = threading.Lock()
        self.statuses: list[str] = []
        self.steered = False
        self.followed = False

    def note(self, what: str, context: ToolContext[World]) -> None:
        """Something happened in the outer world; from any thread."""
        with self.lock:
            self.effects.append((what, context.session_id, context.call_id))


class Scenario(Struct, frozen=True):
    """A program to be cancelled. `model` makes what decides on the answer to a request."""

    name: str
    model: Callable[[], Callable[[LLMRequest], Reply]]
    drive: Callable[[World, AgentLoop[World]], Awaitable[None]]
    config: AgentConfig = AgentConfig()
    hooks: bool = False
    sessions: int = 1
    runs: int = 1
    suspends: bool = False

    def loop(self, world: World, steps: int = 1) -> AgentLoop[World]:
        """A loop for it, with a model that takes so many steps between any two of its words."""
        world.llm = Scripted(by=self.model(), steps=steps)
        return AgentLoop[World](
            world.llm,
            tools=[work, alone, in_thread],
            store=world.store,
            config=self.config,
            hooks=_everywhere() if self.hooks else _guarded() if self.suspends else None,
        )


# ── tools ─────────────────────────────────────────────────────────────────────────────────────────


@tool
async def work(n: int, context: ToolContext[World]) -> str:
    """Works, in steps."""
    context.deps.note("begin", context)
    for _ in range(n):
        await anyio.lowlevel.checkpoint()
    context.deps.note("done", context)
    return f"worked {n}"


@tool(exclusive=True)
async def alone(context: ToolContext[World]) -> str:
    """Works while nobody else does."""
    context.deps.note("begin", context)
    await anyio.lowlevel.checkpoint()
    context.deps.note("done", context)
    return "worked alone"


@tool
def in_thread(context: ToolContext[World]) -> str:
    """Works in a thread; that it was done there may remain unknown."""
    context.deps.note("begin", context)
    return "worked in a thread"


# ── the model ─────────────────────────────────────────────────────────────────────────────────────


def _last_is_user(request: LLMRequest) -> bool:
    return request.messages[-1].role == "user"


def _text(_: LLMRequest) -> Reply:
    return says("a plain answer", thinking="let me see")


def _one_tool(request: LLMRequest) -> Reply:
    if _last_is_user(request):
        return calls(("a", "work", {"n": 2}), text="I shall work.")
    return says("it is done")


def _three_tools(request: LLMRequest) -> Reply:
    if _last_is_user(request):
        return calls(("a", "work", {"n": 1}), ("b", "alone", {}), ("c", "work", {"n": 3}))
    return says("they are done")


def _threaded(request: LLMRequest) -> Reply:
    return calls(("a", "in_thread", {})) if _last_is_user(request) else says("it is done")


class _FailsAtFirst:
    """Every first try fails."""

    def __init__(self) -> None:
        self._tried: set[int] = set()

    def __call__(self, request: LLMRequest) -> Reply:
        if len(request.messages) not in self._tried:
            self._tried.add(len(request.messages))
            return fails(Overloaded("no capacity", status=529), partial="an answer that")
        self._tried.clear()
        return says("at last")


def _typed(request: LLMRequest) -> Reply:
    asked_again = "does not fit" in request.messages[-1].text
    return says('{"value": 3}' if asked_again else "three")


def _endless(request: LLMRequest) -> Reply:
    return calls(("a", "work", {"n": 1})) if request.tools else says("there is more to do")


# ── what the program does ─────────────────────────────────────────────────────────────────────────


async def _send(world: World, loop: AgentLoop[World]) -> None:
    result = await loop.send("go", world.sessions[0], deps=world)
    world.statuses.append(result.status)


async def _stream(world: World, loop: AgentLoop[World]) -> None:
    async with loop.stream("go", world.sessions[0], deps=world) as run:
        async for _ in run:
            await anyio.lowlevel.checkpoint()
        result = await run.result()
    world.statuses.append(result.status)


async def _typed_send(world: World, loop: AgentLoop[World]) -> None:
    result = await loop.send("go", world.sessions[0], deps=world, output_type=int)
    world.statuses.append(result.status)
    assert result.status != "completed" or result.output == 3


async def _steered(world: World, loop: AgentLoop[World]) -> None:
    """Somebody steers in the middle, through the public verb."""

    async def steer() -> None:
        await anyio.lowlevel.checkpoint()
        await loop.steer(world.sessions[0], "steered", dedupe_key="steer")
        world.steered = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(steer)
        await _send(world, loop)


async def _interrupted(world: World, loop: AgentLoop[World]) -> None:
    """Somebody says what cannot wait, and somebody else what can; the run is streamed."""

    async def steer() -> None:
        for _ in range(12):
            await anyio.lowlevel.checkpoint()
        await loop.steer(world.sessions[0], "steered", mode="interrupt", dedupe_key="steer")
        world.steered = True

    async def follow() -> None:
        await anyio.lowlevel.checkpoint()
        await loop.steer(world.sessions[0], "follow up", mode="when_idle", dedupe_key="follow")
        world.followed = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(steer)
        tasks.start_soon(follow)
        await _stream(world, loop)


async def _both(world: World, loop: AgentLoop[World]) -> None:
    async def one(session: str) -> None:
        result = await loop.send("go", session, deps=world)
        world.statuses.append(result.status)

    async with anyio.create_task_group() as tasks:
        for session in world.sessions:
            tasks.start_soon(one, session)


async def _approved(world: World, loop: AgentLoop[World]) -> None:
    """A call waits for an approval and gets it."""
    await _send(world, loop)
    await approve(world, loop, world.sessions[0])


async def approve(world: World, loop: AgentLoop[World], session: str) -> None:
    """Approves what waits, if anything does."""
    answers = [power_loop.approve(c.token) for c in await loop.get_pending(session) if c.token]
    if answers:
        result = await loop.resume(session, answers=answers, deps=world)
        world.statuses.append(result.status)


async def _abandoned(world: World, loop: AgentLoop[World]) -> None:
    """A call waits for an approval and is given up."""
    await _send(world, loop)
    await loop.abort_pending(world.sessions[0], "nobody answered")


def _guarded() -> Hooks:
    hooks = Hooks()
    hooks.on(TOOL_BEFORE, lambda context: Suspend() if context.name == "work" else None)
    return hooks


def _everywhere() -> Hooks:
    hooks = Hooks()

    async def look(context: Any) -> None:
        await anyio.lowlevel.checkpoint()

    for point in POINTS:
        hooks.on(point, look, name=f"look at {point.name}", on_error="raise")
    return hooks


_QUICK = AgentConfig(retry=RetryPolicy(initial=0.0001, jitter=0.0))

SCENARIOS: tuple[Scenario, ...] = (
    Scenario("text", lambda: _text, _send),
    Scenario("streamed", lambda: _one_tool, _stream),
    Scenario("one tool", lambda: _one_tool, _send),
    Scenario("three tools, one exclusive", lambda: _three_tools, _send),
    Scenario("tool in a thread", lambda: _threaded, _send),
    Scenario("hooks everywhere", lambda: _three_tools, _send, hooks=True),
    Scenario("steering", lambda: _one_tool, _steered),
    Scenario("interrupted", lambda: _three_tools, _interrupted),
    Scenario("retry with backoff", _FailsAtFirst, _stream, config=_QUICK),
    Scenario("typed output asked again", lambda: _typed, _typed_send),
    Scenario("round limit", lambda: _endless, _send, config=AgentConfig(max_rounds=2)),
    Scenario("two sessions", lambda: _one_tool, _both, sessions=2),
    Scenario("approval", lambda: _three_tools, _approved, runs=2, suspends=True),
    Scenario("given up", lambda: _one_tool, _abandoned, runs=2, suspends=True),
    Scenario("three tools, streamed", lambda: _three_tools, _stream),
)
