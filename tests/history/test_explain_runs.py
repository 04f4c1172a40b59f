"""Explanations of runs that go on, came back, were copied, or have others below them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from llm_client.errors import BadRequest, ServerError
from llm_client.retry import FallbackPolicy, RetryPolicy
from llm_client.testing import call, reply
from llm_client.types import LLMRequest, Message, Text
from power_loop import (
    AgentConfig,
    AgentLoop,
    Budget,
    MemoryStore,
    SharedBudget,
    SubAgent,
    answer,
    approve,
    deny,
    result_of,
    tool,
)
from power_loop.errors import SessionError, SessionNotFound, UsageError
from power_loop.governance import Policies, RequireApproval
from power_loop.history.explaining import Log, explanation_of
from power_loop.history.explanation import Explanation
from power_loop.hooks import TOOL_BEFORE, RequestInput
from power_loop.session.outcome import AwaitingApproval, BudgetExhausted
from power_loop.session.records import Decided, ModelAsked, RunOpened
from tests.agent.crashed import left_behind, write
from tests.agent.scripted import Gate, Reply, Scripted, calls, fails, says
from tests.agent.stores import records_of
from tests.agent.support import EVERY_STORE, StoreKind, opened_store
from tests.history.endings import normal
from tests.history.loops import loop_on, talk
from tests.history.support import stamped_log

pytestmark = pytest.mark.anyio

CONFIG = AgentConfig(retry=RetryPolicy(initial=0.0, jitter=0.0))


def texts(told: Explanation, *kinds: str) -> list[str]:
    """The steps of these kinds, in words."""
    return [normal(step.text) for step in told.steps if step.kind in kinds]


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
        assert (last.run_id, last.status, len(texts(last, "run"))) == (third, "completed", 1)
        both = await loop.explain(session, second)
        assert both.run_id == second
        assert texts(both, "run", "approval", "end") == [
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
        assert texts(waits, "model", "decision", "approval") == [
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
        assert texts(told, "history") == [
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
    assert texts(told, "model", "decision", "approval", "question", "message") == [
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
    assert "tool login ended with an error" in texts(told, "tool")
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


@pytest.mark.parametrize(
    ("limit", "action"),
    [
        ("run.tokens", "resume the session with extend=Budget(tokens=…)"),
        (
            "run.cost",
            "resume the session with extend=Budget(cost=…), or with a price that is known",
        ),
        ("session.cost", "raise cost in AgentConfig(session_budget=…), then resume the session"),
        ("loop.tokens", "raise tokens in AgentLoop(budget=…), then resume the session"),
        ("child.2.rounds", "raise rounds in SubAgent(budget=…), then resume the session"),
        ("exit.tokens", "raise tokens in the condition of Exits(…), then resume the session"),
        ("tenant.tokens", "raise tokens in the budget 'tenant', then resume the session"),
        ("mine", "raise mine in the budget that limits it, then resume the session"),
    ],
)
def test_a_budget_that_is_used_up_says_where_to_raise_what(limit: str, action: str) -> None:
    """By the name of the limit."""
    assert BudgetExhausted(limit).recommended_action == action


# ── sessions below ────────────────────────────────────────────────────────────────────────────────


@tool
async def pay(amount: int) -> str:
    """Pays."""
    return f"paid {amount}"


def delegating(request: LLMRequest) -> Reply:
    """`go` is handed to a branch, which hands it to a leaf, which pays."""
    task, text = request.messages[0].text, request.messages[-1].text
    if text == "go":
        return calls(("b1", "branch", {"task": "branch"}), ("b2", "branch", {"task": "idle"}))
    if text == "branch":
        return calls(("l1", "leaf", {"task": "leaf"}))
    if text == "leaf":
        return calls(("p1", "pay", {"amount": 3}))
    return says(f"{task} is done")


def agents(**leaf: Any) -> Sequence[Any]:
    """Agents for `delegating`."""
    inner = SubAgent("leaf", "Works.", tools=[pay], **leaf)
    return [SubAgent("branch", "Hands on.", tools=[inner])]


@pytest.mark.parametrize("kind", EVERY_STORE)
async def test_which_session_below_waits_and_for_what_is_told_above(
    kind: StoreKind, tmp_path: Path
) -> None:
    """However deep; also afterwards, of the run that had waited."""
    rules = Policies(RequireApproval("pay", "it costs"))
    async with (
        opened_store(kind, tmp_path) as store,
        AgentLoop(Scripted(by=delegating), tools=agents(), store=store, extensions=[rules]) as loop,
    ):
        await store.create("s")
        first = await loop.send("go", "s", budget=Budget(tokens=9_000))
        assert isinstance(first.outcome, AwaitingApproval)
        (token,) = first.outcome.tokens
        told = await loop.explain("s")
        assert normal(told.rule.replace(token, "K")) == (
            "session s/b1, below tool branch, is awaiting_approval: session s/b1/l1, below tool "
            "leaf, is awaiting_approval: approval K of tool pay waits since WHEN, asked for by "
            "policy:require_approval: it costs"
        )
        assert [(b.session_id, b.status) for b in told.below] == [
            ("s/b1", "awaiting_approval"),
            ("s/b2", "completed"),
        ]
        assert [b.session_id for b in told.below[0].below] == ["s/b1/l1"]
        # 15 for each of the four answers, two of which are below calls that are still open.
        assert next(x.used for x in told.limits if x.name == "run.tokens") == 60
        assert "- 1 session came to what was wanted" in str(told)
        assert texts(told, "child") == [
            "session s/b1 was opened by tool branch",
            "session s/b2 was opened by tool branch",
            "session s/b2 ended completed, having used 15 tokens",
        ]
        done = await loop.resume("s", answers=[approve(token)])
        assert done.status == "completed"
        assert (await loop.explain("s", first.run_id)).rule == told.rule
        after = await loop.explain("s")
        assert [each.status for each in after.below] == ["completed", "completed"]
        assert next(x.used for x in after.limits if x.name == "run.tokens") == 105
        leaf = await loop.explain("s/b1/l1")
        assert texts(leaf, "run")[0].startswith(
            "run ID1 opened with 1 message, for call l1 of session s/b1; limits: rounds 8"
        )


async def test_which_session_below_did_not_finish_is_told_above() -> None:
    """With its own rule, though the run above came to an answer."""
    loop = AgentLoop(Scripted(by=delegating), tools=agents(budget=Budget(llm_calls=1)))
    async with loop:
        await loop.store.create("s")
        await loop.send("go", "s")
        told = await loop.explain("s")
        branch = await loop.explain("s/b1")
        leaf = await loop.explain("s/b1/l1")
    assert (told.status, branch.status) == ("completed", "completed")
    assert [leaf] == list(branch.below) == list(told.below[0].below)
    assert leaf.rule.startswith("limit child.2.llm_calls: 1 allowed, 1 used")
    assert next(x.left for x in leaf.limits if x.name == "child.2.llm_calls") == 0.0
    assert "- s/b1/l1: budget_exhausted: limit child.2.llm_calls" in str(branch)
    assert "tool leaf ended with an error" in texts(branch, "tool")


async def test_a_failure_below_that_ended_the_run_is_told_with_its_session() -> None:
    """`on_failure="fail"`: the error is that of the session below."""

    def model(request: LLMRequest) -> Reply:
        if request.messages[0].text == "help":
            return fails(BadRequest("no such model", status=400))
        return calls(("c1", "helper", {"task": "help"}))

    helper = SubAgent("helper", "Helps.", tools=[pay], on_failure="fail")
    async with AgentLoop(Scripted(by=model), tools=[helper]) as loop:
        with pytest.raises(BadRequest) as caught:
            await loop.send("go")
        result = result_of(caught.value)
        assert result is not None
        told = await loop.explain(result.session_id)
    assert normal(told.rule) == (
        "session ID1/c1, below tool helper, is failed: the model call failed for a reason that no "
        "retry mends: BadRequest: no such model (status 400)"
    )


async def test_a_session_below_that_is_gone_is_told_of_as_far_as_it_was_heard_of() -> None:
    """Deleted, its records are not there, but the run's own are."""
    rules = Policies(RequireApproval("pay", "it costs"))
    store = MemoryStore()
    loop = AgentLoop(Scripted(by=delegating), tools=agents(), store=store, extensions=[rules])
    async with loop:
        await store.create("s")
        await loop.send("go", "s", budget=Budget(tokens=9_000))
        await store.delete("s/b1")
        told = await loop.explain("s")
    assert told.rule.endswith("waits in a session below this one")
    assert [each.session_id for each in told.below] == ["s/b2"]
    (limit,) = [each for each in told.limits if each.name == "run.tokens"]
    assert (limit.used, limit.left) == (30, None)
    assert limit.note == "without what a session below has used that cannot be read"


async def test_a_session_that_claims_to_be_below_itself_is_explained_once() -> None:
    """As an archive from a stranger may have it."""
    store = MemoryStore()
    loop = AgentLoop(Scripted(by=delegating), tools=agents(), store=store)
    async with loop:
        await store.create("s")
        await loop.send("go", "s")
    log = Log(await store.read("s"))
    told = explanation_of("s", log, None, {"s/b1": log, "s/b2": log})
    assert told.status == "completed"
    assert str(told).startswith("# completed: run ")


# ── logs of another version ───────────────────────────────────────────────────────────────────────


async def test_a_log_that_another_version_has_gone_on_with_is_explained_as_far_as_it_goes() -> None:
    """A record that is not legal here, and one that cannot even be read."""
    store = MemoryStore()
    session = await talk(store)
    log = records_of(await store.read(session))
    asked = next(n for n, r in enumerate(log, 1) if isinstance(r, ModelAsked))
    wrong = stamped_log([*log[:asked], *log[asked - 1 :]])
    told = explanation_of("s", Log(wrong), next(r.run for r in log if isinstance(r, RunOpened)))
    assert told.rule.startswith(f"the log goes on after record {asked}, but cannot be read; up to ")
    assert told.rule.endswith("model scripted was being asked")
    assert "was written by another version" in told.unread
    assert told.recommended_action == "upgrade power_loop, and have it explained again"
    assert "**Not read:** record " in str(told)
    with pytest.raises(SessionError, match="no run of session 's' can be read"):
        explanation_of("s", Log(stamped_log([log[-1], *log])))
    short = explanation_of("s", Log(stamped_log(log[:asked]), "record 9 is of a newer kind"))
    assert short.unread == "record 9 is of a newer kind"
    with pytest.raises(SessionError, match="no run to explain: newer"):
        explanation_of("s", Log((), "newer"))


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
    assert texts(told, "approval")[1:] == ["approval ID1 was denied by ada: too dear"]
    assert "tool pay was not run: a person did not allow it" in texts(told, "tool")


async def test_what_interrupts_is_in_the_chain() -> None:
    """The answer that was broken off, and the message that did it."""
    gate = Gate()
    llm = Scripted(by=lambda r: Reply(gate=gate) if len(r.messages) == 1 else says("Yes."))
    async with AgentLoop(llm) as loop, anyio.create_task_group() as tasks:
        await loop.store.create("s")
        tasks.start_soon(loop.send, "go", "s")
        await gate.reached.wait()
        await loop.steer("s", "stop that", mode="interrupt")
        gate.opened.set()
    told = await loop.explain("s")
    assert texts(told, "model", "message")[:2] == [
        "the call of model scripted was stopped after T s",
        "a message came in: stop that",
    ]
