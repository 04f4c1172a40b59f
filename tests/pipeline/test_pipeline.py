"""What the pipeline does with answers, calls, people and limits, without any hooks."""

from __future__ import annotations

from contextlib import suppress

import pytest

from llm_client.errors import ContextOverflow, LLMError, RateLimited, ServerError
from llm_client.retry import RetryPolicy
from llm_client.types import (
    LLMResponse,
    Message,
    Seal,
    StopReason,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
)
from power_loop.events import RetryScheduled, TextRepaired
from power_loop.pipeline.ports import ToolTraits
from power_loop.pipeline.run import run_pipeline
from power_loop.session.outcome import (
    Completed,
    Degraded,
    Failed,
    PendingTools,
)
from power_loop.session.records import (
    MessageAppended,
    ModelAsked,
    ModelEnded,
    RunOpened,
    ToolSettled,
    ToolStarted,
)
from tests.pipeline.fakes import FakePorts, FakeTool, Killed
from tests.pipeline.scripts import (
    broken,
    call,
    calls,
    die,
    failed,
    plan,
    run,
    send,
    succeed,
    text,
)
from tests.session.checker import transcript_violations, violations

READ = {"read": FakeTool("x")}


def steer(words: str = "by the way", id: str = "steer") -> Message:
    """What somebody says meanwhile."""
    return Message("user", (Text(words),), id=id)


def test_the_whole_pipeline_runs_in_one_send() -> None:
    """Purity: it does no I/O of its own, so with ports that never suspend it never does."""
    wanted = calls(call("c1"), call("c2", "list"), call("c3", "fails"))
    io = FakePorts(
        [ServerError("x"), wanted, calls(call("c4")), text("done")],
        READ | {"list": FakeTool("y"), "fails": FakeTool(broken())},
        compact=lambda _: None,
        recall=lambda _: (steer("remembered", "m"),),
    )
    opening = RunOpened("r1", (Message.user("go"),))
    coroutine = run_pipeline(io, [opening])
    with pytest.raises(StopIteration) as done:
        coroutine.send(None)
    assert done.value.value == Completed("done")
    assert violations(io.log, closed=True) == []


# ── answers ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stop", [StopReason.LENGTH, StopReason.CONTENT_FILTER])
def test_the_last_call_of_an_answer_that_was_cut_off_is_never_run(stop: StopReason) -> None:
    """Even if what arrived of its arguments is valid JSON; the calls before it are whole (A03)."""
    wanted = calls(call("c1"), call("c2", arguments='{"path":"/"}'), stop=stop)
    io = FakePorts([wanted, text("ok")], READ)
    assert send(io) == Completed("ok")
    assert [effect[0] for effect in io.effects] == ["c1"]
    assert "cut off" in io.results()["c2"]


@pytest.mark.parametrize(
    "arguments", ['{"a"', "[1]", '"x"', "1", "null", '{"a":NaN}', '{"a":1,}', "{'a':1}", "{" * 5000]
)
def test_arguments_that_are_no_json_object_are_never_run_a04(arguments: str) -> None:
    """Whatever the finish reason; the model is told what is wrong and that nothing ran (A04)."""
    io = FakePorts([calls(call("c1", arguments=arguments), call("c2")), text("ok")], READ)
    assert send(io) == Completed("ok")
    assert [effect[0] for effect in io.effects] == ["c2"]
    assert io.results()["c1"].startswith("[not run] the arguments are not")
    assert [r.how for r in io.of(ToolSettled)] == ["not_run", "finished"]


@pytest.mark.parametrize("arguments", ["", "  ", "{}"])
def test_no_arguments_are_an_empty_object(arguments: str) -> None:
    """Many servers write a call without parameters like that."""
    io = FakePorts([calls(call("c1", arguments=arguments)), text("ok")], READ)
    send(io)
    ((_, _, given),) = io.effects
    assert given.strip() in ("", "{}")
    assert how_many(io, "read") == 1


def how_many(io: FakePorts, name: str) -> int:
    """How often a tool ran."""
    return sum(effect[1] == name for effect in io.effects)


def test_refused_calls_settle_in_the_very_commit_that_appends_them() -> None:
    """No death in between can make them look as if they were still to be run."""
    for step in range(1, 20):
        io = FakePorts([calls(call("c1", arguments="{"), call("c2")), text("ok")], READ)
        io.kill_at = step
        with suppress(Killed):
            send(io)
        ids = [r.message.id for r in io.log if isinstance(r, MessageAppended | ToolSettled)]
        assert ("c1.result" in ids) == any(r.message.tool_calls for r in io.of(MessageAppended))


def test_calls_without_an_id_of_their_own_get_one() -> None:
    """Empty, twice the same, known from before, or taken by another call's result."""
    wanted = calls(call(""), call(""), call("c1"), call("c1"), call("c1.result"), call("run0"))
    io = FakePorts([wanted, calls(call("c1")), text("ok")], READ)
    assert send(io) == Completed("ok")
    ids = [effect[0] for effect in io.effects]
    assert len(ids) == len(set(ids)) == 7
    assert ids[2] == "c1"
    assert transcript_violations(io.session.view) == []


@pytest.mark.parametrize("parts", [(), (Text(""),)])
def test_an_answer_of_nothing_is_still_a_legal_message(parts: tuple[Text, ...]) -> None:
    """Every protocol wants some content."""
    io = FakePorts([LLMResponse(parts, StopReason.END)])
    assert send(io) == Completed("")
    assert transcript_violations(io.session.view) == []


def test_a_finish_for_tool_calls_without_any_is_an_end_f02() -> None:
    """It does not make the loop go round for ever (F02)."""
    io = FakePorts([LLMResponse((Text("hm"),), StopReason.TOOL_CALLS)])
    assert send(io) == Completed("hm")


def test_a_refusal_is_the_answer_where_there_is_no_other() -> None:
    """Its words are kept."""
    io = FakePorts([LLMResponse((), StopReason.REFUSAL, refusal="I cannot do that.")])
    assert send(io) == Completed("I cannot do that.")


def test_text_that_no_provider_takes_is_replaced_wherever_a_model_or_tool_put_it() -> None:
    """With an event each; what is stored can be sent."""
    answer = LLMResponse(
        (
            Thinking("t\x00", Seal("anthropic", "signed")),
            Text("a\ud800b"),
            ToolCall("c\x00", "read", '{"x":"\x00"}'),
        ),
        StopReason.TOOL_CALLS,
    )
    refusal = LLMResponse((), StopReason.REFUSAL, refusal="no\udfff")
    io = FakePorts([answer, refusal], {"read": FakeTool("r\x00\udc00")})
    assert send(io) == Completed("no\ufffd")
    thinking, said, wanted = io.session.view[1].parts
    assert thinking == Thinking("t\u2400")
    assert said == Text("a\ufffdb")
    assert wanted == ToolCall("c\u2400", "read", '{"x":"\u2400"}')
    assert io.results() == {"c\u2400": "r\u2400\ufffd"}
    assert transcript_violations(io.session.view, stored=True) == []
    repaired = [event for event in io.events if isinstance(event, TextRepaired)]
    assert repaired == [
        TextRepaired("model", 1, 3),
        TextRepaired("tool", 1, 1),
        TextRepaired("model", 1, 0),
    ]


def test_sound_text_is_left_exactly_as_it_is() -> None:
    """Signatures and all: the very same objects."""
    parts = (Thinking("hm 🎈", Seal("anthropic", "signed")), Text("ünï"))
    io = FakePorts([LLMResponse(parts, StopReason.END)])
    send(io)
    assert io.session.view[1].parts == parts
    assert io.session.view[1].parts[0] is parts[0]
    assert not any(isinstance(event, TextRepaired) for event in io.events)


def test_what_is_stored_of_a_failed_attempt_can_be_stored() -> None:
    """Its partial text and its error come from outside too."""
    io = FakePorts([failed(ServerError("bad \ud800"), "half \x00")] * 3)
    outcome = send(io)
    ended = io.of(ModelEnded)[0]
    assert ended.partial == "half \u2400"
    assert ended.error is not None
    assert ended.error.message == "bad \ufffd"
    assert outcome == Degraded("ServerError: bad \ufffd", 3)


# ── attempts ──────────────────────────────────────────────────────────────────────────────────────


def test_attempts_follow_the_policy_and_tell_of_their_waits() -> None:
    """Each under an id of its own; a provider's word is a lower bound."""
    policy = RetryPolicy(max_attempts=3, initial=1.0, jitter=0.0)
    errors: list[LLMError] = [ServerError("a"), RateLimited("b", retry_after=7.0)]
    io = FakePorts([*errors, text("ok")], plan=plan(retry=policy))
    assert send(io) == Completed("ok")
    assert io.sleeps == [1.0, 7.0]
    told = [event for event in io.events if isinstance(event, RetryScheduled)]
    assert [(event.delay, event.error_type) for event in told] == [
        (1.0, "ServerError"),
        (7.0, "RateLimited"),
    ]
    ended = io.of(ModelEnded)
    assert [record.status for record in ended] == ["failed", "failed", "ok"]
    assert [event.attempt for event in told] == [record.attempt for record in ended[:2]]
    assert [record.round for record in io.of(ModelAsked)] == [1, 1, 1]


def test_an_error_that_no_retry_mends_is_raised_after_it_was_recorded() -> None:
    """One attempt; the driver closes the run."""
    io = FakePorts([ContextOverflow("too long")])
    with pytest.raises(ContextOverflow):
        send(io)
    assert [record.status for record in io.of(ModelEnded)] == ["failed"]
    assert io.session.run is not None
    assert io.sleeps == []


def test_tokens_of_failed_attempts_count() -> None:
    """They were spent."""
    io = FakePorts([failed(ServerError("x")), text("ok")])
    send(io)
    assert io.session.usage == Usage(20, 5)


# ── tools ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_tool_that_does_not_exist_is_an_answer_to_the_model() -> None:
    """It may choose another."""
    io = FakePorts([calls(call("c1", "nobody")), text("ok")], READ)
    assert send(io) == Completed("ok")
    assert io.results() == {"c1": "There is no tool 'nobody'."}
    assert io.of(ToolStarted) == []


def test_an_exclusive_tool_runs_alone() -> None:
    """Before it everybody has settled, after it the rest begins."""
    kit = {"a": FakeTool(), "alone": FakeTool(traits=ToolTraits(exclusive=True))}
    wanted = calls(call("c1", "a"), call("c2", "a"), call("c3", "alone"), call("c4", "a"))
    io = FakePorts([wanted, text("ok")], kit)
    io.choose = lambda n: io.steps % n
    send(io)
    line: list[str] = []
    for record in io.log:
        if isinstance(record, ToolStarted):
            line.append(f"+{record.call_id}")
        elif isinstance(record, ToolSettled):
            line.append(f"-{record.message.id.removesuffix('.result')}")
    assert line[4:6] == ["+c3", "-c3"]
    assert line[-2:] == ["+c4", "-c4"]
    assert io.at_most == 2


def test_the_key_of_a_call_is_the_same_for_each_attempt_and_differs_between_calls() -> None:
    """It names the session and the call."""
    kit = {"put": FakeTool(die, "ok", traits=ToolTraits(idempotent=True))}
    io = FakePorts([calls(call("c1", "put"), call("c2", "put"))], kit)
    with pytest.raises(Killed):
        send(io)
    again = FakePorts([text("ok")], kit, log=io.log[: io.durable], prefix="j")
    assert succeed(again) == Completed("ok")
    keys = {(record.call_id, record.idempotency_key) for record in again.of(ToolStarted)}
    assert keys == {("c1", "s/c1"), ("c2", "s/c2")}


def test_results_of_the_caller_are_taken_for_the_calls_that_are_his() -> None:
    """Text is repaired as for any tool; what is not given stays pending."""
    kit = {"pay": FakeTool(traits=ToolTraits(external=True))}
    io = FakePorts([calls(call("c1", "pay"), call("c2", "pay"))], kit)
    assert send(io) == PendingTools(("c1", "c2"))
    one, two = ToolResult("c1", (Text("paid\x00"),)), ToolResult("c2", (Text("x"),))
    half = FakePorts(tools=kit, log=io.log, plan=plan(decisions={"c1": one}), prefix="j")
    assert succeed(half) == PendingTools(("c2",))
    whole = FakePorts([text("ok")], kit, log=half.log, plan=plan(decisions={"c2": two}), prefix="k")
    assert succeed(whole) == Completed("ok")
    assert whole.results() == {"c1": "paid\u2400", "c2": "x"}
    assert whole.effects == []


def test_what_had_finished_when_the_run_failed_is_told_as_finished() -> None:
    """In a form that can be stored, so that the run does close."""

    def fail(_: object) -> None:
        raise ValueError("a handler fails \ud800")

    io = FakePorts([calls(call("c1"))], {"read": FakeTool("all of it \x00")})
    io.hooks = {"tool.after": fail}
    assert run(io) == Failed("ValueError", "a handler fails \ud800")
    assert io.session.last_outcome == Failed("ValueError", "a handler fails \ufffd")
    assert io.results() == {"c1": "all of it \u2400"}
    assert violations(io.log, closed=True) == []
