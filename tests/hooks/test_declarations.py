"""The hook points as declared are the ones that were designed: names, directives, fields."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints

import msgspec
import pytest

from llm_client.types import LLMResponse, StopReason, Text, ToolCall
from power_loop import hooks
from power_loop.hooks import (
    POINTS,
    Break,
    Continue,
    HookContext,
    HookPoint,
    RequestInput,
    Retry,
    ShortCircuit,
    Skip,
    Suspend,
)

_RESPONSE = LLMResponse((Text("x"),), StopReason.END)

DESIGN: Mapping[str, tuple[str, set[str], set[str]]] = {
    "session.start": ("SessionStart", {"append"}, set()),
    "session.end": ("SessionEnd", set(), set()),
    "round.start": ("RoundStart", {"append"}, {"Break", "Skip"}),
    "round.end": ("RoundEnd", set(), set()),
    "llm.before": ("LlmBefore", {"request"}, {"ShortCircuit", "Break"}),
    "llm.after": ("LlmAfter", {"response"}, {"Break"}),
    "llm.error": ("LlmErrorRaised", set(), {"ShortCircuit", "Retry", "Break"}),
    "round.decide": ("RoundDecide", set(), {"Skip", "Break"}),
    "complete.decide": ("CompleteDecide", set(), {"Continue"}),
    "tools.batch.before": ("ToolsBatchBefore", set(), {"Skip"}),
    "tools.batch.after": ("ToolsBatchAfter", set(), set()),
    "tool.before": (
        "ToolBefore",
        {"name", "arguments"},
        {"Skip", "Suspend", "RequestInput", "Break"},
    ),
    "tool.after": ("ToolAfter", {"result"}, {"Break"}),
    "tool.error": ("ToolErrorRaised", set(), {"Skip", "Retry"}),
    "compact.before": ("CompactBefore", set(), {"Skip"}),
    "compact.after": ("CompactAfter", set(), set()),
    "message.append": ("MessageAppend", {"message"}, set()),
    "memory.recalled": ("MemoryRecalled", {"recalled"}, {"Skip"}),
    "approval.requested": ("ApprovalRequested", set(), set()),
}
"""Name: context, fields that a handler may rewrite, directives that it may return."""

FIELDS: Mapping[str, set[str]] = {
    "session.start": {"messages", "append"},
    "session.end": {"outcome", "final_text", "messages"},
    "round.start": {"messages", "spent", "polling", "append"},
    "round.end": {"response_text", "has_tools", "usage", "spent"},
    "llm.before": {"request"},
    "llm.after": {"request", "response"},
    "llm.error": {"request", "error", "attempts"},
    "round.decide": {"tool_calls", "assistant_text"},
    "complete.decide": {"reason", "final_text", "fire_count"},
    "tools.batch.before": {"tool_calls"},
    "tools.batch.after": {"results"},
    "tool.before": {"call", "name", "arguments", "attempt", "messages", "polling"},
    "tool.after": {"call", "name", "arguments", "result"},
    "tool.error": {"call", "name", "arguments", "error"},
    "compact.before": {"messages"},
    "compact.after": {
        "messages",
        "messages_before",
        "messages_after",
        "by",
        "tokens_before",
        "tokens_after",
    },
    "message.append": {"message"},
    "memory.recalled": {"recalled"},
    "approval.requested": {"call", "token", "reason"},
}
"""What a context tells, beside where it is (session, run, round) and the caller's deps."""

BY_NAME: dict[str, HookPoint[Any, Any]] = {point.name: point for point in POINTS}


def constant_of(name: str) -> str:
    """The constant that declares a point: `tool.before` is TOOL_BEFORE."""
    return name.upper().replace(".", "_")


def test_the_points_are_those_of_the_design() -> None:
    """None more, none fewer, none twice, in the order of the loop's own drawing."""
    assert [point.name for point in POINTS] == [name for name in DESIGN if name in BY_NAME], (
        "the order of declaration"
    )
    assert set(BY_NAME) == set(DESIGN)
    assert len(POINTS) == len(BY_NAME) == 19


@pytest.mark.parametrize("name", DESIGN)
def test_a_point_allows_exactly_what_was_designed(name: str) -> None:
    """Context, rewritable fields and directives."""
    point = BY_NAME[name]
    context, rewrites, directives = DESIGN[name]
    assert point.context.__name__ == context
    assert set(point.rewrites) == rewrites
    assert {directive.__name__ for directive in point.directives} == directives
    assert name in repr(point)


@pytest.mark.parametrize("name", DESIGN)
def test_a_context_tells_exactly_what_was_designed(name: str) -> None:
    """And every one of them where it is, and the caller's deps."""
    fields = set(BY_NAME[name].context.__struct_fields__)
    assert fields == FIELDS[name] | {"session_id", "run_id", "round", "deps", "depth"}


@pytest.mark.parametrize("name", DESIGN)
def test_the_type_of_a_point_says_the_same_as_its_value(name: str) -> None:
    """What the type checker accepts is what is accepted when it runs."""
    point = BY_NAME[name]
    constant = constant_of(name)
    assert getattr(hooks, constant) is point
    assert constant in hooks.__all__
    context, returned = get_args(get_type_hints(hooks)[constant])
    assert context is point.context
    members = {m for m in (get_args(returned) or (returned,)) if m is not type(None)}
    expected: set[object] = set(point.directives)
    if point.rewrites:
        expected.add(point.context)
    assert members == expected


@pytest.mark.parametrize("name", DESIGN)
def test_contexts_are_frozen_and_only_declared_fields_are_marked(name: str) -> None:
    """The comment that a reader sees, the declaration and the field agree."""
    context = BY_NAME[name].context
    assert issubclass(context, HookContext)
    assert context.__struct_config__.frozen
    assert set(BY_NAME[name].rewrites) <= set(context.__struct_fields__)
    source = Path(hooks.__file__).read_text(encoding="utf-8")
    body = source.split(f"class {context.__name__}(")[1].split("\n\n\n")[0]
    marked = set(re.findall(r"^    (\w+):.*# may be rewritten$", body, re.MULTILINE))
    assert marked == set(BY_NAME[name].rewrites)


def test_only_the_point_that_lets_a_tool_run_is_closed_by_a_failing_handler() -> None:
    """Elsewhere a handler that fails is left out, unless it was registered otherwise."""
    assert {point.name for point in POINTS if point.on_error == "close"} == {"tool.before"}
    assert {point.on_error for point in POINTS} == {"close", "skip"}


def test_every_point_is_drawn_on_the_screen() -> None:
    """Reading the module's head is reading the loop."""
    drawing = hooks.__doc__ or ""
    for name in DESIGN:
        assert name in drawing, name


def test_every_context_has_a_word_for_its_reader() -> None:
    """Each of them says what it is."""
    for point in POINTS:
        assert point.context.__doc__


@pytest.mark.parametrize(
    "directive",
    [Break(), Skip(), ShortCircuit(_RESPONSE), Retry(), Suspend(), Continue("go on")],
)
def test_directives_are_frozen_values_that_some_point_allows(directive: msgspec.Struct) -> None:
    """A directive that is legal nowhere would be a trap."""
    assert type(directive).__struct_config__.frozen
    assert any(type(directive) in point.directives for point in POINTS)
    fields = type(directive).__struct_fields__
    if fields:
        with pytest.raises(AttributeError):
            setattr(directive, fields[0], "changed")


def test_continue_must_say_something_and_grant_something() -> None:
    """Otherwise a run would go round in circles without the model being told why."""
    for inject, rounds in (("", 4), ("  \n", 4), ("go on", 0), ("go on", -1)):
        with pytest.raises(ValueError, match=r"Continue needs|extra_rounds"):
            Continue(inject, rounds)
    assert Continue("go on").extra_rounds == 4


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Suspend(cast("Any", 5)), "reason of Suspend is a text"),
        (lambda: Suspend(version=cast("Any", 3)), "version of Suspend is a text"),
        (lambda: Suspend(world=cast("Any", None)), "world of Suspend is a text"),
        (lambda: Suspend(ttl=cast("Any", "x")), "ttl must be a number"),
        (lambda: Suspend(ttl=math.nan), "ttl must be a number"),
        (lambda: Suspend(ttl=0), "ttl must be a number"),
        (lambda: RequestInput(cast("Any", 5)), "question of RequestInput is a text"),
        (lambda: RequestInput(" "), "must not be blank"),
    ],
)
def test_what_is_asked_of_a_person_is_in_words_and_for_some_time(
    make: Callable[[], object], told: str
) -> None:
    """Refused where it is made, not in the middle of a run."""
    with pytest.raises(ValueError, match=told):
        make()


def test_a_rewritten_context_is_a_new_one() -> None:
    """`hooks.replace` is what handlers rewrite with."""
    before = hooks.ToolBefore(
        session_id="s", run_id="r", round=1, deps=None, call=_CALL, name="a", arguments="{}"
    )
    after = hooks.replace(before, name="b")
    assert (before.name, after.name) == ("a", "b")
    assert after.call is before.call
    assert msgspec.structs.replace is hooks.replace


_CALL = ToolCall("c1", "a")
