"""Budgets around real runs: what is refused, told, recorded, carried on, and survives a death."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest

from llm_client import TablePrices
from llm_client.errors import ServerError
from llm_client.pricing import Ceiling, Rates
from llm_client.retry import RetryPolicy
from llm_client.tokens import ModelTokens
from llm_client.types import LLMRequest, StopReason, Text, Usage
from power_loop import (
    AgentConfig,
    AgentLoop,
    Budget,
    Hooks,
    MemoryStore,
    SharedBudget,
    tool,
)
from power_loop.errors import UsageError
from power_loop.hooks import LLM_BEFORE, LlmBefore, replace
from power_loop.runtime.budget.amounts import in_units
from power_loop.session.machine import Session
from power_loop.session.outcome import BudgetExhausted, Cancelled, Completed
from power_loop.session.records import (
    Decided,
    ModelAsked,
    ModelEnded,
    Record,
    RunClosed,
    RunOpened,
    ToolSettled,
)
from tests.agent.crashed import write
from tests.agent.scripted import Gate, Reply, Scripted, calls, fails, hangs, says
from tests.agent.stores import records_of
from tests.agent.support import EVERY_STORE, StoreKind, check_log, log_of, opened_store

pytestmark = pytest.mark.anyio


@tool
async def look(n: int) -> str:
    """Looks."""
    return f"seen {n}"


class Billing:
    """A provider that keeps its own books, and writes as much as it may: answers for ever."""

    def __init__(self) -> None:
        self.billed = Usage(0, 0)
        self.bounds: list[int | None] = []
        self._counter = ModelTokens("scripted")

    def __call__(self, request: LLMRequest) -> Reply:
        sent = self._counter.count_request(request).tokens
        given = request.max_output_tokens or 1_000
        self.bounds.append(request.max_output_tokens)
        self.billed = self.billed + Usage(sent, given)
        n = len(request.messages)
        wanted = calls((f"c{n}", "look", {"n": n}), text="word " * (given // 4))
        return Reply(wanted.parts, wanted.stop_reason, Usage(sent, given))

    @property
    def total(self) -> int:
        """Tokens in all."""
        return self.billed.total_tokens or 0


async def test_a_limit_of_ten_thousand_tokens_is_not_passed_by_one() -> None:
    """By the provider's own books; the last answer is made to fit, and the next is refused."""
    provider = Billing()
    config = AgentConfig(run_budget=Budget(tokens=10_000), max_output_tokens=900, max_rounds=100)
    async with AgentLoop(Scripted(by=provider), tools=[look], config=config) as loop:
        result = await loop.send("go")
        assert isinstance(result.outcome, BudgetExhausted)
        assert result.outcome.limit == "run.tokens"
        assert "10,000 allowed" in result.outcome.reason
        assert result.resumable
        assert provider.total <= 10_000
        assert provider.total == result.usage.total_tokens
        log = await check_log(loop, result.session_id)
        opened = log[0]
        assert isinstance(opened, RunOpened)
        assert opened.limits == {"rounds": 100.0, "run.tokens": 10_000.0}
        asked = [r for r in log if isinstance(r, ModelAsked)]
        assert all(r.reserved_output <= 900 for r in asked)
        assert all(r.reserved <= 10_000 for r in asked)
        # With more it goes on where it was, and that limit holds as well.
        more = await loop.resume(result.session_id, extend=Budget(tokens=20_000))
        assert isinstance(more.outcome, BudgetExhausted)
        assert 10_000 < provider.total <= 20_000
        with pytest.raises(UsageError, match="tokens=19999, less than the 20000"):
            await loop.resume(result.session_id, extend=Budget(tokens=19_999))
        await check_log(loop, result.session_id)


@pytest.mark.parametrize(
    ("budget", "limit"),
    [
        (Budget(rounds=2), "run.rounds"),
        (Budget(llm_calls=2), "run.llm_calls"),
        (Budget(tool_calls=2), "run.tool_calls"),
        (Budget(input_tokens=200), "run.input_tokens"),
        (Budget(output_tokens=60), "run.output_tokens"),
        (Budget(tokens=300), "run.tokens"),
        (Budget(cost=0.001, unknown_price=Ceiling(Decimal(1), Decimal(2))), "run.cost"),
    ],
)
async def test_each_limit_ends_the_run_by_its_name_and_lets_it_go_on(
    budget: Budget, limit: str
) -> None:
    """Never as an exception; the transcript stays legal, and `extend` gives more."""
    provider = Billing()
    llm = Scripted(by=provider)
    config = AgentConfig(max_output_tokens=40)
    async with AgentLoop(llm, tools=[look], config=config) as loop:
        result = await loop.send("go", budget=budget)
        assert isinstance(result.outcome, BudgetExhausted)
        assert result.outcome.limit == limit
        name = limit.removeprefix("run.")
        spent = getattr(loop_spent(await log_of(loop, result.session_id)), name)
        assert spent <= getattr(budget, name)
        larger = Budget(**{name: getattr(budget, name) * 3}, unknown_price=budget.unknown_price)
        more = await loop.resume(result.session_id, extend=larger)
        assert isinstance(more.outcome, BudgetExhausted)
        assert more.rounds > result.rounds
        assert llm.illegal == []
        await check_log(loop, result.session_id)


def loop_spent(log: Any) -> Any:
    """What the log says that the task has used."""

    return Session("s", log).task_spent


async def test_a_session_and_a_loop_and_a_tenant_have_budgets_of_their_own() -> None:
    """The narrowest of them counts; one that is shared counts for all loops together."""
    tenant = SharedBudget(Budget(llm_calls=5), name="tenant")
    config = AgentConfig(session_budget=Budget(llm_calls=3))
    async with (
        AgentLoop(Scripted(by=lambda _: says("hi")), config=config, budget=[tenant]) as first,
        AgentLoop(Scripted(by=lambda _: says("hi")), budget=[Budget(llm_calls=9), tenant]) as other,
    ):
        session = (await first.send("1")).session_id
        for text in ("2", "3"):
            assert (await first.send(text, session)).status == "completed"
        refused = await first.send("4", session)
        assert isinstance(refused.outcome, BudgetExhausted)
        assert refused.outcome.limit == "session.llm_calls"
        assert (await other.send("5")).status == "completed"
        assert (await other.send("6")).status == "completed"
        late = await other.send("7")
        assert isinstance(late.outcome, BudgetExhausted)
        assert late.outcome.limit == "tenant.llm_calls"
        assert tenant.spent.llm_calls == 5
        opened = (await log_of(other, late.session_id))[0]
        assert isinstance(opened, RunOpened)
        assert opened.limits["loop.llm_calls"] == 9.0
        assert opened.limits["tenant.llm_calls"] == 5.0


async def test_an_answer_that_a_budget_has_shortened_is_said_to_be() -> None:
    """Once for each attempt, with the limit and its figures; the ending is what it is."""
    error = ServerError("busy", status=503)

    def model(request: LLMRequest) -> Reply:
        if len(llm.requests) == 1:
            return fails(error)
        usage = Usage(10, request.max_output_tokens)
        return Reply((Text("cut o"),), StopReason.LENGTH, usage)

    llm = Scripted(by=model)
    retry = RetryPolicy(initial=0.0, jitter=0.0)
    config = AgentConfig(retry=retry, max_output_tokens=500, session_budget=Budget(tokens=9_000))
    async with AgentLoop(llm, config=config) as loop:
        result = await loop.send("go", budget=Budget(tokens=100))
        assert result.status == "completed"
        told = await loop.explain(result.session_id)
        log = await check_log(loop, result.session_id)
        decided = [r for r in log if isinstance(r, Decided)]
        bounds = [r.max_output_tokens or 0 for r in llm.requests]
        assert [(r.at, r.by, r.what, r.reason) for r in decided] == [
            (
                "budget",
                "run.tokens",
                "bounded",
                f"100 allowed, {used} used; {bound} of 500 tokens are left for the answer",
            )
            for used, bound in zip((0, decided_used(log)), bounds, strict=True)
        ]
        assert all(isinstance(log[log.index(r) + 1], ModelAsked) for r in decided)
        assert told.rule == (
            "the model answered, but was cut off at what limit run.tokens had left for it "
            f"({decided[-1].reason}), and nobody objected"
        )
        # Where there is as much as was asked for, there is nothing to say.
        await loop.send("go", result.session_id, budget=Budget(tokens=5_000))
        log = await check_log(loop, result.session_id)
        assert [r for r in log if isinstance(r, Decided)] == decided
        told = await loop.explain(result.session_id)
        assert "but was cut off at the output limit" in told.rule
        # A copy that ends between what was said of a call and the call asks anew.
        copy = await loop.fork(result.session_id, log.index(decided[0]) + 1)
        assert (await loop.resume(copy)).status == "completed"
        await check_log(loop, copy)


def decided_used(log: Any) -> int:
    """Tokens that the first model call has used."""
    ended = next(r for r in log if isinstance(r, ModelEnded))
    return ended.usage.total_tokens or 0


async def test_every_attempt_is_paid_for_also_one_that_failed() -> None:
    """Retries reserve anew; what failed after a part of its answer is taken as it was billed."""
    error = ServerError("busy", status=503)
    llm = Scripted(fails(error, "half an answer"), fails(error), says("done"))
    retry = RetryPolicy(initial=0.0, jitter=0.0)
    config = AgentConfig(retry=retry, run_budget=Budget(llm_calls=2))
    async with AgentLoop(llm, config=config) as loop:
        result = await loop.send("go")
        assert isinstance(result.outcome, BudgetExhausted)
        assert result.outcome.limit == "run.llm_calls"
        assert len(llm.requests) == 2
        done = await loop.resume(result.session_id, extend=Budget(llm_calls=3))
        assert done.status == "completed"
        await check_log(loop, result.session_id)


@pytest.mark.parametrize("kind", EVERY_STORE)
async def test_limits_survive_a_process_that_died_in_the_middle_of_a_call(
    kind: StoreKind, tmp_path: Path
) -> None:
    """A call whose end nobody saw is taken to have used all that was set aside for it."""
    async with opened_store(kind, tmp_path) as store:
        await store.create("s")
        gate = Gate()
        alive: list[Record] = []
        config = AgentConfig(run_budget=Budget(tokens=5_000), max_output_tokens=2_000)
        async with (
            AgentLoop(Scripted(by=lambda _: hangs(gate)), store=store, config=config) as loop,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(loop.send, "go", "s")
            await gate.reached.wait()
            alive += records_of(await store.read("s"))
            tasks.cancel_scope.cancel()
        await store.create("t")
        await write(store, "t", alive)
        asked = next(r for r in alive if isinstance(r, ModelAsked))
        assert asked.reserved_output == 2_000
        llm = Scripted(by=lambda _: says("again"))
        async with AgentLoop(llm, store=store, config=config) as loop:
            done = await loop.resume("t")
            assert done.outcome == Completed("again")
            # 2,000 were set aside before, and 15 are used: so many are left for the next.
            spent = loop_spent(await log_of(loop, "t"))
            assert spent.tokens == asked.reserved + 15


async def test_a_call_that_is_cancelled_is_charged_as_far_as_it_had_come() -> None:
    """Nothing stays set aside, for whoever else is under the same budget."""
    gate = Gate()
    tenant = SharedBudget(Budget(tokens=10_000))
    config = AgentConfig(max_output_tokens=9_000)
    llm = Scripted(
        by=lambda r: hangs(gate, "some words") if r.messages[0].text == "go" else says("hi")
    )
    async with AgentLoop(llm, config=config, budget=tenant) as loop:
        await loop.store.create("s")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(loop.send, "go", "s")
            await gate.reached.wait()
            assert tenant.left["tenant.tokens"] < 1_000
            await loop.cancel("s")
        assert isinstance((await log_of(loop, "s"))[-1], RunClosed)
        ended = next(r for r in await log_of(loop, "s") if isinstance(r, ModelEnded))
        assert tenant.spent.tokens == ended.usage.total_tokens
        assert (await loop.send("hello")).status == "completed"


async def test_who_finds_too_little_waits_for_what_others_give_back() -> None:
    """Two calls that cannot both be paid for at once are made one after the other."""
    gate = Gate()
    tenant = SharedBudget(Budget(tokens=3_000))
    config = AgentConfig(max_output_tokens=2_500)

    def model(request: LLMRequest) -> Reply:
        return (
            Reply(says("slow").parts, gate=gate) if request.messages[0].text == "1" else says("ok")
        )

    async with AgentLoop(Scripted(by=model), config=config, budget=tenant) as loop:
        statuses: list[str] = []

        async def send(text: str) -> None:
            statuses.append((await loop.send(text)).status)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send, "1")
            await gate.reached.wait()
            tasks.start_soon(send, "x" * 2_000)
            await anyio.wait_all_tasks_blocked()
            assert statuses == []
            gate.opened.set()
        assert statuses == ["completed", "completed"]


# ── cost ──────────────────────────────────────────────────────────────────────────────────────────

TODAY = Rates(input=Decimal(1), output=Decimal(10), as_of=date(2026, 1, 1))


async def test_a_cost_is_reserved_and_recorded_and_an_unknown_price_refuses() -> None:
    """By the list that the config gives; a ceiling stands in where one is declared."""
    prices = TablePrices({"scripted": TODAY})
    config = AgentConfig(prices=prices, run_budget=Budget(cost=0.05), max_output_tokens=1_000)
    async with AgentLoop(Scripted(by=Billing()), tools=[look], config=config) as loop:
        result = await loop.send("go")
        assert isinstance(result.outcome, BudgetExhausted)
        assert result.outcome.limit == "run.cost"
        log = await check_log(loop, result.session_id)
        costs = [r.cost for r in log if isinstance(r, ModelEnded)]
        assert all(costs)
        assert sum(in_units("cost", c) for c in costs) <= in_units("cost", 0.05)
    config = AgentConfig(prices=TablePrices({}), run_budget=Budget(cost=1.0))
    async with AgentLoop(Scripted(by=lambda _: says("hi")), config=config) as loop:
        result = await loop.send("go")
        assert isinstance(result.outcome, BudgetExhausted)
        assert "'scripted'" in result.outcome.reason
        assert "unknown_price" in result.outcome.reason


# ── time ──────────────────────────────────────────────────────────────────────────────────────────


async def test_time_that_is_used_up_ends_the_run_and_is_counted_when_it_goes_on() -> None:
    """Wall time passes always; working time not while a retry is waited for."""
    gate = Gate()
    config = AgentConfig(run_budget=Budget(wall_seconds=0.05))
    async with AgentLoop(Scripted(by=lambda _: hangs(gate)), config=config) as loop:
        result = await loop.send("go")
        assert isinstance(result.outcome, BudgetExhausted)
        assert result.outcome.limit == "run.wall_seconds"
        closed = (await check_log(loop, result.session_id))[-1]
        assert isinstance(closed, RunClosed)
        assert closed.wall_seconds >= 0.05
        assert re.fullmatch(r"0\.05 s allowed, [\d.]+ s used", result.outcome.reason)
        again = await loop.resume(result.session_id, extend=Budget(wall_seconds=0.15))
        assert isinstance(again.outcome, BudgetExhausted)
        # Not only what was left, or what this run has used.
        used = re.fullmatch(r"0\.15 s allowed, ([\d.]+) s used", again.outcome.reason)
        assert used is not None
        assert float(used[1]) >= 0.15
        none_left = await loop.resume(result.session_id)
        assert isinstance(none_left.outcome, BudgetExhausted)
        assert none_left.outcome.reason.startswith("0.15 s allowed, ")
    error = ServerError("busy", status=503, retry_after=0.2)
    config = AgentConfig(
        retry=RetryPolicy(initial=0.0, jitter=0.0), run_budget=Budget(working_seconds=0.1)
    )
    async with AgentLoop(Scripted(fails(error), says("done")), config=config) as loop:
        result = await loop.send("go")
        assert result.status == "completed"
        closed = (await check_log(loop, result.session_id))[-1]
        assert isinstance(closed, RunClosed)
        assert closed.wall_seconds >= 0.2 > 0.1 > closed.working_seconds


async def test_a_run_whose_time_is_up_before_it_opens_ends_like_any_other() -> None:
    """Whether it has come to its opening by then is a matter of luck."""
    gate = Gate()
    config = AgentConfig(run_budget=Budget(wall_seconds=1e-9))
    async with AgentLoop(Scripted(by=lambda _: hangs(gate)), config=config) as loop:
        for _ in range(20):
            result = await loop.send("go")
            assert isinstance(result.outcome, BudgetExhausted)
            assert result.outcome.limit == "run.wall_seconds"


async def test_a_timeout_is_no_budget() -> None:
    """It cancels, as it always has."""
    gate = Gate()
    async with AgentLoop(Scripted(by=lambda _: hangs(gate))) as loop:
        result = await loop.send("go", timeout=0.05, budget=Budget(wall_seconds=60))
        assert isinstance(result.outcome, Cancelled)


# ── edges ─────────────────────────────────────────────────────────────────────────────────────────


async def test_what_hooks_rewrite_is_what_is_paid_for() -> None:
    """A handler that asks for more output, or another model, is bound as well."""
    hooks = Hooks()

    @hooks.on(LLM_BEFORE)
    def _(context: LlmBefore[Any]) -> LlmBefore[Any]:
        return replace(context, request=replace(context.request, max_output_tokens=50_000))

    provider = Billing()
    config = AgentConfig(run_budget=Budget(tokens=4_000))
    async with AgentLoop(Scripted(by=provider), tools=[look], hooks=hooks, config=config) as loop:
        result = await loop.send("go")
        assert isinstance(result.outcome, BudgetExhausted)
        assert provider.total <= 4_000


async def test_answers_are_bound_only_where_that_is_limited() -> None:
    """A limit of calls says nothing about their length."""
    provider = Billing()
    async with AgentLoop(Scripted(by=provider), tools=[look]) as loop:
        await loop.send("go", budget=Budget(tool_calls=1))
        assert set(provider.bounds) == {None}
        await loop.send("go", budget=Budget(tokens=2_000))
        bounds = [bound or 0 for bound in provider.bounds[2:]]
        # Less than they would have had if only the answer were bound.
        assert 0 < min(bounds) <= max(bounds) < 2_000 < 4_096


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: AgentConfig(run_budget=5), "run_budget is a Budget"),  # type: ignore[arg-type]
        (lambda: AgentLoop(Scripted(), budget=Budget(wall_seconds=1)), "no time of its own"),
        (lambda: AgentConfig(budgeted_output=0), "budgeted_output"),
        (lambda: AgentLoop(Scripted(), budget=5), "a SharedBudget or a list"),  # type: ignore[arg-type]
        (lambda: AgentLoop(Scripted(), budget=[5]), "not a value of type int"),  # type: ignore[list-item]
        (lambda: SharedBudget(None), "are a Budget, not a value of type NoneType"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_a_budget_is_refused_where_it_is_given(make: Any, told: str) -> None:
    """Before anything runs."""
    with pytest.raises(UsageError, match=told):
        make()


async def test_calls_beyond_the_budget_are_told_as_not_run() -> None:
    """Those before them run to their end; the model will know which had no effect."""
    three = calls(*[(f"c{n}", "look", {"n": n}) for n in range(3)])
    async with AgentLoop(Scripted(three, says("done")), tools=[look], store=MemoryStore()) as loop:
        result = await loop.send("go", budget=Budget(tool_calls=2))
        settled = [
            r for r in await check_log(loop, result.session_id) if isinstance(r, ToolSettled)
        ]
        assert sorted(r.how for r in settled) == ["finished", "finished", "not_run"]
        done = await loop.resume(result.session_id, extend=Budget(tool_calls=5))
        assert done.status == "completed"
