"""Sessions below that outgrow their window: each keeps its own view, all pay from one purse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from llm_client.tokens import ModelTokens
from llm_client.types import LLMRequest, Part, StopReason, Text, Usage
from power_loop import (
    AgentConfig,
    AgentLoop,
    Budget,
    Hooks,
    MemoryStore,
    SharedBudget,
    SubAgent,
    approve,
    recall_compacted_tool,
    tool,
)
from power_loop.errors import SummaryDrift
from power_loop.events import Stamped
from power_loop.hooks import TOOL_BEFORE, Suspend, ToolBefore
from power_loop.runtime.compaction.summary import DefaultCompactor
from power_loop.session.outcome import BudgetExhausted, Completed, Crashed
from power_loop.session.records import (
    CallAnswered,
    ModelAsked,
    ModelEnded,
    Record,
    RunClosed,
    RunOpened,
    ViewChanged,
)
from power_loop.tools.context import ToolContext
from tests.agent.crashed import write
from tests.agent.scripted import Reply, Scripted, calls
from tests.agent.support import check_log, log_of
from tests.agent.test_compaction import SUMMARY, WORDS, is_summary
from tests.session.checker import violations
from tests.session.compactions import compaction_faults

pytestmark = pytest.mark.anyio

TASK = "Count all ships; begin at 1."
COUNTED = "I have counted them."
ROUNDS = 12
"""Of a session below."""
COUNTER = ModelTokens("scripted")


class Provider(Scripted):
    """A large model, and one whose window is small. It counts exactly, and always writes as much as
    it may."""

    def __init__(self, steps: int = 1) -> None:
        super().__init__(by=self._reply, steps=steps, piece=1_000)
        self.billed = 0

    def context_window(self, model: str | None) -> int | None:
        """Tokens of prompt and answer together."""
        return 1_200 if model == "small" else 100_000

    def _reply(self, request: LLMRequest) -> Reply:
        sent, given = COUNTER.count_request(request).tokens, request.max_output_tokens
        assert given is not None
        self.billed += sent + given
        parts = self._parts(request)
        usage = Usage(sent, given)
        stop = StopReason.END if isinstance(parts[0], Text) else StopReason.TOOL_CALLS
        return Reply(parts, stop, usage)

    def _parts(self, request: LLMRequest) -> tuple[Part, ...]:
        if is_summary(request):
            return (Text(SUMMARY),)
        if request.messages[0].text == TASK:
            return _counting(request)
        asked = request.messages[0].text
        if len(request.messages) > 1:
            return (Text("All is counted."),)
        ids = [f"c{n}" for n in range(1, int(asked.split()[1]) + 1)]
        return calls(*[(id, "helper", {"task": TASK}) for id in ids]).parts


def _counting(request: LLMRequest) -> tuple[Part, ...]:
    """What a session below answers: it looks, from what it was shown last to the end."""
    shown = [m for m in request.messages if m.role == "tool"]
    at = int(str(shown[-1].parts[0]).split("ship ")[1].split(":")[0]) + 1 if shown else 1
    if at > ROUNDS:
        return (Text(COUNTED),)
    return calls((f"l{at}", "look", {"at": at})).parts


class World:
    """Agents that count ships, in one store, from one budget."""

    def __init__(self, budget: SharedBudget | None = None, steps: int = 1) -> None:
        self.llm = Provider(steps)
        self.store = MemoryStore()
        self.looked: list[int] = []
        self.budget = budget

        @tool(idempotent=True)
        async def look(at: int) -> str:
            """Looks."""
            self.looked.append(at)
            return f"ship {at}: {WORDS}"

        self.recall = recall_compacted_tool(self.store)
        self.tools = [look, self.recall]
        self.helper = SubAgent(
            "helper",
            "Counts.",
            system_prompt="You count.",
            tools=self.tools,
            model="small",
            max_rounds=ROUNDS + 3,
        )

    def loop(self, hooks: Hooks | None = None, summaries_by: str | None = None) -> AgentLoop[Any]:
        """A loop in a process of its own."""
        config = AgentConfig(
            max_output_tokens=100, compactors=[DefaultCompactor(model=summaries_by)]
        )
        return AgentLoop(
            self.llm,
            tools=[self.helper],
            store=self.store,
            config=config,
            budget=self.budget,
            hooks=hooks,
        )

    async def below(self, loop: AgentLoop[Any], call: str = "c1") -> list[Record]:
        """The log of a session below, found legal, with no summary made twice."""
        log = await log_of(loop, f"s/{call}")
        assert violations(log, closed=True) == []
        assert compaction_faults(log) == []
        return log


def summarised(log: Sequence[Record]) -> list[ViewChanged]:
    """The changes of a view."""
    return [record for record in log if isinstance(record, ViewChanged)]


async def test_a_session_below_keeps_to_its_own_window_and_nobody_above_sees_it() -> None:
    """It is asked with its task to the end; its summaries are asked of its own model."""
    world = World(SharedBudget(Budget(tokens=1_000_000)))
    await world.store.create("s")
    async with world.loop() as loop:
        result = await loop.send("count 1", "s")
        above, below = await check_log(loop, "s"), await world.below(loop)
        view = await loop.get_messages("s")
    assert isinstance(result.outcome, Completed)
    assert [m.role for m in view] == ["user", "assistant", "tool", "assistant"]
    assert COUNTED in str(view[2].parts)
    assert summarised(above) == []
    assert [change.by for change in summarised(below)] == ["summary"] * 3
    assert world.looked == list(range(1, ROUNDS + 1))
    asked = [r for r in world.llm.requests if is_summary(r) or r.messages[0].text == TASK]
    assert len(asked) == ROUNDS + 1 + 3
    assert {request.model for request in asked} == {"small"}
    assert all(COUNTER.count_request(r).tokens <= 1_100 for r in asked)
    config = AgentConfig(max_output_tokens=100, system_prompt="You count.")
    async with AgentLoop(world.llm, store=world.store, config=config, tools=world.tools) as loop:
        assert (await loop.replay("s/c1")).identical, "by a loop that is what the agent is"
    assert world.llm.illegal == []


async def test_a_summary_below_is_in_the_books_of_the_whole_tree_once() -> None:
    """In those of the session, of the call that waits for it, and of the budget above both."""
    budget = SharedBudget(Budget(tokens=1_000_000))
    world = World(budget)
    await world.store.create("s")
    async with world.loop() as loop:
        await loop.send("count 1", "s")
        above, below = await log_of(loop, "s"), await world.below(loop)
        usage = await loop.usage("s", children=True)
    asked = [record for record in below if isinstance(record, ModelAsked)]
    assert [record.purpose for record in asked].count("compaction") == 3
    assert {record.model for record in asked} == {"small"}
    ended = [record for record in below if isinstance(record, ModelEnded)]
    used = sum(record.usage.total_tokens or 0 for record in ended)
    (answered,) = [record for record in above if isinstance(record, CallAnswered)]
    assert answered.spent is not None
    assert answered.spent.tokens == used == usage.below[0].totals.usage.total_tokens
    assert (answered.spent.llm_calls, answered.spent.rounds) == (ROUNDS + 4, ROUNDS + 1)
    assert usage.all.usage.total_tokens == world.llm.billed
    assert (budget.spent.tokens, budget.spent.llm_calls) == (world.llm.billed, ROUNDS + 4 + 2)
    assert budget.meter.held.tokens == 0


async def test_a_session_below_reads_again_what_has_left_its_own_view() -> None:
    """Not what was said above; and above, nothing has left."""
    world = World()
    await world.store.create("s")
    async with world.loop() as loop:
        await loop.send("count 1", "s")
        first, none = [
            (await world.recall.invoke('{"search": "ship 1:"}', ToolContext.for_test(session_id=s)))
            for s in ("s/c1", "s")
        ]
        away = await world.recall.invoke(
            '{"search": "count 1"}', ToolContext.for_test(session_id="s/c1")
        )
    assert (first.text.count("#"), first.text.count("ship 1:")) == (1, 1)
    assert none.text == "[Nothing with 'ship 1:' has left your view from message 0 on]"
    assert away.text == "[Nothing with 'count 1' has left your view from message 0 on]"


async def test_wherever_a_tree_dies_its_sessions_go_on_without_a_summary_made_twice() -> None:
    """Its task is still the first thing that a session below is asked with, and what it has
    summarised stays summarised."""
    whole = World()
    await whole.store.create("s")
    async with whole.loop() as loop:
        await loop.send("count 1", "s")
        lived = [*await whole.store.read_tree("s")]
    broken, begun = 0, [each.session for each in lived].index("s/c1")
    for length in range(begun, len(lived)):
        world = await left_at(lived[:length])
        async with world.loop() as loop:
            result = await loop.resume("s")
            below = await world.below(loop)
            assert violations(await log_of(loop, "s"), closed=True) == []
        assert result.final_text == "All is counted.", length
        assert below[: len(of("s/c1", lived[:length]))] == of("s/c1", lived[:length])
        assert [type(r.outcome) for r in below if isinstance(r, RunClosed)][-1] is Completed
        assert sum(isinstance(r, RunOpened) and r.resumes is None for r in below) == 1
        lost = [r for r in below if isinstance(r, RunClosed) and isinstance(r.outcome, Crashed)]
        summaries = [r for r in below if isinstance(r, ModelAsked) and r.purpose == "compaction"]
        assert len(summaries) - len(summarised(below)) == int(died_in_a_summary(lived[:length]))
        assert len(lost) <= 1
        broken += died_in_a_summary(lived[:length])
        asked = [r for r in world.llm.requests if r.model == "small" and not is_summary(r)]
        assert {request.messages[0].text for request in asked} <= {TASK}
        assert world.llm.illegal == []
    assert broken == 6, "after the question, and after the answer that had not been taken yet"


def of(session: str, lived: Sequence[Stamped]) -> list[Any]:
    """The records of one session among those of its tree."""
    return [each.event for each in lived if each.session == session]


async def left_at(lived: Sequence[Stamped]) -> World:
    """A world whose process has died after these records."""
    world = World()
    await world.store.create("s")
    await world.store.create("s/c1", parent="s", metadata={"agent": "helper"})
    for session in ("s", "s/c1"):
        if records := of(session, lived):
            await write(world.store, session, records)
    return world


def died_in_a_summary(lived: Sequence[Stamped]) -> bool:
    """Whether a summary had been asked for of which nothing had come yet."""
    last = [r for r in of("s/c1", lived) if isinstance(r, ModelAsked | ViewChanged)][-1:]
    return bool(last) and isinstance(last[0], ModelAsked) and last[0].purpose == "compaction"


async def test_a_summary_below_that_would_be_made_otherwise_now_is_an_error() -> None:
    """As one above is: before anything is stored. With leave it is gone on with, as it is."""
    world, hooks = World(), Hooks()

    @hooks.on(TOOL_BEFORE)
    def ask(context: ToolBefore[Any]) -> Suspend | None:
        return Suspend("on?") if context.call.id == "l8" else None

    await world.store.create("s")
    async with world.loop(hooks) as loop:
        waiting = await loop.send("count 1", "s")
        assert waiting.status == "awaiting_approval"
        (token,) = [p.token for p in await loop.get_pending("s") if p.session_id == "s/c1"]
        before = await log_of(loop, "s"), await log_of(loop, "s/c1")
        (note,) = [m for m in await loop.get_messages("s/c1") if m.name == "compact_note"]
    async with world.loop(hooks, summaries_by="cheap") as loop:
        with pytest.raises(SummaryDrift, match="'s/c1' was made with model 'small'") as raised:
            await loop.resume("s", answers=[approve(token)])
        assert (raised.value.made, raised.value.now) == ("small", "cheap")
        assert (await log_of(loop, "s"), await log_of(loop, "s/c1")) == before
        result = await loop.resume("s", answers=[approve(token)], allow_drift=True)
        assert isinstance(result.outcome, Completed)
        below = await world.below(loop)
    assert [m for r in below if isinstance(r, ViewChanged) for m in [r.note]].count(note) == 1
    assert [r.model for r in below if isinstance(r, ModelAsked) and r.purpose][-1] == "cheap"


# ── one budget for many ───────────────────────────────────────────────────────────────────────────

SIDE_BY_SIDE = 6


async def count_side_by_side(limit: int) -> tuple[World, SharedBudget, Any, list[list[Record]]]:
    """Six sessions below that outgrow their windows at the same time, from one budget."""
    budget = SharedBudget(Budget(tokens=limit))
    world = World(budget, steps=3)
    await world.store.create("s")
    async with world.loop() as loop:
        with anyio.fail_after(60):
            result = await loop.send(f"count {SIDE_BY_SIDE}", "s")
        below = [await log_of(loop, f"s/c{n}") for n in range(1, SIDE_BY_SIDE + 1)]
        assert violations(await log_of(loop, "s"), closed=True) == []
        usage = await loop.usage("s", children=True)
    assert all(violations(log, closed=True) == [] for log in below)
    assert usage.all.usage.total_tokens == budget.spent.tokens == world.llm.billed <= limit
    assert budget.meter.held.tokens == 0
    assert budget.meter.held.llm_calls == 0
    assert world.llm.under_way == 0
    assert world.llm.illegal == []
    return world, budget, result, below


async def test_with_enough_for_all_every_session_side_by_side_has_its_summaries() -> None:
    """Three each; the budget has nothing set aside when they have ended."""
    world, budget, result, below = await count_side_by_side(1_000_000)
    assert isinstance(result.outcome, Completed)
    for log in below:
        assert compaction_faults(log) == []
        assert [change.by for change in summarised(log)] == ["summary"] * 3
    assert budget.spent.llm_calls == SIDE_BY_SIDE * (ROUNDS + 4) + 2
    assert sorted(world.looked) == sorted([*range(1, ROUNDS + 1)] * SIDE_BY_SIDE)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 0.95, 0.98])
async def test_with_too_little_for_all_the_budget_ends_the_run_and_nothing_leaks(
    share: float,
) -> None:
    """Wherever it runs out, between rounds or at a summary, not a token more is used; and with more
    all go on to their end."""
    whole = (await count_side_by_side(1_000_000))[0].llm.billed
    limit = int(whole * share)
    world, budget, result, below = await count_side_by_side(limit)
    assert isinstance(result.outcome, BudgetExhausted)
    assert result.outcome.limit == "tenant.tokens"
    assert limit - 1_300 < budget.spent.tokens, "nobody ends while there is enough"
    world.budget = SharedBudget(Budget(tokens=1_000_000))
    async with world.loop() as loop:
        with anyio.fail_after(60):
            more = await loop.resume("s")
        below = [await log_of(loop, f"s/c{n}") for n in range(1, SIDE_BY_SIDE + 1)]
    assert isinstance(more.outcome, Completed)
    assert sorted(world.looked) == sorted([*range(1, ROUNDS + 1)] * SIDE_BY_SIDE)
    assert world.budget.meter.held.tokens == 0
    assert [fault for log in below for fault in compaction_faults(log)] == []


@pytest.mark.parametrize("which", [0, 1, 2])
async def test_a_summary_that_the_budget_refuses_below_is_done_without(which: int) -> None:
    """There is enough for a round, which needs no summary: older messages leave by rule."""
    whole = World(SharedBudget(Budget(tokens=1_000_000)))
    await whole.store.create("s")
    async with whole.loop() as loop:
        await loop.send("count 1", "s")
    at = [n for n, request in enumerate(whole.llm.requests) if is_summary(request)][which]
    before, asked = whole.llm.requests[:at], whole.llm.requests[at]
    used = sum(COUNTER.count_request(r).tokens + (r.max_output_tokens or 0) for r in before)
    needed = COUNTER.count_request(asked).tokens + Budget().least_output
    for limit, by in ((used + needed - 1, "trim"), (used + needed, "summary")):
        budget = SharedBudget(Budget(tokens=limit))
        world = World(budget)
        await world.store.create("s")
        async with world.loop() as loop:
            result = await loop.send("count 1", "s")
            below = await world.below(loop)
        assert isinstance(result.outcome, BudgetExhausted)
        assert [change.by for change in summarised(below)] == ["summary"] * which + [by]
        purposes = [r.purpose for r in below if isinstance(r, ModelAsked)]
        assert purposes.count("compaction") == which + (by == "summary")
        assert (purposes[-1] == "") == (by == "trim"), "it went on for as long as it could"
        assert budget.spent.tokens == world.llm.billed <= limit
        assert budget.meter.held.tokens == 0
