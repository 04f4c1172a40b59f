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
from power_loop.governance import Policies, RepetitionGuard, ToolAllowlist
from power_loop.hooks import POINTS, TOOL_BEFORE, RequestInput, Suspend
from power_loop.runtime.stores.base import Store
from power_loop.session.outcome import (
    AwaitingApproval,
    BudgetExhausted,
    Completed,
    NoProgress,
    Outcome,
    RoundLimit,
    WaitingForInput,
)
from tests.agent.scripted import Reply, Scripted, calls, fails, says

__all__ = ["SCENARIOS", "Scenario", "World", "approve"]


class World:
    """One run of a scenario, and what happened outside of the framework while it ran.

    Attributes:
        options: for the runs that are to be ended; those that come after have none.
        leaving: whether readers of streams are to leave them.
    """

    def __init__(self, store: Store, sessions: tuple[str, ...]) -> None:
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

    @property
    def streams(self) -> bool:
        """Whether somebody reads along."""
        return self.drive in (_stream, _interrupted)

    @property
    def spills(self) -> bool:
        """Whether all outputs of tools are too long."""
        return self.config is _SPILLING

    def loop(self, world: World, steps: int = 1) -> AgentLoop[World]:
        """A loop for it, with a model that takes so many steps between any two of its words."""
        world.llm = Scripted(by=self.model(), steps=steps)
        if self.tokens is not None:
            world.shared = SharedBudget(Budget(tokens=self.tokens))
        return AgentLoop[World](
            world.llm,
            tools=[work, alone, in_thread, finishing, left, HELPER],
            store=world.store,
            config=self.config,
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


def _finishing(request: LLMRequest) -> Reply:
    if _last_is_user(request):
        return calls(("a", "finishing", {"n": 3}), ("b", "work", {"n": 2}))
    return says("they are done")


def _leaving(request: LLMRequest) -> Reply:
    if _last_is_user(request) and len(request.messages) == 1:
        return calls(("a", "left", {"n": 6}), ("b", "work", {"n": 1}))
    return says("they are done, or I shall hear of it")


def _each_kind(request: LLMRequest) -> Reply:
    if _last_is_user(request) and len(request.messages) == 1:
        return calls(
            ("a", "left", {"n": 9}), ("b", "finishing", {"n": 4}), ("c", "work", {"n": 12})
        )
    return says("they are done, or I shall hear of it")


def _handing_on(request: LLMRequest) -> Reply:
    if request.system == HELPER.system_prompt:
        if _last_is_user(request):
            return calls(("p", "work", {"n": 1}), ("q", "finishing", {"n": 2}))
        return says("I helped")
    if len(request.messages) == 1:
        return calls(("a", "helper", {"task": "this"}), ("b", "helper", {"task": "that"}))
    return says("they helped")


def _going_round(request: LLMRequest) -> Reply:
    """The same again and again, and something else once somebody speaks."""
    if [each.text for each in request.messages if each.role == "user"][-1] == "and now?":
        return says("I was going round")
    return calls((f"c{len(request.messages)}", "work", {"n": 1}))


# ── what the program does ─────────────────────────────────────────────────────────────────────────


async def _send(world: World, loop: AgentLoop[World]) -> None:
    result = await loop.send("go", world.sessions[0], deps=world, **world.options)
    world.statuses.append(result.status)


async def _stream(world: World, loop: AgentLoop[World]) -> None:
    async with loop.stream("go", world.sessions[0], deps=world, **world.options) as run:
        async for _ in run:
            if world.leaving:
                return
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
        result = await loop.send("go", session, deps=world, **world.options)
        world.statuses.append(result.status)

    async with anyio.create_task_group() as tasks:
        for session in world.sessions:
            tasks.start_soon(one, session)


async def _approved(world: World, loop: AgentLoop[World]) -> None:
    """A call waits for an approval and gets it."""
    await _send(world, loop)
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


async def _abandoned(world: World, loop: AgentLoop[World]) -> None:
    """A call waits for an approval and is given up."""
    await _send(world, loop)
    await loop.abort_pending(world.sessions[0], "nobody answered")


def _guarded() -> Hooks:
    hooks = Hooks()
    hooks.on(TOOL_BEFORE, lambda context: Suspend() if context.name == "work" else None)
    return hooks


def _asking() -> Hooks:
    hooks = Hooks()
    ask = RequestInput("how many?")
    hooks.on(TOOL_BEFORE, lambda context: ask if context.name == "work" else None)
    return hooks


def _everywhere() -> Hooks:
    hooks = Hooks()

    async def look(context: Any) -> None:
        await anyio.lowlevel.checkpoint()

    for point in POINTS:
        hooks.on(point, look, name=f"look at {point.name}", on_error="raise")
    return hooks


_QUICK = AgentConfig(retry=RetryPolicy(initial=0.0001, jitter=0.0))

_SMALL = AgentConfig(max_output_tokens=600)
_SUSPENDS: Any = {"suspends": True, "endings": (Completed, RoundLimit, AwaitingApproval)}
_SPILLING = AgentConfig(result_limit=4)
_ASKS: Any = {"suspends": True, "endings": (Completed, RoundLimit, WaitingForInput)}

SCENARIOS: tuple[Scenario, ...] = (
    Scenario("text", lambda: _text, _send),
    Scenario("streamed", lambda: _one_tool, _stream),
    Scenario("one tool", lambda: _one_tool, _send),
    Scenario("three tools, one exclusive", lambda: _three_tools, _send),
    Scenario("tool in a thread", lambda: _threaded, _send),
    Scenario("hooks everywhere", lambda: _three_tools, _send, hooks=_everywhere),
    Scenario("steering", lambda: _one_tool, _steered),
    Scenario("interrupted", lambda: _three_tools, _interrupted),
    Scenario("retry with backoff", _FailsAtFirst, _stream, config=_QUICK),
    Scenario("typed output asked again", lambda: _typed, _typed_send),
    Scenario("round limit", lambda: _endless, _send, config=AgentConfig(max_rounds=2)),
    Scenario("two sessions", lambda: _one_tool, _both, sessions=2),
    Scenario("approval", lambda: _three_tools, _approved, hooks=_guarded, runs=2, **_SUSPENDS),
    Scenario("given up", lambda: _one_tool, _abandoned, hooks=_guarded, runs=2, **_SUSPENDS),
    Scenario("three tools, streamed", lambda: _three_tools, _stream),
    Scenario("tool that finishes", lambda: _finishing, _stream),
    Scenario("tool in the background", lambda: _leaving, _stream),
    Scenario("each kind of tool, interrupted", lambda: _each_kind, _interrupted),
    Scenario("sub-agents", lambda: _handing_on, _stream, below=("a", "b")),
    Scenario(
        "sub-agents that ask",
        lambda: _handing_on,
        _approved,
        hooks=_guarded,
        runs=2,
        below=("a", "b"),
        **_SUSPENDS,
    ),
    Scenario("large outputs", lambda: _three_tools, _stream, config=_SPILLING),
    Scenario(
        "large outputs of each kind of tool, interrupted",
        lambda: _each_kind,
        _interrupted,
        config=_SPILLING,
    ),
    Scenario(
        "large answers of sub-agents",
        lambda: _handing_on,
        _stream,
        below=("a", "b"),
        config=_SPILLING,
    ),
    Scenario("question", lambda: _three_tools, _approved, hooks=_asking, runs=2, **_ASKS),
    Scenario(
        "budget that is waited for",
        lambda: _one_tool,
        _both,
        sessions=2,
        config=_SMALL,
        tokens=1_400,
        endings=(Completed, BudgetExhausted),
    ),
    Scenario(
        "policies", lambda: _going_round, _stream, policed=True, endings=(Completed, NoProgress)
    ),
)
