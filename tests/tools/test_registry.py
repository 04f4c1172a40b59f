"""Tools by name: added, replaced, removed, and shown to a model."""

from __future__ import annotations

from typing import Any

import pytest

from llm_client.types import ToolSpec
from power_loop.tools import (
    JsonSchemaTool,
    OnCancel,
    OutputPolicy,
    ToolContext,
    ToolDefinitionError,
    ToolOutput,
    ToolRegistry,
    tool,
)
from tests.tools.support import call

pytestmark = pytest.mark.anyio


@tool
def first(x: int) -> int:
    """First."""
    return x


@tool(name="first")
def impostor(x: int) -> int:
    """Second."""
    return -x


def plain(y: str) -> str:
    """A plain function."""
    return y


class Foreign:
    """A tool of somebody else's making."""

    name = "foreign"
    exclusive = False
    idempotent = False
    polling = False
    reconcile = None
    timeout: float | None = None
    on_cancel: OnCancel = "abort"
    grace = 5.0
    output = OutputPolicy()

    def __init__(self, told: str = "foreign") -> None:
        self.spec = ToolSpec(told, "Foreign.", {"type": "object"})

    async def invoke(self, arguments: str, context: ToolContext[Any]) -> ToolOutput:
        return ToolOutput.of(arguments)


async def test_functions_and_tools_of_any_make_can_be_added() -> None:
    """Order is kept; a plain typed function becomes a tool."""
    registry = ToolRegistry([first, plain])
    added = registry.add(Foreign())
    assert registry.names == ("first", "plain", "foreign")
    assert [tool.name for tool in registry] == list(registry.names)
    assert len(registry) == 3
    assert registry.has("plain")
    assert "plain" in registry
    assert registry.get("foreign") is added
    assert registry.get("nothing") is None
    function = registry.get("plain")
    assert function is not None
    assert await call(function, y="why") == "why"
    assert repr(registry) == "ToolRegistry(first, plain, foreign)"


def test_the_specs_are_the_same_object_until_the_tools_change() -> None:
    """So that an encoder may keep what it has encoded."""
    registry = ToolRegistry([first])
    specs = registry.specs
    assert specs == (first.spec,)
    assert registry.specs is specs
    registry.add(plain)
    assert len(registry.specs) == 2
    assert registry.specs is registry.specs
    registry.remove("plain")
    assert registry.specs == specs


def test_a_name_that_is_taken_is_refused_naming_both() -> None:
    """The first stays."""
    registry = ToolRegistry([first])
    with pytest.raises(ToolDefinitionError, match="two tools are called 'first'") as caught:
        registry.add(impostor)
    assert "test_registry.first" in str(caught.value)
    assert "test_registry.impostor" in str(caught.value)
    assert registry.get("first") is first


def test_a_tool_can_be_replaced_on_purpose() -> None:
    """In its old place."""
    registry = ToolRegistry([first, plain])
    registry.add(impostor, replace=True)
    assert registry.get("first") is impostor
    assert registry.names == ("first", "plain")


def test_removing_returns_the_tool_and_an_unknown_name_is_an_error_with_a_guess() -> None:
    """Typing errors are the usual reason."""
    registry = ToolRegistry([first, plain])
    assert registry.remove("first") is first
    with pytest.raises(ToolDefinitionError, match="did you mean 'plain'"):
        registry.remove("plian")
    with pytest.raises(ToolDefinitionError, match="there are: plain"):
        registry.remove("zzz")


def test_a_subset_is_a_registry_of_its_own() -> None:
    """In the order asked for; what is unknown is an error."""
    registry = ToolRegistry([first, plain, Foreign()])
    part = registry.subset(["foreign", "first"])
    assert part.names == ("foreign", "first")
    part.remove("first")
    assert registry.has("first")
    with pytest.raises(ToolDefinitionError, match="no tool called 'other'"):
        registry.subset(["other"])


def unhinted(x) -> None:  # pyright: ignore[reportUnknownParameterType, reportMissingParameterType]
    """Unhinted."""


NO_TOOLS: list[tuple[Any, str]] = [
    (3, "is no tool"),
    (Foreign, "add an instance"),
    (Foreign("elsewise"), "tells the model 'elsewise'"),
    (unhinted, "has no type hint"),
]


@pytest.mark.parametrize(("thing", "advice"), NO_TOOLS)
def test_what_is_no_tool_is_refused(thing: Any, advice: str) -> None:
    """With what to do instead."""
    with pytest.raises(ToolDefinitionError, match=advice):
        ToolRegistry().add(thing)


def test_a_foreign_tool_with_an_illegal_name_is_refused() -> None:
    """Names are the same for all providers."""
    foreign = Foreign("a b")
    foreign.name = "a b"
    with pytest.raises(ToolDefinitionError, match="1 to 64"):
        ToolRegistry().add(foreign)


def test_a_method_that_was_not_taken_from_an_instance_is_refused() -> None:
    """At once, not when the model calls it."""

    class Box:
        @tool
        def size(self) -> int:
            """Says the size."""
            return 1

    with pytest.raises(ToolDefinitionError, match="take it from an instance"):
        ToolRegistry([Box.size])
    assert ToolRegistry([Box().size]).names == ("size",)


def test_a_json_schema_tool_fits_too() -> None:
    """And shows what it is."""
    schema_tool = JsonSchemaTool("js", "A schema.", {"type": "object"}, lambda a, c: a)
    assert ToolRegistry([schema_tool]).specs[0].parameters == {"type": "object", "properties": {}}
    assert repr(schema_tool) == "<tool 'js': a JSON Schema>"
