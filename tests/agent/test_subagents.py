"""Calls that are sessions of their own: waited for, limited, carried on, and ended together."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import anyio
import anyio.lowlevel
import msgspec
import pytest

from llm_client.errors import BadRequest, Overloaded
from llm_client.retry import RetryPolicy
from llm_client.tokens import ModelTokens
from llm_client.types import LLMRequest, ToolResult, Usage
from power_loop import (
    AgentConfig,
    AgentLoop,
    Budget,
    Hooks,
    MemoryStore,
    RunResult,
    SubAgent,
    approve,
    deny,
    tool,
)
from power_loop.agent.result import result_of
from power_loop.errors import SubAgentFailed, ToolDefinitionError, UsageError
from power_loop.events import Stamped
from power_loop.hooks import (
    LLM_AFTER,
    LLM_BEFORE,
    TOOL_BEFORE,
    Break,
    LlmAfter,
    LlmBefore,
    Suspend,
    ToolBefore,
)
from power_loop.session.machine import Session
from power_loop.session.outcome import (
    AwaitingApproval,
    BudgetExhausted,
    Cancelled,
    Completed,
    Crashed,
    Failed,
    GoalReached,
    NoProgress,
)
from power_loop.session.records import (
    CallAnswered,
    CallWaiting,
    ModelAsked,
    ModelEnded,
    RunClosed,
    RunOpened,
    ToolSettled,
)
from tests.agent.crashed import write
from tests.agent.scripted import Gate, Reply, Scripted, calls, fails, hangs, says
from tests.agent.stores import records_of
from tests.agent.support import EVERY_STORE, StoreKind, check_log, opened_store
from tests.session.checker import violations

pytestmark = pytest.mark.anyio


@tool
async def pay(amount: int) -> str:
    """Pays."""
    return f"paid {amount}"


HELPER = SubAgent("helper", "Helps with a task.", system_prompt="You help.", tools=[pay])


def task_in(request: LLMRequest) -> str:
    """What the session of a request is about: its first message."""
    return request.messages[0].text


def last(request: LLMRequest) -> str:
    """The newest text of a request: a question, or a result."""
    part = request.messages[-1].parts[-1]
    return part.text if isinstance(part, ToolResult) else request.messages[-1].text


def delegating(request: LLMRequest) -> Reply:
    """Above, the task is handed on; below, it is paid."""
    if task_in(request) == "go":
        if last(request) == "go":
            return calls(("c1", "helper", {"task": "pay 3"}))
        return says(f"It said: {last(request)}")
    return says("I have paid.") if "paid" in last(request) else calls(("p1", "pay", {"amount": 3}))


def asking() -> Hooks:
    """Payments wait for a person."""
    hooks = Hooks()
    hooks.on(TOOL_BEFORE, lambda c: Suspend("money") if c.name == "pay" else None, name="money")
    return hooks


async def tree(loop: AgentLoop[Any], root: str) -> list[Stamped]:
    """All records of a tree, in its order, with every session's log found legal."""
    stamped = list(await loop.store.read_tree(root))
    for session in {each.session for each in stamped}:
        log = records_of([each for each in stamped if each.session == session])
        assert violations(log, closed=True) == []
    assert [each.tree_seq for each in stamped] == list(range(1, len(stamped) + 1))
    return stamped


@pytest.mark.parametrize("kind", EVERY_STORE)
async def test_a_call_is_worked_on_in_a_session_of_its_own(kind: StoreKind, tmp_path: Path) -> None:
    """It is told nothing but its task; its answer is the call's result; all is in one order."""
    llm = Scripted(by=delegating)
    async with (
        opened_store(kind, tmp_path) as store,
        AgentLoop(llm, tools=[HELPER], store=store) as loop,
    ):
        await store.create("s")
        result = await loop.send("go", "s")
        assert result.final_text == "It said: I have paid."
        assert llm.illegal == []
        stamped = await tree(loop, "s")
        below = [each for each in stamped if each.session == "s/c1"]
        opened = below[0].event
        assert isinstance(opened, RunOpened)
        assert (opened.input[0].text, opened.parent) == ("pay 3", ("s", "c1"))
        assert {(each.root, each.depth, each.parent) for each in below} == {("s", 1, "s")}
        first, after = stamped.index(below[0]), stamped[stamped.index(below[-1]) + 1]
        assert isinstance(stamped[first - 1].event, CallWaiting)
        assert isinstance(after.event, CallAnswered)
        spent = after.event.spent
        assert spent is not None
        assert (spent.rounds, spent.tool_calls, spent.tokens) == (2, 1, 30)
        assert [r.system for r in llm.requests] == [None, "You help.", "You help.", None]
        info = await store.info("s/c1")
        assert (info.parent, info.root, info.metadata) == ("s", "s", {"agent": "helper"})
        usage = await loop.usage("s", children=True)
        assert (usage.totals.ok, usage.all.ok) == (2, 4)
        await check_log(loop, "s")


async def test_who_streams_a_run_sees_what_happens_below_it() -> None:
    """Also what is not stored: the answers while they are written."""
    async with AgentLoop(Scripted(by=delegating), tools=[HELPER]) as loop:
        async with loop.stream("go") as run:
            seen = [each async for each in run]
        root = run.session_id
        child = f"{root}/c1"
        assert {each.session for each in seen} == {root, child}
        kinds = {type(each.event).__name__ for each in seen if each.session == child}
        assert {"RunOpened", "TextDelta", "ToolCallDelta", "RoundEnded", "RunClosed"} <= kinds


@pytest.mark.parametrize("kind", EVERY_STORE)
@pytest.mark.parametrize("allowed", [True, False])
async def test_a_session_below_that_waits_makes_the_one_above_wait(
    kind: StoreKind, allowed: bool, tmp_path: Path
) -> None:
    """Under the same tokens, which are answered above, by another loop, later."""
    async with opened_store(kind, tmp_path) as store:
        await store.create("s")
        async with AgentLoop(
            Scripted(by=delegating), tools=[HELPER], store=store, hooks=asking()
        ) as loop:
            result = await loop.send("go", "s")
            assert isinstance(result.outcome, AwaitingApproval)
            (token,) = result.outcome.tokens
            waiting, below = await loop.get_pending("s")
            assert (waiting.token, waiting.session_id) == ("s/c1", "s")
            assert (below.token, below.session_id, below.name) == (token, "s/c1", "pay")
            # Nobody has answered: it waits on, under the same token.
            assert (await loop.resume("s")).outcome == AwaitingApproval((token,))
            with pytest.raises(UsageError, match="waits for 'nothing'"):
                await loop.resume("s", answers=[approve("nothing")])
        answer = approve(token) if allowed else deny(token, "too dear")
        async with AgentLoop(
            Scripted(by=delegating), tools=[HELPER], store=store, hooks=asking()
        ) as other:
            done = await other.resume("s", answers=[answer])
            if allowed:
                assert done.final_text == "It said: I have paid."
            else:
                # The model below hears of it and asks again: another request.
                assert isinstance(done.outcome, AwaitingApproval)
                assert done.outcome.tokens != (token,)
                await other.abort_pending("s", "enough")
                assert await other.get_pending("s/c1") == ()
            await tree(other, "s")


async def test_a_program_without_the_agent_tells_the_model_that_there_is_none() -> None:
    """It cannot carry the session below on, and must not wait for it either."""
    store = MemoryStore()
    await store.create("s")
    async with AgentLoop(
        Scripted(by=delegating), tools=[HELPER], store=store, hooks=asking()
    ) as loop:
        await loop.send("go", "s")
    async with AgentLoop(Scripted(says("a pity")), store=store) as loop:
        assert (await loop.resume("s")).final_text == "a pity"
        (result,) = [m for m in await loop.get_messages("s") if m.role == "tool"]
        assert "There is no agent 'helper'." in str(result)
        await tree(loop, "s")


@pytest.mark.parametrize("kind", EVERY_STORE)
async def test_a_session_below_is_carried_on_when_the_process_has_died(
    kind: StoreKind, tmp_path: Path
) -> None:
    """Nothing that was done there is done again, and the call above is never in doubt."""
    async with opened_store(kind, tmp_path) as store:
        await store.create("s")
        llm = Scripted(by=delegating)
        gate = Gate()
        alive: dict[str, list[Any]] = {}

        @tool(name="pay", idempotent=True)
        async def slow(amount: int) -> str:
            """Pays."""
            await gate.wait()
            return f"paid {amount}"

        helper = SubAgent("helper", "Helps.", tools=[slow])
        async with (
            AgentLoop(llm, tools=[helper], store=store) as loop,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(loop.send, "go", "s")
            await gate.reached.wait()
            alive |= {s: records_of(await store.read(s)) for s in ("s", "s/c1")}
            tasks.cancel_scope.cancel()
        # The same records in a store whose owner is gone: nothing closed them.
        await store.create("t")
        await store.create("t/c1", parent="t")
        moved = {"s": "t", "s/c1": "t/c1"}
        for session, records in alive.items():
            await write(store, moved[session], [_moved(each) for each in records])
        gate.opened.set()
        again = Scripted(by=delegating)
        async with AgentLoop(again, tools=[helper], store=store) as loop:
            done = await loop.resume("t")
            assert done.final_text == "It said: I have paid."
            below = records_of(await store.read("t/c1"))
            assert [type(r.outcome) for r in below if isinstance(r, RunClosed)] == [
                Crashed,
                Completed,
            ]
            # The first answer of either session was not asked for again.
            assert len(again.requests) == 2
            assert again.illegal == []
            await tree(loop, "t")


def _moved(record: Any) -> Any:
    """A record of session `s` as one of session `t`."""
    text = msgspec.json.encode(record).decode().replace('"s/c1', '"t/c1').replace('["s"', '["t"')
    return msgspec.json.decode(text, type=cast("Any", type(record)))


async def test_a_session_below_ends_with_the_run_that_waits_for_it() -> None:
    """Cancelled above, it is cancelled below; what it had used is counted above."""
    gate = Gate()

    def model(request: LLMRequest) -> Reply:
        if task_in(request) == "go":
            return calls(("c1", "helper", {"task": "think"}))
        return calls(("p1", "pay", {"amount": 1})) if last(request) == "think" else hangs(gate)

    loop = AgentLoop(
        Scripted(by=model), tools=[HELPER], config=AgentConfig(run_budget=Budget(tokens=9000))
    )
    results: list[Any] = []

    async def send() -> None:
        results.append(await loop.send("go", "s"))

    async with loop, anyio.create_task_group() as tasks:
        await loop.store.create("s")

        tasks.start_soon(send)
        await gate.reached.wait()
        assert await loop.cancel("s", "enough")
    assert results[0].outcome == Cancelled("enough")
    async with loop:
        stamped = await tree(loop, "s")
        closed = [e.event for e in stamped if isinstance(e.event, RunClosed)]
        assert [type(each.outcome) for each in closed] == [Cancelled, Cancelled]
        # 15 for the first call below; the second was broken off, and is estimated.
        assert closed[1].unheard is not None
        assert closed[1].unheard.tokens > 15
        settled = [e.event for e in stamped if isinstance(e.event, ToolSettled)]
        assert [each.how for each in settled] == ["finished", "interrupted"]


async def test_a_message_that_cannot_wait_stops_what_is_below() -> None:
    """The call is told as interrupted, and the run above goes on with the message."""
    gate = Gate()

    def model(request: LLMRequest) -> Reply:
        if task_in(request) != "go":
            return hangs(gate)
        if last(request) == "go":
            return calls(("c1", "helper", {"task": "think"}))
        return says(f"You said {last(request)}")

    async with AgentLoop(Scripted(by=model), tools=[HELPER]) as loop:
        await loop.store.create("s")
        results: list[Any] = []

        async def send() -> None:
            results.append(await loop.send("go", "s"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            await gate.reached.wait()
            await loop.steer("s", "stop that", mode="interrupt")
        assert results[0].final_text == "You said stop that"
        await tree(loop, "s")


# ── limits ────────────────────────────────────────────────────────────────────────────────────────


async def test_agents_side_by_side_spend_one_budget_and_no_token_more_b04() -> None:
    """B04: thirty-two at once, by the books of a provider that always gives as much as it may; who
    finds too little waits, then makes do with less, then ends."""
    counter = ModelTokens("scripted")
    billed = most = under_way = 0

    def model(request: LLMRequest) -> Reply:
        nonlocal billed
        sent, given = counter.count_request(request).tokens, request.max_output_tokens
        assert given is not None
        billed += sent + given
        usage = Usage(sent, given)
        if task_in(request) == "go" and last(request) == "go":
            wanted = calls(*[(f"c{n}", "helper", {"task": f"part {n}"}) for n in range(32)])
            return Reply(wanted.parts, wanted.stop_reason, usage)
        return Reply(says("word " * 5).parts, usage=usage)

    def looks(context: LlmBefore[Any]) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)

    def leaves(context: LlmAfter[Any]) -> None:
        nonlocal under_way
        under_way -= 1

    hooks = Hooks()
    hooks.on(LLM_BEFORE, looks)
    hooks.on(LLM_AFTER, leaves)
    limit = 12_000
    config = AgentConfig(
        max_output_tokens=1_000, run_budget=Budget(tokens=limit), tool_concurrency=32
    )
    llm = Scripted(by=model, steps=5)
    async with AgentLoop(llm, tools=[HELPER], config=config, hooks=hooks) as loop:
        result = await loop.send("go")
        assert isinstance(result.outcome, BudgetExhausted)
        assert result.outcome.limit == "run.tokens"
        used = (await loop.usage(result.session_id, children=True)).all
    assert billed == used.usage.total_tokens
    assert limit - 1_000 < billed <= limit
    assert most > 1


async def test_what_is_below_spends_from_the_budget_above() -> None:
    """By a limit above, and by one of its own; the model is told of the latter."""
    config = AgentConfig(run_budget=Budget(llm_calls=2))
    async with AgentLoop(Scripted(by=delegating), tools=[HELPER], config=config) as loop:
        result = await loop.send("go")
        assert isinstance(result.outcome, BudgetExhausted)
        assert result.outcome.limit == "run.llm_calls"
        more = await loop.resume(result.session_id, extend=Budget(llm_calls=5))
        assert more.status == "completed"
        await tree(loop, result.session_id)
    own = SubAgent("helper", "Helps.", tools=[pay], budget=Budget(llm_calls=1))
    async with AgentLoop(Scripted(by=delegating), tools=[own]) as loop:
        result = await loop.send("go")
        assert result.status == "completed"
        assert "[helper did not finish: budget_exhausted(limit='child.1.llm_calls'" in (
            result.final_text
        )
        limits = [
            each.event.limits
            for each in await tree(loop, result.session_id)
            if isinstance(each.event, RunOpened)
        ]
        assert limits[0]["run.children"] == 64.0
        assert limits[1]["child.1.llm_calls"] == 1.0


@pytest.mark.parametrize("ends", ["beside it", "before it is asked again"])
async def test_what_a_session_that_waits_has_used_counts_when_its_call_is_given_up(
    ends: str,
) -> None:
    """Another call ends the run that waits for it, at once or when the run is carried on."""
    broken = SubAgent("broken", "Fails.", on_failure="fail")
    stops = ends != "beside it"

    def model(request: LLMRequest) -> Reply:
        if task_in(request) != "go":
            failing = task_in(request) == "fail"
            return fails(BadRequest("bad", status=400)) if failing else delegating(request)
        beside = ("p2", "pay", {"amount": 4}) if stops else ("c2", "broken", {"task": "fail"})
        return calls(("c1", "helper", {"task": "pay 3"}), beside)

    hooks = asking()
    async with AgentLoop(Scripted(by=model), tools=[HELPER, broken, pay], hooks=hooks) as loop:
        await loop.store.create("s")
        if stops:
            await loop.send("go", "s")
            hooks.on(
                TOOL_BEFORE, lambda c: Break() if c.call.id == "p2" else None, name="end", order=-1
            )
            (token,) = [p.token for p in await loop.get_pending("s") if p.name == "pay"][:1]
            assert (await loop.resume("s", answers=[approve(token)])).status == "stopped"
        else:
            with pytest.raises(BadRequest):
                await loop.send("go", "s")
        stamped = await tree(loop, "s")
        closed = [e.event for e in stamped if isinstance(e.event, RunClosed) and not e.depth]
        assert closed[-1].unheard is not None
        assert closed[-1].unheard.tokens == 15
        # The run before the last had another hook less.
        assert (await loop.replay("s", run=closed[-1].run)).identical


async def test_agents_that_call_agents_end_somewhere_b01_b02() -> None:
    """B01, B02: as deep as allowed, and no more of them than allowed, also where nobody said."""
    deeper = SubAgent("deeper", "Goes on.")

    def model(request: LLMRequest) -> Reply:
        if last(request) in ("go", "go deeper"):
            return calls(("c1", "deeper", {"task": "go deeper"}))
        return says(last(request))

    async with AgentLoop(Scripted(by=model), tools=[deeper]) as loop:
        result = await loop.send("go")
        assert result.final_text == "Agents may not be nested more than 3 deep."
        stamped = await tree(loop, result.session_id)
        assert max(each.depth for each in stamped) == 3

    def wide(request: LLMRequest) -> Reply:
        if task_in(request) == "go":
            n = len(request.messages)
            return calls(*[(f"c{n}-{k}", "deeper", {"task": "rest"}) for k in range(4)])
        return says("rested")

    config = AgentConfig(max_children=10)
    async with AgentLoop(Scripted(by=wide), tools=[deeper], config=config) as loop:
        result = await loop.send("go")
        assert isinstance(result.outcome, BudgetExhausted)
        assert result.outcome.limit == "run.children"
        stamped = await tree(loop, result.session_id)
        assert len({each.session for each in stamped}) == 11


async def test_a_tree_of_fifty_is_in_one_order_and_ends_as_one() -> None:
    """C22: three levels; every event is reached from the root's cursor, the usage sums up, and a
    cancel above ends all that is below."""
    leaf = SubAgent("leaf", "Works.", tools=[pay])
    branch = SubAgent("branch", "Hands on.", tools=[leaf])

    def model(request: LLMRequest) -> Reply:
        task = task_in(request)
        if last(request) != task:
            return says(f"{task} done")
        if task == "go":
            return calls(*[(f"b{n}", "branch", {"task": f"branch {n}"}) for n in range(7)])
        if task.startswith("branch"):
            return calls(*[(f"l{n}", "leaf", {"task": f"leaf {n}"}) for n in range(6)])
        return says("worked")

    loop = AgentLoop(Scripted(by=model), tools=[branch], config=AgentConfig(tool_concurrency=64))
    async with loop:
        result = await loop.send("go")
        assert result.status == "completed"
        stamped = await tree(loop, result.session_id)
        sessions = {each.session: each for each in stamped}
        assert len(sessions) == 1 + 7 + 42
        assert sorted({each.depth for each in stamped}) == [0, 1, 2]
        for each in stamped:
            assert each.lineage[0] == result.session_id
            assert each.lineage[-1] == each.session
        usage = await loop.usage(result.session_id, children=True)
        assert usage.all.ok == 2 + 7 * 2 + 42
        spent = [
            e.event.spent for e in stamped if isinstance(e.event, CallAnswered) and not e.depth
        ]
        assert sum(s.llm_calls for s in spent if s) == 7 * 2 + 42
        assert sum(s.children for s in spent if s) == 42

    gate = Gate()

    def stuck(request: LLMRequest) -> Reply:
        return hangs(gate) if task_in(request).startswith("leaf") else model(request)

    llm = Scripted(by=stuck)
    loop = AgentLoop(llm, tools=[branch], config=AgentConfig(tool_concurrency=64))
    async with loop, anyio.create_task_group() as tasks:
        await loop.store.create("s")
        tasks.start_soon(loop.send, "go", "s")
        await gate.reached.wait()
        while llm.under_way < 42:
            await anyio.lowlevel.checkpoint()
        await loop.cancel("s", "all of it")
    async with loop:
        closed = [e.event for e in await tree(loop, "s") if isinstance(e.event, RunClosed)]
        assert len(closed) == 50
        assert {type(each.outcome) for each in closed} == {Cancelled}
        assert llm.under_way == 0


# ── ends ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fails_with_it", [False, True])
async def test_a_failure_below_is_told_or_fails_the_run_above(fails_with_it: bool) -> None:
    """As its agent was made."""
    agent = SubAgent(
        "helper", "Helps.", tools=[pay], on_failure="fail" if fails_with_it else "tell"
    )

    def model(request: LLMRequest) -> Reply:
        if task_in(request) != "go":
            return fails(BadRequest("no such model", status=400))
        return delegating(request)

    async with AgentLoop(Scripted(by=model), tools=[agent]) as loop:
        await loop.store.create("s")
        if fails_with_it:
            with pytest.raises(BadRequest):
                await loop.send("go", "s")
        else:
            result = await loop.send("go", "s")
            assert "[helper did not finish: failed(error_type='BadRequest'" in result.final_text
        stamped = await tree(loop, "s")
        outcomes = [e.event.outcome for e in stamped if isinstance(e.event, RunClosed)]
        assert isinstance(outcomes[0], Failed)
        assert isinstance(outcomes[1], Failed if fails_with_it else Completed)


FAR = "look around"


@tool
async def look(n: int) -> str:
    """Looks."""
    return f"nothing at {n}"


def _looking(request: LLMRequest) -> Reply:
    """Above, the task is handed on; below, one looks on and on."""
    if task_in(request) == "go":
        return (
            says("and so on") if last(request) != "go" else calls(("c1", "helper", {"task": FAR}))
        )
    if not request.tools:
        return says("not yet")
    n = len(request.messages)
    return calls((f"l{n}", "look", {"n": n}))


AT_LOOK: dict[str, Break | Suspend] = {
    "stopped": Break("enough"),
    "no_progress": Break("enough", NoProgress("nothing new")),
    "approval_denied": Suspend("may it?", end_on_denial=True),
}


@pytest.mark.parametrize(
    ("ending", "options"),
    [
        ("round_limit", {"max_rounds": 1}),
        ("budget_exhausted", {"budget": Budget(llm_calls=1)}),
        ("stopped", {}),
        ("cancelled", {}),
        ("no_progress", {}),
        ("approval_denied", {}),
        ("degraded", {}),
    ],
)
@pytest.mark.parametrize("on_failure", ["tell", "fail"])
async def test_any_ending_but_an_answer_is_a_failure_below(
    ending: str, options: dict[str, Any], on_failure: Any
) -> None:
    """It is told, or fails the run above, with words that name the agent and how it ended."""
    agent = SubAgent("helper", "Helps.", tools=[look], on_failure=on_failure, **options)

    async def ends(context: ToolBefore[Any]) -> Break | Suspend | None:
        if ending == "cancelled" and context.name == "look":
            assert await loop.cancel("s/c1", "enough")
        return AT_LOOK.get(ending) if context.name == "look" else None

    hooks = Hooks()
    hooks.on(TOOL_BEFORE, ends, name="ends")

    def model(request: LLMRequest) -> Reply:
        if ending == "degraded" and task_in(request) == FAR:
            return fails(Overloaded("no capacity", status=529))
        return _looking(request)

    config = AgentConfig(retry=RetryPolicy(max_attempts=1))
    loop = AgentLoop(Scripted(by=model), tools=[agent], hooks=hooks, config=config)
    async with loop:
        await loop.store.create("s")

        async def run() -> RunResult[None]:
            result = await loop.send("go", "s")
            if ending != "approval_denied":
                return result
            (token,) = [p.token for p in await loop.get_pending("s") if p.request]
            return await loop.resume("s", answers=[deny(token)])

        if on_failure == "tell":
            assert (await run()).final_text == "and so on"
            (told,) = [m for m in await loop.get_messages("s") if m.role == "tool"]
            assert f"[helper did not finish: {ending}(" in str(told)
        else:
            with pytest.raises(SubAgentFailed, match=rf"'helper' did not finish: {ending}\(") as it:
                await run()
            assert (it.value.agent, it.value.session_id) == ("helper", "s/c1")
            result = result_of(it.value)
            assert result is not None
            assert isinstance(result.outcome, Failed)
            assert str(it.value) == result.outcome.message
            assert (await loop.explain("s")).outcome == result.outcome
        assert (await loop.store.info("s/c1")).status == ending
        assert _heard(await tree(loop, "s")) == _used_below(await tree(loop, "s"))
        assert (await loop.replay("s")).identical


def _heard(stamped: list[Stamped]) -> int:
    """Tokens that the root was told have been used below."""
    events = [each.event for each in stamped if not each.depth]
    told = [e.spent for e in events if isinstance(e, CallAnswered)]
    told += [e.unheard for e in events if isinstance(e, RunClosed)]
    return sum(each.tokens for each in told if each)


def _used_below(stamped: list[Stamped]) -> int:
    ended = [e.event for e in stamped if isinstance(e.event, ModelEnded) and e.depth]
    return sum((e.usage.input_tokens or 0) + (e.usage.output_tokens or 0) for e in ended)


async def test_an_agent_that_waits_has_not_failed() -> None:
    """Nor one whose answer comes after a while, or whose goal was reached."""
    agent = SubAgent("helper", "Helps.", tools=[pay], on_failure="fail")
    async with AgentLoop(Scripted(by=delegating), tools=[agent], hooks=asking()) as loop:
        result = await loop.send("go")
        assert isinstance(result.outcome, AwaitingApproval)
        answers = [approve(result.outcome.tokens[0])]
        done = await loop.resume(result.session_id, answers=answers)
        assert done.final_text == "It said: I have paid."

    hooks = Hooks()
    hooks.on(
        TOOL_BEFORE,
        lambda c: Break("so it is", GoalReached("so it is")) if c.name == "pay" else None,
        name="goal",
    )
    async with AgentLoop(Scripted(by=delegating), tools=[agent], hooks=hooks) as loop:
        assert (await loop.send("go")).status == "completed"


# ── options ───────────────────────────────────────────────────────────────────────────────────────


async def test_an_agent_has_the_rounds_and_the_model_that_it_was_given() -> None:
    """The run above keeps its own."""
    agent = SubAgent("helper", "Helps.", tools=[look], max_rounds=2, model="small")
    llm = Scripted(by=_looking)
    async with AgentLoop(llm, tools=[agent], config=AgentConfig(max_rounds=5)) as loop:
        result = await loop.send("go")
        asked = [(task_in(r), r.model, bool(r.tools)) for r in llm.requests]
        below = [(FAR, "small", True), (FAR, "small", True), (FAR, "small", False)]
        assert asked == [("go", None, True), *below, ("go", None, True)]
        log = records_of(await loop.store.read(f"{result.session_id}/c1"))
        opened = [each.limits["rounds"] for each in log if isinstance(each, RunOpened)]
        models = {each.model for each in log if isinstance(each, ModelAsked)}
        assert (opened, models) == ([2.0], {"small"})


@pytest.mark.parametrize("deepest", [1, 2, 5])
async def test_agents_are_nested_as_deep_as_the_loop_allows(deepest: int) -> None:
    """One that is asked for further down is told no, and no session is made."""
    deeper = SubAgent("deeper", "Goes on.")

    def model(request: LLMRequest) -> Reply:
        if last(request) in ("go", "go deeper"):
            return calls(("c1", "deeper", {"task": "go deeper"}))
        return says(last(request))

    config = AgentConfig(max_depth=deepest)
    async with AgentLoop(Scripted(by=model), tools=[deeper], config=config) as loop:
        result = await loop.send("go")
        assert result.final_text == f"Agents may not be nested more than {deepest} deep."
        assert max(each.depth for each in await tree(loop, result.session_id)) == deepest


async def test_a_copy_does_not_wait_for_what_is_done_for_its_original() -> None:
    """Both would have it done twice: in the copy, nobody knows what becomes of it."""
    store = MemoryStore()
    async with AgentLoop(
        Scripted(by=delegating), tools=[HELPER], store=store, hooks=asking()
    ) as loop:
        await store.create("s")
        result = await loop.send("go", "s")
        fork = await loop.fork("s")
        assert [call.session_id for call in await loop.get_pending(fork)] == [fork]
        assert isinstance(result.outcome, AwaitingApproval)
        with pytest.raises(UsageError, match="waits for"):
            await loop.resume(fork, answers=[approve(result.outcome.tokens[0])])
        done = await loop.resume(fork)
        assert done.final_text.startswith("It said: [unknown]")
        copied = Session(fork, records_of(await store.read(fork)))
        used = (await loop.usage(fork, children=True)).all.usage
        assert copied.task_spent.tokens == used.total_tokens, "not what the original's has used"
        first = await loop.resume("s", answers=[approve(result.outcome.tokens[0])])
        assert first.final_text == "It said: I have paid."


async def test_arguments_that_do_not_fit_reach_no_agent() -> None:
    """The model is told what is wrong, and no session is made."""

    def model(request: LLMRequest) -> Reply:
        return calls(("c1", "helper", {"job": 1})) if last(request) == "go" else says(last(request))

    async with AgentLoop(Scripted(by=model), tools=[HELPER]) as loop:
        result = await loop.send("go")
        assert "invalid_arguments" in result.final_text
        assert {each.session for each in await tree(loop, result.session_id)} == {result.session_id}


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"name": "a b"}, ToolDefinitionError),
        ({"description": " "}, ToolDefinitionError),
        ({"system_prompt": ""}, ToolDefinitionError),
        ({"system_prompt": 5}, ToolDefinitionError),
        ({"system_prompt": "\x00"}, ToolDefinitionError),
        ({"max_rounds": 0}, UsageError),
        ({"model": "openai:gpt-5"}, UsageError),
        ({"budget": 5}, UsageError),
        ({"lifecycle": "eternal"}, UsageError),
        ({"on_failure": "ignore"}, UsageError),
    ],
)
def test_what_cannot_be_an_agent_is_refused(wrong: Any, error: type[Exception]) -> None:
    """When it is made."""
    given: dict[str, Any] = {"name": "helper", "description": "Helps.", **wrong}
    with pytest.raises(error):
        SubAgent(given.pop("name"), given.pop("description"), **given)
