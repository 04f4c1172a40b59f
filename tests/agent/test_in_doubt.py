"""Calls that were running when their process died, through the loop, on real stores."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncGenerator, Callable
from itertools import product
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from msgspec.structs import replace

from llm_client.types import ToolResult, ToolSpec
from power_loop import AgentConfig, AgentLoop, Decision, Hooks, Result, ToolContext, tool
from power_loop.errors import SessionPendingError, UsageError
from power_loop.events import ReconcileFailed, ToolProgress
from power_loop.hooks import TOOL_BEFORE, Skip, ToolBefore
from power_loop.runtime.stores.base import Store
from power_loop.session.outcome import Cancelled, PendingTools
from power_loop.session.records import (
    CallWaiting,
    RunClosed,
    RunOpened,
    ToolSettled,
    ToolStarted,
)
from power_loop.tools import (
    JsonSchemaTool,
    OnCancel,
    OutputPolicy,
    Reconcile,
    Reconciled,
    ToolOutput,
    Unsettled,
)
from tests.agent.crashed import left_behind, write
from tests.agent.scripted import Scripted, says
from tests.agent.support import check_log, events_of, log_of, opened_store

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Store]:
    async with opened_store(request.param, tmp_path) as store:
        yield store


class Bank:
    """What happened outside of the store."""

    def __init__(self) -> None:
        self.paid: list[tuple[str, int]] = []
        self.asked: list[tuple[str, int]] = []


async def _pay(n: int, context: ToolContext[Bank]) -> str:
    """Pays."""
    assert n == 1
    context.deps.paid.append((context.idempotency_key, context.attempt))
    return "paid now"


def reconciling(kind: str) -> Reconcile | None:
    """A function that answers in this way."""

    async def ask(arguments: dict[str, Any], context: ToolContext[Bank]) -> Reconciled:
        assert arguments == {"n": 1}
        context.deps.asked.append((context.idempotency_key, context.attempt))
        match kind:
            case "done":
                return Result("paid before")
            case "never":
                return "never_happened"
            case "cannot tell":
                return "cannot_tell"
            case "raises":
                raise OSError("the bank is closed \ud800")
            case "forgets":
                return cast("Any", None)
            case _:
                await anyio.sleep_forever()
                raise AssertionError

    return None if kind == "none" else ask


KINDS = ("none", "done", "never", "cannot tell", "raises", "forgets", "hangs")
FAILING = {"raises": "OSError", "forgets": "ToolError", "hangs": "TimeoutError"}
DECISIONS: dict[str, Decision | None] = {
    "nothing": None,
    "rerun": "rerun",
    "unknown": "unknown",
    "result": Result("the host knows"),
}


def expected(kind: str, *, idempotent: bool, asks: bool, decision: str) -> str:
    """By the text of the design, and not by the code."""
    if decision != "nothing":
        return decision
    if kind == "done":
        return "found"
    if kind == "never" or idempotent:
        return "rerun"
    if not asks:
        return "unknown"
    return "refused" if kind == "none" else "pending"


@pytest.mark.parametrize(
    ("kind", "idempotent", "policy", "decision"),
    list(product(KINDS, (False, True), ("tell", "ask"), DECISIONS)),
)
async def test_what_becomes_of_a_call_in_doubt(
    kind: str, idempotent: bool, policy: Any, decision: str, store: Store
) -> None:
    """Every kind of tool, both policies, every decision; what fails is told to readers."""
    bank = Bank()
    pay = tool(
        name="pay",
        idempotent=idempotent,
        reconcile=reconciling(kind),
        timeout=0.02 if kind == "hangs" else None,
    )(_pay)
    await left_behind(store, "s", {"a": "pay"}, begun=["a"])
    before = await store.read("s")
    llm = Scripted(says("done"))
    seen: list[Any] = []
    made = DECISIONS[decision]
    decisions: dict[str, Decision] = {} if made is None else {"a": made}
    became = expected(kind, idempotent=idempotent, asks=policy == "ask", decision=decision)
    config = AgentConfig(in_doubt=policy)
    with anyio.fail_after(10):
        async with AgentLoop[Bank](llm, tools=[pay], store=store, config=config) as loop:
            loop.events.subscribe(seen.append, inline=True)
            if became == "refused":
                with pytest.raises(SessionPendingError) as refused:
                    await loop.resume("s", deps=bank)
                assert refused.value.undecided == refused.value.in_doubt == ("a",)
                assert await store.read("s") == before
                return
            result = await loop.resume("s", decisions=decisions, deps=bank)
            log = await check_log(loop, "s", only_last=True)
            await _judge(loop, bank, became, log)
            assert result.status == ("pending_tools" if became == "pending" else "completed")
    asked = decision == "nothing" and kind != "none"
    assert bank.asked == ([("s/a", 1)] if asked else [])
    failed = [event.error_type for event in events_of(ReconcileFailed, seen)]
    assert failed == ([FAILING[kind]] if asked and kind in FAILING else [])
    assert llm.illegal == []


async def _judge(loop: AgentLoop[Bank], bank: Bank, became: str, log: list[Any]) -> None:
    assert bank.paid == ([("s/a", 2)] if became == "rerun" else [])
    settled = [record for record in log if isinstance(record, ToolSettled)]
    if became == "pending":
        assert settled == []
        with pytest.raises(SessionPendingError) as refused:
            await loop.resume("s", deps=bank)
        assert refused.value.undecided == ("a",)
        assert await log_of(loop, "s") == log
        return
    (record,) = settled
    (part,) = record.message.parts
    assert isinstance(part, ToolResult)
    text = {"found": "paid before", "rerun": "paid now", "result": "the host knows"}
    if became == "unknown":
        assert record.how == "unknown"
        assert part.text.startswith("[unknown] The program that ran this call died")
    else:
        assert (record.how, part.text) == ("finished", text[became])


# ── asking the tool ───────────────────────────────────────────────────────────────────────────────


async def test_a_tool_that_cannot_answer_is_told_of_in_an_event_and_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In a form that can be sent; the run goes on."""
    pay = tool(name="pay", reconcile=reconciling("raises"))(_pay)
    seen: list[Any] = []
    with anyio.fail_after(10), caplog.at_level(logging.WARNING, "power_loop"):
        async with AgentLoop[Bank](Scripted(says("ok")), tools=[pay]) as loop:
            await left_behind(loop.store, "s", {"a": "pay"}, begun=["a"])
            loop.events.subscribe(seen.append, inline=True)
            assert (await loop.resume("s", deps=Bank())).status == "completed"
    assert events_of(ReconcileFailed, seen) == [
        ReconcileFailed("a", "pay", "OSError", "the bank is closed \ufffd")
    ]
    assert "tool 'pay' cannot tell what became of call 'a': OSError" in caplog.text


async def test_a_synchronous_function_is_asked_in_a_thread_and_abandoned_when_it_hangs(
    store: Store,
) -> None:
    """The event loop goes on; the thread sees that nobody waits for it."""
    here = threading.get_ident()
    left: list[str | None] = []
    over = threading.Event()

    def ask(arguments: dict[str, Any], context: ToolContext[Bank]) -> Reconciled:
        assert threading.get_ident() != here
        if context.call_id == "a":
            return Result({"receipt": arguments["n"]})
        while not context.cancelled:
            over.wait(0.001)
        left.append(context.cancel_reason)
        over.set()
        return Result("too late")

    pay = tool(name="pay", reconcile=ask, timeout=0.1)(_pay)
    await left_behind(store, "s", {"a": "pay", "b": "pay"}, begun=["a", "b"])
    llm = Scripted(says("done"))
    with anyio.fail_after(10):
        async with AgentLoop[Bank](llm, tools=[pay], store=store) as loop:
            result = await loop.resume("s", deps=Bank())
            assert result.status == "completed"
            log = await check_log(loop, "s", only_last=True)
            await anyio.to_thread.run_sync(over.wait)
    texts = [str(r.message) for r in log if isinstance(r, ToolSettled)]
    assert '{"receipt":1}' in texts[0].replace("\\", "")
    assert "[unknown]" in texts[1]
    assert left == ["it took longer than 0.1 s"]


async def test_a_tool_made_of_a_schema_is_asked_as_well(store: Store) -> None:
    """With the values of the arguments that it was begun with."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}

    async def handler(arguments: dict[str, Any], context: ToolContext[Any]) -> str:
        raise AssertionError("it must not run")

    pay = JsonSchemaTool("pay", "Pays.", schema, handler, reconcile=reconciling("done"))
    await left_behind(store, "s", {"a": "pay"}, begun=["a"])
    llm = Scripted(says("done"))
    bank = Bank()
    with anyio.fail_after(10):
        async with AgentLoop[Bank](llm, tools=[pay], store=store) as loop:
            assert (await loop.resume("s", deps=bank)).status == "completed"
            assert "paid before" in str(list(llm.requests[0].messages))
    assert bank.asked == [("s/a", 1)]


class Foreign:
    """A tool of somebody else's making, which answers what it likes."""

    name = "pay"
    exclusive = False
    idempotent = False
    polling = False
    timeout: float | None = None
    on_cancel: OnCancel = "abort"
    grace = 5.0
    output = OutputPolicy()
    spec = ToolSpec("pay", "Pays.", {"type": "object", "properties": {}})

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def invoke(self, arguments: str, context: ToolContext[Any]) -> ToolOutput:
        raise AssertionError("it must not run")

    async def reconcile(self, arguments: str, context: ToolContext[Any]) -> ToolOutput | Unsettled:
        assert (arguments, context.tool) == ('{"n":1}', "pay")
        context.progress("looking")
        return self.answer


@pytest.mark.parametrize(
    ("answer", "how", "told"),
    [
        (ToolOutput.of("x" * 50, is_error=True), "finished", "characters are kept as output_"),
        ("cannot_tell", "unknown", "[unknown]"),
        ("paid", "unknown", "[unknown]"),
        (None, "unknown", "[unknown]"),
    ],
)
async def test_a_tool_of_any_make_may_be_asked(
    answer: Any, how: str, told: str, store: Store
) -> None:
    """Its answer is checked, and bounded as any result; it may speak while it looks."""
    await left_behind(store, "s", {"a": "pay"}, begun=["a"])
    seen: list[Any] = []
    config = AgentConfig(result_limit=40)
    llm = Scripted(says("ok"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[Foreign(answer)], store=store, config=config) as loop:
            loop.events.subscribe(seen.append, inline=True)
            assert (await loop.resume("s")).status == "completed"
            log = await check_log(loop, "s", only_last=True)
    (settled,) = [r for r in log if isinstance(r, ToolSettled)]
    assert settled.how == how
    assert told in str(settled.message)
    failed = [event.error_type for event in events_of(ReconcileFailed, seen)]
    assert failed == (
        [] if isinstance(answer, ToolOutput) or answer == "cannot_tell" else ["ToolError"]
    )
    assert [event.message for event in events_of(ToolProgress, seen)] == ["looking"]


async def test_a_run_that_is_cancelled_while_a_tool_is_asked_tells_the_truth(
    store: Store,
) -> None:
    """The call is in doubt as before; nobody had stopped it."""
    asking = anyio.Event()

    async def ask(arguments: dict[str, Any], context: ToolContext[Bank]) -> Reconciled:
        asking.set()
        await anyio.sleep_forever()
        raise AssertionError(arguments)

    pay = tool(name="pay", reconcile=ask)(_pay)
    await left_behind(store, "s", {"a": "pay", "b": "pay"}, begun=["a"])
    with anyio.fail_after(10):
        async with AgentLoop[Bank](Scripted(), tools=[pay], store=store) as loop:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(loop.resume, "s")
                await asking.wait()
                tasks.cancel_scope.cancel()
            log = await check_log(loop, "s", only_last=True)
    assert [r.how for r in log if isinstance(r, ToolSettled)] == ["unknown", "not_run"]
    assert isinstance(log[-1], RunClosed)
    assert isinstance(log[-1].outcome, Cancelled)


async def test_of_two_parallel_calls_the_one_that_had_finished_never_runs_again(
    store: Store,
) -> None:
    """Whatever is decided about the other; a decision about a settled call is refused."""
    bank = Bank()
    pay = tool(name="pay", idempotent=True)(_pay)
    await left_behind(store, "s", {"a": "pay", "b": "pay"}, begun=["b"], finished=["a"])
    with anyio.fail_after(10):
        async with AgentLoop[Bank](Scripted(says("ok")), tools=[pay], store=store) as loop:
            with pytest.raises(UsageError, match=r"no call 'a' .* open: 'b'"):
                await loop.resume("s", decisions={"a": "rerun"}, deps=bank)
            assert (await loop.resume("s", decisions={"b": "rerun"}, deps=bank)).final_text == "ok"
            log = await check_log(loop, "s", only_last=True)
    assert bank.paid == [("s/b", 2)]
    assert [r.call_id for r in log if isinstance(r, ToolStarted)] == ["a", "b", "b"]


# ── the host decides ──────────────────────────────────────────────────────────────────────────────


REMOTE = ToolSpec("remote", "Run elsewhere.", {"type": "object", "properties": {}})


async def test_the_error_says_what_is_open_what_has_begun_and_what_is_in_doubt(
    store: Store,
) -> None:
    """Each call in one place; only what the host alone can decide is asked for."""
    sure = tool(name="sure", idempotent=True)(_pay)
    asks = tool(name="asks", reconcile=reconciling("done"))(_pay)
    pay = tool(name="pay")(_pay)
    names = {"a": "pay", "b": "sure", "c": "asks", "d": "pay", "e": "pay", "f": "gone"}
    await left_behind(store, "s", names, begun=["a", "b", "c", "e", "f"])
    await write(store, "s", [CallWaiting("e", "input", "question")])
    config = AgentConfig(in_doubt="ask")
    bank = Bank()
    with anyio.fail_after(10):
        async with AgentLoop[Bank](
            Scripted(says("ok")), tools=[sure, asks, pay], store=store, config=config
        ) as loop:
            before = await store.read("s")
            with pytest.raises(SessionPendingError) as told:
                await loop.resume("s", deps=bank)
            error = told.value
            assert (error.open, error.begun) == (("d",), ("e",))
            assert (error.in_doubt, error.undecided) == (("a", "b", "c", "f"), ("a", "f"))
            assert "d, e (begun), a (in doubt), b (in doubt)" in str(error)
            assert "Nobody can tell what became of a, f" in str(error)
            with pytest.raises(SessionPendingError) as again:
                async with loop.stream_resume("s", decisions={"a": "unknown"}, deps=bank):
                    pass
            assert again.value.undecided == ("f",)
            with pytest.raises(SessionPendingError, match=r"Call resume\(\)") as sent:
                await loop.send("hi", "s")
            assert (sent.value.in_doubt, sent.value.undecided) == (("a", "b", "c", "f"), ())
            assert await store.read("s") == before
            result = await loop.resume("s", decisions={"a": "unknown", "f": Result(1)}, deps=bank)
            assert result.resumable
            assert [call.call_id for call in await loop.get_pending("s")] == ["e"]
    assert sorted(bank.paid) == [("s/b", 2), ("s/d", 1)]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"c": "rerun"}, "call 'c' is not in doubt but not begun, so 'rerun' is no decision"),
    ({"c": "unknown"}, "call 'c' is not in doubt but not begun"),
    ({"c": Result("x")}, "call 'c' is not begun, so a Result is no decision about it"),
    ({"g": "rerun"}, "call 'g' cannot be run again: there is no tool 'gone'"),
    ({"a": "Rerun"}, "'rerun', 'unknown' or a Result, not a value of type str"),
    ({"a": None}, "not a value of type NoneType"),
    ({"a": "unknown", "nobody": "unknown"}, "no call 'nobody'"),
    ({"a": Result(object())}, "the result of call 'a' is none: .*cannot be shown"),
    ({"d": "unknown"}, "call 'd' is not in doubt but waiting for 'question'"),
]


@pytest.mark.parametrize("policy", ["tell", "ask"])
@pytest.mark.parametrize(("decisions", "told"), WRONG)
async def test_a_decision_that_does_not_fit_is_refused_before_anything_is_stored(
    policy: Any, decisions: dict[str, Any], told: str
) -> None:
    """Under both policies."""
    names = {"a": "pay", "c": "pay", "d": "pay", "g": "gone"}
    pay = tool(name="pay")(_pay)
    config = AgentConfig(in_doubt=policy)
    async with AgentLoop[Bank](Scripted(), tools=[pay], config=config) as loop:
        await left_behind(loop.store, "s", names, begun=["a", "d", "g"])
        await write(loop.store, "s", [CallWaiting("d", "input", "question")])
        before = await loop.store.read("s")
        with pytest.raises(UsageError, match=told):
            await loop.resume("s", decisions=decisions)
        assert await loop.store.read("s") == before


async def test_a_result_may_be_whatever_the_tool_may_return_and_an_error(store: Store) -> None:
    """For a call in doubt, and for one of a tool that this program runs itself."""
    pay = tool(name="pay")(_pay)
    await left_behind(store, "s", {"a": "pay", "b": "remote"}, begun=["a"])
    llm = Scripted(says("ok"))
    with anyio.fail_after(10):
        async with AgentLoop[Bank](llm, tools=[pay, REMOTE], store=store) as loop:
            decisions: dict[str, Decision] = {
                "a": Result({"receipt": 7}),
                "b": Result("no such file", is_error=True),
            }
            assert (await loop.resume("s", decisions=decisions)).status == "completed"
            await check_log(loop, "s", only_last=True)
    results = [p for m in llm.requests[0].messages for p in m.parts if isinstance(p, ToolResult)]
    assert [(r.text, r.is_error) for r in results] == [
        ('{"receipt":7}', False),
        ("no such file", True),
    ]


async def test_a_call_that_a_hook_gave_to_the_host_takes_its_result() -> None:
    """Whose tool it is, the run that ended pending knows; its name alone does not say it."""
    hooks = Hooks()
    pay = tool(name="pay")(_pay)

    def elsewhere(context: ToolBefore) -> ToolBefore:
        return replace(context, name="remote")

    hooks.on(TOOL_BEFORE, elsewhere)
    llm = Scripted(says("ok"))
    async with AgentLoop[Bank](llm, tools=[pay, REMOTE], hooks=hooks) as loop:
        await left_behind(loop.store, "s", {"a": "pay"}, begun=[])
        bank = Bank()
        assert (await loop.resume("s", deps=bank)).outcome == PendingTools(("a",))
        done = await loop.resume("s", decisions={"a": Result("there")}, deps=bank)
        assert done.status == "completed"
        assert bank.paid == []


def test_decisions_are_made_from_a_blocking_program_too(tmp_path: Path) -> None:
    """The same mechanism, and the same refusals."""
    pay = tool(name="pay")(_pay)
    loop = AgentLoop[Bank](Scripted(says("ok")), tools=[pay], config=AgentConfig(in_doubt="ask"))
    anyio.run(lambda: left_behind(loop.store, "s", {"a": "pay"}, begun=["a"]))
    with loop.sync() as s:
        with pytest.raises(SessionPendingError):
            s.resume("s")
        with pytest.raises(UsageError, match="no call 'b'"):
            s.resume("s", decisions={"b": "unknown"})
        assert s.resume("s", decisions={"a": Result("known")}).status == "completed"


async def test_what_is_pending_is_shown_as_it_had_begun_and_under_its_key(store: Store) -> None:
    """So that a host can ask whoever was to do the work, before it decides."""
    await left_behind(store, "s", {"a": "pay", "b": "pay"}, begun=["a"])
    ran = ToolStarted("b", "other", '{"n":2}', "s/b", "hash")
    await write(store, "s", [ran])
    async with AgentLoop(Scripted(), store=store) as loop:
        first, second = await loop.get_pending("s")
        assert (first.name, first.arguments) == ("pay", '{"n":1}')
        assert (first.idempotency_key, first.attempt) == ("s/a", 1)
        assert (second.name, second.arguments) == ("other", '{"n":2}')
        assert (second.idempotency_key, second.state) == ("s/b", "started")
        await left_behind(store, "t", {"a": "pay"}, begun=[])
        (asked,) = await loop.get_pending("t")
        assert (asked.name, asked.idempotency_key, asked.state) == ("pay", "", "asked")


def forbids(context: ToolBefore) -> Skip | None:
    return Skip("never twice") if context.attempt > 1 else None


def fails(context: ToolBefore) -> None:
    raise ValueError(context.attempt)


@pytest.mark.parametrize(
    ("guard", "told"), [(forbids, "never twice"), (fails, "hook guard failed: ValueError")]
)
async def test_a_guard_forbids_a_rerun_that_the_host_has_decided(
    guard: Callable[[ToolBefore], Skip | None], told: str, store: Store
) -> None:
    """It is there to forbid, also when it fails; the outcome is unknown then."""
    hooks = Hooks()
    hooks.on(TOOL_BEFORE, guard, name="guard")
    pay = tool(name="pay")(_pay)
    await left_behind(store, "s", {"a": "pay"}, begun=["a"])
    bank = Bank()
    with anyio.fail_after(10):
        async with AgentLoop[Bank](
            Scripted(says("ok")), tools=[pay], store=store, hooks=hooks
        ) as loop:
            done = await loop.resume("s", decisions={"a": "rerun"}, deps=bank)
            assert done.status == "completed"
            log = await check_log(loop, "s", only_last=True)
    assert bank.paid == []
    (settled,) = [r for r in log if isinstance(r, ToolSettled)]
    assert settled.how == "unknown"
    assert "It was not run again. A hook forbade that, and says: " in str(settled.message)
    assert told in str(settled.message)


# ── giving up ─────────────────────────────────────────────────────────────────────────────────────


async def test_abort_pending_tells_the_truth_about_each_call(store: Store) -> None:
    """Begun when the process died; begun and only waiting; not begun. Settled stays settled."""
    names = {"a": "pay", "b": "pay", "c": "pay", "d": "pay"}
    await left_behind(store, "s", names, begun=["a", "c"], finished=["d"])
    await write(store, "s", [CallWaiting("c", "input", "question")])
    llm = Scripted(says("ok"))
    with anyio.fail_after(10):
        async with AgentLoop[Bank](llm, store=store) as loop:
            assert await loop.abort_pending("s", "enough") == 3
            log = await check_log(loop, "s", only_last=True)
            assert (await loop.send("and now?", "s")).status == "completed"
    how = {r.message.id[0]: r.how for r in log if isinstance(r, ToolSettled)}
    assert how == {"a": "unknown", "b": "not_run", "c": "interrupted", "d": "finished"}
    texts = [p.text for m in llm.requests[0].messages for p in m.parts if isinstance(p, ToolResult)]
    assert [text.split("]")[0] for text in texts[:3]] == ["[unknown", "[not run", "[interrupted"]
    assert all(text.endswith("It was given up: enough") for text in texts[:3])


async def test_abort_pending_after_a_regular_ending_knows_what_was_lost_before(
    store: Store,
) -> None:
    """The host was asked, and gives up instead of deciding."""
    asks = tool(name="asks", reconcile=reconciling("cannot tell"))(_pay)
    await left_behind(store, "s", {"a": "asks"}, begun=["a"])
    config = AgentConfig(in_doubt="ask")
    with anyio.fail_after(10):
        async with AgentLoop[Bank](Scripted(), tools=[asks], store=store, config=config) as loop:
            result = await loop.resume("s", deps=Bank())
            assert result.outcome == PendingTools(("a",))
            assert await loop.abort_pending("s") == 1
            log = await check_log(loop, "s", only_last=True)
    assert [r.how for r in log if isinstance(r, ToolSettled)] == ["unknown"]
    assert [r.resumes for r in log if isinstance(r, RunOpened)][1] == "r1"
