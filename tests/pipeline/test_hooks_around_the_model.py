"""Hook points around the model call: the end of a run, compaction, memory, appended messages."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from llm_client.types import LLMRequest, LLMResponse, Message, Text, Transcript
from power_loop.errors import HookError
from power_loop.hooks import (
    COMPACT_AFTER,
    COMPACT_BEFORE,
    COMPLETE_DECIDE,
    MEMORY_RECALLED,
    MESSAGE_APPEND,
    ROUND_START,
    CompactAfter,
    CompleteDecide,
    Continue,
    Skip,
)
from power_loop.pipeline.run import configuration
from power_loop.session.outcome import Completed, RoundLimit
from power_loop.session.records import (
    ModelConfigured,
    Recalled,
    RunOpened,
    ViewChanged,
)
from power_loop.session.view import COMPACT_NOTE
from tests.pipeline.fakes import FakePorts, FakeTool
from tests.pipeline.scripts import (
    Handlers,
    call,
    calls,
    contexts,
    drive,
    note,
    plan,
    run,
    send,
    text,
    words,
)
from tests.session.checker import violations

READ = {"read": FakeTool("x")}


# ── complete.decide ───────────────────────────────────────────────────────────────────────────────


def test_continue_appends_its_text_and_grants_exactly_its_rounds() -> None:
    """After a round limit: three more rounds of calls, then a last word again."""
    decisions = iter([Continue("go on", 3)])
    hooks: Handlers = {COMPLETE_DECIDE: lambda _: next(decisions, None)}
    answers = [calls(call(f"c{n}"), words=str(n)) for n in range(20)]
    io = FakePorts(answers, READ, hooks, plan=plan(max_rounds=2))
    assert send(io) == RoundLimit(2, "6")
    # Two rounds, the last word, three more rounds, the last word.
    assert [len(r.tools) == 0 for r in io.requests] == [True] * 7
    assert [effect[0] for effect in io.effects] == ["c0", "c1", "c3", "c4", "c5"]
    assert "user: go on" in words(io)
    assert violations(io.log, closed=True) == []


def test_continue_after_an_answer_grants_no_more_than_it_says() -> None:
    """Even where the run had more rounds left."""
    decisions = iter([Continue("check", 1)])
    hooks: Handlers = {COMPLETE_DECIDE: lambda _: next(decisions, None)}
    io = FakePorts([text("4"), calls(call("c1")), text("last")], READ, hooks)
    assert send(io) == RoundLimit(24, "last")


def test_complete_decide_is_told_why_and_how_often() -> None:
    """So that it can bound itself."""
    decisions = iter([Continue("once", 1), Continue("twice", 1)])
    hooks: Handlers = {COMPLETE_DECIDE: lambda _: next(decisions, None)}
    io = FakePorts([text("a"), calls(call("c1")), text("b")], READ, hooks)
    io.plan = plan(max_rounds=1)
    send(io)
    seen = [(c.reason, c.final_text, c.fire_count) for c in contexts(io, CompleteDecide)]
    assert seen == [
        ("completed", "a", 1),
        ("round_limit", "b", 2),
        ("completed", "(nothing left to say)", 3),
    ]


def test_complete_decide_is_not_asked_while_somebody_waits_to_be_heard() -> None:
    """Steering goes first: the run is not about to end."""
    hooks: Handlers = {COMPLETE_DECIDE: lambda _: None}
    io = FakePorts(hooks=hooks)

    def answer(_: LLMRequest) -> LLMResponse:
        io.post(Message("user", (Text("and?"),), id="steer"))
        return text("4")

    io = FakePorts([answer, text("that is all")], hooks=hooks)
    assert send(io) == Completed("that is all")
    assert [c.final_text for c in contexts(io, CompleteDecide)] == ["that is all"]


# ── compact.*, memory.recalled, message.append ────────────────────────────────────────────────────


def shrink(view: Transcript) -> ViewChanged | None:
    """Cuts before the last message, once there are several."""
    if len(view) < 2:
        return None
    summary = Message("user", (Text("so far"),), id=f"sum{len(view)}", name=COMPACT_NOTE)
    return ViewChanged(view[-1].id, summary)


def test_the_view_is_compacted_between_the_compact_hooks() -> None:
    """Before the model is asked; the counts are those before and after."""
    hooks: Handlers = {COMPACT_BEFORE: lambda _: None, COMPACT_AFTER: lambda _: None}
    first = Message("user", (Text("long story"),), id="u0")
    io = FakePorts([text("ok")], hooks=hooks, compact=shrink)
    drive(io, RunOpened("r1", (first, Message("user", (Text("go"),), id="u1"))))
    (after,) = contexts(io, CompactAfter)
    assert (after.messages_before, after.messages_after) == (2, 2)
    assert [m.text for m in after.messages] == ["so far", "go"]
    assert [m.text for m in io.requests[0].messages] == ["so far", "go"]


def test_compact_before_skip_leaves_the_view_alone() -> None:
    """The compactor is not even asked; without a change compact.after is silent."""

    def never(_: Transcript) -> ViewChanged | None:
        raise AssertionError("it was skipped")

    hooks: Handlers = {COMPACT_BEFORE: lambda _: Skip(), COMPACT_AFTER: lambda _: None}
    io = FakePorts([text("ok")], hooks=hooks, compact=never)
    assert send(io) == Completed("ok")
    assert io.names() == ["compact.before"]
    heard: Handlers = {COMPACT_BEFORE: lambda _: None, COMPACT_AFTER: lambda _: None}
    unchanged = FakePorts([text("ok")], hooks=heard, compact=shrink)
    send(unchanged)
    assert unchanged.names() == ["compact.before"]


def test_what_memory_recalls_accompanies_every_request_of_the_run_and_no_view() -> None:
    """Recalled once, at the tail, so that the prefix stays the same."""
    recalls: list[int] = []

    def recall(view: Transcript) -> tuple[Message, ...]:
        recalls.append(len(view))
        return (note("you like tea"),)

    io = FakePorts([calls(call("c1")), text("ok")], READ, recall=recall)
    send(io)
    assert recalls == [1]
    assert [r.messages[-1].text for r in io.requests] == ["you like tea"] * 2
    tails = [r.messages.tail for r in io.requests if isinstance(r.messages, Transcript)]
    assert [m.text for tail in tails for m in tail] == ["you like tea"] * 2
    assert "you like tea" not in " ".join(words(io))
    assert len(io.of(Recalled)) == 1


def test_memory_recalled_may_rewrite_or_drop_what_came_up() -> None:
    """Skip drops all of it; an empty rewrite as well."""
    rewrites: Handlers = {MEMORY_RECALLED: lambda c: replace(c, recalled=(note("less"),))}
    io = FakePorts([text("ok")], hooks=rewrites, recall=lambda _: (note("more"),))
    send(io)
    assert io.requests[0].messages[-1].text == "less"
    drops: tuple[Handlers, ...] = (
        {MEMORY_RECALLED: lambda _: Skip()},
        {MEMORY_RECALLED: lambda c: replace(c, recalled=())},
    )
    for hooks in drops:
        io = FakePorts([text("ok")], hooks=hooks, recall=lambda _: (note(),))
        send(io)
        assert [m.text for m in io.requests[0].messages] == ["go"]
        assert io.of(Recalled) == []
    nothing = FakePorts([text("ok")], hooks=rewrites, recall=lambda _: ())
    send(nothing)
    assert nothing.fired == []


def test_message_append_rewrites_what_is_stored_of_every_message() -> None:
    """Input, answers, results, steering and what other hooks append."""
    hooks: Handlers = {
        MESSAGE_APPEND: lambda c: replace(c, message=replace(c.message, meta={"seen": "1"})),
        ROUND_START: lambda c: replace(c, append=(note(),)),
    }
    wanted = calls(call("c1"), call("c2", "nobody"), call("c3", arguments="{"))
    io = FakePorts([wanted, text("ok")], READ, hooks)
    io.post(Message("user", (Text("hey"),), id="steer"))
    send(io)
    assert len(io.session.view) == 9
    assert all(message.meta == {"seen": "1"} for message in io.session.view)


@pytest.mark.parametrize("field", ["id", "role", "calls", "results"])
def test_message_append_must_not_change_what_ties_a_message_to_its_session(field: str) -> None:
    """It is an error that names the point."""

    def tamper(context: Any) -> Any:
        message = context.message
        match field, message.role:
            case "id", _:
                message = replace(message, id="other")
            case "role", "user":
                message = replace(message, role="system")
            case "calls", "assistant":
                message = replace(message, parts=(Text("no calls"),))
            case "results", "tool":
                message = replace(message, parts=(Text("no result"),))
            case _:
                return None
        return replace(context, message=message)

    io = FakePorts([calls(call("c1")), text("ok")], READ, {MESSAGE_APPEND: tamper})
    if field in ("id", "role"):
        # Nothing has opened yet: the driver has nothing to close.
        with pytest.raises(HookError, match=r"message\.append"):
            send(io)
        assert io.log == []
    else:
        run(io)
        assert violations(io.log, closed=True) == []
        assert "message.append" in str(io.session.last_outcome)


def test_when_a_provider_is_to_compact_is_recorded_with_what_else_requests_hold() -> None:
    """A replay makes its requests of that."""
    template = LLMRequest((), compact_at=150_000)
    assert configuration(template) == ModelConfigured(compact_at=150_000)
    assert configuration(LLMRequest(())) == ModelConfigured()
