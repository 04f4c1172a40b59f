"""How a tool is asked what became of a call: what may be asked, and what it may answer."""

from __future__ import annotations

import functools
from typing import Any, cast

import pytest

from power_loop.errors import ToolDefinitionError, ToolError
from power_loop.tools import (
    InvalidArguments,
    JsonSchemaTool,
    Reconcile,
    Reconciled,
    Reconciler,
    Result,
    ToolContext,
    ToolOutput,
    tool,
)

pytestmark = pytest.mark.anyio


def pays(reconcile: Any) -> Reconciler:
    """What a tool with this function can be asked by."""

    @tool(reconcile=reconcile)
    def pay(n: int) -> int:
        """Pays."""
        return n

    assert pay.reconcile is not None
    return pay.reconcile


def answering(answer: Any, *, later: bool) -> Reconcile:
    """A function that answers this."""

    async def ask_later(arguments: dict[str, Any], context: ToolContext[Any]) -> Reconciled:
        return answer

    def ask(arguments: dict[str, Any], context: ToolContext[Any]) -> Reconciled:
        return answer

    return ask_later if later else ask


class Asking:
    """Something that can be called, and is no function."""

    async def __call__(self, arguments: dict[str, Any], context: ToolContext[Any]) -> Reconciled:
        return Result(arguments)


CONTEXT = ToolContext.for_test(tool="pay", idempotency_key="s/a")


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("never_happened", "never_happened"),
        ("cannot_tell", "cannot_tell"),
        (Result("paid"), ToolOutput.of("paid")),
        (Result("no", is_error=True), ToolOutput.of("no", is_error=True)),
        (Result({"n": 3}), ToolOutput.of('{"n":3}')),
        (Result(None), ToolOutput.of("null")),
        (Result(ToolOutput.of("x", is_error=True)), ToolOutput.of("x", is_error=True)),
    ],
)
async def test_an_answer_is_one_of_three(answer: Any, expected: Any, later: bool) -> None:
    """A result is converted as what the tool itself returns."""
    assert await pays(answering(answer, later=later))("{}", CONTEXT) == expected


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("answer", [None, "paid", True, 3, {"n": 1}, ToolOutput.of("x")])
async def test_any_other_answer_is_an_error_and_no_result(answer: Any, later: bool) -> None:
    """A function that forgets to return must not count as success."""
    with pytest.raises(ToolError, match=r"answers Result\(…\), 'never_happened' or 'cannot_tell'"):
        await pays(answering(answer, later=later))("{}", CONTEXT)


async def test_a_result_that_no_model_can_read_is_an_error() -> None:
    """As what a tool returns is."""
    with pytest.raises(ToolError, match="cannot be shown to a model"):
        await pays(answering(Result(object()), later=True))("{}", CONTEXT)


async def test_the_arguments_are_the_values_of_what_had_begun_also_if_the_tool_has_changed() -> (
    None
):
    """They are not held to today's signature: the key is what matters."""
    assert await pays(Asking())('{"gone":[1]}', CONTEXT) == ToolOutput.of('{"gone":[1]}')
    partial = functools.partial(answering(Result("x"), later=True))
    assert await pays(partial)("", CONTEXT) == ToolOutput.of("x")
    with pytest.raises(InvalidArguments):
        await pays(Asking())("[1]", CONTEXT)


@pytest.mark.parametrize("later", [False, True])
async def test_a_function_that_exits_the_process_does_not(later: bool) -> None:
    """As a tool that tries to."""

    def exits(arguments: dict[str, Any], context: ToolContext[Any]) -> Reconciled:
        raise SystemExit(3)

    async def exits_later(arguments: dict[str, Any], context: ToolContext[Any]) -> Reconciled:
        return exits(arguments, context)

    with pytest.raises(ToolError, match=r"tried to exit the process \(code 3\)"):
        await pays(exits_later if later else exits)("{}", CONTEXT)


def of_nothing() -> Reconciled:
    return "cannot_tell"


def of_three(arguments: dict[str, Any], context: ToolContext[Any], key: str) -> Reconciled:
    return Result((arguments, context, key))


@pytest.mark.parametrize("wrong", [True, "look_up", len, of_nothing, of_three])
def test_what_cannot_be_asked_is_refused_when_the_tool_is_defined(wrong: Any) -> None:
    """By both makers of tools."""
    with pytest.raises(
        ToolDefinitionError, match=r"reconcile of tool .*pay must be a function of two"
    ):
        pays(wrong)
    with pytest.raises(ToolDefinitionError, match="reconcile of tool 'pay' must be a function"):
        JsonSchemaTool("pay", "Pays.", {"type": "object"}, lambda a, c: a, reconcile=wrong)


async def test_a_tool_that_is_a_method_keeps_the_function_it_is_asked_by() -> None:
    """And one that has none cannot be asked."""

    class Till:
        @tool(reconcile=answering("never_happened", later=True))
        def pay(self, n: int) -> int:
            """Pays."""
            return n

        @tool
        def look(self) -> int:
            """Looks."""
            return 1

    asked = Till().pay.reconcile
    assert asked is not None
    assert await asked("{}", CONTEXT) == "never_happened"
    assert Till().look.reconcile is None
    assert JsonSchemaTool("a", "A.", {"type": "object"}, lambda a, c: a).reconcile is None


def test_the_door_knows_what_is_asked_and_answered() -> None:
    """The aliases are there at run time too."""
    assert Result in cast("Any", Reconciled).__args__
