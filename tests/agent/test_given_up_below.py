"""Sessions below calls end with these, however that is, and are gone on with from above only."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import anyio
import pytest

from llm_client.types import LLMRequest, ToolResult
from power_loop import (
    AgentConfig,
    AgentLoop,
    Budget,
    Hooks,
    MemoryStore,
    SubAgent,
    ToolContext,
    approve,
    deny,
    tool,
)
from power_loop.errors import AnswerRefused, NothingToResume, SessionNotFound, UsageError
from power_loop.events import Stamped
from power_loop.hooks import TOOL_AFTER, TOOL_BEFORE, Break, Suspend, ToolAfter, ToolBefore
from power_loop.session.outcome import BudgetExhausted, Cancelled
from power_loop.session.records import CallAnswered, ModelAsked, RunClosed
from tests.agent.crashed import write
from tests.agent.scripted import Gate, Reply, Scripted, calls, says
from tests.agent.stores import records_of
from tests.agent.support import StoreKind, opened_store
from tests.session.checker import violations

pytestmark = pytest.mark.anyio

Ending = Literal[
    "cancelled",
    "caller gone",
    "interrupted",
    "denied",
    "stopped",
    "budget",
    "timeout",
    "failed",
    "no agent",
    "aborted",
]
ENDINGS: tuple[Ending, ...] = get_args(Ending)
REST = ("s/c1", "s/c1/d1")


@tool
async def pay(amount: int, context: ToolContext[Any]) -> str:
    """Pays."""
    context.deps.paid.append(amount)
    return f"paid {amount}"


@tool
async def wait(context: ToolContext[Any]) -> str:
    """Waits."""
    await context.deps.gate.wait()
    return "waited"


INNER = SubAgent("inner", "Pays.", tools=[pay])
OUTER = SubAgent("outer", "Has others pay.", tools=[INNER])


class World:
    """A payment two levels below waits for an approval, as does the call beside it above.

    Attributes:
        paid: what was paid.
        gate: where the call beside waits, once it may run.
        seen: all events.
    """

    def __init__(self) -> None:
        self.paid: list[int] = []
        self.gate = Gate()
        self.seen: list[Stamped] = []
        self.hooks = Hooks()
        self.hooks.on(TOOL_BEFORE, _asks, name="money")

    def loop(self, store: Any, *, agents: bool = True) -> AgentLoop[Any]:
        """A loop of a program with the agents, or one without."""
        loop = AgentLoop[Any](
            Scripted(by=_model),
            tools=[OUTER, wait] if agents else [wait],
            store=store,
            hooks=self.hooks,
            config=AgentConfig(run_budget=Budget(tool_calls=9)),
        )
        loop.events.subscribe(self.seen.append, inline=True)
        return loop

    @asynccontextmanager
    async def waiting(self, kind: StoreKind, folder: Path) -> AsyncGenerator[tuple[Any, str, str]]:
        """A store in which it waits; the tokens of the payment, and of the call beside."""
        async with opened_store(kind, folder) as store, self.loop(store) as loop:
            await store.create("s")
            assert (await loop.send("go", "s", deps=self)).status == "awaiting_approval"
            tokens = {p.name: p.token for p in await loop.get_pending("s") if p.request}
            yield store, tokens["pay"], tokens["wait"]


def _asks(context: ToolBefore[Any]) -> Suspend | None:
    return (
        Suspend(end_on_denial=context.name == "wait") if context.name in ("pay", "wait") else None
    )


def _model(request: LLMRequest) -> Reply:
    task, part = request.messages[0].text, request.messages[-1].parts[-1]
    if isinstance(part, ToolResult) or len(request.messages) > 1:
        return says("done")
    if task == "go":
        return calls(("c1", "outer", {"task": "outer"}), ("w1", "wait", {}))
    if task == "outer":
        return calls(("d1", "inner", {"task": "inner"}))
    return calls(("p1", "pay", {"amount": 3}))


async def _end(ending: Ending, world: World, loop: AgentLoop[Any], beside: str) -> str:
    """Carries the run on to this ending, while the payment waits; what it came to."""
    answers = [approve(beside)]
    if ending == "no agent":
        world.gate.opened.set()
    match ending:
        case "aborted":
            await loop.abort_pending("s", "enough")
            return (await loop.store.info("s")).status
        case "denied":
            answers = [deny(beside)]
        case "stopped":
            world.hooks.on(TOOL_BEFORE, _stops, name="stop", order=-1)
        case "budget":
            world.hooks.on(TOOL_BEFORE, _is_over_budget, name="dear", order=-1)
        case "failed":
            world.gate.opened.set()
            world.hooks.on(TOOL_AFTER, _raises, name="raise", on_error="raise")
            with pytest.raises(OSError, match="broken"):
                await loop.resume("s", answers=answers, deps=world)
            return (await loop.store.info("s")).status
        case "cancelled" | "caller gone" | "interrupted":
            return await _broken_off(ending, world, loop, beside)
        case _:
            pass
    timeout: Any = {"timeout": 0.05} if ending == "timeout" else {}
    return (await loop.resume("s", answers=answers, deps=world, **timeout)).status


def _stops(_: ToolBefore[Any]) -> Break:
    return Break("enough")


def _is_over_budget(_: ToolBefore[Any]) -> Break:
    return Break("too dear", BudgetExhausted("policy.dear", "too dear"))


def _raises(_: ToolAfter[Any]) -> None:
    raise OSError("broken")


async def _broken_off(ending: Ending, world: World, loop: AgentLoop[Any], beside: str) -> str:
    async with anyio.create_task_group() as tasks:

        async def resume() -> None:
            await loop.resume("s", answers=[approve(beside)], deps=world)

        tasks.start_soon(resume)
        with anyio.fail_after(20):
            await world.gate.reached.wait()
        match ending:
            case "cancelled":
                await loop.cancel("s", "enough")
            case "interrupted":
                await loop.steer("s", "leave it", mode="interrupt")
            case _:
                tasks.cancel_scope.cancel()
    return (await loop.store.info("s")).status


STATUS: dict[Ending, str] = {
    "cancelled": "cancelled",
    "caller gone": "cancelled",
    "interrupted": "completed",
    "denied": "approval_denied",
    "stopped": "stopped",
    "budget": "budget_exhausted",
    "timeout": "cancelled",
    "failed": "failed",
    "no agent": "completed",
    "aborted": "cancelled",
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_what_waits_below_is_given_up_with_the_call_above_however_that_ends(
    kind: StoreKind, ending: Ending, tmp_path: Path
) -> None:
    """At each depth: nothing is pending there any more, and no token does anything."""
    world = World()
    async with world.waiting(kind, tmp_path) as (store, token, beside):
        async with world.loop(store, agents=ending != "no agent") as loop:
            assert await _end(ending, world, loop, beside) == STATUS[ending]
            for id in REST:
                assert (await store.info(id)).status == "cancelled"
                assert await loop.get_pending(id) == ()
                assert violations(records_of(await store.read(id)), closed=True) == []
                with pytest.raises(UsageError, match="use session 's' instead"):
                    await loop.resume(id, answers=[approve(token)], deps=world)
            with pytest.raises((AnswerRefused, NothingToResume)):
                await loop.resume("s", answers=[approve(token)], deps=world)
            told = {each.session_id: each.status for each in (await loop.explain("s")).below}
            assert told == {"s/c1": "cancelled"}
            # What there was to count above has been counted once.
            log = records_of(await store.read("s"))
            told = [r.spent for r in log if isinstance(r, CallAnswered) and r.spent]
            told += [r.unheard for r in log if isinstance(r, RunClosed) and r.unheard]
            assert (sum(t.tokens for t in told), sum(t.children for t in told)) == (30, 1)
        assert world.paid == []
        assert {(e.root, e.lineage) for e in world.seen} == {
            ("s", ("s",)),
            ("s", ("s", "s/c1")),
            ("s", ("s", "s/c1", "s/c1/d1")),
        }


async def test_what_a_message_interrupts_below_is_given_up_before_the_model_is_asked_again(
    tmp_path: Path,
) -> None:
    """A run that goes on may go on for long."""
    world = World()
    async with world.waiting("memory", tmp_path) as (store, _, beside):
        async with world.loop(store) as loop:
            await _end("interrupted", world, loop, beside)
        log = await store.read_tree("s")
        asked = [e.tree_seq for e in log if isinstance(e.event, ModelAsked) and e.session == "s"]
        ended = [e.tree_seq for e in log if isinstance(e.event, RunClosed) and e.session in REST]
        assert max(ended) < asked[-1]


async def test_who_streams_the_run_sees_how_what_is_below_is_given_up(tmp_path: Path) -> None:
    """As whatever else happens there."""
    world = World()
    async with world.waiting("memory", tmp_path) as (store, _, beside), world.loop(store) as loop:
        async with loop.stream_resume("s", answers=[deny(beside)], deps=world) as run:
            seen = [each async for each in run]
        ends = {e.session: e.event.outcome for e in seen if isinstance(e.event, RunClosed)}
        why = Cancelled("the run above does not wait for it any more")
        assert (ends["s/c1"], ends["s/c1/d1"]) == (why, why)


async def test_what_has_no_time_left_to_begin_below_is_given_up_and_counted_once(
    tmp_path: Path,
) -> None:
    """Its run hardly opens, or not at all: then it says nothing of those below it."""
    world = World()
    async with opened_store("memory", tmp_path) as store:
        await store.create("s")
        for seconds, ends in ((3600, "awaiting_approval"), (1e-9, "completed")):
            outer = SubAgent(
                "outer", "Has others pay.", tools=[INNER], budget=Budget(wall_seconds=seconds)
            )
            loop = AgentLoop[Any](
                Scripted(by=_model), tools=[outer, wait], store=store, hooks=world.hooks
            )
            world.gate.opened.set()
            async with loop:
                if ends == "completed":
                    beside = [p.token for p in await loop.get_pending("s") if p.name == "wait"]
                    answers = [approve(each) for each in beside]
                    result = await loop.resume("s", answers=answers, deps=world)
                else:
                    result = await loop.send("go", "s", deps=world)
            assert result.status == ends
        for id in REST:
            # It may just have opened, and then closes what it has itself.
            assert (await store.info(id)).status in ("cancelled", "budget_exhausted")
            assert await loop.get_pending(id) == ()
            assert violations(records_of(await store.read(id)), closed=True) == []
        log = records_of(await store.read("s"))
        told = [r.spent for r in log if isinstance(r, CallAnswered) and r.spent]
        told += [r.unheard for r in log if isinstance(r, RunClosed) and r.unheard]
        assert sum(t.tokens for t in told) == 30


# ── who may go on ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["memory", "sqlite", "postgres"])
@pytest.mark.parametrize("verb", ["send", "stream", "resume", "stream_resume", "abort_pending"])
async def test_a_session_below_is_gone_on_with_from_above_only(
    kind: StoreKind, verb: str, tmp_path: Path
) -> None:
    """Else it would have other tools, another prompt and no budget of those above."""
    world = World()
    async with world.waiting(kind, tmp_path) as (store, token, _), world.loop(store) as loop:
        for id in REST:
            before = await store.read_tree("s")
            with pytest.raises(UsageError, match=rf"use session 's' instead.*fork\('{id}'\)"):
                match verb:
                    case "send":
                        await loop.send("go on", id, deps=world)
                    case "stream":
                        async with loop.stream("go on", id, deps=world):
                            pass
                    case "resume":
                        await loop.resume(id, answers=[approve(token)], deps=world)
                    case "stream_resume":
                        async with loop.stream_resume(id, deps=world):
                            pass
                    case _:
                        await loop.abort_pending(id)
            assert await store.read_tree("s") == before
        # From above it goes on as ever.
        await loop.resume("s", answers=[approve(token)], deps=world)
        assert world.paid == [3]


async def test_a_copy_of_a_session_below_is_a_session_of_its_own(tmp_path: Path) -> None:
    """It asks for approvals of its own."""
    world = World()
    async with world.waiting("memory", tmp_path) as (store, _, _), world.loop(store) as loop:
        copy = await loop.fork("s/c1/d1")
        assert (await loop.resume(copy, deps=world, tools=[pay])).status == "awaiting_approval"
        answers = [approve(p.token) for p in await loop.get_pending(copy)]
        done = await loop.resume(copy, answers=answers, deps=world, tools=[pay])
        assert (done.final_text, world.paid) == ("done", [3])
        assert (await loop.send("and?", copy, deps=world)).status == "completed"


@pytest.mark.parametrize("kind", ["memory", "sqlite", "postgres"])
@pytest.mark.parametrize("lifecycle", ["linked", "ephemeral", "detached"])
async def test_what_becomes_of_a_session_below_when_the_one_above_is_deleted(
    kind: StoreKind, lifecycle: Any, tmp_path: Path
) -> None:
    """As its agent says: it goes along, or it is a session like any other from then on."""
    stays = SubAgent("outer", "Works.", tools=[pay], lifecycle=lifecycle)
    async with (
        opened_store(kind, tmp_path) as store,
        AgentLoop(Scripted(by=_model_of_one), tools=[stays], store=store) as loop,
    ):
        await store.create("s")
        await loop.send("go", "s")
        assert (await store.info("s/c1")).lifecycle == lifecycle
        await loop.close_session("s")
        if lifecycle == "detached":
            assert (await loop.send("still there?", "s/c1")).final_text == "done"
        else:
            with pytest.raises(SessionNotFound):
                await loop.send("still there?", "s/c1")


def _model_of_one(request: LLMRequest) -> Reply:
    asked = len(request.messages) == 1 and request.messages[0].text == "go"
    return calls(("c1", "outer", {"task": "this"})) if asked else says("done")


async def test_a_name_with_a_stroke_is_a_session_like_any_other() -> None:
    """A program names its own sessions as it likes."""
    async with AgentLoop(Scripted(says("one"), says("two"))) as loop:
        for id in ("tenant", "tenant/7"):
            await loop.store.create(id)
            assert (await loop.send("go", id)).status == "completed"


class _Asked(MemoryStore):
    """Counts what it is asked about sessions."""

    def __init__(self) -> None:
        super().__init__()
        self.infos = 0

    async def info(self, session: str) -> Any:
        self.infos += 1
        return await super().info(session)


async def test_whether_it_is_below_another_costs_a_session_at_the_root_nothing() -> None:
    """The store is not asked."""
    store = _Asked()
    async with AgentLoop(Scripted(says("one"), says("two")), store=store) as loop:
        await store.create("s")
        await loop.send("go", "s")
        await loop.send("go on", "s")
        assert store.infos == 0


async def test_a_crash_before_what_is_below_was_given_up_leaves_a_token_that_does_nothing(
    tmp_path: Path,
) -> None:
    """The record that closes the run above is the last thing that its process did."""
    world = World()
    async with world.waiting("memory", tmp_path) as (store, token, beside):
        before = len(await store.read("s"))
        async with world.loop(MemoryStore()) as other:
            await _copy(store, other.store)
            await _end("denied", world, other, beside)
            closing = records_of(await other.store.read("s"))[before:]
        await write(store, "s", closing)
        async with world.loop(store) as loop:
            assert [p.token for p in await loop.get_pending("s/c1/d1")] == [token]
            with pytest.raises(UsageError, match="alone goes on with it"):
                await loop.resume("s/c1/d1", answers=[approve(token)], deps=world)
            with pytest.raises((AnswerRefused, NothingToResume)):
                await loop.resume("s", answers=[approve(token)], deps=world)
        assert world.paid == []


async def _copy(source: Any, target: Any) -> None:
    for id, parent in (("s", None), ("s/c1", "s"), ("s/c1/d1", "s/c1")):
        await target.create(id, parent=parent)
        await write(target, id, records_of(await source.read(id)))


async def test_a_copy_that_gives_its_calls_up_leaves_those_of_the_original(tmp_path: Path) -> None:
    """What is below waits for the original only."""
    world = World()
    async with world.waiting("memory", tmp_path) as (store, token, _), world.loop(store) as loop:
        copy = await loop.fork("s")
        await loop.abort_pending(copy)
        await loop.resume("s", answers=[approve(token)], deps=world)
        assert world.paid == [3]
