"""People who speak up or cancel, limits, endings, and what resuming goes on with."""

from __future__ import annotations

import pytest

from llm_client.types import (
    LLMRequest,
    LLMResponse,
    Message,
    Text,
    ToolResult,
    ToolSpec,
    Usage,
)
from power_loop.errors import OutputInvalid
from power_loop.events import RoundEnded, RoundStarted
from power_loop.pipeline.ports import ToolTraits
from power_loop.pipeline.run import GO_ON
from power_loop.session.machine import Phase
from power_loop.session.outcome import (
    Cancelled,
    Completed,
    PendingTools,
    RoundLimit,
)
from power_loop.session.records import (
    Record,
    RunClosed,
    RunOpened,
)
from tests.pipeline.fakes import FakePorts, FakeTool, Killed
from tests.pipeline.scripts import (
    call,
    calls,
    die,
    drive,
    plan,
    send,
    succeed,
    text,
    words,
)
from tests.session.checker import violations

READ = {"read": FakeTool("x")}


def steer(words: str = "by the way", id: str = "steer") -> Message:
    """What somebody says meanwhile."""
    return Message("user", (Text(words),), id=id)


def test_steering_that_arrives_with_the_answer_opens_another_round() -> None:
    """It is delivered in this run, once, and answered."""
    io = FakePorts()

    def answer(_: LLMRequest) -> LLMResponse:
        io.post(steer())
        return text("done")

    io = FakePorts([answer, text("by the way what?")])
    assert send(io) == Completed("by the way what?")
    assert words(io) == [
        "user: go",
        "assistant: done",
        "user: by the way",
        "assistant: by the way what?",
    ]
    assert io.waiting() == 0


def test_steering_that_arrives_while_the_run_closes_is_taken_first() -> None:
    """`close` says no, and the run goes on."""
    for step in range(1, 30):
        io = FakePorts([text("one"), text("two"), text("three")])
        io.arrives = {step: steer()}
        outcome = send(io)
        delivered = sum(m.id == "steer" for m in io.session.view)
        assert delivered + io.waiting() == (1 if step <= io.steps else 0)
        assert io.waiting() == 0, f"step {step}: left behind after {outcome}"
        assert violations(io.log, closed=True) == []


def test_steering_waits_for_the_results_of_open_calls() -> None:
    """Never between a call and its result; a run that suspends leaves it where it is."""
    kit = {"pay": FakeTool(traits=ToolTraits(external=True))}
    io = FakePorts([calls(call("c1", "pay"))], kit)
    io.arrives = {6: steer()}
    assert send(io) == PendingTools(("c1",))
    assert io.waiting() == 1
    assert [m.role for m in io.session.view] == ["user", "assistant"]


def test_the_same_message_can_be_said_twice() -> None:
    """Callers reuse values; each gets an id of its own in the session."""
    message = steer("again", "same")
    io = FakePorts([text("1"), text("2")])
    drive(io, RunOpened("r1", (message,)))
    drive(io, RunOpened("r2", (message,)))
    steered = FakePorts([text("1")], inbox=[message, message])
    send(steered)
    for ports in (io, steered):
        ids = [m.id for m in ports.session.view]
        assert len(ids) == len(set(ids))
        assert ids.count("same") == 1
        assert sum(m.text == "again" for m in ports.session.view) == 2


@pytest.mark.parametrize("step", range(1, 16))
def test_a_cancel_from_the_inbox_ends_the_run_at_its_next_step(step: int) -> None:
    """Legally, with what was said before it delivered, and never as a success."""
    io = FakePorts([calls(call("c1")), calls(call("c2")), text("done")], READ)
    io.arrives = {step: "enough"}
    io.post(steer())
    outcome = send(io)
    assert outcome == Cancelled("enough")
    assert io.waiting() == 0
    assert "steer" in {m.id for m in io.session.view}
    assert io.session.phase is Phase.IDLE
    assert violations(io.log, closed=True) == []


# ── limits, endings, resuming ─────────────────────────────────────────────────────────────────────


def test_the_last_word_is_asked_without_tools_and_its_calls_are_dropped() -> None:
    """It is stored, and guarded like any call."""
    template = LLMRequest((), tools=(ToolSpec("read", "d", {}),))
    io = FakePorts([calls(call("c1")), calls(call("c2"), words="half done")], READ)
    io.plan = plan(max_rounds=1, template=template)
    assert send(io) == RoundLimit(1, "half done")
    assert [len(request.tools) for request in io.requests] == [1, 0]
    assert len(io.effects) == 1
    assert words(io)[-1] == "assistant: half done"
    silent = FakePorts([calls(call("c1")), calls(call("c2"))], READ, plan=plan(max_rounds=1))
    assert send(silent) == RoundLimit(1, "")
    assert violations(silent.log, closed=True) == []


def test_a_run_that_is_resumed_after_a_round_limit_goes_on_with_the_task() -> None:
    """It has its full number of rounds again, and is not content with its own last word."""
    answers = [*[calls(call(f"c{n}")) for n in range(5)], text("all done")]
    answers.insert(2, text("half done"))
    io = FakePorts(answers, READ, plan=plan(max_rounds=2))
    assert send(io) == RoundLimit(2, "half done")
    io.plan = plan(max_rounds=4)
    assert succeed(io) == Completed("all done")
    assert f"user: {GO_ON}" in words(io)
    assert violations(io.log, closed=True) == []


def test_a_run_that_died_counts_its_rounds_on() -> None:
    """A crash in every round does not outrun the limit."""
    log: list[Record] = []
    for number in range(10):
        fresh = FakePorts(
            [calls(call(f"c{number}")), calls(call(f"d{number}"))],
            {"read": FakeTool("x", die)},
            log=log,
            plan=plan(max_rounds=3),
            prefix=f"p{number}-",
        )
        try:
            outcome = succeed(fresh) if log else send(fresh)
        except Killed:
            log = fresh.log[: fresh.durable]
            continue
        assert isinstance(outcome, RoundLimit)
        assert fresh.session.round == 4
        return
    raise AssertionError("the limit never came")


def test_an_answer_that_was_stored_before_the_process_died_is_not_asked_for_again() -> None:
    """The successor only closes."""
    io = FakePorts([text("42")])
    send(io)
    log = [record for record in io.log if not isinstance(record, RunClosed)]
    again = FakePorts([text("43")], log=log, prefix="j")
    assert succeed(again) == Completed("42")
    assert again.requests == []


def test_an_output_that_never_fits_ends_the_run_with_its_text() -> None:
    """After as many re-asks as were granted; the session stays legal and resumable."""

    def check(_: str) -> str:
        return "not JSON"

    checks = plan(check_output=check, output_reasks=2)
    io = FakePorts([text("a"), text("b"), text("c")], plan=checks)
    with pytest.raises(OutputInvalid) as caught:
        send(io)
    assert caught.value.text == "c"
    assert len(io.requests) == 3
    assert io.session.phase is Phase.SETTLE


def test_rounds_are_told_and_paced() -> None:
    """One beginning, one end and one chance for slow readers a round."""
    io = FakePorts([calls(call("c1")), text("ok")], READ)
    send(io)
    told = [event for event in io.events if isinstance(event, RoundStarted | RoundEnded)]
    assert told == [
        RoundStarted(1),
        RoundEnded(1, Usage(10, 5)),
        RoundStarted(2),
        RoundEnded(2, Usage(20, 10)),
    ]
    assert io.paces == 2


def test_a_tool_result_may_hold_more_than_text() -> None:
    """It is stored as the tool gave it."""
    result = ToolResult("c1", (Text("a"), Text("b")), is_error=True)
    io = FakePorts([calls(call("c1")), text("ok")], {"read": FakeTool(result)})
    send(io)
    assert io.session.view[2].parts == (result,)
