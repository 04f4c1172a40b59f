"""Calls that wait for a person: suspended, decided, resumed, and what a crash makes of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any

from llm_client.types import LLMResponse, Message
from power_loop.agent.answers import approve, by_token, deny
from power_loop.hooks import (
    APPROVAL_REQUESTED,
    ROUND_DECIDE,
    TOOL_BEFORE,
    TOOLS_BATCH_BEFORE,
    ApprovalRequested,
    Suspend,
    ToolBefore,
)
from power_loop.pipeline.plan import Answer
from power_loop.pipeline.ports import ToolTraits
from power_loop.runtime.stores.base import Steer
from power_loop.session.outcome import (
    ApprovalDenied,
    AwaitingApproval,
    BudgetExhausted,
    Cancelled,
    Completed,
    PendingTools,
)
from power_loop.session.records import (
    CallAnswered,
    CallWaiting,
    Decided,
    RunClosed,
    ToolSettled,
)
from tests.pipeline.fakes import FakePorts, FakeTool, Killed
from tests.pipeline.scripts import (
    Handlers,
    call,
    calls,
    contexts,
    plan,
    send,
    succeed,
    text,
)
from tests.session.checker import violations

TWO = calls(call("c1", "read", '{"n":1}'), call("c2", "list"), words="look")


def tools() -> dict[str, FakeTool]:
    """A reader and a lister."""
    return {"read": FakeTool("contents"), "list": FakeTool("names")}


def how(io: FakePorts) -> dict[str, str]:
    """How each call was settled."""
    return {r.message.id.removesuffix(".result"): r.how for r in io.of(ToolSettled)}


def test_suspend_waits_for_approval_when_the_siblings_have_settled() -> None:
    """approval.requested fires with the token, when the request is durable."""
    durable: list[bool] = []
    io = FakePorts([TWO, text("ok")], tools())

    def requested(context: ApprovalRequested) -> None:
        waiting = [r for r in io.log[: io.durable] if isinstance(r, CallWaiting)]
        durable.append(context.token in {record.token for record in waiting})

    io.hooks = {
        TOOL_BEFORE.name: lambda c: Suspend("it reads") if c.name == "read" else None,
        APPROVAL_REQUESTED.name: requested,
    }
    outcome = send(io)
    (context,) = contexts(io, ApprovalRequested)
    assert outcome == AwaitingApproval((context.token,))
    assert (context.call.id, context.reason) == ("c1", "it reads")
    assert durable == [True]
    assert io.effects == [("c2", "list", "{}")]
    assert io.session.open_calls["c1"].state == "waiting"


def resumed(io: FakePorts, hooks: Handlers, **changes: Any) -> FakePorts:
    """The same session in a new process."""
    return FakePorts(
        [text("ok")], tools(), hooks, log=io.log[: io.durable], plan=plan(**changes), prefix="j"
    )


SUSPEND: Handlers = {TOOL_BEFORE: lambda c: Suspend() if c.name == "read" else None}


def test_an_approved_call_is_judged_again_and_passes_whoever_had_asked() -> None:
    """Others may still have something against it; the one that had asked does not ask twice."""
    io = FakePorts([TWO], tools(), SUSPEND)
    outcome = send(io)
    assert isinstance(outcome, AwaitingApproval)
    again = resumed(io, SUSPEND, answers=by_token([approve(outcome.tokens[0])]))
    assert succeed(again) == Completed("ok")
    assert again.effects == [("c1", "read", '{"n":1}')]
    assert again.names() == [TOOL_BEFORE.name]


def test_a_refused_call_is_settled_as_denied() -> None:
    """The model is told, with what the person said."""
    io = FakePorts([TWO], tools(), SUSPEND)
    outcome = send(io)
    assert isinstance(outcome, AwaitingApproval)
    no = deny(outcome.tokens[0], "not on Fridays")
    again = resumed(io, SUSPEND, answers=by_token([no]))
    assert succeed(again) == Completed("ok")
    assert again.effects == []
    assert how(again) == {"c1": "denied", "c2": "finished"}
    assert again.results()["c1"].endswith("They say: not on Fridays")
    assert violations(again.log, closed=True) == []


def test_resuming_without_a_decision_waits_on_under_the_same_token() -> None:
    """A decision that a person is about to make stays valid; a foreign one does not count."""
    io = FakePorts([TWO], tools(), SUSPEND)
    outcome = send(io)
    again = resumed(io, SUSPEND, answers=by_token([approve("somebody else's")]))
    assert succeed(again) == outcome
    assert again.of(CallAnswered) == []
    assert len(again.of(RunClosed)) == 2


def test_a_refusal_holds_when_the_process_dies_right_after_it() -> None:
    """Even for a tool that may be repeated: it never ran, so nothing is in doubt."""
    kit = {"read": FakeTool(traits=ToolTraits(idempotent=True)), "list": FakeTool("names")}
    io = FakePorts([TWO], kit, SUSPEND)
    outcome = send(io)
    assert isinstance(outcome, AwaitingApproval)
    for step in range(1, 12):
        dying = resumed(io, SUSPEND, answers=by_token([deny(outcome.tokens[0])]))
        dying.tools = kit
        dying.kill_at = step
        with suppress(Killed):
            succeed(dying)
        # Also when everything committed so far has reached the disk.
        for log in (dying.log, dying.log[: dying.durable]):
            again = FakePorts([text("ok")], kit, SUSPEND, log=log, prefix="k")
            if again.session.run is None and not again.session.open_calls:
                continue
            succeed(again)
            assert "c1" not in {effect[0] for effect in again.effects}
            assert violations(again.log, closed=True) == []


def test_calls_that_wait_and_calls_for_the_caller_end_the_run_pending() -> None:
    """Both kinds of open calls are named."""
    kit = tools() | {"list": FakeTool(traits=ToolTraits(external=True))}
    io = FakePorts([TWO], kit, SUSPEND)
    assert send(io) == PendingTools(("c1", "c2"))


def test_hooks_judge_a_call_once_however_often_the_run_must_try_to_suspend() -> None:
    """Also those of a batch that the caller is to run; no second request goes to a person."""
    kit = tools() | {"list": FakeTool(traits=ToolTraits(external=True))}
    hooks: Handlers = {
        **SUSPEND,
        ROUND_DECIDE: lambda _: None,
        TOOLS_BATCH_BEFORE: lambda _: None,
        APPROVAL_REQUESTED: lambda _: None,
    }
    for wanted, fired in ((TWO, 5), (calls(call("c1", "list"), call("c2", "list")), 4)):
        io = FakePorts([wanted], kit, hooks)
        io.refusals = 3
        assert send(io) == PendingTools(("c1", "c2"))
        assert len(io.fired) == fired
        assert violations(io.log, closed=True) == []


def test_a_cancel_that_arrives_before_a_suspension_wins() -> None:
    """The run does not go to sleep with somebody waiting to stop it."""
    io = FakePorts([TWO], tools())

    def suspend(context: ToolBefore) -> Suspend | None:
        io.post("by the user")
        return Suspend() if context.name == "read" else None

    io.hooks = {TOOL_BEFORE.name: suspend}
    assert send(io) == Cancelled("by the user")
    assert how(io) == {"c1": "not_run", "c2": "finished"}
    assert io.waiting() == 0
    assert violations(io.log, closed=True) == []


def asked_at_once(
    answers: Callable[[CallWaiting], Answer | None], hooks: Handlers, wanted: LLMResponse = TWO
) -> FakePorts:
    """A run with somebody to ask."""
    io = FakePorts([wanted, text("ok")], tools(), hooks)
    io.responds, io.respondent = True, answers
    return io


def test_somebody_who_is_there_is_asked_before_the_tools_run() -> None:
    """The run goes on without having ended, and the handlers judge the call once more."""
    io = asked_at_once(lambda waiting: approve(waiting.token, by="ada"), SUSPEND)
    assert send(io) == Completed("ok")
    assert io.effects == [("c1", "read", '{"n":1}'), ("c2", "list", "{}")]
    assert len(io.of(RunClosed)) == 1
    assert [r.by for r in io.of(CallAnswered)] == ["ada"]
    assert violations(io.log, closed=True) == []


def test_a_call_that_is_never_as_it_was_approved_is_not_asked_about_for_ever() -> None:
    """Three times in one go; then it waits, and its run ends."""
    worlds = count()
    hooks: Handlers = {
        TOOL_BEFORE: lambda c: Suspend(world=str(next(worlds))) if c.name == "read" else None
    }
    io = asked_at_once(lambda waiting: approve(waiting.token), hooks)
    outcome = send(io)
    assert isinstance(outcome, AwaitingApproval)
    assert len(io.of(CallAnswered)) == 3
    assert io.of(CallWaiting)[-1].token == outcome.tokens[0]
    assert "c1" not in {effect[0] for effect in io.effects}


def test_an_approval_given_at_once_is_used_once_wherever_the_process_dies() -> None:
    """A call that had begun is in doubt; one that had not runs, and as it was edited."""
    edited = {"n": 7}
    for step in range(1, 60):
        dying = asked_at_once(lambda waiting: approve(waiting.token, edited), SUSPEND)
        dying.kill_at = step
        try:
            send(dying)
        except Killed:
            for log in (dying.log, dying.log[: dying.durable]):
                again = FakePorts([TWO, text("ok")], tools(), SUSPEND, log=log, prefix="k")
                again.responds = True
                again.respondent = lambda waiting: approve(waiting.token, edited)
                if again.session.last_run is None and again.session.run is None:
                    continue
                succeed(again)
                paid = [e for e in (*dying.effects, *again.effects) if e[0] == "c1"]
                assert paid in ([("c1", "read", '{"n":7}')], []), step
                assert paid or how(again)["c1"] == "unknown", step
                assert violations(again.log, closed=True) == []
        else:
            return
    raise AssertionError("it never came to its end")


def test_a_request_that_was_not_answered_in_time_is_made_again_by_whoever_resumes() -> None:
    """Also by a program that does not have the rule: to be late is no way past it."""
    ttl: Handlers = {
        TOOL_BEFORE: lambda c: Suspend("it reads", ttl=60) if c.name == "read" else None
    }
    io = FakePorts([TWO], tools(), ttl)
    outcome = send(io)
    assert isinstance(outcome, AwaitingApproval)
    again = resumed(io, {})
    again.epoch = io.epoch + 61
    asked = succeed(again)
    assert isinstance(asked, AwaitingApproval)
    assert asked.tokens != outcome.tokens
    assert [r.answer for r in again.of(CallAnswered)] == ["expired"]
    first, second = again.of(CallWaiting)
    assert (second.reason, second.by, second.args_hash) == (first.reason, first.by, first.args_hash)
    assert second.expires == again.epoch + 60
    granted = plan(answers=by_token([approve(asked.tokens[0])]))
    done = FakePorts([text("ok")], tools(), log=again.log, plan=granted, prefix="k")
    done.epoch = again.epoch
    assert succeed(done) == Completed("ok")
    assert done.effects == [("c1", "read", '{"n":1}')]
    assert violations(done.log, closed=True) == []


THREE = calls(call("c1", "read"), call("c2", "list"), call("c3", "read"))
ENDING: Handlers = {
    TOOL_BEFORE: lambda c: Suspend(end_on_denial=True) if c.name == "read" else None
}


def test_a_no_that_ends_the_run_lets_what_was_approved_run_first() -> None:
    """Whichever of them was asked about first; a leave that was given is not lost."""
    for given, ran in (((approve, deny), "c1"), ((deny, approve), "c3")):
        io = FakePorts([THREE], tools(), ENDING)
        outcome = send(io)
        assert isinstance(outcome, AwaitingApproval)
        answers = [say(token) for say, token in zip(given, outcome.tokens, strict=True)]
        again = resumed(io, ENDING, answers=by_token(answers))
        no = outcome.tokens[given.index(deny)]
        assert succeed(again) == ApprovalDenied(no)
        assert [effect[0] for effect in again.effects] == [ran]
        assert sorted(how(again).values()) == ["denied", "finished", "finished"]
        assert violations(again.log, closed=True) == []


def test_after_a_no_that_ends_the_run_nobody_is_asked_about_its_other_calls() -> None:
    """They are told as not run; what needs nobody is."""
    io = asked_at_once(lambda waiting: deny(waiting.token), ENDING, THREE)
    assert isinstance(send(io), ApprovalDenied)
    assert len(io.of(CallAnswered)) == 1
    assert how(io) == {"c1": "denied", "c2": "finished", "c3": "not_run"}
    assert violations(io.log, closed=True) == []


def test_a_call_that_waits_outlives_a_sibling_that_nobody_can_pay_for() -> None:
    """That one is told as not run; the run ends by its budget only when the other cannot be paid
    for either."""
    io = FakePorts([TWO], tools(), SUSPEND)
    io.limited, io.tool_calls = True, 0
    outcome = send(io)
    assert isinstance(outcome, AwaitingApproval)
    assert how(io) == {"c2": "not_run"}
    for affordable, ended in ((1, Completed("ok")), (0, BudgetExhausted("run.tool_calls"))):
        again = resumed(io, SUSPEND, answers=by_token([approve(outcome.tokens[0])]))
        again.limited, again.tool_calls = True, affordable
        assert succeed(again) == ended
        assert how(again)["c1"] == ("finished" if affordable else "not_run")
        assert [(r.by, r.what) for r in again.of(Decided) if r.at == "budget"] == [
            ("run.tool_calls", "refused")
        ] * (2 - affordable)
        assert violations(again.log, closed=True) == []


def test_a_batch_after_one_that_was_interrupted_as_it_waited_is_run() -> None:
    """Wherever the message that could not wait comes in."""
    next_batch = calls(call("d1", "list"), call("d2", "list"))
    interrupted_as_it_waited = False
    for step in range(1, 40):
        io = FakePorts([TWO, next_batch, text("ok")], tools(), SUSPEND)
        io.arrives = {step: Steer(Message.user("stop that"), mode="interrupt")}
        outcome = send(io)
        assert isinstance(outcome, AwaitingApproval | Completed)
        if how(io).get("c1") == "not_run" and "d1" in how(io):
            interrupted_as_it_waited = True
            assert how(io)["d1"] in ("finished", "interrupted", "not_run")
        assert violations(io.log, closed=True) == []
    assert interrupted_as_it_waited
