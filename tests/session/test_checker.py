"""The second opinion must itself be able to say no: each rule catches the fault it is for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from llm_client.types import Message, Text, ToolCall, ToolResult
from power_loop.session.outcome import (
    AwaitingApproval,
    Completed,
    Crashed,
    Outcome,
    PendingTools,
)
from power_loop.session.records import (
    MessageAppended,
    ModelAsked,
    ModelEnded,
    Recalled,
    Record,
    RunClosed,
    RunOpened,
    ToolStarted,
    ViewChanged,
)
from power_loop.session.view import COMPACT_NOTE
from tests.session.checker import transcript_violations, view_of, violations
from tests.session.samples import (
    CALLING,
    CANCELLED,
    answer,
    answered,
    asked,
    calls,
    ended,
    fold,
    opened,
    settled,
    started,
    user,
    waits,
)

GOOD: tuple[Record, ...] = (
    *CALLING,
    started("c1"),
    started("c2"),
    settled("c2"),
    settled("c1"),
    asked("t2", 2),
    ended("t2"),
    MessageAppended(answer("a2"), "t2"),
    RunClosed("r1", Completed("done")),
)
"""A run with two parallel calls, as it should be."""


def without(*indexes: int) -> list[Record]:
    """The good log without some of its records."""
    return [record for i, record in enumerate(GOOD) if i not in indexes]


def test_a_good_log_has_no_violations_and_the_machine_agrees() -> None:
    """At every prefix, and the view is the machine's."""
    for stop in range(len(GOOD) + 1):
        assert violations(GOOD[:stop]) == []
        assert view_of(GOOD[:stop]) == list(fold(*GOOD[:stop]).view)
    assert violations(GOOD, closed=True) == []
    assert violations(GOOD[:-1], closed=True) == ["record 11: run 'r1' never closes"]


LOGS: dict[str, tuple[list[Record], str]] = {
    "no opening": (without(0), "outside a run"),
    "no close": ([*without(11), opened("r2", "u2")], "is still open"),
    "closes twice": ([*GOOD, GOOD[-1]], "outside a run"),
    "run id again": ([*GOOD, opened("r1", "u2")], "not new"),
    "no end of attempt": (without(2), "while the model is being asked"),
    "end without a beginning": (without(1), "is under way"),
    "attempt id again": ([*GOOD[:8], asked("t1", 2)], "not new"),
    "never started": (without(4), "had not begun"),
    "started twice": ([*GOOD[:5], started("c1")], "not in sequence"),
    "started after its end": ([*GOOD[:7], started("c2")], "not an open call"),
    "settled twice": ([*GOOD[:7], settled("c2")], "not an open call"),
    "never settled": (without(6), "between a call and its result"),
    "left open": ([*GOOD[:7], RunClosed("r1", CANCELLED)], "leaves calls open"),
    "no answer": ([*GOOD[:8], RunClosed("r1", Completed("x"))], "without an answer"),
    "not run, but it was": ([*GOOD[:5], settled("c1", "not_run")], "which had begun"),
    "denied, but it ran": ([*GOOD[:5], settled("c1", "denied")], "which had begun"),
    "interrupted, but never run": ([*CALLING, settled("c1", "interrupted")], "had not begun"),
    "message amid calls": ([*CALLING, MessageAppended(user("u2"))], "between a call"),
    "asked amid calls": ([*CALLING, asked("t2", 2)], "between a call"),
    "id again": ([*GOOD[:8], MessageAppended(user("u1"))], "not new"),
    "call id again": ([*GOOD[:8], MessageAppended(calls("a9", "c1"))], "not new"),
    "calls of a failed attempt": (
        [opened(), asked(), ModelEnded("t1", "failed"), MessageAppended(calls("a", "c"), "t1")],
        "did not end well",
    ),
    "answer of another attempt": (
        [opened(), asked(), ended(), MessageAppended(answer("a"), "t0")],
        "not the last to end",
    ),
    "run while it waits": ([*CALLING, waits("c1"), started("c1")], "while it waits"),
    "run though refused": (
        [*CALLING, waits("c1"), answered("c1", "deny"), started("c1")],
        "although it was answered",
    ),
    "answered under another token": ([*CALLING, answered("c1")], "does not wait for"),
    "waits twice": ([*CALLING, waits("c1"), waits("c1", token="t9")], "waits twice"),
    "token again": ([*CALLING, waits("c1"), waits("c2", token="token-c1")], "not new"),
    "approval too late": ([*GOOD[:5], waits("c1")], "at the wrong time"),
    "child too early": ([*CALLING, waits("c1", "child")], "at the wrong time"),
    "suspended over nothing": ([opened(), RunClosed("r1", PendingTools(("c",)))], "no call is"),
    "suspended for another": (
        [*CALLING, waits("c1"), RunClosed("r1", AwaitingApproval(("token-c2",)))],
        "suspends for",
    ),
    "resumes another": (
        [*CALLING, RunClosed("r1", Crashed()), RunOpened("r2", resumes="r0")],
        "the last run was",
    ),
    "input over open calls": (
        [*CALLING, RunClosed("r1", Crashed()), opened("r2", "u2")],
        "while calls are open",
    ),
    "starts again as another": (
        [*GOOD[:5], ToolStarted("c1", "read", '{"a":1}', "s/c1", "h", 2)],
        "as something else",
    ),
    "memory speaks for the model": ([opened(), Recalled((answer("m"),))], "memory speaks"),
    "a cut at a result": (
        [*GOOD[:8], ViewChanged("c1.result")],
        "C06",
    ),
    "two notes": (
        [
            opened(),
            MessageAppended(user("u2")),
            ViewChanged("u1", Message("user", (Text("n"),), id="n1", name=COMPACT_NOTE)),
            ViewChanged("n1", Message("user", (Text("n"),), id="n2", name=COMPACT_NOTE)),
        ],
        "two compact notes",
    ),
}


@pytest.mark.parametrize("fault", LOGS)
def test_each_fault_of_a_log_is_found(fault: str) -> None:
    """By the rule that is about it."""
    records, why = LOGS[fault]
    assert any(why in found for found in violations(records)), violations(records)


def test_a_tool_in_doubt_is_run_again_only_if_it_may() -> None:
    """Whether it may is the caller's knowledge."""
    log: list[Record] = [
        *CALLING,
        started("c1"),
        RunClosed("r1", Crashed()),
        RunOpened("r2", resumes="r1"),
        started("c1", 2),
    ]
    assert violations(log) == []
    found = violations(log, idempotent=lambda name: name != "read")
    assert found == ["record 8: 'c1' was in doubt and is run again"]


def test_an_attempt_that_ended_without_a_close_is_found_unless_the_owner_died() -> None:
    """Only a crash closes over a model call."""
    outcomes: tuple[tuple[Outcome, bool], ...] = ((CANCELLED, True), (Crashed(), False))
    for outcome, wrong in outcomes:
        log: list[Record] = [opened(), ModelAsked("t1", 1, "m"), RunClosed("r1", outcome)]
        assert bool(violations(log)) is wrong


TALK: tuple[Message, ...] = (
    user("u1"),
    Message("assistant", (Text("x"), ToolCall("c1", "f"), ToolCall("c2", "g")), id="a1"),
    Message.tool("c1", "1"),
    Message.tool("c2", "2"),
    answer("a2"),
)

TRANSCRIPTS: dict[str, tuple[Callable[[list[Message]], Sequence[Message]], str]] = {
    "a result is missing": (lambda t: t[:3] + t[4:], "C10"),
    "the end is missing": (lambda t: t[:3], "C20"),
    "a word in between": (lambda t: [*t[:2], user("u2"), *t[2:]], "C10"),
    "a result twice": (lambda t: [*t[:4], t[3], t[4]], "C08"),
    "a foreign result": (lambda t: [*t[:4], Message.tool("c3", "x"), t[4]], "C06"),
    "a result moved to the end": (lambda t: [*t[:2], t[3], t[4], t[2]], "C10"),
    "a result before its call": (lambda t: [t[2], *t], "C06"),
    "nothing in an answer": (lambda t: [*t, Message("assistant", ())], "C12"),
    "nothing in a question": (lambda t: [*t, Message("user", ())], "C09"),
    "a user who calls": (lambda t: [*t, Message("user", (ToolCall("c9", "f"),))], "C05"),
    "a tool that talks": (lambda t: [*t, Message("tool", (Text("x"),))], "C09"),
    "a user with results": (lambda t: [*t, Message("user", (ToolResult("c1", ()),))], "C06"),
    "one id for two calls": (
        lambda _: [Message.assistant("", ToolCall("c", "f"), ToolCall("c", "g"))],
        "C13",
    ),
    "no id": (lambda _: [Message.assistant("", ToolCall("", "f"))], "C13"),
    "a long id": (lambda _: [Message.assistant("", ToolCall("c" * 41, "f"))], "C15"),
    "a name with a space": (lambda _: [Message.assistant("", ToolCall("c", "f g"))], "C01"),
    "arguments cut off": (lambda _: [Message.assistant("", ToolCall("c", "f", '{"a"'))], "C17"),
    "a list of arguments": (lambda _: [Message.assistant("", ToolCall("c", "f", "[]"))], "C17"),
    "half a character": (lambda t: [*t, user("u9", "\ud800")], "X1"),
    "a NUL in a result": (lambda t: [*t[:3], Message.tool("c2", "\x00"), t[4]], "X1"),
}


def test_a_good_transcript_has_no_violations() -> None:
    """Shapes that providers are known to accept are not called faults."""
    assert transcript_violations(TALK) == []
    free = (Message("system", (Text("s"),)), *TALK, answer("a3"), user("u8"), user("u9"))
    assert transcript_violations(free) == []
    assert transcript_violations([Message.assistant("first")]) == []


@pytest.mark.parametrize("fault", TRANSCRIPTS)
def test_each_fault_of_a_transcript_is_found(fault: str) -> None:
    """By the rule that is about it."""
    mutate, rule = TRANSCRIPTS[fault]
    found = transcript_violations(mutate(list(TALK)))
    assert any(line.startswith(f"{rule}:") for line in found), found


def test_what_an_encoder_settles_is_no_fault_of_what_is_stored() -> None:
    """History keeps a call exactly as it came."""
    stored = [Message.assistant("", ToolCall("c" * 50, "f g", '{"a"')), Message.tool("c" * 50, "x")]
    assert transcript_violations(stored, stored=True) == []
    assert len(transcript_violations(stored)) == 3
