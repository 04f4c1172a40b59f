"""Registering hooks, and what is refused when, and with which words."""

from __future__ import annotations

import functools
import math
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from llm_client.types import LLMRequest, Message, ToolCall, ToolResult
from power_loop.driver.dispatch import Hooks
from power_loop.errors import HookError
from power_loop.events import HookFailed
from power_loop.hooks import (
    COMPLETE_DECIDE,
    LLM_BEFORE,
    MESSAGE_APPEND,
    POINTS,
    ROUND_START,
    SESSION_END,
    TOOL_AFTER,
    TOOL_BEFORE,
    Break,
    Continue,
    Diverted,
    HookPoint,
    LlmBefore,
    MessageAppend,
    RequestInput,
    Retry,
    RoundStart,
    ShortCircuit,
    Skip,
    Suspend,
    ToolAfter,
    ToolBefore,
)

pytestmark = pytest.mark.anyio

WHERE: dict[str, Any] = {"session_id": "s", "run_id": "r", "round": 1, "deps": None}
CALL = ToolCall("a", "f", "{}")


def before() -> ToolBefore[Any]:
    return ToolBefore(**WHERE, call=CALL, name="f", arguments="{}")


async def fired(hooks: Hooks, point: HookPoint[Any, Any], context: Any) -> Any:
    """What comes of firing; failures are errors."""

    def report(failure: HookFailed) -> None:
        raise AssertionError(failure)

    return await hooks.fire(point, context, report)


# ── registration ──────────────────────────────────────────────────────────────────────────────────


def test_a_handler_that_cannot_fit_is_refused_when_it_is_registered() -> None:
    """A wrong context, an illegal directive, too few or too many parameters."""

    def wrong_context(context: LlmBefore[Any]) -> None: ...
    def illegal(context: ToolBefore[Any]) -> Continue: ...
    def also_illegal(context: ToolBefore[Any]) -> ToolBefore[Any] | Continue | None: ...
    async def illegal_later(context: ToolBefore[Any]) -> Retry | None: ...
    def awaits(context: ToolBefore[Any]) -> Awaitable[ShortCircuit | None]: ...
    def nothing() -> None: ...
    def two(context: Any, other: Any) -> None: ...
    def wrong_rewrite(context: ToolBefore[Any]) -> LlmBefore[Any] | None: ...

    hooks = Hooks()
    expected = {
        wrong_context: "takes LlmBefore, but tool.before gives ToolBefore",
        illegal: "may return Continue, which is not legal at tool.before; legal there: None, Skip",
        also_illegal: "may return Continue",
        illegal_later: "may return Retry",
        awaits: "may return ShortCircuit",
        nothing: "must take exactly one context",
        two: "must take exactly one context",
        wrong_rewrite: "may return LlmBefore",
    }
    for handler, why in expected.items():
        with pytest.raises(HookError) as refused:
            hooks.on(TOOL_BEFORE, handler)  # pyright: ignore[reportCallIssue, reportArgumentType]
        assert why in str(refused.value)
        assert "tool.before" in str(refused.value)
    with pytest.raises(HookError, match="not callable"):
        hooks.on(TOOL_BEFORE, 5)  # pyright: ignore[reportCallIssue, reportArgumentType]
    with pytest.raises(HookError, match="not one of the points"):
        hooks.on(HookPoint("mine", ToolBefore), lambda _: None)
    assert not hooks.listens(TOOL_BEFORE)


def test_handlers_of_every_shape_are_accepted() -> None:
    """Functions, lambdas, methods, partials, objects; annotated or not."""

    class Guard:
        def check(self, context: ToolBefore[Any]) -> Skip | None: ...
        def __call__(self, context: ToolBefore[Any]) -> None: ...

    class AsyncGuard:
        async def __call__(self, context: ToolBefore[Any]) -> None: ...

    async def plain(context: ToolBefore[Any]) -> ToolBefore[Any] | Skip | Suspend | None: ...
    def untyped(context): ...  # type: ignore[no-untyped-def]
    def more(extra: int, context: ToolBefore[Any]) -> None: ...

    hooks = Hooks()
    handlers: list[Any] = [
        Guard().check,
        Guard(),
        AsyncGuard(),
        plain,
        functools.partial(more, 1),
        max,
        eval("lambda context: None"),
    ]
    for handler in handlers:
        hooks.on(TOOL_BEFORE, handler)
    hooks.on(TOOL_BEFORE, AsyncGuard(), timeout=1, name="bounded")
    assert hooks.has("bounded")


def test_names_are_unique_and_options_make_sense() -> None:
    """Each refusal says what to do."""
    hooks = Hooks()

    async def later(context: Any) -> None: ...

    hooks.on(TOOL_BEFORE, lambda _: None, name="guard")
    with pytest.raises(HookError, match=r"use replace\(\)"):
        hooks.on(ROUND_START, lambda _: None, name="guard")
    with pytest.raises(HookError, match="synchronous"):
        hooks.on(TOOL_BEFORE, lambda _: None, timeout=1)
    with pytest.raises(HookError, match="positive"):
        hooks.on(TOOL_BEFORE, later, timeout=0)
    with pytest.raises(HookError, match="nothing can be forbidden"):
        hooks.on(SESSION_END, later, on_error="close")
    for missing in (lambda: hooks.remove("nobody"), lambda: hooks.replace("nobody", later)):
        with pytest.raises(HookError, match="registered: guard"):
            missing()
    # Nameless handlers of one name get along.
    hooks.on(ROUND_START, later)
    hooks.on(SESSION_END, later)


async def test_order_replacement_and_removal() -> None:
    """Ascending order, then order of registration; a replacement keeps its place."""
    hooks = Hooks()
    heard: list[str] = []

    def hear(what: str) -> Callable[[Any], None]:
        return lambda _: heard.append(what)

    hooks.on(TOOL_BEFORE, hear("c"), name="c", order=1)
    hooks.on(TOOL_BEFORE, hear("a"), name="a", order=-1)
    hooks.on(TOOL_BEFORE, hear("b"), name="b")
    hooks.on(TOOL_BEFORE, hear("b2"), name="b2")
    hooks.replace("b", hear("B"))
    with pytest.raises(HookError, match="exactly one context"):
        hooks.replace("b", lambda: None)  # pyright: ignore[reportArgumentType]
    await fired(hooks, TOOL_BEFORE, before())
    assert heard == ["a", "B", "b2", "c"]
    for name in ("a", "b", "b2", "c"):
        hooks.remove(name)
    assert not hooks.listens(TOOL_BEFORE)


def test_the_decorator_gives_the_function_back() -> None:
    """With and without options, so that a handler stays an ordinary function."""
    hooks = Hooks()

    @hooks.on(TOOL_BEFORE)
    def first(context: ToolBefore[Any]) -> Skip:
        return Skip("no")

    @hooks.on(TOOL_BEFORE, order=5, on_error="raise")
    async def second(context: ToolBefore[Any]) -> None: ...

    assert first(before()) == Skip("no")
    assert hooks.has(first.__qualname__)
    assert hooks.has(second.__qualname__)


# ── firing ────────────────────────────────────────────────────────────────────────────────────────


async def test_each_handler_sees_what_the_one_before_it_left() -> None:
    """A rewritten context travels on; the first directive wins."""
    hooks = Hooks()
    hooks.on(TOOL_BEFORE, lambda c: replace(c, arguments='{"n":1}'))
    hooks.on(TOOL_BEFORE, lambda c: replace(c, name=c.name + c.arguments), order=1)
    left = await fired(hooks, TOOL_BEFORE, before())
    assert (left.name, left.arguments) == ('f{"n":1}', '{"n":1}')
    hooks.on(TOOL_BEFORE, lambda _: Skip("first"), order=2)
    hooks.on(TOOL_BEFORE, lambda _: Suspend("second"), order=3)
    won = await fired(hooks, TOOL_BEFORE, before())
    assert won.directive == Skip("first")
    assert won.context == left
    assert hooks.has(won.by)


async def test_a_directive_that_passes_leaves_the_rest_to_the_others() -> None:
    """What has been approved is put to whoever comes after."""
    hooks = Hooks()
    hooks.on(TOOL_BEFORE, lambda _: Suspend("leave?"), name="asks")
    hooks.on(TOOL_BEFORE, lambda c: replace(c, arguments='{"n":2}'), order=1)
    seen: list[Diverted[Any, Any]] = []

    def passes(diverted: Diverted[Any, Any]) -> bool:
        seen.append(diverted)
        return True

    told: list[HookFailed] = []
    left: Any = await hooks.fire(TOOL_BEFORE, before(), told.append, passes)
    assert left.arguments == '{"n":2}'
    assert [(d.by, d.directive.reason) for d in seen] == [("asks", "leave?")]
    refused = await hooks.fire(TOOL_BEFORE, before(), told.append, lambda _: False)
    assert isinstance(refused, Diverted)


async def test_what_is_not_legal_is_refused_on_return() -> None:
    """Whatever the annotations said: a directive, a value, a read-only field."""
    asked = RoundStart(**WHERE, messages=[])
    wrong: list[tuple[HookPoint[Any, Any], Any, Any, str]] = [
        (TOOL_BEFORE, before(), Retry(), "Retry"),
        (TOOL_BEFORE, before(), Continue("x"), "Continue"),
        (TOOL_BEFORE, before(), True, "bool"),
        (TOOL_BEFORE, before(), asked, "RoundStart"),
        (TOOL_BEFORE, before(), replace(before(), round=5), "changed round"),
        (ROUND_START, asked, replace(asked, messages=[Message.user("x")]), "changed messages"),
        (COMPLETE_DECIDE, asked, Break(), "Break"),
    ]
    for point, context, value, why in wrong:
        hooks = Hooks()
        hooks.on(point, lambda _, value=value: value, name="mine")
        with pytest.raises(HookError) as refused:
            await fired(hooks, point, context)
        text = str(refused.value)
        assert why in text
        assert "'mine'" in text
        assert point.name in text
        assert "legal there: None" in text


@pytest.mark.parametrize("schema", [{"type": "foo"}, [1], {"enum": []}, {"minimum": math.nan}])
async def test_a_question_that_nobody_could_answer_is_refused_on_return(schema: Any) -> None:
    """By the name of the handler, before anything waits."""
    hooks = Hooks()
    hooks.on(TOOL_BEFORE, lambda _: RequestInput("How many?", schema), name="mine")
    with pytest.raises(HookError, match=r"'mine' of tool\.before asks what nobody could answer"):
        await fired(hooks, TOOL_BEFORE, before())
    hooks.replace("mine", lambda _: RequestInput("How many?", {"type": "integer"}))
    asks = await fired(hooks, TOOL_BEFORE, before())
    assert isinstance(asks, Diverted)


def _kind_of(found: object) -> type[object]:
    """The type of a directive, or of the context that was left."""
    given: object = getattr(found, "directive", found)
    return type(given)


async def test_failures_are_raised_left_out_or_closed_by_choice() -> None:
    """And by the rule of the point where nothing is said."""

    async def fail(context: Any) -> None:
        await anyio.lowlevel.checkpoint()
        raise ValueError("no")

    told: list[HookFailed] = []
    request = LlmBefore(**WHERE, request=LLMRequest([]))
    after = ToolAfter(**WHERE, call=CALL, name="f", arguments="{}", result=ToolResult("a", ()))
    cases: list[tuple[HookPoint[Any, Any], Any, Any, type[object]]] = [
        (TOOL_BEFORE, before(), None, Skip),
        (TOOL_BEFORE, before(), "skip", ToolBefore),
        (LLM_BEFORE, request, None, LlmBefore),
        (LLM_BEFORE, request, "close", Break),
        (TOOL_AFTER, after, "close", Break),
        (TOOL_AFTER, after, None, ToolAfter),
    ]
    for point, context, on_error, left in cases:
        hooks = Hooks()
        hooks.on(point, fail, on_error=on_error, name="mine")
        found: Any = await hooks.fire(point, context, told.append)
        assert _kind_of(found) is left
    assert len(told) == len(cases)
    assert told[0] == HookFailed("tool.before", "mine", "ValueError", "no")
    hooks = Hooks()
    hooks.on(TOOL_BEFORE, fail, on_error="raise")
    with pytest.raises(ValueError, match="no"):
        await fired(hooks, TOOL_BEFORE, before())


@pytest.mark.parametrize("on_error", ["raise", "skip", "close"])
async def test_a_handler_that_takes_too_long_fails(on_error: Any) -> None:
    """It is stopped, its clean-up runs, and then its on_error rules."""
    cleaned: list[bool] = []

    async def hang(context: Any) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cleaned.append(True)

    told: list[HookFailed] = []
    hooks = Hooks()
    hooks.on(TOOL_BEFORE, hang, timeout=0.01, on_error=on_error)
    with anyio.fail_after(5):
        if on_error == "raise":
            with pytest.raises(TimeoutError, match=r"0\.01 s"):
                await hooks.fire(TOOL_BEFORE, before(), told.append)
        else:
            left = await hooks.fire(TOOL_BEFORE, before(), told.append)
            given = left.directive if isinstance(left, Diverted) else left
            assert isinstance(given, Skip if on_error == "close" else ToolBefore)
            assert told[0].error_type == "TimeoutError"
    assert cleaned == [True]


async def test_a_message_rewritten_into_itself_is_no_change() -> None:
    """Returning the context as it came is as good as None."""
    hooks = Hooks()
    hooks.on(MESSAGE_APPEND, lambda context: context)
    context = MessageAppend(**WHERE, message=Message.user("x"))
    assert await fired(hooks, MESSAGE_APPEND, context) is context


async def test_points_without_handlers_do_nothing() -> None:
    """The context comes back as it went in."""
    hooks = Hooks()
    for point in POINTS:
        assert not hooks.listens(point)
    context = before()
    assert await fired(hooks, TOOL_BEFORE, context) is context
