# ruff: noqa: E501 - a step is one line, however long

"""What each record and each ending is called, also where no ordinary run brings it about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from inline_snapshot import snapshot

from llm_client.testing import call, reply
from llm_client.types import LLMResponse, Message, StopReason, Text, ToolCall, ToolResult, Usage
from power_loop import AgentConfig, Hooks, tool
from power_loop.errors import ToolError
from power_loop.governance import Policies, RepetitionGuard
from power_loop.history.explaining import Log, explanation_of
from power_loop.history.explanation import CacheUse
from power_loop.hooks import (
    LLM_BEFORE,
    TOOL_BEFORE,
    Break,
    LlmBefore,
    ShortCircuit,
    ToolBefore,
    replace,
)
from power_loop.session.outcome import (
    ApprovalDenied,
    BudgetExhausted,
    Cancelled,
    Completed,
    Degraded,
    Failed,
    GoalReached,
    Outcome,
    PendingTools,
    RoundLimit,
)
from power_loop.session.records import (
    CallAnswered,
    CallWaiting,
    Decided,
    ErrorInfo,
    MessageAppended,
    ModelAsked,
    ModelEnded,
    Recalled,
    Record,
    RunClosed,
    RunOpened,
    ToolSettled,
    ToolStarted,
    ViewChanged,
)
from power_loop.session.view import COMPACT_NOTE
from tests.history.endings import normal, steps_of
from tests.history.loops import look, loop_on
from tests.history.support import stamped_log

IDS = ("finished", "interrupted", "not_run", "unknown", "denied", "skipped")


def said(role: Any, text: str, id: str, **more: Any) -> Message:
    """A message of text."""
    return Message(role, (Text(text),), id=id, **more)


def settled(id: str, how: Any, text: str, *, is_error: bool = False) -> ToolSettled:
    """The result of a call."""
    result = ToolResult(id, (Text(text),), is_error)
    return ToolSettled(Message("tool", (result,), id=f"{id}/result"), how)


def log_with(outcome: Outcome, *records: Record) -> Log:
    """A log of one run with these records, that ends so."""
    opened = RunOpened("r1", (said("user", "go", "u1"),))
    return Log(stamped_log([opened, *records, RunClosed("r1", outcome)]))


ASKED = ModelAsked("t1", 1, "m")
RECORDS: Sequence[Record] = (
    RunOpened("r1", (said("user", "go", "u1"),), limits={"seconds": 30.0, "run.cost": 0.25}),
    Recalled((said("user", "tea", "m1"), said("user", "milk", "m2"))),
    ModelAsked("t1", 1, "m"),
    ModelEnded("t1", "lost", partial="I thi"),
    ModelAsked("t2", 1, "m"),
    ModelEnded("t2", "ok", Usage(1200, 34), stop_reason=StopReason.LENGTH, cost=0.0125),
    MessageAppended(
        Message("assistant", tuple([ToolCall(id, "look", "{}") for id in IDS]), id="a1"), "t2"
    ),
    ToolStarted("finished", "gaze", "{}", "k", "h"),
    ToolStarted("finished", "gaze", "{}", "k", "h", 2),
    settled("finished", "finished", "no such place", is_error=True),
    ToolStarted("interrupted", "look", "{}", "k", "h"),
    settled("interrupted", "interrupted", "..."),
    Decided("budget", "run.tokens", "refused", "nothing is left", "not_run"),
    Decided("tool.before", "", "skip"),
    settled("not_run", "not_run", "[not run] There is no tool."),
    ToolStarted("unknown", "look", "{}", "k", "h"),
    settled("unknown", "unknown", "..."),
    CallWaiting("denied", "approval", "T1", "it costs"),
    CallAnswered("denied", "T1", "deny"),
    settled("denied", "denied", "..."),
    settled("skipped", "skipped", "..."),
    ViewChanged("a1", said("user", "so far", "n1", name=COMPACT_NOTE)),
    MessageAppended(said("user", "later", "u2"), item="i2", when_idle=True),
    MessageAppended(said("user", "calm down", "u3", meta={"policy": "guard"})),
    MessageAppended(said("user", "and then?", "u4")),
    ModelAsked("t3", 2, "m"),
    ModelEnded("t3", "cancelled"),
    MessageAppended(said("assistant", "I was", "a2", meta={"interrupted": "true"}), "t3"),
    RunClosed("r1", Cancelled("")),
)


def test_a_task_says_what_came_from_a_cache_where_its_provider_does() -> None:
    """In one sentence, and as numbers; without a word from the provider, there is none."""
    log = log_with(
        Completed("done"),
        ASKED,
        ModelEnded("t1", "failed", Usage(9000, 0), measured=False),
        ModelAsked("t2", 1, "m"),
        ModelEnded("t2", "ok", Usage(10_000, 5, cached_tokens=2000)),
        MessageAppended(said("assistant", "done", "a1"), "t2"),
    )
    told = explanation_of("s", log)
    assert told.cache == CacheUse(2000, 10_000)
    assert CacheUse(2000, 10_000).rate == 0.2
    assert "\n\nOf 10,000 tokens of its prompts, 2,000 (20%) came from a cache.\n" in str(told)
    silent = explanation_of("s", Log(stamped_log(RECORDS)))
    assert silent.cache is None
    assert "cache" not in str(silent)


def test_every_record_has_its_words() -> None:
    """In the order of the log; what is plain is left out."""
    told = explanation_of("s", Log(stamped_log(RECORDS)))
    assert told.unread == ""
    assert told.rule == "cancelled, and no reason was given"
    assert [f"{s.kind}: {normal(s.text)}" for s in told.steps] == snapshot(
        [
            "run: run r1 opened with 1 message; limits: seconds T s, run.cost $0.25",
            "view: memory brought up 2 messages",
            "model: nobody saw how the call of model m ended; the text that had arrived is void",
            "model: model m answered after T s, 1,200 tokens in, 34 out, $0.0125; it stopped for length",
            "tool: a hook had tool gaze run in place of look",
            "tool: tool gaze is run again, attempt 2",
            "tool: tool gaze ended with an error",
            "tool: tool look was stopped before it had finished",
            "decision: budget (run.tokens): refused: nothing is left",
            "decision: tool.before: skip",
            "tool: tool look was not run: There is no tool.",
            "tool: tool look was running when its process died: its outcome is unknown",
            "approval: approval T1 of tool look is asked for: it costs",
            "approval: approval T1 was denied",
            "tool: tool look was not run: a person did not allow it",
            "tool: tool look was not run: something else answered in its place",
            "view: what stands before message a1 left the view; a note takes its place",
            "message: a message that had waited for the end came in: later",
            "decision: policy:guard told the model: calm down",
            "message: a user message was added by a hook or the loop: and then?",
            "model: the call of model m was stopped after T s",
            "message: the answer was broken off by a message that could not wait",
            "end: run r1 ended cancelled, T s after it had opened",
        ]
    )


ENDED: Sequence[tuple[Log, str]] = [
    (
        log_with(RoundLimit(3), ASKED, ModelEnded("t1", "cancelled")),
        "limit rounds: 3 of 3 used; the model had nothing to say about where things stand",
    ),
    (
        log_with(
            Degraded("gone", 1), ASKED, ModelEnded("t1", "failed", error=ErrorInfo("Timeout", ""))
        ),
        "the provider failed once, with Timeout; the retry policy gave up",
    ),
    (
        log_with(Degraded("the network is gone", 2)),
        "the provider failed 2 times, the last time with the network is gone; the retry policy gave up",
    ),
    (log_with(Failed("KeyError", "'x'")), "an error ended the run: KeyError: 'x'"),
    (log_with(GoalReached("")), "the goal is reached"),
    (log_with(GoalReached("all is green")), "the goal is reached: all is green"),
    (log_with(BudgetExhausted("run.tokens")), "limit run.tokens is used up"),
    (
        log_with(ApprovalDenied("T"), Decided("tool.before", "asker", "break", "approval_denied")),
        "hook tool.before asker: break (a person said no)",
    ),
    (
        log_with(
            Completed("4"),
            ASKED,
            ModelEnded("t1", "ok", stop_reason=StopReason.CONTENT_FILTER),
            MessageAppended(said("assistant", "4", "a1"), "t1"),
        ),
        "the model answered, but the provider's filter withheld some of it, and nobody objected",
    ),
]


@pytest.mark.parametrize(("log", "rule"), ENDED)
def test_every_ending_has_its_rule(log: Log, rule: str) -> None:
    """With what is known, and without what is not."""
    told = explanation_of("s", log)
    assert told.unread == ""
    assert told.rule == rule


def test_calls_that_only_the_program_may_decide_about_are_named() -> None:
    """Up to three, with the reason; the others are counted."""
    ids = tuple([f"c{n}" for n in range(5)])
    answer = Message("assistant", tuple([ToolCall(id, "remote", "{}") for id in ids]), id="a1")
    log = log_with(PendingTools(ids), ASKED, ModelEnded("t1", "ok"), MessageAppended(answer, "t1"))
    told = explanation_of("s", log)
    one = "tool remote is not run here: its result is to come from the program"
    assert told.rule == f"{one}; {one}; {one}; and 2 more"


@pytest.mark.anyio
async def test_a_hook_that_answers_in_the_place_of_the_model_is_named() -> None:
    """And a guard against repetition says how often it had warned, refused, and stopped."""
    hooks = Hooks()

    @hooks.on(LLM_BEFORE, name="cache")
    def _(_: LlmBefore[Any]) -> ShortCircuit:
        return ShortCircuit(LLMResponse((Text("from the cache"),), StopReason.END))

    async with loop_on(hooks=hooks) as loop:
        session = (await loop.send("2+2?")).session_id
        told = await loop.explain(session)
    assert told.rule == "hook llm.before cache answered in the model's place, and nobody objected"
    assert steps_of(told, "decision") == ["hook llm.before cache: short_circuit"]
    (rounds,) = told.limits
    assert (rounds.used, rounds.left) == (1.0, 23.0)


@pytest.mark.anyio
async def test_what_a_policy_has_said_before_it_stopped_the_run_is_in_the_chain() -> None:
    """The warning, the refusal, the end, each with the policy's name."""
    again = [reply("", call("look", {"place": "a"}, id=f"c{n}")) for n in range(6)]
    rules = Policies(RepetitionGuard())
    async with loop_on(None, *again, extensions=[rules]) as loop:
        session = (await loop.send("look")).session_id
        told = await loop.explain(session)
    assert told.status == "no_progress"
    assert steps_of(told, "decision") == snapshot(
        [
            'policy:repetition told the model: You are repeating yourself: the same call with the same result: look({"place":"…',
            'policy:repetition at tool.before: skip: [not run] You are repeating yourself: the same call with the same result: look({"place":"a"}). Nothing has changed since, so this call would bring the same. Do…',
            'policy:repetition at tool.before: break: no_progress(reason=\'the same call with the same result: look({"place":"a"}), 3 times over\')',
        ]
    )


@pytest.mark.anyio
async def test_a_call_that_a_hook_has_run_otherwise_and_a_tool_that_fails_are_in_the_chain() -> (
    None
):
    """By name, without arguments and results."""
    hooks = Hooks()

    @hooks.on(TOOL_BEFORE, name="other")
    def _(context: ToolBefore[Any]) -> ToolBefore[Any] | Break:
        return replace(context, name="fail", arguments="{}")

    @tool
    async def fail() -> str:
        """Fails."""
        raise ToolError("the secret is 42")

    wanted = reply("", call("look", {"place": "a"}, id="c1"))
    config = AgentConfig(max_rounds=3)
    loop = loop_on(None, wanted, reply("Well."), hooks=hooks, tools=[fail, look], config=config)
    async with loop:
        session = (await loop.send("look")).session_id
        told = await loop.explain(session)
    assert steps_of(told, "tool") == [
        "a hook had tool fail run in place of look",
        "tool fail ended with an error",
    ]
    assert "the secret" not in str(told)
