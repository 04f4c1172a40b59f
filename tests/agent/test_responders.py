"""Responders: people who are asked while the run goes on, and what goes wrong with them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from llm_client.types import LLMRequest
from power_loop import (
    AgentLoop,
    Answer,
    ApprovalRequest,
    Budget,
    CallbackResponder,
    Hooks,
    InputRequest,
    Responder,
    Store,
    SubAgent,
    answer,
    approve,
    ask_user_tool,
    deny,
    tool,
)
from power_loop.errors import UsageError
from power_loop.events import ResponderFailed, Stamped
from power_loop.hooks import TOOL_BEFORE, Suspend, ToolBefore
from power_loop.session.records import CallAnswered, CallWaiting, RunClosed, RunOpened, ToolSettled
from tests.agent.scripted import Gate, Reply, Scripted, calls, says
from tests.agent.support import check_log, events_of, log_of

pytestmark = pytest.mark.anyio

Request = ApprovalRequest | InputRequest


class Desk:
    """A program with a tool that needs approval and one that asks; `done` is what has run."""

    def __init__(self, *, ttl: float | None = None, end_on_denial: bool = False) -> None:
        self.done: list[str] = []
        self.seen: list[Stamped] = []
        self.hooks = Hooks()
        self._ttl = ttl
        self._ends = end_on_denial
        self.hooks.on(TOOL_BEFORE, self._ask, name="guard")

    def _ask(self, context: ToolBefore) -> Suspend | None:
        if context.name != "pay":
            return None
        return Suspend("it costs", "v1", "w1", self._ttl, end_on_denial=self._ends)

    def loop(
        self, llm: Scripted, responder: Responder, store: Store | None = None
    ) -> AgentLoop[Any]:
        @tool
        async def pay(amount: int) -> str:
            """Pays."""
            self.done.append(f"paid {amount}")
            return f"paid {amount}"

        tools = [pay, ask_user_tool()]
        loop = AgentLoop[Any](llm, tools=tools, hooks=self.hooks, responder=responder, store=store)
        loop.events.subscribe(self.seen.append, inline=True)
        return loop

    def failures(self) -> list[tuple[str, str]]:
        """What readers were told of the responder, as type and message."""
        return [(e.error_type, e.message) for e in events_of(ResponderFailed, self.seen)]


def paying(amount: int = 3) -> Scripted:
    return Scripted(calls(("a", "pay", {"amount": amount})), says("done"))


def asking(choices: list[str] | None = None) -> Scripted:
    wanted = {"question": "Which?"} | ({} if choices is None else {"choices": choices})
    return Scripted(calls(("q", "request_user_input", wanted)), says("done"))


async def test_a_responder_sees_what_is_asked_and_the_run_goes_on_with_its_answers() -> None:
    """In one run, each call of the batch once; the log says who answered."""
    asked: list[Request] = []

    async def respond(request: Request) -> Answer:
        asked.append(request)
        if isinstance(request, InputRequest):
            return answer(request.token, "red", by="ada")
        return approve(request.token, {"amount": 2}, by="ada")

    desk = Desk(ttl=60)
    llm = Scripted(
        calls(("a", "pay", {"amount": 3}), ("q", "request_user_input", {"question": "Which?"})),
        says("done"),
    )
    async with desk.loop(llm, respond) as loop:
        result = await loop.send("go")
        assert result.final_text == "done"
        log = await check_log(loop, result.session_id)
    assert desk.done == ["paid 2"]
    approval, question = asked
    assert isinstance(approval, ApprovalRequest)
    assert isinstance(question, InputRequest)
    waiting = {r.call_id: r for r in log if isinstance(r, CallWaiting)}
    shown = (approval.tool, approval.arguments, approval.reason, approval.by)
    assert shown == ("pay", '{"amount":3}', "it costs", "guard")
    assert (approval.version, approval.world, approval.end_on_denial) == ("v1", "w1", False)
    assert approval.args_hash == waiting["a"].args_hash
    assert approval.expires == approval.created + 60
    assert (approval.session_id, question.session_id) == (result.session_id,) * 2
    assert approval.run_id == question.run_id
    assert (question.tool, question.question) == ("request_user_input", "Which?")
    said = {r.call_id: (r.answer, r.by, r.arguments) for r in log if isinstance(r, CallAnswered)}
    assert said == {"a": ("approve", "ada", '{"amount":2}'), "q": ("red", "ada", "")}
    assert desk.failures() == []


async def nothing(_: Request) -> None:
    """Leaves it open."""


async def broken(_: Request) -> Answer:
    """Fails."""
    raise OSError("the pager is off")


async def foreign(_: Request) -> Answer:
    """Answers something else."""
    return approve("another")


async def no_answer(_: Request) -> Any:
    """Answers with what is no answer."""
    return True


async def wrong_kind(request: Request) -> Answer:
    """Takes an approval for a question, and the other way round."""
    if isinstance(request, InputRequest):
        return approve(request.token)
    return answer(request.token, "yes")


async def unreadable(request: Request) -> Answer:
    """Approves arguments that are none."""
    return Answer(request.token, "approve", arguments="[1]")


@pytest.mark.parametrize(
    ("respond", "told"),
    [
        (nothing, None),
        (broken, ("OSError", "the pager is off")),
        (foreign, ("AnswerRefused", "not about 'another'")),
        (no_answer, ("AnswerRefused", "not with a value of type bool")),
        (wrong_kind, ("AnswerRefused", "it takes approve(")),
        (unreadable, ("AnswerRefused", "cannot be approved with other arguments")),
    ],
)
async def test_what_goes_wrong_with_a_responder_leaves_the_call_open(
    respond: Responder, told: tuple[str, str] | None
) -> None:
    """Nothing runs, the run ends as without one, and the same token can be answered later."""
    desk = Desk()
    async with desk.loop(paying(), respond) as loop:
        waiting = await loop.send("go")
        session = waiting.session_id
        assert waiting.status == "awaiting_approval"
        assert desk.done == []
        if told is None:
            assert desk.failures() == []
        else:
            ((kind, message),) = desk.failures()
            assert kind == told[0]
            assert told[1] in message
        (call,) = await loop.get_pending(session)
        done = await loop.resume(session, answers=[approve(call.token)])
        assert done.final_text == "done"
        await check_log(loop, session)
    assert desk.done == ["paid 3"]


async def test_an_answer_that_does_not_fit_the_schema_leaves_the_question_open() -> None:
    """As one that comes by resume() does; the caller's own is then taken."""

    async def respond(request: Request) -> Answer:
        return answer(request.token, "green")

    desk = Desk()
    async with desk.loop(asking(["red", "blue"]), respond) as loop:
        waiting = await loop.send("go")
        assert waiting.status == "waiting_for_input"
        ((kind, message),) = desk.failures()
        assert kind == "AnswerRefused"
        assert "does not fit its schema" in message
        (call,) = await loop.get_pending(waiting.session_id)
        done = await loop.resume(waiting.session_id, answers=[answer(call.token, "blue")])
        assert done.final_text == "done"
        await check_log(loop, waiting.session_id)


async def test_an_answer_given_to_resume_is_taken_without_asking_anybody() -> None:
    """And what is answered there is not put to the responder first."""
    asked: list[Request] = []

    async def respond(request: Request) -> None:
        asked.append(request)

    desk = Desk()
    async with desk.loop(paying(), respond) as loop:
        waiting = await loop.send("go")
        (call,) = await loop.get_pending(waiting.session_id)
        await loop.resume(waiting.session_id, answers=[deny(call.token)])
    assert len(asked) == 1
    assert desk.done == []


async def test_a_run_that_is_resumed_has_its_open_calls_put_to_the_responder() -> None:
    """One that had no answer then may have one now; what is asked is the same to the last field."""
    asked: list[Request | None] = []

    async def respond(request: Request) -> Answer | None:
        asked.append(request)
        return approve(request.token) if len(asked) == 5 else None

    desk = Desk()
    async with desk.loop(paying(), respond) as loop:
        waiting = done = await loop.send("go")
        for _ in range(2):
            asked += [call.request for call in await loop.get_pending(waiting.session_id)]
            done = await loop.resume(waiting.session_id)
        assert done.final_text == "done"
        await check_log(loop, waiting.session_id)
    assert asked == [asked[0]] * 5
    assert asked[0] is not None
    assert asked[0].run_id == waiting.run_id
    assert desk.done == ["paid 3"]


async def test_a_denial_ends_the_run_where_the_rule_says_so() -> None:
    """At once; the model is not asked again."""

    async def respond(request: Request) -> Answer:
        return deny(request.token, "no money")

    desk = Desk(end_on_denial=True)
    llm = paying()
    async with desk.loop(llm, respond) as loop:
        result = await loop.send("go")
        assert result.status == "approval_denied"
        assert len(llm.requests) == 1
        log = await check_log(loop, result.session_id)
    (settled,) = [r for r in log if isinstance(r, ToolSettled)]
    assert settled.how == "denied"
    assert "no money" in str(settled.message)


async def test_a_request_that_expires_while_somebody_thinks_is_left_open() -> None:
    """The wait ends with the time that was given; what is asked for next has a new token."""
    stopped: list[str] = []

    async def respond(request: Request) -> Answer:
        try:
            await anyio.sleep_forever()
        finally:
            stopped.append(request.token)
        raise AssertionError

    desk = Desk(ttl=0.01)
    async with desk.loop(paying(), respond) as loop:
        with anyio.fail_after(5):
            result = await loop.send("go")
        assert result.resumable
        assert desk.done == []
        assert len(stopped) >= 1
        log = await check_log(loop, result.session_id)
    tokens = [r.token for r in log if isinstance(r, CallWaiting)]
    assert stopped == tokens
    assert len(set(tokens)) == len(tokens)
    assert [r.answer for r in log if isinstance(r, CallAnswered)] == ["expired"] * (len(tokens) - 1)


async def test_the_wait_for_a_person_is_no_working_time() -> None:
    """A budget of it is not used up by somebody who thinks."""
    thinking = 0.2

    async def respond(request: Request) -> Answer:
        until = time.monotonic() + thinking
        while time.monotonic() < until:
            await anyio.lowlevel.checkpoint()
        return approve(request.token)

    desk = Desk()
    async with desk.loop(paying(), respond) as loop:
        result = await loop.send("go", budget=Budget(working_seconds=thinking / 2))
        assert result.status == "completed"
        log = await check_log(loop, result.session_id)
    closed = log[-1]
    assert isinstance(closed, RunClosed)
    assert closed.wall_seconds >= thinking > closed.working_seconds


@pytest.mark.parametrize("mode", ["cancel", "interrupt"])
async def test_a_run_that_is_stopped_does_not_wait_for_an_answer(mode: str) -> None:
    """A cancelled run gives the call up; one that is interrupted tells of it as not run."""
    gate = Gate()
    stopped: list[str] = []

    async def respond(request: Request) -> None:
        try:
            await gate.wait()
        finally:
            stopped.append(request.token)

    desk = Desk()
    async with desk.loop(paying(), respond) as loop:
        async with loop.stream("go") as run:
            with anyio.fail_after(5):
                await gate.reached.wait()
                if mode == "cancel":
                    run.cancel("enough")
                else:
                    await loop.steer(run.session_id, "stop that", mode="interrupt")
                result = await run.result()
        assert len(stopped) == 1
        assert desk.done == []
        log = await check_log(loop, result.session_id)
    assert result.status == ("cancelled" if mode == "cancel" else "completed")
    (settled,) = [r for r in log if isinstance(r, ToolSettled)]
    assert settled.how != "finished"


async def test_what_a_session_below_waits_for_is_asked_with_its_own_name() -> None:
    """The call above does not wait for anybody; the run goes on at both levels."""
    asked: list[Request] = []

    async def respond(request: Request) -> Answer:
        asked.append(request)
        return approve(request.token, by="ada")

    def delegating(request: LLMRequest) -> Reply:
        last = request.messages[-1]
        if last.role == "tool":
            return says("done")
        if last.text == "go":
            return calls(("c1", "helper", {"task": "pay 3"}))
        return calls(("p1", "pay", {"amount": 3}))

    @tool
    async def pay(amount: int) -> str:
        """Pays."""
        return f"paid {amount}"

    hooks = Hooks()
    hooks.on(TOOL_BEFORE, lambda c: Suspend("it costs") if c.name == "pay" else None, name="guard")
    helper = SubAgent("helper", "Helps.", tools=[pay])
    llm = Scripted(by=delegating)
    async with AgentLoop[Any](llm, tools=[helper], hooks=hooks, responder=respond) as loop:
        result = await loop.send("go")
        assert result.final_text == "done"
        below = f"{result.session_id}/c1"
        log = await log_of(loop, below)
    (request,) = asked
    assert (request.session_id, request.call_id, request.tool) == (below, "p1", "pay")
    opened = next(r for r in log if isinstance(r, RunOpened))
    assert request.run_id == opened.run


# ── a function ────────────────────────────────────────────────────────────────────────────────────


Function = Callable[[Request], object]


async def yes(_: Request) -> bool:
    """Allows it."""
    return True


def giving(value: object) -> Function:
    """A function that always says this."""
    return lambda _: value


def less(request: Request) -> Answer:
    """Allows less."""
    return approve(request.token, {"amount": 1})


def never(request: Request) -> Answer:
    """Says why not."""
    return deny(request.token, "never")


def failing(_: Request) -> bool:
    """Fails."""
    raise OSError("the pager is off")


@pytest.mark.parametrize(
    ("function", "done", "note"),
    [
        (giving(True), ["paid 3"], ""),
        (yes, ["paid 3"], ""),
        (giving(False), [], ""),
        (less, ["paid 1"], ""),
        (never, [], "never"),
        (giving(1), [], "nobody could decide: TypeError: the callback answered with a value of"),
        (giving("yes"), [], "nobody could decide: TypeError: the callback answered with a v"),
        (failing, [], "nobody could decide: OSError: the pager is off"),
    ],
)
async def test_a_function_decides_and_denies_what_it_cannot_decide(
    function: Function, done: list[str], note: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The note says why, the log of the program as well; synchronous or not."""
    desk = Desk()
    async with desk.loop(paying(), CallbackResponder(function, by="callback")) as loop:
        with caplog.at_level(logging.WARNING, logger="power_loop"):
            result = await loop.send("go")
        assert result.final_text == "done"
        log = await check_log(loop, result.session_id)
    assert desk.done == done
    (answered,) = [r for r in log if isinstance(r, CallAnswered)]
    assert answered.note.startswith(note) if note else answered.note == ""
    assert answered.answer == ("approve" if done else "deny")
    assert ("could not decide" in caplog.text) == note.startswith("nobody")


async def test_a_function_that_takes_too_long_has_not_decided() -> None:
    """A thread that it runs in is left behind; nothing it says later counts."""
    release = threading.Event()
    left = threading.Event()

    def slow(_: Request) -> bool:
        release.wait(10)
        left.set()
        return True

    desk = Desk()
    try:
        async with desk.loop(paying(), CallbackResponder(slow, timeout=0.02)) as loop:
            with anyio.fail_after(5):
                result = await loop.send("go")
            log = await check_log(loop, result.session_id)
    finally:
        release.set()
    assert left.wait(5)
    assert desk.done == []
    (answered,) = [r for r in log if isinstance(r, CallAnswered)]
    assert (answered.answer, answered.by) == ("deny", "callback")
    assert answered.note == "nobody could decide: it took longer than 0.02 s"


@pytest.mark.parametrize(
    ("function", "status", "failed"),
    [
        (giving("red"), "completed", 0),
        (giving(None), "waiting_for_input", 0),
        (failing, "waiting_for_input", 1),
        (giving("green"), "waiting_for_input", 1),
        (giving(object()), "waiting_for_input", 1),
    ],
)
async def test_a_function_answers_a_question_or_leaves_it_open(
    function: Function, status: str, failed: int
) -> None:
    """There is no answer that stands for none."""
    desk = Desk()
    async with desk.loop(asking(["red", "blue"]), CallbackResponder(function)) as loop:
        result = await loop.send("go")
        assert result.status == status
        assert len(desk.failures()) == failed
        await check_log(loop, result.session_id)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "x", None])
def test_a_function_has_a_finite_time(timeout: Any) -> None:
    """Said when it is made."""
    with pytest.raises(UsageError, match="timeout must be a finite number"):
        CallbackResponder(yes, timeout=timeout)


def test_what_cannot_be_called_answers_nothing() -> None:
    """Said when it is made, not when the first call waits."""
    nobody: Any = 5
    with pytest.raises(UsageError, match="a CallbackResponder asks a function, not 5"):
        CallbackResponder(nobody)
    with pytest.raises(UsageError, match="cannot be done with 5"):
        AgentLoop(paying(), responder=nobody)
