"""Runs with a goal: measured each round, and nothing else ends them as a success."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import msgspec
import pytest

from llm_client.types import LLMRequest, Message, ToolResult
from power_loop import AgentConfig, AgentLoop, Extension, Hooks, JsonSchemaTool, MemoryStore
from power_loop.agent.result import RunResult
from power_loop.errors import UsageError
from power_loop.governance import (
    Exit,
    Exits,
    GoalDriven,
    GoalProgress,
    MetricSnapshot,
    ValidPlans,
)
from power_loop.governance.goals import GOAL_META
from power_loop.hooks import ROUND_START, RoundStart
from power_loop.runtime.stores.base import Store
from power_loop.session.outcome import BudgetExhausted, GoalReached, NoProgress, PlanFailed, Stopped
from tests.agent.scripted import Reply, Scripted, calls, says
from tests.agent.support import check_log

pytestmark = pytest.mark.anyio


class World:
    """Faults that a tool mends or makes, and what is measured of them."""

    def __init__(self, *faults: str) -> None:
        self.faults = set(faults)
        self.measured = 0

        async def change(values: dict[str, Any], context: Any) -> str:
            self.faults -= set(values.get("mend", []))
            self.faults |= set(values.get("break", []))
            return "changed"

        schema = {
            "type": "object",
            "properties": {
                "mend": {"type": "array", "items": {"type": "string"}},
                "break": {"type": "array", "items": {"type": "string"}},
            },
            "additionalProperties": False,
        }
        self.tool = JsonSchemaTool("change", "Changes the world.", schema, change)

    async def measure(self) -> MetricSnapshot:
        await anyio.lowlevel.checkpoint()
        self.measured += 1
        return MetricSnapshot(float(len(self.faults)), frozenset(self.faults))

    def is_success(self, snapshot: MetricSnapshot) -> bool:
        return not snapshot.items


def mend(n: int, *names: str, breaks: Sequence[str] = ()) -> Reply:
    return calls((f"m{n}", "change", {"mend": list(names), "break": list(breaks)}))


async def _sent(
    world: World, llm: Scripted, goal: GoalDriven, *more: Any, store: Store | None = None
) -> tuple[RunResult[None], AgentLoop[Any]]:
    loop = AgentLoop(
        llm,
        tools=[world.tool],
        extensions=[goal, *more],
        store=store,
        config=AgentConfig(max_rounds=40),
    )
    with anyio.fail_after(10):
        async with loop:
            result = await loop.send("Mend it.")
            await check_log(loop, result.session_id, does_the_same=False)
    assert llm.illegal == []
    return result, loop


def told(request: LLMRequest) -> list[str]:
    return [m.text for m in request.messages if m.meta is not None and GOAL_META in m.meta]


def progress(request: LLMRequest) -> list[GoalProgress]:
    return [
        msgspec.json.decode(m.meta[GOAL_META], type=GoalProgress)
        for m in request.messages
        if m.meta is not None and GOAL_META in m.meta
    ]


async def test_a_run_ends_when_the_goal_is_measured_to_be_reached() -> None:
    """Before the model is asked once more; it has been told after each step how far it is."""
    world = World("a", "b")
    llm = Scripted(mend(1, "a"), mend(2, "b"))
    result, _ = await _sent(world, llm, GoalDriven(world, observe=lambda: "It rains."))
    assert result.outcome == GoalReached("nothing is open")
    assert len(llm.requests) == 2
    first, second = told(llm.requests[1])
    assert first == "It rains.\n\nThe goal is not reached yet: 2 open: a, b."
    assert second.split("\n\n") == [
        "It rains.",
        "The goal is not reached yet: 1 open: b.",
        "1 no longer open since the last step.",
        "Trend: improving.",
    ]


async def test_a_goal_that_is_reached_already_costs_no_model_call() -> None:
    """There is nothing to do."""
    world = World()
    result, _ = await _sent(world, Scripted(), GoalDriven(world))
    assert result.status == "goal_reached"
    assert not result.resumable


async def test_what_a_model_says_of_its_success_counts_for_nothing() -> None:
    """It is told what is measured, and goes on; nor does a true word end the run as completed."""
    world = World("a")
    llm = Scripted(says("All done!"), mend(1, "a"), says("unasked"))
    result, _ = await _sent(world, llm, GoalDriven(world))
    assert result.status == "goal_reached"
    assert len(llm.requests) == 2
    claimed = [m.text for m in llm.requests[1].messages if m.role == "user" and m.meta is None]
    assert claimed[1:] == ["You have made no further call, but the goal is not reached: 1 open: a."]


async def test_words_that_come_true_end_the_run_with_them() -> None:
    """As when somebody else has mended it: measured after the answer, and its text is kept."""
    world = World("a")

    def reply(request: LLMRequest) -> Reply:
        world.faults.clear()
        return says("All done!")

    result, _ = await _sent(world, Scripted(by=reply), GoalDriven(world))
    assert result.status == "goal_reached"
    assert result.final_text == "All done!"


async def test_a_model_that_only_talks_is_stopped() -> None:
    """After as many rounds as the window has."""
    world = World("a")
    llm = Scripted(by=lambda _: says(f"Done, really. {len(llm.requests)}"))
    result, _ = await _sent(world, llm, GoalDriven(world, window=4))
    assert result.outcome == NoProgress("4 rounds in a row have changed nothing; 1 open: a")
    assert len(llm.requests) == 4
    assert not result.resumable


async def test_a_model_that_repeats_itself_is_stopped_and_one_that_tries_is_not() -> None:
    """What counts is whether the calls are those of the round before, and nothing changes."""
    world = World("a")
    llm = Scripted(by=lambda r: mend(len(llm.requests), "z"))
    result, _ = await _sent(world, llm, GoalDriven(world))
    assert result.status == "no_progress"
    assert len(llm.requests) == 4
    llm = Scripted(by=lambda r: mend(len(llm.requests), f"z{len(llm.requests)}"))
    result, _ = await _sent(world, llm, GoalDriven(world, exits=[Exit.stagnation(7)]))
    assert result.outcome == NoProgress("7 rounds in a row have changed nothing")
    assert len(llm.requests) == 7


async def test_an_approach_that_broke_something_is_named_from_then_on() -> None:
    """Even where less is open than before."""
    world = World("a", "b", "c")
    llm = Scripted(mend(1, "a", "b", breaks=["x"]), mend(2, "x"), mend(3, "c"))
    result, _ = await _sent(world, llm, GoalDriven(world))
    assert result.status == "goal_reached"
    first, second = told(llm.requests[2])[1:]
    assert "Newly broken since the last step: x." in first
    assert "Trend: regressing." in first
    assert "Trend: improving." in second
    failed = 'Approaches after which something broke:\n- change({"break":["x"],"mend":["a","b"]})'
    assert failed in first
    assert failed in second


async def test_progress_survives_the_process() -> None:
    """Another loop over the same store goes on counting, and knows what failed."""
    store, world = MemoryStore(), World("a", "b")
    stop = Exits(Exit.max_rounds(2))
    llm = Scripted(mend(1, "a", breaks=["x"]), mend(2, "nothing"))
    result, _ = await _sent(world, llm, GoalDriven(world), stop, store=store)
    assert result.status == "budget_exhausted"
    llm = Scripted(mend(3, "nothing"), mend(4, "nothing"), mend(5, "nothing"))
    with anyio.fail_after(10):
        async with AgentLoop(
            llm, tools=[world.tool], extensions=[GoalDriven(world)], store=store
        ) as loop:
            again = await loop.resume(result.session_id)
    assert again.status == "no_progress"
    known = progress(llm.requests[-1])
    assert [p.streak for p in known] == [0, 0, 0, 1, 2]
    assert [len(p.failed) for p in known] == [0, 1, 1, 1, 1]


async def test_the_next_task_begins_anew() -> None:
    """What was measured for another one says nothing about it."""
    world = World("a")
    llm = Scripted(by=lambda _: says("Done."))
    loop = AgentLoop(llm, tools=[world.tool], extensions=[GoalDriven(world)])
    with anyio.fail_after(10):
        async with loop:
            first = await loop.send("Mend it.")
            again = await loop.send("Once more.", first.session_id)
    assert (first.status, again.status) == ("no_progress", "no_progress")
    assert len(llm.requests) == 6
    assert [p.streak for p in progress(llm.requests[-1])] == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize(("extra", "claims", "asked"), [(2, 1, 3), (5, 4, 9), (5, 9, 14)])
async def test_saying_again_and_again_that_it_is_done_gives_no_more_rounds(
    extra: int, claims: int, asked: int
) -> None:
    """They count from the first time, also where another process goes on, and whatever the model
    tries in between; `claims` is the round of that time."""
    world, store = World("a"), MemoryStore()
    made: list[int] = []

    def reply(_: LLMRequest) -> Reply:
        made.append(len(made) + 1)
        tries = made[-1] < claims or (made[-1] - claims) % 2
        # One that says so in the last round of all has no other ending left.
        return mend(made[-1], f"z{made[-1]}") if tries and made[-1] < asked else says("Done!")

    stop = Exits(Exit.max_rounds(claims + 1))
    llm = Scripted(by=reply)
    first, _ = await _sent(world, llm, GoalDriven(world, extra_rounds=extra), stop, store=store)
    goal = GoalDriven(world, extra_rounds=extra, window=99)
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[world.tool], extensions=[goal], store=store) as loop:
            result = await loop.resume(first.session_id) if first.resumable else first
            await check_log(loop, first.session_id, does_the_same=False)
    assert isinstance(result.outcome, BudgetExhausted)
    assert result.outcome.limit == "goal.extra_rounds"
    assert f"wrongly said to be done, {extra} rounds ago and again" in result.outcome.reason
    assert len(made) == asked


async def test_a_long_observation_is_cut_in_its_middle_with_a_digest() -> None:
    """In bytes, between characters; what is said of the goal at its end stays."""
    world = World("a")
    llm = Scripted(mend(1, "a"))
    goal = GoalDriven(world, observe=lambda: "é" * 5_000 + "\0\ud800", max_observation=1_000)
    await _sent(world, llm, goal)
    (text,) = told(llm.requests[0])
    assert len(text.encode()) <= 1_000
    assert text.startswith("é" * 218 + "\n[… 9")
    assert " bytes left out, SHA-256 " in text
    assert text.endswith("The goal is not reached yet: 1 open: a.")


# ── what fails ────────────────────────────────────────────────────────────────────────────────────


class Broken(World):
    """Cannot be measured, in one way or another, from the measurement of that number on."""

    def __init__(self, how: str, since: int = 1) -> None:
        super().__init__("a")
        self.how = how
        self.since = since

    async def measure(self) -> Any:
        snapshot = await super().measure()
        if self.measured < self.since:
            return snapshot
        match self.how:
            case "raises":
                raise ValueError("no suite")
            case "hangs":
                return await anyio.sleep_forever()
            case _:
                return {"items": 3}

    def is_success(self, snapshot: MetricSnapshot) -> bool:
        if self.how == "cannot say":
            raise KeyError("x")
        return super().is_success(snapshot)


@pytest.mark.parametrize("since", [1, 2])
@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("raises", "the metric raised ValueError: no suite"),
        ("hangs", "the metric did not answer within 0.02 s"),
        ("gives a dict", "the metric gave a dict; it must give a MetricSnapshot"),
    ],
)
async def test_a_metric_that_fails_stops_the_run_and_loses_nothing(
    how: str, why: str, since: int
) -> None:
    """Before a round or after the model's words; the run can be resumed when it is mended."""
    world, store = Broken(how, since), MemoryStore()
    llm = Scripted(says("Done.") if since > 1 else mend(1, "a"), mend(1, "a"))
    goal = GoalDriven(world, timeout=0.02)
    result, _ = await _sent(world, llm, goal, store=store)
    assert result.outcome == Stopped(why)
    assert result.resumable
    assert len(llm.requests) == since - 1
    world.since = 99
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[world.tool], extensions=[goal], store=store) as loop:
            again = await loop.resume(result.session_id)
    assert again.status == "goal_reached"


async def test_a_metric_that_cannot_say_whether_it_is_success_stops_the_run() -> None:
    """As one that cannot measure."""
    world = Broken("cannot say", since=99)
    result, _ = await _sent(world, Scripted(), GoalDriven(world))
    assert result.outcome == Stopped("the metric's is_success raised KeyError: 'x'")


@pytest.mark.parametrize(
    ("observe", "why"),
    [
        (lambda: 1 / 0, "observe raised ZeroDivisionError: division by zero"),
        (anyio.sleep_forever, "observe did not answer within 0.02 s"),
        (lambda: b"raw", "observe gave a bytes; it must give a text"),
    ],
)
async def test_an_observation_that_fails_stops_the_run(
    observe: Callable[[], Any], why: str
) -> None:
    """Nothing is appended to the transcript."""
    world = World("a")
    # Nobody waits long for what never comes; what comes from a thread may take its time.
    bound = 0.02 if observe is anyio.sleep_forever else 10
    goal = GoalDriven(world, observe=observe, timeout=bound)
    result, loop = await _sent(world, Scripted(), goal)
    assert result.outcome == Stopped(why)
    async with loop:
        assert len(await loop.get_messages(result.session_id)) == 1


class Blocked:
    """A synchronous metric that answers when it is let go, unless it is told to give up."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.begun = 0
        self.gave_up = threading.Semaphore(0)

    def measure(self) -> MetricSnapshot:
        self.begun += 1
        self.let_go.wait(20)
        try:
            anyio.from_thread.check_cancelled()
        except BaseException:
            self.gave_up.release()
            raise
        return MetricSnapshot(0.0)

    def is_success(self, snapshot: MetricSnapshot) -> bool:
        return True


async def test_a_synchronous_metric_that_hangs_holds_nobody_up() -> None:
    """It is left behind, and hears of that where it asks; not so many of them that the process is
    full of threads."""
    metric, said = Blocked(), list[str]()
    loop = AgentLoop(Scripted(), extensions=[GoalDriven(metric, timeout=0.05)])
    with anyio.fail_after(20):
        async with loop:
            try:
                # One whose thread has not begun in time does not hang.
                while not said or "did not answer" in said[-1]:
                    result = await loop.send("Mend it.")
                    said.append(str(result.outcome))
            finally:
                metric.let_go.set()
            for _ in range(metric.begun):
                assert await anyio.to_thread.run_sync(metric.gave_up.acquire)
            assert (await loop.send("Mend it.")).status == "goal_reached"
    assert metric.begun == 33
    assert set(said[:-1]) == {str(Stopped("the metric did not answer within 0.05 s"))}
    assert "32 earlier calls were given up and still run" in said[-1]


@pytest.mark.parametrize(
    "numbers",
    [
        {"window": 0},
        {"window": -1},
        {"extra_rounds": 0},
        {"max_observation": 10},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
    ],
)
def test_numbers_that_cannot_be_are_refused(numbers: dict[str, Any]) -> None:
    """At once."""
    with pytest.raises(UsageError):
        GoalDriven(World(), **numbers)


def exits(world: World, order: int) -> Exits:
    return Exits(Exit.max_rounds(1), order=order)


def goal(world: World, order: int) -> GoalDriven:
    return GoalDriven(world, order=order)


@pytest.mark.parametrize("made", [exits, goal])
async def test_the_order_of_handlers_can_be_chosen(
    made: Callable[[World, int], Extension],
) -> None:
    """Among those of others: whoever comes first has ended the run before the other is asked."""
    asked: list[str] = []

    def note(context: RoundStart[Any]) -> None:
        asked.append(f"round {context.round}")

    for order, rounds in ((-1, 1), (1, 2)):
        asked.clear()
        world, hooks = World("a"), Hooks()
        hooks.on(ROUND_START, note, name="note")
        llm = Scripted(mend(1, "a"), says("unasked"))
        made_now = made(world, order)
        loop = AgentLoop(llm, tools=[world.tool], hooks=hooks, extensions=[made_now])
        with anyio.fail_after(10):
            async with loop:
                await loop.send("go")
        assert len(asked) == rounds
        assert len(llm.requests) == 1


# ── plans ─────────────────────────────────────────────────────────────────────────────────────────


def results(messages: Sequence[Message]) -> list[str]:
    return [p.text for m in messages for p in m.parts if isinstance(p, ToolResult)]


async def test_a_plan_that_cannot_be_carried_out_is_given_back_whole() -> None:
    """As JSON that names each problem; the good calls of it are not run either."""
    world = World("a")
    bad = calls(
        ("x", "change", {"mend": "a", "colour": 1}),
        ("y", "nothing", {}),
        ("z", "change", {"mend": ["a"]}),
    )
    llm = Scripted(bad, mend(1, "a"))
    result, _ = await _sent(world, llm, GoalDriven(world))
    assert result.status == "goal_reached"
    given = results(llm.requests[1].messages)
    assert len(set(given)) == 1
    rejected = json.loads(given[0])
    assert (rejected["error"], rejected["attempt"], rejected["attempts"]) == ("plan_invalid", 1, 3)
    assert [(p["call"], p["tool"], p["path"]) for p in rejected["problems"]] == [
        ("x", "change", "mend"),
        ("x", "change", "colour"),
        ("y", "nothing", ""),
    ]
    assert rejected["tools"] == ["change"]
    # While a plan is being mended, nothing has happened that could be observed.
    assert len(told(llm.requests[1])) == 1


@pytest.mark.parametrize("arguments", ['{"mend": 3}', '{"mend": ', "[]"])
async def test_two_invalid_plans_in_a_row_end_the_run(arguments: str) -> None:
    """Three strikes each; malformed JSON, which no hook gets to see, counts as well."""
    world = World("a")
    llm = Scripted(by=lambda r: calls((f"c{len(llm.requests)}", "change", arguments)))
    result, _ = await _sent(world, llm, GoalDriven(world))
    assert isinstance(result.outcome, PlanFailed)
    assert "6 plans in a row could not be carried out" in result.outcome.reason
    assert len(llm.requests) == 6
    # After the third the plan was invalid: that is a round that has changed nothing.
    assert [p.streak for p in progress(llm.requests[-1])] == [0, 1]


async def test_a_valid_plan_wipes_the_strikes_out() -> None:
    """The next ones are the first again."""
    world = World("a")
    bad = [calls((f"b{n}", "change", {"mend": n})) for n in range(10)]
    llm = Scripted(*bad[:5], mend(1, "z"), *bad[5:10], mend(2, "a"))
    result, _ = await _sent(world, llm, GoalDriven(world))
    assert result.status == "goal_reached"
    attempts = [json.loads(r)["attempt"] for r in results(llm.requests[-1].messages) if r[0] == "{"]
    assert attempts == [1, 2, 3, 1, 2, 1, 2, 3, 1, 2]


async def test_plans_are_checked_without_a_goal_too() -> None:
    """By the extension alone; a schema that cannot be checked is left to the tool."""

    async def odd(values: dict[str, Any], context: Any) -> str:
        return f"got {values}"

    tool = JsonSchemaTool("odd", "Odd.", {"type": "object"}, odd)
    llm = Scripted(calls(("a", "none", {})), calls(("b", "odd", {"x": 1})), says("ok"))
    async with AgentLoop(llm, tools=[tool], extensions=[ValidPlans()]) as loop:
        result = await loop.send("go")
        await check_log(loop, result.session_id)
    assert result.status == "completed"
    given = results(llm.requests[-1].messages)
    assert json.loads(given[0])["problems"][0]["expected"] == "one of these tools: odd"
    assert given[1] == "got {'x': 1}"
