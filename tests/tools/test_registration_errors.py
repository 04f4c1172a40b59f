"""What cannot be a tool is refused where it is defined, with the way out."""

from __future__ import annotations

import math
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, cast

import pytest
from pydantic import Field

from power_loop.tools import ToolContext, ToolDefinitionError, tool

if TYPE_CHECKING:
    from decimal import Decimal as Hidden


def no_hint(query) -> None:  # pyright: ignore[reportMissingParameterType, reportUnknownParameterType]
    """Described."""


def positional_only(x: int, /) -> None:
    """Described."""


def star(*items: int) -> None:
    """Described."""


def double_star(**items: int) -> None:
    """Described."""


def unresolved(x: Hidden) -> None:
    """Described."""


def nonsense(x: int) -> None:
    """Described."""


nonsense.__annotations__["x"] = "1 +"


def a_lock(x: threading.Lock) -> None:
    """Described."""


def a_callback(good: int, bad: Callable[[int], int]) -> None:
    """Described."""


def an_object(bad: object, worse: AsyncIterator[threading.Event]) -> None:
    """Described."""


def endless_default(x: float = math.inf) -> None:
    """Described."""


def object_default(x: Any = threading) -> None:
    """Described."""


def none_default(x: int = None) -> None:  # noqa: RUF013  # pyright: ignore[reportArgumentType]
    """Described."""


def wrong_default(x: str = 3) -> None:  # pyright: ignore[reportArgumentType]
    """Described."""


def field_default(x: int = Field(3)) -> None:
    """Described."""


def two_contexts(a: ToolContext[Any], b: ToolContext[Any]) -> None:
    """Described."""


def optional_context(context: ToolContext[Any] | None = None) -> None:
    """Described."""


def generator() -> Iterator[int]:
    """Described."""
    yield 1


async def async_generator() -> AsyncIterator[int]:
    """Described."""
    yield 1


def undescribed(x: int) -> None: ...


CASES: list[tuple[Callable[..., Any], str | None, str]] = [
    (no_hint, "query", "write for example `query: str`"),
    (positional_only, "x", "take the `/` out"),
    (star, "items", r"name each parameter with a hint"),
    (double_star, "items", r"\*\*items has no schema"),
    (unresolved, "x", "outside `if TYPE_CHECKING`"),
    (nonsense, "x", "is no type"),
    (a_lock, "x", "is not supported"),
    (a_callback, "bad", "is not supported"),
    (an_object, "worse", "is not supported"),
    (endless_default, "x", "is no JSON"),
    (object_default, "x", "is no JSON"),
    (none_default, "x", r"write `int \| None`"),
    (wrong_default, "x", "does not fit"),
    (field_default, "x", "Annotated"),
    (two_contexts, "b", "'a' is a ToolContext already"),
    (optional_context, "context", "is not supported"),
    (generator, None, "return a list"),
    (async_generator, None, "return a list"),
    (undescribed, None, "give it a docstring"),
]


@pytest.mark.parametrize(
    ("function", "parameter", "advice"), CASES, ids=[function.__name__ for function, _, _ in CASES]
)
def test_a_function_that_cannot_be_a_tool_says_why(
    function: Callable[..., Any], parameter: str | None, advice: str
) -> None:
    """The error names the function with its module, the parameter, and what to do."""
    with pytest.raises(ToolDefinitionError, match=advice) as caught:
        tool(function)
    assert f"tests.tools.test_registration_errors.{function.__name__}" in str(caught.value)
    if parameter:
        assert f"parameter {parameter!r}" in str(caught.value)


class Callable_:
    def __call__(self, x: int) -> int:
        """Described."""
        return x


NO_FUNCTIONS: list[tuple[Any, str]] = [
    (partial(undescribed, 1), "wrap it in a `def`"),
    (Callable_(), "wrap it in a `def`"),
    (Callable_, "wrap it in a `def`"),
    (print, "wrap it in a `def`"),
    (3, "not a function"),
    (staticmethod(undescribed), "put @staticmethod above @tool"),
    (classmethod(cast("Any", undescribed)), "class methods are not supported"),
    (lambda: None, "1 to 64"),
]


@pytest.mark.parametrize(("thing", "advice"), NO_FUNCTIONS)
def test_what_is_no_plain_function_is_refused(thing: Any, advice: str) -> None:
    """With what to do instead."""
    with pytest.raises(ToolDefinitionError, match=advice):
        tool(description="Described.")(thing)


def test_a_class_method_is_refused_with_advice() -> None:
    """Its first parameter would be the class, which no model can give."""
    with pytest.raises(ToolDefinitionError, match="class methods are not supported"):

        class Box:  # pyright: ignore[reportUnusedClass]
            @classmethod
            @tool
            def make(cls, x: int) -> None:
                """Described."""


def test_a_method_cannot_be_used_without_its_instance() -> None:
    """The error says where to take it from."""

    class Box:
        @tool
        def size(self, x: int) -> int:
            """Described."""
            return x

    with pytest.raises(ToolDefinitionError, match="take it from an instance"):
        _ = Box.size.spec


@pytest.mark.parametrize("name", ["", "has space", "dotted.name", "ümlaut", "x" * 65, "a\n"])
def test_a_name_that_a_provider_refuses_is_refused_here(name: str) -> None:
    """Not at the first request, where the whole request would fail."""
    with pytest.raises(ToolDefinitionError, match="1 to 64"):
        tool(name=name, description="Described.")(undescribed)


@pytest.mark.parametrize("timeout", [0, -1.0, math.nan, math.inf])
def test_a_timeout_that_is_no_time_is_refused(timeout: float) -> None:
    """Zero, negative, NaN, infinite."""
    with pytest.raises(ToolDefinitionError, match="seconds above 0"):
        tool(description="Described.", timeout=timeout)(undescribed)


def test_strict_is_refused_where_a_provider_would_refuse_it() -> None:
    """A provider answers 400 to the whole request for one such schema."""

    def loose(query: str, limit: int = 3, tags: dict[str, str] | None = None) -> None:
        """Described."""

    with pytest.raises(ToolDefinitionError, match="'limit' is optional") as caught:
        tool(strict=True)(loose)
    assert "it takes properties of any name" in str(caught.value)


def test_strict_closes_the_objects_of_a_schema_that_fits() -> None:
    """Every object, and only where it did not say anything else."""

    @tool(strict=True)
    def tight(query: str, limit: Annotated[int | None, Field(description="None: all")]) -> None:
        """Described."""

    assert tight.spec.strict is True
    assert tight.spec.parameters["additionalProperties"] is False
    assert tight.spec.parameters["required"] == ["query", "limit"]
