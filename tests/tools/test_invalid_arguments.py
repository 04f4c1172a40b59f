"""Arguments that do not fit are told to the model piece by piece, and nothing is run."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest
from pydantic import BaseModel

from power_loop.errors import ToolError
from power_loop.tools import InvalidArguments, Problem, ToolContext, tool
from tests.tools.support import invalid

pytestmark = pytest.mark.anyio


class Inner(BaseModel):
    name: str
    op: Literal["eq", "lt"] = "eq"


class Tree(BaseModel):
    kids: list[Tree] = []


@tool
async def probe(
    count: int,
    filters: list[Inner] | None = None,
    either: int | list[str] = 0,
    tree: Tree | None = None,
    anything: Any = None,
) -> str:
    """Never runs in these tests."""
    raise AssertionError("a call with invalid arguments was run")


async def test_every_problem_is_told_with_place_expectation_and_value() -> None:
    """Union branches are no part of the place; their expectations are joined."""
    error = await invalid(
        probe,
        '{"count":"ten","filters":[{"name":1},{"op":"gt"}],"either":"x","more":[1]}',
    )
    assert set(error.problems) == {
        Problem("count", "a valid integer, unable to parse string as an integer", '"ten"'),
        Problem("filters[0].name", "a valid string", "1"),
        Problem("filters[1].name", "a value, it is required", "nothing"),
        Problem("filters[1].op", "'eq' or 'lt'", '"gt"'),
        Problem(
            "either",
            "a valid integer, unable to parse string as an integer or a valid array",
            '"x"',
        ),
        Problem(
            "more",
            "no such argument; there are: count, filters, either, tree, anything",
            "[1]",
        ),
    }


async def test_the_text_is_compact_json_for_the_model() -> None:
    """With the tool's name, so that parallel calls can be told apart."""
    error = await invalid(probe, "{}")
    assert isinstance(error, ToolError)
    assert msgspec.json.decode(str(error)) == {
        "error": "invalid_arguments",
        "tool": "probe",
        "problems": [{"path": "count", "expected": "a value, it is required", "got": "nothing"}],
    }


async def test_places_in_recursive_models_are_exact() -> None:
    """The path is that of the arguments, through any depth."""
    error = await invalid(probe, '{"count":1,"tree":{"kids":[{"kids":[]},{"kids":3}]}}')
    assert [problem.path for problem in error.problems] == ["tree.kids[1].kids"]


@pytest.mark.parametrize(
    "arguments",
    [
        '{"count":1',
        '{"count":1}}',
        '{"count":1} x',
        "{'count':1}",
        '{"count":01}',
        '{"count":1,}',
        "\ufeff{}",
        "nul",
        '{"count":' + "9" * 5_000 + "}",
        '{"count":1,"anything":' + "9" * 5_000 + "}",
        '{"count":1,"anything":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"count":1,"anything":NaN}',
        '{"count":1,"anything":[{"deep":-Infinity}]}',
        '{"count":NaN}',
        '{"count":1e999}',
        '{"count":1,"anything":"\ud800"}',
        '{"count":1,"anything":"\\ud800"}',
        "\0",
    ],
)
async def test_what_is_no_json_is_a_typed_error_a07(arguments: str) -> None:
    """Cut off, doubled, too long a number, too deep, NaN, lone surrogates: never a bare error
    (A07).
    """
    error = await invalid(probe, arguments)
    assert error.problems[0].path in ("", "count")
    str(error).encode()  # the text itself can be sent
    assert len(str(error)) < 1_000


@pytest.mark.parametrize("arguments", ["[1]", '"text"', "3", "null", "true", "[]", '[{"count":1}]'])
async def test_what_is_no_object_is_a_typed_error(arguments: str) -> None:
    """A list is not taken for positional arguments."""
    error = await invalid(probe, arguments)
    assert [problem.path for problem in error.problems] == [""]
    assert "JSON object" in error.problems[0].expected


async def test_long_values_and_many_problems_are_cut_short() -> None:
    """A model's own megabyte is not sent back to it."""
    error = await invalid(
        probe, msgspec.json.encode({"count": "x" * 1_000_000, "filters": [3] * 500}).decode()
    )
    told = msgspec.json.decode(str(error))
    assert len(error.problems) == 501
    assert len(told["problems"]) == 10
    assert told["more_problems"] == 491
    assert len(str(error)) < 5_000


async def test_an_error_of_the_tool_itself_is_not_taken_for_bad_arguments() -> None:
    """pydantic may also fail inside the tool's own code."""

    @tool
    async def validates() -> None:
        """Validates something of its own."""
        Inner.model_validate({})

    with pytest.raises(ValueError, match="Inner") as caught:
        await validates.invoke("", ToolContext.for_test())
    assert not isinstance(caught.value, InvalidArguments)
