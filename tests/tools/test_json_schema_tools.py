"""Tools that come with a JSON Schema: what is checked, what is coerced, what is refused at once."""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import pytest

from llm_client.structured.validator import SchemaValidator
from power_loop.tools import JsonSchemaTool, Problem, ToolContext, ToolDefinitionError, ToolError
from tests.tools.support import invalid

pytestmark = pytest.mark.anyio

Json = dict[str, Any]


def made(schema: Json, **options: Any) -> JsonSchemaTool:
    """A tool that answers with what its handler was given."""

    async def handler(arguments: Json, context: ToolContext[Any]) -> object:
        return arguments

    return JsonSchemaTool("probe", "Probes.", schema, handler, **options)


def of(part: Any) -> Json:
    """A schema with one property, `v`."""
    return {"type": "object", "properties": {"v": part}}


async def answer(tool: JsonSchemaTool, value: object) -> object:
    """What the handler was given for `v`."""
    text = msgspec.json.encode({"v": value}).decode()
    return msgspec.json.decode((await tool.invoke(text, ToolContext.for_test())).text)["v"]


async def test_the_schema_reaches_the_model_unchanged() -> None:
    """Keywords that are not checked here too."""
    schema = {"type": "object", "properties": {"a": {"type": "string", "format": "email"}}, "x": 1}
    tool = made(schema, exclusive=True, idempotent=True, timeout=3)
    assert tool.spec.parameters == schema
    assert (tool.exclusive, tool.idempotent, tool.timeout) == (True, True, 3)


async def test_handlers_may_be_synchronous_asynchronous_or_objects() -> None:
    """A synchronous one runs in a thread; errors come out as they are."""
    threads: list[int] = []

    def plain(arguments: Json, context: ToolContext[Any]) -> str:
        threads.append(threading.get_ident())
        return context.call_id

    class Handler:
        async def __call__(self, arguments: Json, context: ToolContext[Any]) -> None:
            raise ToolError("no")

    tool = JsonSchemaTool("a", "A.", {"type": "object"}, plain)
    assert (await tool.invoke("", ToolContext.for_test(call_id="c9"))).text == "c9"
    assert threads != [threading.get_ident()]
    with pytest.raises(ToolError, match="no"):
        await JsonSchemaTool("b", "B.", {"type": "object"}, Handler()).invoke(
            "{}", ToolContext.for_test()
        )


GOOD: list[tuple[Any, object, object]] = [
    ({"type": "integer"}, 3, 3),
    ({"type": "integer"}, "10", 10),
    ({"type": "integer"}, " -7 ", -7),
    ({"type": "integer"}, 3.0, 3),
    ({"type": "number"}, "2.5", 2.5),
    ({"type": "number"}, "1e3", 1000.0),
    ({"type": "number"}, 3, 3),
    ({"type": "boolean"}, "True", True),
    ({"type": ["integer", "null"]}, None, None),
    ({"type": ["integer", "string"]}, "10", "10"),
    ({"type": "string"}, "10", "10"),
    ({}, {"any": ["thing"]}, {"any": ["thing"]}),
    (True, 1, 1),
    ({"enum": ["a", 1, None]}, 1, 1),
    ({"const": {"a": [1]}}, {"a": [1]}, {"a": [1]}),
    ({"type": "array", "items": {"type": "integer"}}, ["1", 2], [1, 2]),
    ({"type": "array", "minItems": 1, "maxItems": 2}, [1], [1]),
    ({"type": "string", "minLength": 2, "maxLength": 3}, "ab", "ab"),
    ({"type": "number", "minimum": 1, "exclusiveMaximum": 2}, 1, 1),
    ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "4", 4),
    ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, 4, 4),
    ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, "a", "a"),
    ({"allOf": [{"type": "integer"}, {"minimum": 3}]}, "3", 3),
    ({"type": "object", "additionalProperties": {"type": "integer"}}, {"x": "1"}, {"x": 1}),
    ({"type": "object", "additionalProperties": False, "patternProperties": {"x": {}}}, {"x": 1},
     {"x": 1}),
    ({"type": "string", "pattern": "^a", "format": "date"}, "b", "b"),
]  # fmt: skip


@pytest.mark.parametrize(("part", "value", "given"), GOOD)
async def test_what_fits_is_passed_on_as_the_type_it_is_to_have(
    part: Any, value: object, given: object
) -> None:
    """Text is taken for a number only where no text fits."""
    got = await answer(made(of(part)), value)
    assert got == given
    assert type(got) is type(given)


BAD: list[tuple[Any, object, str]] = [
    ({"type": "integer"}, "ten", "an integer"),
    ({"type": "integer"}, 2.5, "an integer"),
    ({"type": "integer"}, True, "an integer"),
    ({"type": "number"}, "1e9999", "a number"),
    ({"type": "boolean"}, 1, "a boolean"),
    ({"type": ["object", "null"]}, [], "an object or a null"),
    (False, 1, "nothing"),
    ({"enum": ["a", 1]}, True, 'one of "a", 1'),
    ({"enum": ["a"]}, "b", 'one of "a"'),
    ({"const": 0}, False, "0"),
    ({"type": "string", "minLength": 2}, "a", "2 characters or more, not 1"),
    ({"type": "array", "maxItems": 1}, [1, 2], "1 items or fewer, not 2"),
    ({"type": "integer", "minimum": 3}, 2, "at least 3"),
    ({"type": "integer", "exclusiveMaximum": 3}, 3, "less than 3"),
    ({"type": "integer", "exclusiveMinimum": 3}, 3, "more than 3"),
    ({"type": "integer", "maximum": 3}, 4, "at most 3"),
    ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "x", "an integer or a null"),
    ({"oneOf": [{"type": "integer"}, {"minimum": 1}]}, 2, "exactly one of 2 forms, not 2"),
    ({"allOf": [{"minimum": 1}, {"maximum": 3}]}, 4, "at most 3"),
]


@pytest.mark.parametrize(("part", "value", "expected"), BAD)
async def test_what_does_not_fit_is_told_and_not_run(
    part: Any, value: object, expected: str
) -> None:
    """Place, expectation and value, as for typed functions."""
    error = await invalid(made(of(part)), msgspec.json.encode({"v": value}).decode())
    assert [problem.path for problem in error.problems] == ["v"]
    assert expected in error.problems[0].expected


async def test_problems_deep_inside_have_their_full_path() -> None:
    """Through objects, lists, references and the branch that is meant."""
    schema = {
        "type": "object",
        "required": ["rows", "name"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string"},
            "rows": {"type": "array", "items": {"$ref": "#/$defs/row"}},
        },
        "$defs": {
            "row": {
                "anyOf": [
                    {"type": "null"},
                    {
                        "type": "object",
                        "required": ["id"],
                        "properties": {"id": {"type": "integer"}},
                    },
                ]
            }
        },
    }
    error = await invalid(made(schema), '{"rows":[{"id":1},{"id":"x"},null,{}],"extra":1}')
    assert set(error.problems) == {
        Problem("name", "a value, it is required", "nothing"),
        Problem("rows[1].id", "an integer", '"x"'),
        Problem("rows[3].id", "a value, it is required", "nothing"),
        Problem("extra", "no such argument; there are: name, rows", "1"),
    }


@pytest.mark.parametrize("arguments", ["[]", "nope", '{"a":NaN}', '{"a":' + "9" * 5_000 + "}"])
async def test_what_is_no_json_object_is_a_typed_error(arguments: str) -> None:
    """Also without any property that could be wrong."""
    error = await invalid(made({"type": "object"}), arguments)
    assert error.problems[0].path == ""


async def test_a_reference_may_be_recursive() -> None:
    """As long as each step consumes something of the value."""
    schema = {
        "type": "object",
        "properties": {"kids": {"type": "array", "items": {"$ref": "#"}}},
        "additionalProperties": False,
    }
    error = await invalid(made(schema), '{"kids":[{"kids":[{"x":1}]}]}')
    assert [problem.path for problem in error.problems] == ["kids[0].kids[0].x"]


@pytest.mark.parametrize(
    ("schema", "advice"),
    [
        ({}, "type 'object'"),
        ({"type": "string"}, "type 'object'"),
        (of({"type": "strnig"}), "type 'strnig' is unknown"),
        (of({"type": ["string", "text"]}), "type 'text' is unknown"),
        (of(3), "is no schema"),
        (of({"items": [{"type": "string"}]}), "is no schema"),
        (of({"enum": "abc"}), "'enum' must be a list"),
        (of({"anyOf": {"type": "string"}}), "'anyOf' must be a list"),
        (of({"minimum": "3"}), "'minimum' must be a number"),
        (of({"maxLength": True}), "'maxLength' must be a number"),
        ({"type": "object", "properties": []}, "'properties' must be an object"),
        ({"type": "object", "required": "v"}, "'required' must be a list"),
        (of({"$ref": "#/$defs/nothing"}), "leads nowhere"),
        (of({"$ref": "http://elsewhere"}), "another place in this schema"),
        (of({"$ref": "#/properties/v"}), "leads back to itself"),
        (of({"type": {}}), "is unknown"),
        (of({"type": [3]}), "is unknown"),
    ],
)
def test_a_schema_that_cannot_be_checked_is_refused_at_once(schema: Json, advice: str) -> None:
    """Not when a model makes the first call. The error names the tool and the place."""
    with pytest.raises(ToolDefinitionError, match="tool 'probe'") as caught:
        made(schema)
    assert advice in str(caught.value)


def test_loops_of_references_through_combinations_are_refused() -> None:
    """They would never end, whatever the value."""
    for key in ("anyOf", "allOf", "oneOf"):
        schema = {
            **of({"$ref": "#/$defs/a"}),
            "$defs": {"a": {key: [{"$ref": "#/$defs/b"}]}, "b": {key: [{"$ref": "#/$defs/a"}]}},
        }
        with pytest.raises(ToolDefinitionError, match="leads back to itself"):
            made(schema)


def test_a_schema_without_end_is_refused() -> None:
    """Nested deeper than anyone means."""
    schema: Json = {"type": "string"}
    for _ in range(500):
        schema = {"type": "array", "items": schema}
    with pytest.raises(ToolDefinitionError, match="nested too deeply"):
        made(of(schema))


@pytest.mark.parametrize(
    "options", [{"name": "a b"}, {"description": " "}, {"timeout": 0}, {"strict": True}]
)
def test_other_options_are_checked_as_for_functions(options: Json) -> None:
    """Name, description, timeout, and strictness that a provider would refuse."""
    given: Json = {"name": "a", "description": "A.", "parameters": of({"type": "string"})}
    given |= options
    with pytest.raises(ToolDefinitionError):
        JsonSchemaTool(**given, handler=lambda arguments, context: None)


def test_strict_closes_a_schema_that_fits() -> None:
    """And says so to the provider."""
    tool = made({**of({"type": "string"}), "required": ["v"]}, strict=True)
    assert tool.spec.strict is True
    assert tool.spec.parameters["additionalProperties"] is False


def test_a_value_nested_deeper_than_anyone_means_is_a_problem() -> None:
    """Not a recursion error of the validator."""
    schema = of({"$ref": "#/$defs/l"})
    schema["$defs"] = {"l": {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/l"}}]}}
    validator = SchemaValidator(schema)
    value: list[Any] = []
    for _ in range(60):
        value = [value]
    assert validator.check({"v": value}) == ({"v": value}, [])
    for _ in range(130):
        value = [value]
    assert "at most 64 levels" in str(validator.check({"v": value})[1])
