"""Scenarios over the fake ports: each runs to its end and gives the processes it took."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llm_client.errors import BadRequest, ServerError
from llm_client.types import Message, Text, ToolResult
from power_loop.agent.answers import approve, by_token, deny
from power_loop.hooks import (
    COMPLETE_DECIDE,
    TOOL_BEFORE,
    CompleteDecide,
    Continue,
    Skip,
    Suspend,
    ToolBefore,
)
from power_loop.pipeline.ports import ToolTraits
from power_loop.session.outcome import (
    AwaitingApproval,
    Cancelled,
    Completed,
    Degraded,
    PendingTools,
    RoundLimit,
)
from tests.pipeline.fakes import FakePorts, FakeTool, Killed
from tests.pipeline.scripts import call, calls, die, failed, plan, run, send, succeed, text

__all__ = [
    "SCENARIOS",
    "Lived",
    "approval_and_resume",
    "cancelled_from_the_inbox",
    "complete_decide_continues",
    "crash_in_doubt",
    "external_tool",
    "fatal_error",
    "one_tool",
    "retries_exhausted",
    "retry_then_ok",
    "round_limit_with_last_word",
    "steer_mid_run",
    "structured_output_asked_again",
    "text_only",
    "two_parallel_tools",
]

Lived = tuple[FakePorts, ...]
"""The processes of a session, one after the other; the last has its whole log."""

IDEMPOTENT = ToolTraits(idempotent=True)


def approval_for_delete(context: ToolBefore) -> Suspend | Skip | None:
    """A policy: deletions are approved by a person, and some calls are none of our business."""
    match context.name:
        case "delete":
            return Suspend("it deletes")
        case "gossip":
            return Skip("we do not gossip")
        case _:
            return None


def text_only() -> Lived:
    """A question and its answer."""
    io = FakePorts([text("4")])
    assert send(io, "2+2?") == Completed("4")
    return (io,)


def one_tool() -> Lived:
    """A call, its result, the answer."""
    wanted = calls(call("c1", "read", '{"path":"a"}'), words="Let me look.")
    io = FakePorts([wanted, text("It says hi.")], {"read": FakeTool("hi")})
    assert send(io) == Completed("It says hi.")
    return (io,)


def two_parallel_tools() -> Lived:
    """The second settles first; the view has them in call order."""
    io = FakePorts(
        [calls(call("c1", "slow"), call("c2", "fast")), text("done")],
        {"slow": FakeTool("late"), "fast": FakeTool("early")},
        choose=lambda running: running - 1,
    )
    assert send(io) == Completed("done")
    assert list(io.results()) == ["c1", "c2"]
    return (io,)


def retry_then_ok() -> Lived:
    """A failed attempt stays in the log with what had arrived of it."""
    io = FakePorts([failed(ServerError("503", status=503), "Hel"), text("Hello")])
    assert send(io) == Completed("Hello")
    assert io.sleeps == [0.5 * 1.125]
    return (io,)


def retries_exhausted() -> Lived:
    """The provider does not come back."""
    io = FakePorts([ServerError("503", status=503)] * 3)
    assert isinstance(send(io), Degraded)
    return (io,)


def round_limit_with_last_word() -> Lived:
    """Two rounds of calls, then a last word without tools; resumed, it goes on."""
    io = FakePorts(
        [calls(call("c1")), calls(call("c2")), text("read twice"), text("all read")],
        {"read": FakeTool("x")},
        plan=plan(max_rounds=2),
    )
    assert send(io) == RoundLimit(2, "read twice")
    assert succeed(io) == Completed("all read")
    return (io,)


def approval_and_resume() -> Lived:
    """Two deletions wait, one is allowed; a third call is skipped, a fourth runs meanwhile."""
    wanted = calls(
        call("c1", "delete", '{"n":1}'), call("c2", "delete", '{"n":2}'), call("c3", "gossip"),
        call("c4"),
    )  # fmt: skip
    tools = {name: FakeTool(f"{name} done") for name in ("delete", "gossip", "read")}
    hooks = {TOOL_BEFORE: approval_for_delete}
    io = FakePorts([wanted], tools, hooks)
    outcome = send(io)
    assert isinstance(outcome, AwaitingApproval)
    one, two = outcome.tokens
    again = FakePorts(
        [text("one is gone")],
        tools,
        hooks,
        log=io.log,
        plan=plan(answers=by_token([approve(one), deny(two)])),
        prefix="j",
    )
    assert succeed(again) == Completed("one is gone")
    assert again.effects == [("c1", "delete", '{"n":1}')]
    return io, again


def external_tool() -> Lived:
    """A tool that the caller runs: the run ends pending, and goes on with its result."""
    tools = {"pay": FakeTool(traits=ToolTraits(external=True))}
    io = FakePorts([calls(call("c1", "pay"))], tools)
    assert send(io) == PendingTools(("c1",))
    given = {"c1": ToolResult("c1", (Text("paid"),))}
    again = FakePorts([text("thanks")], tools, log=io.log, plan=plan(decisions=given), prefix="j")
    assert succeed(again) == Completed("thanks")
    return io, again


def steer_mid_run() -> Lived:
    """Somebody speaks up while a tool runs; it enters at the next round."""
    io = FakePorts([calls(call("c1")), text("in French: bonjour")])

    def read(_: object) -> str:
        io.post(Message("user", (Text("in French, please"),), id="steer1"))
        return "hello"

    io.tools["read"] = FakeTool(read)
    assert send(io) == Completed("in French: bonjour")
    return (io,)


def crash_in_doubt() -> Lived:
    """Dead while two of three tools run: only the one that may is run again."""
    wanted = calls(call("c1", "read"), call("c2", "pay"), call("c3", "put"))

    tools = {
        "read": FakeTool("x"),
        "pay": FakeTool("paid"),
        "put": FakeTool(die, "put", traits=IDEMPOTENT),
    }
    # The first runs to its end, the second is begun, the third is when the process dies.
    io = FakePorts([wanted], tools, choose=lambda n: n - 1 if len(io.effects) > 1 else 0)
    with pytest.raises(Killed):
        send(io)
    again = FakePorts([text("done")], tools, log=io.log[: io.durable], prefix="j")
    assert succeed(again) == Completed("done")
    assert [effect[0] for effect in io.effects] == ["c1", "c2", "c3"]
    assert [effect[0] for effect in again.effects] == ["c3"]
    return io, again


def complete_decide_continues() -> Lived:
    """A hook is not content yet, once."""

    def decide(context: CompleteDecide) -> Continue | None:
        return Continue("Check it.", 1) if context.fire_count == 1 else None

    io = FakePorts([text("4"), text("4, checked")], hooks={COMPLETE_DECIDE: decide})
    assert send(io) == Completed("4, checked")
    return (io,)


def structured_output_asked_again() -> Lived:
    """An answer of the wrong form is given back with what is wrong."""

    def check(answer: str) -> str | None:
        return None if answer == "{}" else "not an object"

    io = FakePorts([text("here you go"), text("{}")], plan=plan(check_output=check))
    assert send(io) == Completed("{}")
    return (io,)


def cancelled_from_the_inbox() -> Lived:
    """A cancel that was posted is taken at the next round."""
    io = FakePorts([calls(call("c1"))])

    def read(_: object) -> str:
        io.post("by the user")
        return "x"

    io.tools["read"] = FakeTool(read)
    assert send(io) == Cancelled("by the user")
    return (io,)


def fatal_error() -> Lived:
    """An error that trying again does not mend ends the run, and is closed by its driver."""
    io = FakePorts([BadRequest("no such parameter", status=400)])
    run(io)
    return (io,)


SCENARIOS: dict[str, Callable[[], Lived]] = {
    function.__name__: function
    for function in (
        text_only,
        one_tool,
        two_parallel_tools,
        retry_then_ok,
        retries_exhausted,
        round_limit_with_last_word,
        approval_and_resume,
        external_tool,
        steer_mid_run,
        crash_in_doubt,
        complete_decide_continues,
        structured_output_asked_again,
        cancelled_from_the_inbox,
        fatal_error,
    )
}
"""All of them, by name."""
