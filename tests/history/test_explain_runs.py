"""Explanations of runs that go on, came back, were copied, or have others below them."""

from __future__ import annotations

from pathlib import Path

import anyio
import msgspec
import pytest

from llm_client.errors import BadRequest, ServerError
from llm_client.retry import FallbackPolicy, RetryPolicy
from llm_client.testing import call, reply
from llm_client.types import Message, Text
from power_loop import (
    AgentConfig,
    AgentLoop,
    Budget,
    MemoryStore,
    SharedBudget,
    answer,
    approve,
    deny,
    tool,
)
from power_loop.errors import SessionError, SessionNotFound, UsageError
from power_loop.governance import Policies, RequireApproval
from power_loop.history.explanation import Explanation
from power_loop.hooks import TOOL_BEFORE, RequestInput
from power_loop.session.outcome import BudgetExhausted
from power_loop.session.records import Decided, ModelAsked, RunOpened
from tests.agent.crashed import left_behind, write
from tests.agent.scripted import Gate, Scripted, hangs, says
from tests.agent.stores import records_of
from tests.agent.support import EVERY_STORE, StoreKind, opened_store
from tests.history.endings import normal, steps_of
from tests.history.loops import loop_on, talk

pytestmark = pytest.mark.anyio

CONFIG = AgentConfig(retry=RetryPolicy(initial=0.0, jitter=0.0))


# ── which runs ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", EVERY_STORE)
async def test_the_last_task_is_explained_or_the_run_that_is_asked_for(
    kind: StoreKind, tmp_path: Path
) -> None:
    """A task is all runs since its input; of one that was followed there is nothing to do."""
    async with opened_store(kind, tmp_path) as store, loop_on(store) as loop:
        session = await talk(store)
        last = await loop.explain(session)
        usage = await loop.usage(session)
        first, second, third = [run.run for run in usage.runs]
        assert (last.run_id, last.status, len(steps_of(last, "run"))) == (third, "completed", 1)
        both = await loop.explain(session, second)
        assert both.run_id == second
        assert steps_of(both, "run", "approval", "end") == [
            "run ID1 carries ID2 on; limits: rounds 24",
            "approval ID1 was given",
            "run ID1 ended completed, T s after it had opened",
        ]
        waits = await loop.explain(session, first)
        assert waits.status == "awaiting_approval"
        assert (waits.resumable, waits.recommended_action) == (
            False,
            f"nothing: run {second} carried it on",
        )
        assert steps_of(waits, "model", "decision", "approval") == [
            "model scripted failed after T s: ServerError: 503 (status 503)",
            "model scripted is asked again, T s later",
            "model scripted answered after T s, 10 tokens in, 5 out",
            "hook tool.before leave: suspend: it costs",
            "approval ID1 of tool pay is asked for by leave: it costs",
        ]
        assert [s.call_id for s in waits.steps if s.kind in ("decision", "approval")] == ["c2"] * 2
        for told in (last, both, waits):
            assert msgspec.json.decode(msgspec.json.encode(told), type=Explanation) == told
        with pytest.raises(UsageError, match="has no run 'nope'"):
            await loop.explain(session, "nope")


async def test_a_session_without_a_run_and_one_that_is_not_there_are_refused() -> None:
    """By name, with what to do."""
    async with loop_on() as loop:
        await loop.store.create("s")
        with pytest.raises(SessionError, match="no run to explain: it has had none; send"):
            await loop.explain("s")
        with pytest.raises(SessionNotFound):
            await loop.explain("t")


async def test_a_run_under_way_is_told_as_far_as_it_has_come() -> None:
    """From the inside, while the tool runs; nothing of it is taken for its end."""
    found: list[Explanation] = []

    @tool
    async def ponder() -> str:
        """Ponders."""
        found.append(await loop.explain("s"))
        return "42"

    answers = reply("", call("ponder", {}, id="c1")), reply("It is 42.")
    loop = loop_on(None, *answers, tools=[ponder])
    async with loop:
        await loop.store.create("s")
        await loop.send("go", "s", budget=Budget(tool_calls=3))
    (told,) = found
    assert (told.status, told.outcome, told.resumable) == ("running", None, True)
    assert told.rule == (
        "no end of the run is stored: it is under way, or its process has died; when it was last "
        "heard of, tool ponder was running: its outcome is unknown"
    )
    assert told.recommended_action.startswith("wait for it, or follow its events")
    assert {limit.name: (limit.used, limit.left) for limit in told.limits} == {
        "rounds": (1.0, 23.0),
        "run.tool_calls": (1, 2.0),
    }


async def test_a_run_whose_process_died_says_what_it_was_doing() -> None:
    """Several tools, or the model; nobody has carried it on."""
    store = MemoryStore()
    await left_behind(store, "s", dict.fromkeys(("c1", "c2"), "pay"), begun=["c1", "c2"])
    said = Message("user", (Text("go"),), id="u1")
    opened = RunOpened("r1", (said,), limits={"run.tokens": 900.0})
    asked = opened, ModelAsked("t1", 1, "m", 600, reserved_output=500)
    async with loop_on(store) as loop:
        tools = await loop.explain("s")
        assert tools.rule.endswith("tools pay, pay were running: their outcomes are unknown")
        await store.create("u")
        await write(store, "u", asked)
        told = await loop.explain("u")
    assert told.rule.endswith("model m was being asked")
    # Nobody knows what the call has come to: all that was set aside for it counts.
    (limit,) = told.limits
    assert (limit.used, limit.left) == (600, 300.0)


async def test_what_was_copied_or_taken_back_says_so() -> None:
    """A fork in the middle of a run, and a session that was rewound after its end."""
    store = MemoryStore()
    session = await talk(store)
    async with loop_on(store) as loop:
        log = records_of(await store.read(session))
        at = next(n for n, r in enumerate(log, 1) if isinstance(r, Decided))
        fork = await loop.fork(session, at=at)
        told = await loop.explain(fork)
        assert normal(told.rule) == (
            f"the session is a copy of ID1 to its record {at}, made in the middle of this run: "
            "then, tool look was about to run. It has not been carried on here"
        )
        assert steps_of(told, "history") == [
            f"all before is a copy of session ID1, to its record {at}"
        ]
        await loop.rewind(session, at=1)
        told = await loop.explain(session)
        assert told.rule.startswith("the session was rewound to what it was after record ")
        assert told.rule.endswith("; before that, it had ended completed")


# ── what was decided ──────────────────────────────────────────────────────────────────────────────


async def test_attempts_models_people_and_messages_are_in_the_chain() -> None:
    """A model that is replaced, a question, an approval with other arguments, a message."""
    policy = FallbackPolicy(models=("scripted-2",))
    config = AgentConfig(
        retry=RetryPolicy(initial=0.0, jitter=0.0, max_attempts=1), fallback=policy
    )
    wanted = [call("pay", {"amount": 3}, id="c1"), call("look", {"place": "a"}, id="c2")]
    rules = Policies(RequireApproval("pay", "it costs"))
    loop = loop_on(
        None,
        ServerError("down", status=503),
        reply("", *wanted),
        reply("Done."),
        config=config,
        extensions=[rules],
    )
    loop.hooks.on(
        TOOL_BEFORE,
        lambda c: RequestInput("Which place?") if c.name == "look" else None,
        name="guide",
    )
    async with loop:
        await loop.store.create("s")
        await loop.steer("s", "And be quick.")
        await loop.send("pay", "s")
        asked = {each.name: each.token for each in await loop.get_pending("s")}
        edited = approve(asked["pay"], {"amount": 1}, by="ada")
        await loop.resume("s", answers=[edited, answer(asked["look"], "b", by="bob")])
        told = await loop.explain("s")
    assert told.status == "completed"
    assert steps_of(told, "model", "decision", "approval", "question", "message") == [
        "a message came in: And be quick.",
        "model scripted failed after T s: ServerError: down (status 503)",
        "model scripted-2 is asked in place of scripted",
        "model scripted-2 answered after T s, 10 tokens in, 5 out",
        "policy:require_approval at tool.before: suspend: it costs",
        "approval ID1 of tool pay is asked for by policy:require_approval: it costs",
        "hook tool.before guide: request_input: Which place?",
        "question ID1 is asked by guide for tool look: Which place?",
        "approval ID1 was given, with other arguments by ada",
        "question ID1 was answered by bob",
        "model scripted answered after T s, 10 tokens in, 5 out",
    ]


async def test_several_that_wait_are_named_up_to_three() -> None:
    """The others are counted."""
    wanted = [call("pay", {"amount": n}, id=f"c{n}") for n in range(5)]
    rules = Policies(RequireApproval("pay", "it costs"))
    async with loop_on(None, reply("", *wanted), extensions=[rules]) as loop:
        session = (await loop.send("pay")).session_id
        told = await loop.explain(session)
    assert told.rule.count("of tool pay waits since") == 3
    assert told.rule.endswith("; and 2 more")


async def test_keys_arguments_results_and_long_texts_stay_out() -> None:
    """Of what others have said only a line is shown, without what a terminal would act on."""
    key = "sk-proj-abcdefghijklmnop0123456789"

    @tool
    async def login(password: str) -> str:
        """Logs in."""
        raise ValueError(f"wrong: {password}")

    error = BadRequest(f"refused {key} \x1b[31m| <b> {'x' * 5000}", status=400)
    wanted = reply("", call("login", {"password": "hunter2"}, id="c1"))
    async with loop_on(None, wanted, error, tools=[login]) as loop:
        await loop.store.create("s")
        with pytest.raises(BadRequest):
            await loop.send("go", "s")
        told = await loop.explain("s")
    for text in (str(told), msgspec.json.encode([told.rule, told.steps]).decode()):
        assert "hunter2" not in text
        assert key not in text
        assert "\x1b" not in text
        assert len(text) < 4000
    assert "tool login ended with an error" in steps_of(told, "tool")
    assert "refused [key]" in told.rule
    assert "\\| \\<b>" in str(told)


async def test_a_long_chain_is_shown_from_both_ends() -> None:
    """As data it is whole."""
    answers = [reply("", call("look", {"place": f"p{n}"}, id=f"c{n}")) for n in range(60)]
    async with loop_on(None, *answers, reply("Empty.")) as loop:
        session = (await loop.send("look", max_rounds=70)).session_id
        told = await loop.explain(session)
    assert len(told.steps) == 63
    text = str(told)
    assert "- … 13 steps left out …" in text
    assert text.count("\n- ") == 51


async def test_whoever_denies_is_told_with_the_note() -> None:
    """The model is told, and the run goes on: the denial is in the chain."""
    rules = Policies(RequireApproval("pay", "it costs"))
    wanted = reply("", call("pay", {"amount": 3}, id="c1"))
    async with loop_on(None, wanted, reply("As you like."), extensions=[rules]) as loop:
        session = (await loop.send("pay")).session_id
        (pending,) = await loop.get_pending(session)
        await loop.resume(session, answers=[deny(pending.token, "too dear", by="ada")])
        told = await loop.explain(session)
    assert told.rule == "the model answered, and nobody objected"
    assert steps_of(told, "approval")[1:] == ["approval ID1 was denied by ada: too dear"]
    assert "tool pay was not run: a person did not allow it" in steps_of(told, "tool")


async def test_what_interrupts_is_in_the_chain() -> None:
    """The answer that was broken off, and the message that did it."""
    gate = Gate()
    llm = Scripted(by=lambda r: hangs(gate, "so") if len(r.messages) == 1 else says("Yes."))
    async with AgentLoop(llm) as loop, anyio.create_task_group() as tasks:
        await loop.store.create("s")
        tasks.start_soon(loop.send, "go", "s")
        await gate.reached.wait()
        await loop.steer("s", "stop that", mode="interrupt")
    told = await loop.explain("s")
    assert steps_of(told, "model", "message")[:2] == [
        "the call of model scripted was stopped after T s",
        "a message came in: stop that",
    ]


# ── limits ────────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_left_of_every_limit_is_told_as_far_as_the_log_knows() -> None:
    """Of the run and the session; what others have used of a tenant's budget is not in it."""
    tenant = SharedBudget(Budget(tokens=90_000), name="tenant")
    config = AgentConfig(
        run_budget=Budget(tokens=30_000, llm_calls=5),
        session_budget=Budget(llm_calls=2, output_tokens=10_000),
        retry=CONFIG.retry,
    )
    llm = Scripted(by=lambda _: says("yes"))
    async with AgentLoop(llm, config=config, budget=tenant) as loop:
        await loop.store.create("s")
        for _ in range(2):
            await loop.send("well?", "s", timeout=60)
        result = await loop.send("well?", "s", timeout=60)
        told = await loop.explain("s")
    assert isinstance(result.outcome, BudgetExhausted)
    assert told.rule.startswith("limit session.llm_calls: 2 allowed, 2 used")
    assert told.recommended_action == (
        "raise llm_calls in AgentConfig(session_budget=…), then resume the session"
    )
    left = {each.name: (each.allowed, each.used, each.left) for each in told.limits}
    seconds = left.pop("seconds")
    assert seconds[0] == 60
    assert seconds[1] is not None
    assert 0 <= seconds[1] < 60
    assert left == {
        "rounds": (24.0, 0.0, 24.0),
        "run.tokens": (30_000.0, 0, 30_000.0),
        "run.llm_calls": (5.0, 0, 5.0),
        "session.llm_calls": (2.0, 2, 0.0),
        "session.output_tokens": (10_000.0, 10, 9_990.0),
        "tenant.tokens": (90_000.0, None, None),
    }
    (shared,) = [each for each in told.limits if each.name == "tenant.tokens"]
    assert shared.note == "shared: what others have used is not in this log"
    assert "| tenant.tokens | 90,000 | ? | ? | shared: " in str(told)
