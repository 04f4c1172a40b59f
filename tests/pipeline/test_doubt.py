"""Calls that were running when their process died: who is asked, what is run, what is told."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from msgspec.structs import replace

from llm_client.types import Text, ToolResult
from power_loop.agent.answers import approve, by_token, deny
from power_loop.events import HookFailed
from power_loop.hooks import (
    APPROVAL_REQUESTED,
    MESSAGE_APPEND,
    ROUND_DECIDE,
    ROUND_END,
    TOOL_AFTER,
    TOOL_BEFORE,
    TOOLS_BATCH_AFTER,
    TOOLS_BATCH_BEFORE,
    Break,
    MessageAppend,
    Skip,
    Suspend,
    ToolAfter,
    ToolBefore,
)
from power_loop.pipeline.plan import RunPlan, Verdict
from power_loop.pipeline.ports import Found, ToolTraits, Used
from power_loop.session.machine import Session
from power_loop.session.outcome import AwaitingApproval, Cancelled, Completed, PendingTools, Stopped
from power_loop.session.records import Record, ToolSettled, ToolStarted
from tests.pipeline.fakes import FakePorts, FakeTool, Killed
from tests.pipeline.scripts import Handlers, call, calls, contexts, die, plan, run, send, succeed
from tests.pipeline.scripts import text as says
from tests.session.checker import violations

DONE = Used(ToolResult("c1", (Text("paid before"),)))
GIVEN = ToolResult("c1", (Text("the host knows"),))
FOUND: dict[str, Found | None] = {
    "none": None,
    "done": DONE,
    "never": "never_happened",
    "cannot tell": "cannot_tell",
}
DECISIONS: dict[str, Verdict | None] = {
    "nothing": None,
    "rerun": "rerun",
    "unknown": "unknown",
    "result": GIVEN,
}


def lost(*others: str, tool: str = "pay") -> list[Record]:
    """The log of a process that died in call c1 of `tool`; the calls of `others` had not begun."""
    wanted = [call("c1", tool, '{"n":1}'), *(call(f"o{n}", name) for n, name in enumerate(others))]
    kit = {tool: FakeTool(die)} | {name: FakeTool() for name in others}
    io = FakePorts([calls(*wanted)], kit)
    with pytest.raises(Killed):
        send(io)
    return io.log[: io.durable]


def successor(
    log: list[Record],
    tool: FakeTool | None,
    hooks: Handlers | None = None,
    how: RunPlan | None = None,
    prefix: str = "j",
) -> FakePorts:
    """The process that comes next."""
    kit = {"other": FakeTool("other done")} | ({"pay": tool} if tool else {})
    return FakePorts([says("ok")], kit, hooks, log=log, plan=how or plan(), prefix=prefix)


def paying(found: Found | None = None, *, idempotent: bool = False) -> FakeTool:
    """A tool that pays when it is run."""
    traits = ToolTraits(idempotent=idempotent, reconciles=found is not None)
    return FakeTool("paid now", traits=traits, found=found or "cannot_tell")


def hows(io: FakePorts) -> list[str]:
    return [record.how for record in io.of(ToolSettled)]


# ── who decides ───────────────────────────────────────────────────────────────────────────────────


def expected(found: str, *, idempotent: bool, asks: bool, decision: str) -> str:
    """By the text of the design, and not by the code."""
    if decision != "nothing":
        return decision
    if found == "done":
        return "found"
    if found == "never" or idempotent:
        return "rerun"
    return "pending" if asks else "unknown"


@pytest.mark.parametrize(
    ("found", "idempotent", "policy", "decision"),
    list(product(FOUND, (False, True), ("tell", "ask"), DECISIONS)),
)
def test_what_becomes_of_a_call_in_doubt(
    found: str, idempotent: bool, policy: Any, decision: str
) -> None:
    """The host's decision, the tool's own answer, whether it may be run again, the policy."""
    verdict = DECISIONS[decision]
    how = plan(in_doubt=policy, decisions={"c1": verdict} if verdict else {})
    io = successor(lost(), paying(FOUND[found], idempotent=idempotent), how=how)
    outcome = succeed(io)
    became = expected(found, idempotent=idempotent, asks=policy == "ask", decision=decision)
    asked = decision == "nothing" and found != "none"
    assert io.reconciled == ([("s/c1", 1)] if asked else [])
    assert io.effects == ([("c1", "pay", '{"n":1}')] if became == "rerun" else [])
    assert violations(io.log, closed=True) == []
    if became == "pending":
        assert outcome == PendingTools(("c1",))
        assert io.session.open_calls["c1"].state == "in_doubt"
        return
    assert outcome == Completed("ok")
    text = io.results()["c1"]
    match became:
        case "rerun":
            assert (hows(io), text) == (["finished"], "paid now")
            starts = io.of(ToolStarted)
            assert [record.attempt for record in starts] == [1, 2]
            assert {record.idempotency_key for record in starts} == {"s/c1"}
        case "unknown":
            assert hows(io) == ["unknown"]
            assert text.startswith("[unknown] ")
        case _:
            assert hows(io) == ["finished"]
            assert text == ("paid before" if became == "found" else "the host knows")


def test_a_call_that_waits_for_the_host_may_be_decided_about_later() -> None:
    """By another process, which asks the tool again where nothing is decided."""
    how = plan(in_doubt="ask")
    half = successor(lost("other"), paying("cannot_tell"), how=how)
    assert succeed(half) == PendingTools(("c1",))
    assert half.effects == [("o0", "other", "{}")]
    again = successor(half.log, paying("cannot_tell"), how=how, prefix="k")
    assert succeed(again) == PendingTools(("c1",))
    assert again.reconciled == [("s/c1", 1)]
    last = successor(again.log, paying("cannot_tell"), how=plan(decisions={"c1": "rerun"}))
    assert succeed(last) == Completed("ok")
    assert last.results() == {"c1": "paid now", "o0": "other done"}
    assert last.effects == [("c1", "pay", '{"n":1}')]
    assert violations(last.log, closed=True) == []


@pytest.mark.parametrize("traits", [None, ToolTraits(external=True)])
@pytest.mark.parametrize("decision", [None, "rerun"])
@pytest.mark.parametrize("policy", ["tell", "ask"])
def test_a_tool_that_is_gone_is_neither_asked_nor_run(
    traits: ToolTraits | None, decision: Verdict | None, policy: Any
) -> None:
    """The policy decides; the machine would not take "not run" of a call that had begun."""
    how = plan(in_doubt=policy, decisions={"c1": decision} if decision else {})
    io = successor(lost(), FakeTool(traits=traits) if traits else None, how=how)
    outcome = succeed(io)
    assert io.effects == []
    assert outcome == (Completed("ok") if policy == "tell" else PendingTools(("c1",)))
    assert hows(io) == (["unknown"] if policy == "tell" else [])


def test_a_call_that_may_run_again_and_whose_tool_has_gone_is_told_as_unknown() -> None:
    """A person had allowed it."""
    hooks: Handlers = {TOOL_BEFORE: lambda _: Suspend("again?")}
    half = successor(lost(), paying(idempotent=True), hooks)
    outcome = succeed(half)
    assert isinstance(outcome, AwaitingApproval)
    (token,) = outcome.tokens
    last = successor(half.log, None, how=plan(answers=by_token([approve(token)])), prefix="k")
    assert succeed(last) == Completed("ok")
    assert hows(last) == ["unknown"]
    assert "There is no tool 'pay'" in last.results()["c1"]


def test_a_process_that_dies_while_it_asks_leaves_the_call_in_doubt() -> None:
    """Its successor asks again; nothing has run in between."""
    log = lost()
    for kill_at in range(1, 20):
        dying = successor(log, paying(DONE))
        dying.kill_at = kill_at
        try:
            succeed(dying)
        except Killed:
            last = successor(dying.log[: dying.durable], paying(DONE), prefix=f"k{kill_at}")
            assert succeed(last) == Completed("ok")
            assert last.effects == []
            assert last.results() == {"c1": "paid before"}
            assert violations(last.log, closed=True) == []
        else:
            return
    raise AssertionError("it never came to its end")


def test_an_answer_that_came_before_the_run_was_broken_off_is_believed() -> None:
    """A handler fails after the tool has said how it went."""

    def fail(_: object) -> None:
        raise ValueError("no")

    io = successor(lost(), paying(DONE), {TOOL_AFTER: fail})
    run(io, succeed)
    assert (hows(io), io.results()) == (["finished"], {"c1": "paid before"})


def test_a_cancel_gives_a_call_in_doubt_up_as_unknown() -> None:
    """It was not stopped by anybody: its process had died."""
    io = successor(lost("other"), paying(DONE))
    io.post("enough")
    assert succeed(io) == Cancelled("enough")
    assert hows(io) == ["unknown", "not_run"]
    assert io.reconciled == []


# ── hooks ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_guard_sees_that_a_call_is_run_again_and_as_what() -> None:
    """The attempt is in its context; what had begun is what would run."""
    seen: list[tuple[str, str, int]] = []
    hooks: Handlers = {TOOL_BEFORE: lambda c: seen.append((c.name, c.arguments, c.attempt))}
    assert succeed(successor(lost("other"), paying("never_happened"), hooks)) == Completed("ok")
    assert seen == [("pay", '{"n":1}', 2), ("other", "{}", 1)]


def test_a_guard_that_forbids_a_rerun_leaves_the_outcome_unknown() -> None:
    """Not "skipped": the first attempt may have had effects."""
    hooks: Handlers = {TOOL_BEFORE: lambda _: Skip("not twice \x00")}
    io = successor(lost(), paying("never_happened"), hooks)
    assert succeed(io) == Completed("ok")
    assert io.effects == []
    assert hows(io) == ["unknown"]
    assert io.results()["c1"].endswith(
        "It was not run again. A hook forbade that, and says: not twice \u2400"
    )


@pytest.mark.parametrize("answer", ["approve", "deny"])
def test_a_guard_may_have_a_person_asked_before_a_rerun(answer: str) -> None:
    """Allowed it is run, under the same key; refused it is told as unknown, not as denied."""
    asked: list[str] = []
    hooks: Handlers = {
        TOOL_BEFORE: lambda _: Suspend("again?"),
        APPROVAL_REQUESTED: lambda c: asked.append(c.reason),
    }
    half = successor(lost(), paying(idempotent=True), hooks)
    outcome = succeed(half)
    assert isinstance(outcome, AwaitingApproval)
    assert asked == ["again?"]
    (token,) = outcome.tokens
    said = {"approve": approve, "deny": deny}[answer]
    how = plan(answers=by_token([said(token)]))
    last = successor(half.log, paying(idempotent=True), hooks, how, prefix="k")
    assert succeed(last) == Completed("ok")
    if answer == "approve":
        assert last.effects == [("c1", "pay", '{"n":1}')]
        assert hows(last) == ["finished"]
    else:
        assert last.effects == []
        assert hows(last) == ["unknown"]
        assert "A person did not allow that" in last.results()["c1"]
    assert violations(last.log, closed=True, idempotent=lambda _: False) == []


def test_a_rewrite_of_a_rerun_is_not_taken_and_said_so() -> None:
    """Only what had begun may run again under its key; readers are told."""
    hooks: Handlers = {TOOL_BEFORE: lambda c: replace(c, arguments='{"n":2}')}
    io = successor(lost(), paying(idempotent=True), hooks)
    assert succeed(io) == Completed("ok")
    assert io.effects == [("c1", "pay", '{"n":1}')]
    (told,) = [event for event in io.events if isinstance(event, HookFailed)]
    assert (told.point, told.error_type) == ("tool.before", "HookError")
    assert "'c1' is run again as it had begun" in told.message


def test_a_result_that_the_tool_finds_passes_the_hooks_that_results_pass() -> None:
    """What redacts results redacts this one; tool.before has nothing to decide."""
    hooks: Handlers = {
        TOOL_BEFORE: lambda _: None,
        TOOL_AFTER: lambda c: replace(c, result=ToolResult(c.call.id, (Text("redacted"),))),
        MESSAGE_APPEND: lambda _: None,
    }
    io = successor(lost(), paying(DONE), hooks)
    assert succeed(io) == Completed("ok")
    assert io.results() == {"c1": "redacted"}
    assert contexts(io, ToolBefore) == []
    (after,) = contexts(io, ToolAfter)
    assert (after.name, after.arguments, after.result) == ("pay", '{"n":1}', DONE.result)


def test_a_found_result_may_break_the_batch_off_before_the_others_run() -> None:
    """As the result of any tool may; the rest is told truthfully."""
    hooks: Handlers = {TOOL_AFTER: lambda _: Break("seen enough")}
    io = successor(lost("other"), paying(DONE), hooks)
    assert succeed(io) == Stopped("seen enough")
    assert io.effects == []
    assert hows(io) == ["finished", "not_run"]


WATCHED = (
    ROUND_DECIDE,
    TOOLS_BATCH_BEFORE,
    TOOL_BEFORE,
    TOOL_AFTER,
    MESSAGE_APPEND,
    TOOLS_BATCH_AFTER,
    ROUND_END,
)


def moments(io: FakePorts) -> list[tuple[str, str]]:
    """What fired from the decision about the batch on, and for which call, result or message."""
    found: list[tuple[str, str]] = []
    for name, context in io.fired:
        match context:
            case ToolBefore(call=about) | ToolAfter(call=about):
                found.append((name, about.id))
            case MessageAppend(message=message):
                found.append((name, message.id if message.role == "tool" else message.role))
            case _:
                found.append((name, ""))
    names = [name for name, _ in found]
    return found[names.index("round.decide") if "round.decide" in names else 0 :]


def of_call(moment: tuple[str, str]) -> str:
    """The call that a moment is about."""
    return moment[1].removesuffix(".result")


def test_a_resumed_run_fires_the_hooks_that_an_uninterrupted_one_fires() -> None:
    """The same points in the same order, from what is left of the batch on, wherever the process
    had died; what had settled is not heard of again."""
    watching: Handlers = {point: lambda _: None for point in WATCHED}
    wanted = calls(call("c1", "pay", '{"n":1}'), call("o0", "other"))

    def kit() -> dict[str, FakeTool]:
        return {"pay": paying("never_happened"), "other": paying("never_happened")}

    whole = FakePorts([wanted, says("ok")], kit(), watching)
    assert send(whole) == Completed("ok")
    seen: set[tuple[str, ...]] = set()
    for kill_at in range(1, whole.steps + 1):
        first = FakePorts([wanted, says("ok")], kit(), watching)
        first.kill_at = kill_at
        with pytest.raises(Killed):
            send(first)
        log = first.log[: first.durable]
        left = Session("s", log).open_calls
        if not left:
            continue
        states = tuple([made.state for made in left.values()])
        seen.add(states)
        again = FakePorts([says("ok")], kit(), watching, log=log, prefix="j")
        assert succeed(again) == Completed("ok")
        undecided = set(states) == {"asked"}
        settled = {"c1", "o0"} - set(left)
        once = () if undecided else ("round.decide", "tools.batch.before")
        expected = [m for m in moments(whole) if of_call(m) not in settled and m[0] not in once]
        assert moments(again) == expected
    # One that runs is "started" in the log of the dead process, and in doubt for its successor.
    assert seen == {("asked", "asked"), ("started", "asked"), ("started",), ("asked",)}
