"""A call that has failed, and is to be tried again: it is judged like any that is to run."""

from __future__ import annotations

import pytest

from power_loop.agent.answers import approve, by_token, deny
from power_loop.hooks import (
    TOOL_BEFORE,
    TOOL_ERROR,
    Break,
    Retry,
    Skip,
    Suspend,
    ToolBefore,
    ToolErrorRaised,
)
from power_loop.pipeline.plan import Answer
from power_loop.session.outcome import AwaitingApproval, Completed, Outcome, Stopped
from power_loop.session.records import CallWaiting, ToolSettled
from tests.pipeline.fakes import FakePorts, FakeTool
from tests.pipeline.scripts import (
    Handlers,
    broken,
    call,
    calls,
    contexts,
    plan,
    send,
    succeed,
    text,
)
from tests.session.checker import violations

ONE = calls(call("c1", "pay", '{"n":1}'))
RETRIED: Handlers = {TOOL_BEFORE: lambda _: Suspend("it pays"), TOOL_ERROR: lambda _: Retry()}


def kit() -> dict[str, FakeTool]:
    """A payment that fails at first."""
    return {"pay": FakeTool(broken("no network"), "paid")}


def go_on(io: FakePorts, *answers: Answer, tools: dict[str, FakeTool]) -> tuple[FakePorts, Outcome]:
    """The session in a new process."""
    hooks = dict(RETRIED)
    again = FakePorts(
        [text("ok")],
        tools,
        hooks,
        log=io.log[: io.durable],
        plan=plan(answers=by_token(answers)),
        prefix=f"p{len(io.log)}.",
    )
    return again, succeed(again)


def waiting_to_try_again() -> tuple[FakePorts, AwaitingApproval, dict[str, FakeTool]]:
    """A payment that was allowed, has failed, and waits for another yes."""
    tools = kit()
    io = FakePorts([ONE], tools, RETRIED)
    outcome = send(io)
    assert isinstance(outcome, AwaitingApproval)
    io, again = go_on(io, approve(outcome.tokens[0]), tools=tools)
    assert isinstance(again, AwaitingApproval)
    assert again.tokens != outcome.tokens
    assert len(io.effects) == 1
    return io, again, tools


def test_a_leave_is_used_up_by_the_start_that_failed() -> None:
    """Whoever had asked asks again; with the second yes the same call runs under the same key."""
    io, asked, tools = waiting_to_try_again()
    io, outcome = go_on(io, approve(asked.tokens[0]), tools=tools)
    assert outcome == Completed("ok")
    assert io.effects == [("c1", "pay", '{"n":1}')]
    assert io.results() == {"c1": "paid"}
    assert violations(io.log, closed=True) == []


def test_a_person_who_does_not_want_another_try_is_heard() -> None:
    """The model is told that the call had failed, and not that its program had died."""
    io, asked, tools = waiting_to_try_again()
    io, outcome = go_on(io, deny(asked.tokens[0], "enough"), tools=tools)
    assert outcome == Completed("ok")
    assert io.effects == []
    assert io.results()["c1"].endswith(
        "It had failed. A person did not allow that. They say: enough"
    )
    assert [r.how for r in io.of(ToolSettled)] == ["interrupted"]
    assert violations(io.log, closed=True) == []


def test_what_waits_for_another_try_waits_on_where_nobody_answers() -> None:
    """It is not in doubt: nobody decides about it but whoever is asked."""
    io, asked, tools = waiting_to_try_again()
    io, outcome = go_on(io, tools=tools)
    assert outcome == asked
    assert not io.session.open_calls["c1"].lost


def test_another_try_is_judged_as_it_would_run() -> None:
    """By every handler, which sees that it is the second attempt."""
    hooks: Handlers = {TOOL_BEFORE: lambda _: None, TOOL_ERROR: lambda _: Retry()}
    io = FakePorts([ONE, text("ok")], kit(), hooks)
    assert send(io) == Completed("ok")
    assert [(c.attempt, c.arguments) for c in contexts(io, ToolBefore)] == [
        (1, '{"n":1}'),
        (2, '{"n":1}'),
    ]
    assert io.results() == {"c1": "paid"}


@pytest.mark.parametrize("instead", [Skip("not twice"), Break("enough")])
def test_a_handler_that_forbids_another_try_leaves_the_call_failed(instead: Skip | Break) -> None:
    """What it came to is known, so that is told."""
    hooks: Handlers = {
        TOOL_BEFORE: lambda c: instead if c.attempt > 1 else None,
        TOOL_ERROR: lambda _: Retry(),
    }
    io = FakePorts([ONE, text("ok")], kit(), hooks)
    ended = Completed("ok") if isinstance(instead, Skip) else Stopped("enough")
    assert send(io) == ended
    assert len(io.effects) == 1
    assert io.results() == {"c1": "no network"}
    assert [r.how for r in io.of(ToolSettled)] == ["finished"]
    assert len(contexts(io, ToolErrorRaised)) == 1
    assert violations(io.log, closed=True) == []


def test_somebody_who_is_there_allows_or_forbids_another_try_at_once() -> None:
    """The first yes is not a second one."""
    for allowed in (2, 1):
        io = FakePorts([ONE, text("ok")], kit(), RETRIED)

        def say(waiting: CallWaiting, io: FakePorts = io, allowed: int = allowed) -> Answer:
            asked = len(io.of(CallWaiting))
            return approve(waiting.token) if asked <= allowed else deny(waiting.token)

        io.responds, io.respondent = True, say
        assert send(io) == Completed("ok")
        assert len(io.effects) == allowed
        assert violations(io.log, closed=True) == []
