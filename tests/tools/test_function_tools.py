"""@tool: what the model sees of a function, and what the function sees of a call."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal, cast

import pytest
from pydantic import BaseModel, Field

from power_loop.tools import FunctionTool, Tool, ToolContext, ToolError, tool
from tests.tools.support import call

pytestmark = pytest.mark.anyio


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Filter(BaseModel):
    field: str
    op: Literal["eq", "lt"] = "eq"


@dataclass
class Deps:
    user: str


@tool
async def search(query: str, limit: int = 10) -> str:
    """Searches the
    index.

    Only what is public.

    Args:
        query: what to look for
        limit: how many to return
    """
    return f"{query}:{limit}"


def test_the_spec_is_the_signature_and_the_docstring() -> None:
    """Name, first paragraph, types, defaults and descriptions; no generated titles."""
    assert search.spec.name == "search"
    assert search.spec.description == "Searches the index."
    assert search.spec.parameters == {
        "type": "object",
        "additionalProperties": False,
        "required": ["query"],
        "properties": {
            "query": {"type": "string", "description": "what to look for"},
            "limit": {"type": "integer", "default": 10, "description": "how many to return"},
        },
    }
    assert search.spec.strict is None


def test_a_decorated_function_is_a_tool_with_quiet_defaults() -> None:
    """It satisfies the protocol; nothing is exclusive or idempotent unless said."""
    assert isinstance(search, Tool)
    assert (search.exclusive, search.idempotent, search.timeout) == (False, False, None)
    assert search.spec is search.spec


def test_attributes_of_the_function_do_not_become_those_of_the_tool() -> None:
    """Other decorators leave marks of their own on functions."""

    def marked(x: int) -> None:
        """Marked."""

    marked.__dict__.update(name="other", timeout=9, _spec=None)
    assert (tool(marked).name, tool(marked).timeout) == ("marked", None)
    assert tool(marked).spec.name == "marked"


def test_options_are_kept() -> None:
    """Every option of @tool(…) reaches the tool."""

    @tool(name="find", description="Finds.", exclusive=True, idempotent=True, timeout=2.5)
    def anything(x: int) -> None: ...

    assert (anything.name, anything.spec.description) == ("find", "Finds.")
    assert (anything.exclusive, anything.idempotent, anything.timeout) == (True, True, 2.5)


async def test_calling_the_tool_directly_calls_the_plain_function() -> None:
    """Tests of a tool need no loop, no JSON and no context machinery."""
    assert await search("x", limit=3) == "x:3"
    assert inspect.signature(search) == inspect.signature(inspect.unwrap(search))
    assert inspect.getdoc(search) == inspect.getdoc(inspect.unwrap(search))


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        ('{"query":"a"}', "a:10"),
        ('{"query":"a","limit":3}', "a:3"),
        (' {"limit":"3","query":"a"}\n', "a:3"),
        ('{"query":"a","limit":3.0}', "a:3"),
        ('{"query":"\\u00e9\\u0000","limit":1}', "é\0:1"),
        ('{"query":"NaN and Infinity"}', "NaN and Infinity:10"),
        ('{"query":"a","query":"b"}', "b:10"),
    ],
)
async def test_arguments_are_read_leniently_but_typed(arguments: str, answer: str) -> None:
    """Numbers in quotes are numbers; defaults are the function's own."""
    assert (await search.invoke(arguments, ToolContext.for_test())).text == answer


@pytest.mark.parametrize("arguments", ["", "  \n", "{}"])
async def test_no_arguments_at_all_mean_an_empty_object(arguments: str) -> None:
    """Some providers send an empty text for a call without arguments."""

    @tool
    def now() -> str:
        """Tells the time."""
        return "noon"

    assert (await now.invoke(arguments, ToolContext.for_test())).text == "noon"
    assert now.spec.parameters == {
        "type": "object",
        "properties": {},
        "additionalProperties": False,
    }


async def test_rich_types_arrive_as_what_they_are_declared_to_be() -> None:
    """Models, enums, dates, literals and annotated bounds are real Python values in the tool."""
    seen: list[Any] = []

    @tool
    def record(
        filters: list[Filter],
        colour: Colour,
        day: date,
        level: Annotated[int, Field(ge=1, le=5, description="how loud")],
        extra: dict[str, int] | None = None,
    ) -> None:
        """Records."""
        seen.extend([filters, colour, day, level, extra])

    assert (
        await call(
            record,
            filters=[{"field": "a"}],
            colour="blue",
            day="2026-01-02",
            level=2,
            extra={"b": 1},
        )
        == "ok"
    )
    assert seen == [[Filter(field="a")], Colour.BLUE, date(2026, 1, 2), 2, {"b": 1}]
    properties = record.spec.parameters["properties"]
    assert properties["level"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 5,
        "description": "how loud",
    }
    assert properties["colour"] == {"type": "string", "enum": ["red", "blue"]}
    assert properties["filters"]["items"]["properties"]["op"]["enum"] == ["eq", "lt"]
    assert "$defs" not in record.spec.parameters


async def test_a_context_parameter_is_filled_in_and_hidden_from_the_model() -> None:
    """By annotation, wherever it stands and whatever it is called."""

    @tool
    async def who(first: int, me: ToolContext[Deps], last: int = 0) -> str:
        """Says who."""
        return f"{me.deps.user}/{me.call_id}/{first}{last}"

    context = ToolContext.for_test(Deps("ann"), call_id="c7")
    assert (await who.invoke('{"first":4}', context)).text == "ann/c7/40"
    assert list(who.spec.parameters["properties"]) == ["first", "last"]
    assert await who(1, context, last=2) == "ann/c7/12"


async def test_a_bare_context_annotation_works_too() -> None:
    """`ToolContext` without its parameter, and inside Annotated."""

    @tool
    def plain(context: ToolContext) -> str:
        """Says its attempt."""
        return str(context.attempt)

    @tool
    def annotated(context: Annotated[ToolContext[Any], "mine"]) -> str:
        """Says its key."""
        return context.idempotency_key

    context = ToolContext.for_test(attempt=3, idempotency_key="k")
    assert (await plain.invoke("", context)).text == "3"
    assert (await annotated.invoke("", context)).text == "k"


async def test_parameter_names_that_pydantic_reserves_are_ordinary_here() -> None:
    """A tool may have parameters called schema, json, model_config, self_ or _hidden."""

    @tool
    def odd(schema: str, json: int, model_config: str, _hidden: int, copy: bool = False) -> str:
        """Takes odd names."""
        return f"{schema}{json}{model_config}{_hidden}{copy}"

    assert await call(odd, schema="s", json=1, model_config="m", _hidden=2, copy=True) == "s1m2True"


async def test_a_method_becomes_a_tool_when_taken_from_an_instance() -> None:
    """Each instance has its own tool; the schema is built once."""

    class Weather:
        def __init__(self, city: str) -> None:
            self.city = city

        @tool(idempotent=True)
        async def forecast(self, days: int, context: ToolContext[Any]) -> str:
            """Forecasts."""
            return f"{self.city} {days} {context.call_id}"

    one, two = Weather("Oslo"), Weather("Rome")
    assert await call(one.forecast, days=2) == "Oslo 2 call"
    assert await call(two.forecast, days=3) == "Rome 3 call"
    assert one.forecast.spec is two.forecast.spec
    assert list(one.forecast.spec.parameters["properties"]) == ["days"]
    assert one.forecast.idempotent
    assert await one.forecast(4, ToolContext.for_test()) == "Oslo 4 call"


async def test_a_static_method_and_a_plain_bound_method_are_tools() -> None:
    """@staticmethod above @tool; and tool(instance.method) for a class that is not ours."""

    class Box:
        size = 3

        @staticmethod
        @tool
        def twice(x: int) -> int:
            """Doubles."""
            return 2 * x

        def grown(self, by: int) -> int:
            """Grows."""
            return self.size + by

    twice: Any = Box.twice
    assert type(twice) is FunctionTool
    assert await call(cast("Tool", twice), x=4) == "8"
    grown = Box().grown
    assert await call(tool(grown), by=2) == "5"


async def test_hints_may_name_classes_that_are_local_to_a_function() -> None:
    """Also from inside a class body, although all hints are texts in this file."""

    class Point(BaseModel):
        x: int

    class Tools:
        @tool
        def move(self, to: Point) -> int:
            """Moves."""
            return to.x

    @tool
    def jump(to: Point) -> int:
        """Jumps."""
        return to.x

    assert await call(jump, to={"x": 5}) == "5"
    assert await call(Tools().move, to={"x": 6}) == "6"


async def test_errors_of_the_tool_come_out_as_they_are() -> None:
    """ToolError and everything else: the loop decides what they mean."""

    @tool
    async def refuses() -> None:
        """Refuses."""
        raise ToolError("not today")

    @tool
    def breaks() -> None:
        """Breaks."""
        raise KeyError("x")

    with pytest.raises(ToolError, match="not today"):
        await refuses.invoke("", ToolContext.for_test())
    with pytest.raises(KeyError):
        await breaks.invoke("", ToolContext.for_test())


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_a_tool_that_exits_the_process_does_not(asynchronous: bool) -> None:
    """sys.exit in foreign code, as of an argument parser, is an error of the tool."""

    @tool
    async def leaves() -> None:
        """Leaves."""
        raise SystemExit(2)

    @tool(name="leaves")
    def leaves_in_a_thread() -> None:
        """Leaves."""
        raise SystemExit(2)

    chosen: Tool = leaves if asynchronous else leaves_in_a_thread
    with pytest.raises(ToolError, match="'leaves' tried to exit the process"):
        await chosen.invoke("", ToolContext.for_test())


def test_a_tool_shows_where_it_comes_from() -> None:
    """The repr names module and function, so that messages can."""
    assert repr(search) == "<tool 'search': tests.tools.test_function_tools.search>"
