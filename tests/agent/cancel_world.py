"""What programs of the cancellation sweeps are made of: a world, tools, and what they do."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
from msgspec import Struct
from msgspec.structs import replace

import power_loop
from llm_client.types import LLMRequest
from power_loop import (
    AgentConfig,
    AgentLoop,
    Budget,
    CancellationToken,
    Hooks,
    InputRequest,
    SharedBudget,
    SubAgent,
    ToolContext,
    tool,
)
from power_loop.agent.toolset import AnyTool
from power_loop.governance import Policies, RepetitionGuard, ToolAllowlist
from power_loop.hooks import POINTS
from power_loop.runtime.memory.base import MemoryProvider
from power_loop.runtime.stores.notes import StoreWithNotes
from power_loop.session.outcome import Completed, Outcome, RoundLimit
from tests.agent.scripted import Reply, Scripted

__all__ = [
    "HELPER",
    "SPILLING",
    "Scenario",
    "World",
    "abandoned",
    "approve",
    "approved",
    "both",
    "everywhere",
    "interrupted",
    "send",
    "steered",
    "stream",
    "typed_send",
]

SPILLING = AgentConfig(result_limit=4)
"""All outputs of tools are too long."""


class World:
    """One run of a scenario, and what happened outside of the framework while it ran.

    Attributes:
        options: for the runs that are to be ended; those that come after have none.
        leaving: whether readers of streams are to leave them.
        remembered: the sessions and runs that a memory was told of, and how they had ended.
    """

    def __init__(self, store: StoreWithNotes, sessions: tuple[str, ...]) -> None:
        self.store = store
        self.sessions = sessions
        self.llm = Scripted()
        self.effects: list[tuple[str, str, str]] = []
        self.lock = threading.Lock()
        self.statuses: list[str] = []
        self.steered = False
        self.followed = False
        self.token = CancellationToken()
        self.options: dict[str, Any] = {}
        self.leaving = False
        self.shared: SharedBudget | None = None
        self.remembered: list[tuple[str, str, str]] = []

    def note(self, what: str, context: ToolContext[World]) -> None:
        """Something happened in the outer world; from any thread."""
        with self.lock:
            self.effects.append((what, context.session_id, context.call_id))


class Scenario(Struct, frozen=True):
    """A program to be cancelled. `model` makes what decides on the answer to a request.

    Attributes:
        hooks: made anew for each run of the program.
        suspends: it ends while calls wait for somebody.
        endings: how its runs may end if nobody cancels them.
        policed: policies judge what it does.
        tokens: what all of its sessions may use together.
        below: calls in which sessions below are to be found.
        tools: in place of those that the others have.
        memory: made anew for each run of the program.
    """

    name: str
    model: Callable[[], Callable[[LLMRequest], Reply]]
    drive: Callable[[World, AgentLoop[World]], Awaitable[None]]
    config: AgentConfig = AgentConfig()
    hooks: Callable[[], Hooks] | None = None
    sessions: int = 1
    runs: int = 1
    suspends: bool = False
    endings: tuple[type[Outcome], ...] = (Completed, RoundLimit)
    policed: bool = False
    tokens: int | None = None
    below: tuple[str, ...] = ()
    tools: tuple[AnyTool, ...] = ()
    memory: Callable[[World], MemoryProvider] | None = None

    @property
    def streams(self) -> bool:
        """Whether somebody reads along."""
        return self.drive in (stream, interrupted)

    @property
    def spills(self) -> bool:
        """Whether all outputs of tools are too long."""
        return self.config is SPILLING

    def loop(self, world: World, steps: int = 1) -> AgentLoop[World]:
        """A loop for it, with a model that takes so many steps between any two of its words."""
        world.llm = Scripted(by=self.model(), steps=steps)
        if self.tokens is not None:
            world.shared = SharedBudget(Budget(tokens=self.tokens))
        return AgentLoop[World](
            world.llm,
            tools=self.tools or [work, alone, in_thread, finishing, left, HELPER],
            store=world.store,
            config=replace(self.config, memory=self.memory and self.memory(world)),
            hooks=None if self.hooks is None else self.hooks(),
            budget=world.shared,
            extensions=[Policies(ToolAllowlist("work"), RepetitionGuard())] if self.policed else (),
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


@tool(on_cancel="finish")
async def finishing(n: int, context: ToolContext[World]) -> str:
    """Works, in steps, to its end."""
    context.deps.note("begin", context)
    for _ in range(n):
        await anyio.lowlevel.checkpoint()
    context.deps.note("done", context)
    return "worked to the end"


@tool(on_cancel="background")
async def left(n: int, context: ToolContext[World]) -> str:
    """Works, in steps, also when nobody waits."""
    context.deps.note("begin", context)
    for _ in range(n):
        await anyio.lowlevel.checkpoint()
    context.deps.note("done", context)
    return "worked alone and unseen"


HELPER = SubAgent("helper", "Helps.", system_prompt="You help.", tools=[work, finishing])


# ── what the program does ─────────────────────────────────────────────────────────────────────────


async def send(world: World, loop: AgentLoop[World]) -> None:
    result = await loop.send("go", world.sessions[0], deps=world, **world.options)
    world.statuses.append(result.status)


async def stream(world: World, loop: AgentLoop[World]) -> None:
    async with loop.stream("go", world.sessions[0], deps=world, **world.options) as run:
        async for _ in run:
            if world.leaving:
                return
            await anyio.lowlevel.checkpoint()
        result = await run.result()
    world.statuses.append(result.status)


async def typed_send(world: World, loop: AgentLoop[World]) -> None:
    result = await loop.send("go", world.sessions[0], deps=world, output_type=int)
    world.statuses.append(result.status)
    assert result.status != "completed" or result.output == 3


async def steered(world: World, loop: AgentLoop[World]) -> None:
    """Somebody steers in the middle, through the public verb."""

    async def steer() -> None:
        await anyio.lowlevel.checkpoint()
        await loop.steer(world.sessions[0], "steered", dedupe_key="steer")
        world.steered = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(steer)
        await send(world, loop)


async def interrupted(world: World, loop: AgentLoop[World]) -> None:
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
        await stream(world, loop)


async def both(world: World, loop: AgentLoop[World]) -> None:
    async def one(session: str) -> None:
        result = await loop.send("go", session, deps=world, **world.options)
        world.statuses.append(result.status)

    async with anyio.create_task_group() as tasks:
        for session in world.sessions:
            tasks.start_soon(one, session)


async def approved(world: World, loop: AgentLoop[World]) -> None:
    """A call waits for an approval and gets it."""
    await send(world, loop)
    await approve(world, loop, world.sessions[0])


async def approve(world: World, loop: AgentLoop[World], session: str) -> None:
    """Approves what waits, and answers what is asked, if anything is."""
    requests = [call.request for call in await loop.get_pending(session) if call.request]
    answers = [
        power_loop.answer(each.token, "three")
        if isinstance(each, InputRequest)
        else power_loop.approve(each.token)
        for each in requests
    ]
    if answers:
        result = await loop.resume(session, answers=answers, deps=world, **world.options)
        world.statuses.append(result.status)


async def abandoned(world: World, loop: AgentLoop[World]) -> None:
    """A call waits for an approval and is given up."""
    await send(world, loop)
    await loop.abort_pending(world.sessions[0], "nobody answered")


def everywhere() -> Hooks:
    hooks = Hooks()

    async def look(context: Any) -> None:
        await anyio.lowlevel.checkpoint()

    for point in POINTS:
        # Not even where the clock is put forward, its time is over before that of the run.
        hooks.on(point, look, name=f"look at {point.name}", on_error="raise", timeout=600.0)
    return hooks
