"""Each hook point of the model's side: where it fires, with what, and what its directives do."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from llm_client.errors import BadRequest, RateLimited, ServerError
from llm_client.types import LLMRequest, Message, ToolSpec
from power_loop.hooks import (
    LLM_AFTER,
    LLM_BEFORE,
    LLM_ERROR,
    MESSAGE_APPEND,
    POINTS,
    ROUND_END,
    ROUND_START,
    SESSION_END,
    SESSION_START,
    Break,
    HookContext,
    LlmBefore,
    LlmErrorRaised,
    Retry,
    RoundEnd,
    RoundStart,
    ShortCircuit,
    Skip,
)
from power_loop.session.outcome import Completed, Degraded, RoundLimit, Stopped
from power_loop.session.records import (
    MessageAppended,
    ModelAsked,
    ViewChanged,
)
from tests.pipeline.fakes import FakePorts, FakeTool, Killed
from tests.pipeline.scripts import (
    Handlers,
    call,
    calls,
    contexts,
    die,
    note,
    plan,
    send,
    succeed,
    text,
    words,
)
from tests.session.checker import violations

READ = {"read": FakeTool("x")}


# ── where each point fires ────────────────────────────────────────────────────────────────────────


def test_every_point_fires_at_its_place_in_a_round() -> None:
    """One run with one call, everybody listening."""
    hooks: Handlers = {point: lambda _: None for point in POINTS}
    compacted = iter([ViewChanged()])
    io = FakePorts(
        [calls(call("c1")), text("done")],
        READ,
        hooks,
        compact=lambda _: next(compacted, None),
        recall=lambda _: (note(),),
    )
    assert send(io) == Completed("done")
    assert io.names() == [
        "message.append",
        "session.start",
        "round.start",
        "memory.recalled",
        "compact.before",
        "compact.after",
        "llm.before",
        "llm.after",
        "message.append",
        "round.decide",
        "tools.batch.before",
        "tool.before",
        "tool.after",
        "message.append",
        "tools.batch.after",
        "round.end",
        "round.start",
        "compact.before",
        "llm.before",
        "llm.after",
        "message.append",
        "round.end",
        "complete.decide",
    ]
    fired = set(io.names())
    left = {point.name for point in POINTS} - fired
    assert left == {"llm.error", "tool.error", "approval.requested", "session.end"}


def test_every_context_says_where_it_is_and_carries_the_callers_deps() -> None:
    """The round is the newest that the model was asked in."""
    hooks: Handlers = {
        point: lambda _: None for point in POINTS if point not in (MESSAGE_APPEND, SESSION_END)
    }
    io = FakePorts([calls(call("c1")), text("done")], READ, hooks)
    send(io, run="r7")
    rounds: list[int] = []
    for _, context in io.fired:
        assert isinstance(context, HookContext)
        assert (context.session_id, context.run_id) == ("s", "r7")
        assert context.deps is io.deps  # pyright: ignore[reportUnknownMemberType] - of any type
        rounds.append(context.round)
    assert rounds == sorted(rounds)
    assert [c.round for c in contexts(io, RoundStart)] == [0, 1]
    assert [c.round for c in contexts(io, RoundEnd)] == [1, 2]


def test_a_point_that_nobody_listens_to_is_not_fired() -> None:
    """No context is built for nobody: the fake would say so."""
    io = FakePorts([calls(call("c1")), text("done")], READ)
    assert send(io) == Completed("done")
    assert io.fired == []


# ── session.start, round.start, round.end ─────────────────────────────────────────────────────────


def test_what_session_start_appends_is_durable_and_comes_after_the_input() -> None:
    """Once a run."""
    hooks: Handlers = {SESSION_START: lambda c: replace(c, append=(note("be brief"),))}
    io = FakePorts([text("ok")], hooks=hooks)
    send(io)
    assert words(io) == ["user: go", "user: be brief", "assistant: ok"]
    assert [r.message.text for r in io.of(MessageAppended)] == ["be brief", "ok"]
    assert [m.text for m in io.requests[0].messages] == ["go", "be brief"]


def test_what_session_start_appends_to_a_resumed_batch_waits_for_its_results() -> None:
    """Nothing comes between a call and its result, and nothing is lost."""
    io = FakePorts([calls(call("c1"))], {"read": FakeTool(die)})
    with pytest.raises(Killed):
        send(io)
    hooks: Handlers = {SESSION_START: lambda c: replace(c, append=(note(),))}
    tools = {"read": FakeTool("x")}
    again = FakePorts([text("ok")], tools, hooks, log=io.log[: io.durable], prefix="j")
    assert again.session.open_calls
    assert succeed(again) == Completed("ok")
    assert words(again) == ["user: go", "assistant: ", "tool: ", "user: remember", "assistant: ok"]
    assert violations(again.log, closed=True) == []


def test_what_round_start_appends_is_durable_each_round_under_an_id_of_its_own() -> None:
    """Also when the handler gives the very same message each time."""
    reminder = note()
    hooks: Handlers = {ROUND_START: lambda c: replace(c, append=(reminder, reminder))}
    io = FakePorts([calls(call("c1")), text("ok")], READ, hooks)
    assert send(io) == Completed("ok")
    reminders = [m for m in io.session.view if m.text == "remember"]
    assert len(reminders) == 4
    assert len({m.id for m in reminders}) == 4
    assert [m.text for m in io.requests[1].messages][-2:] == ["remember", "remember"]


def test_round_start_break_ends_the_run_before_the_model_is_asked() -> None:
    """With its reason."""
    io = FakePorts([text("never")], hooks={ROUND_START: lambda _: Break("enough")})
    assert send(io) == Stopped("enough")
    assert io.requests == []


def test_a_round_that_round_start_skips_counts() -> None:
    """Two of three are skipped, so one is left; a loop that skips all of them ends."""
    skips = iter([Skip(), Skip()])
    hooks: Handlers = {ROUND_START: lambda _: next(skips, None)}
    io = FakePorts([calls(call("c1")), text("last")], READ, hooks, plan=plan(max_rounds=3))
    assert send(io) == RoundLimit(3, "last")
    assert len(io.requests) == 2
    endless = FakePorts([text("last")], hooks={ROUND_START: lambda _: Skip()})
    assert send(endless) == RoundLimit(24, "last")
    assert len(endless.names()) == 24


def test_messages_are_read_only_at_the_start_and_show_the_view() -> None:
    """A context is a frozen value, and its messages are the view as it is."""
    seen: list[list[str]] = []

    def look(context: RoundStart) -> None:
        seen.append([message.role for message in context.messages])
        with pytest.raises(AttributeError):
            setattr(context, "messages", [])  # noqa: B010  that is what must not work

    io = FakePorts([calls(call("c1")), text("ok")], READ, {ROUND_START: look})
    send(io)
    assert seen == [["user"], ["user", "assistant", "tool"]]


def test_round_end_tells_what_the_round_came_to() -> None:
    """Its text, whether there were tools, and the tokens so far."""
    hooks: Handlers = {ROUND_END: lambda _: None}
    io = FakePorts([calls(call("c1"), words="look"), text("ok")], READ, hooks)
    send(io)
    first, second = contexts(io, RoundEnd)
    assert (first.response_text, first.has_tools) == ("look", True)
    assert (second.response_text, second.has_tools) == ("ok", False)
    assert first.usage.total_tokens == 15
    assert second.usage.total_tokens == 30


# ── llm.before, llm.after ─────────────────────────────────────────────────────────────────────────


def test_a_request_that_llm_before_rewrites_is_sent_once_and_not_stored() -> None:
    """The next round begins from what is stored."""
    extra = ToolSpec("t", "d", {})
    rewrites = iter([True])

    def rewrite(context: LlmBefore) -> LlmBefore | None:
        if not next(rewrites, False):
            return None
        messages = (*context.request.messages, note("psst"))
        request = replace(context.request, messages=messages, tools=(extra,), temperature=0.5)
        return replace(context, request=request)

    io = FakePorts([calls(call("c1")), text("ok")], READ, {LLM_BEFORE: rewrite})
    send(io)
    assert [m.text for m in io.requests[0].messages] == ["go", "psst"]
    assert io.requests[0].tools == (extra,)
    assert [m.role for m in io.requests[1].messages] == ["user", "assistant", "tool"]
    assert io.requests[1].temperature is None
    assert "psst" not in " ".join(words(io))
    assert violations(io.log, closed=True) == []


def test_llm_before_fires_once_a_round_and_not_for_each_attempt() -> None:
    """Its request holds for all attempts of the round."""
    rewritten = LLMRequest((Message.user("other"),))
    hooks: Handlers = {LLM_BEFORE: lambda c: replace(c, request=rewritten)}
    io = FakePorts([ServerError("x"), ServerError("x"), text("ok")], hooks=hooks)
    assert send(io) == Completed("ok")
    assert io.names() == ["llm.before"]
    assert io.requests == [rewritten] * 3


def test_llm_before_short_circuit_answers_without_a_request() -> None:
    """The answer is stored as if the model had given it, but of no attempt."""
    hooks: Handlers = {LLM_BEFORE: lambda _: ShortCircuit(text("from the cache"))}
    io = FakePorts(hooks=hooks)
    assert send(io) == Completed("from the cache")
    assert io.requests == []
    assert io.of(ModelAsked) == []
    assert [r.attempt for r in io.of(MessageAppended)] == [None]


def test_rounds_that_llm_before_answers_count() -> None:
    """A handler that always answers with calls does not run for ever."""
    number = iter(range(1000))

    def answer(_: LlmBefore) -> ShortCircuit:
        return ShortCircuit(calls(call(f"c{next(number)}"), words="again"))

    io = FakePorts(tools=READ, hooks={LLM_BEFORE: answer}, plan=plan(max_rounds=5))
    assert send(io) == RoundLimit(5, "again")
    assert len(io.effects) == 5
    assert violations(io.log, closed=True) == []


def test_llm_before_break_ends_the_run() -> None:
    """Nothing was asked."""
    io = FakePorts([text("never")], hooks={LLM_BEFORE: lambda _: Break("no")})
    assert send(io) == Stopped("no")
    assert io.requests == []


def test_what_llm_after_makes_of_an_answer_is_what_is_stored_and_run() -> None:
    """Text and calls."""

    def after(context: Any) -> Any:
        if context.response.tool_calls:
            return None
        return replace(context, response=calls(call("c1", arguments='{"a":1}'), words="look"))

    io = FakePorts(
        [text("hm"), text("x"), text("x")], READ, {LLM_AFTER: after}, plan=plan(max_rounds=1)
    )
    send(io)
    assert io.effects == [("c1", "read", '{"a":1}')]
    assert words(io)[1] == "assistant: look"


def test_llm_after_break_keeps_the_text_and_drops_the_calls() -> None:
    """The transcript stays legal, and the ending says why."""
    wanted = calls(call("c1"), call("c2"), words="I will delete it.")
    io = FakePorts([wanted], READ, {LLM_AFTER: lambda _: Break("not that")})
    assert send(io) == Stopped("not that")
    assert words(io) == ["user: go", "assistant: I will delete it."]
    assert io.effects == []
    assert violations(io.log, closed=True) == []


def test_llm_after_break_of_an_answer_without_text_leaves_nothing() -> None:
    """An empty message would be no answer, and some providers refuse it."""
    io = FakePorts([calls(call("c1"))], READ, {LLM_AFTER: lambda _: Break()})
    assert isinstance(send(io), Stopped)
    assert words(io) == ["user: go"]


# ── llm.error ─────────────────────────────────────────────────────────────────────────────────────


def test_llm_error_fires_once_after_all_retries() -> None:
    """With the last error and the number of attempts; without a directive the run degrades."""
    errors = [ServerError("one"), RateLimited("two"), ServerError("three")]
    io = FakePorts(errors, hooks={LLM_ERROR: lambda _: None})
    outcome = send(io)
    assert isinstance(outcome, Degraded)
    assert (outcome.attempts, "three" in outcome.reason) == (3, True)
    (context,) = contexts(io, LlmErrorRaised)
    assert context.error is errors[2]
    assert context.attempts == 3
    assert context.request is io.requests[0]
    assert context.round == 1


def test_llm_error_fires_at_once_for_what_no_retry_mends() -> None:
    """And without a directive that error ends the run."""
    error = BadRequest("no")
    io = FakePorts([error], hooks={LLM_ERROR: lambda _: None})
    with pytest.raises(BadRequest) as caught:
        send(io)
    assert caught.value is error
    assert [c.attempts for c in contexts(io, LlmErrorRaised)] == [1]


def test_llm_error_is_not_fired_when_a_retry_helps() -> None:
    """It is about calls that failed, not about attempts."""
    io = FakePorts([ServerError("x"), text("ok")], hooks={LLM_ERROR: lambda _: Break()})
    assert send(io) == Completed("ok")
    assert io.fired == []


def test_llm_error_short_circuit_answers_in_the_models_place() -> None:
    """Also for an error that would have ended the run; the round counts."""
    hooks: Handlers = {LLM_ERROR: lambda _: ShortCircuit(text("plan B"))}
    io = FakePorts([BadRequest("no")], hooks=hooks)
    assert send(io) == Completed("plan B")
    assert [r.attempt for r in io.of(MessageAppended)] == [None]
    assert io.session.round == 1


def test_llm_error_break_ends_the_run() -> None:
    """As stopped, not as degraded."""
    io = FakePorts([BadRequest("no")], hooks={LLM_ERROR: lambda _: Break("give up")})
    assert send(io) == Stopped("give up")


def test_llm_error_retry_counts_once_a_round() -> None:
    """It grants one more set of attempts; a second Retry in the round is not heard."""
    hooks: Handlers = {LLM_ERROR: lambda _: Retry()}
    io = FakePorts([ServerError("x")] * 20, hooks=hooks)
    assert isinstance(send(io), Degraded)
    assert len(io.requests) == 6
    assert io.names() == ["llm.error", "llm.error"]
    fatal = FakePorts([BadRequest("x")] * 20, hooks=hooks)
    with pytest.raises(BadRequest):
        send(fatal)
    assert len(fatal.requests) == 2


def test_llm_error_may_retry_again_in_the_next_round() -> None:
    """Once a round, not once a run."""
    hooks: Handlers = {LLM_ERROR: lambda _: Retry()}
    answers = [*[ServerError("x")] * 3, calls(call("c1")), *[ServerError("x")] * 3, text("ok")]
    io = FakePorts(answers, READ, hooks)
    assert send(io) == Completed("ok")
    assert io.names() == ["llm.error", "llm.error"]
