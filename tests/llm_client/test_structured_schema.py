"""JSON Schemas: simplified, strict where it fits, and walked in every corner."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, HttpUrl

from llm_client.codecs._schema import nested, rebuilt, strict_output, subschemas
from llm_client.structured import output_spec, simplify_schema, strict_schema
from llm_client.structured.validator import SchemaValidator


def test_what_stands_beside_a_reference_wins_over_the_definition() -> None:
    """A description at the place of use is about that use."""
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/A", "description": "here"}},
        "$defs": {"A": {"type": "string", "description": "there"}},
    }
    assert simplify_schema(schema)["properties"] == {"a": {"type": "string", "description": "here"}}


def test_a_schema_that_would_explode_keeps_its_definitions() -> None:
    """Twenty definitions that use the next one twice would be a million schemas."""
    definitions: dict[str, Any] = {
        f"D{i}": {
            "type": "object",
            "properties": {name: {"$ref": f"#/$defs/D{i + 1}"} for name in "ab"},
        }
        for i in range(20)
    }
    definitions["D20"] = {"type": "string"}
    schema = {"type": "object", "properties": {"d": {"$ref": "#/$defs/D0"}}, "$defs": definitions}
    assert simplify_schema(schema) == schema


def test_a_default_that_looks_like_a_schema_is_left_alone() -> None:
    """Defaults, examples and enums are values."""
    schema = {
        "type": "object",
        "properties": {
            "a": {"default": {"title": "x", "$ref": "#/$defs/A"}, "enum": [{"title": 1}]}
        },
        "$defs": {"A": {"type": "string"}},
    }
    assert simplify_schema(schema)["properties"] == schema["properties"]


STRICT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "a": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "b": {"type": "array", "items": {"type": "object", "properties": {}}},
        "c": {"enum": ["x", 1]},
    },
    "required": ["a", "b", "c"],
}


def test_strict_closes_every_object_and_changes_nothing_else() -> None:
    """The original is left as it is."""
    closed, problems = strict_schema(STRICT)
    assert problems == ()
    assert closed["additionalProperties"] is False
    assert closed["properties"]["b"]["items"]["additionalProperties"] is False
    assert closed["properties"]["a"] == STRICT["properties"]["a"]
    assert "additionalProperties" not in STRICT


NOT_STRICT: list[tuple[dict[str, Any], str]] = [
    ({"oneOf": [{"type": "string"}]}, "'oneOf'"),
    ({"allOf": [{"type": "string"}]}, "'allOf'"),
    ({"anyOf": [{"type": "array", "items": {"oneOf": []}}]}, "'oneOf'"),
    ({"type": "string", "default": "x"}, "'default'"),
    ({"type": "array", "prefixItems": []}, "'prefixItems'"),
    ({"type": "array", "items": {}, "uniqueItems": True}, "'uniqueItems'"),
    ({"type": "object", "patternProperties": {}}, "'patternProperties'"),
    ({"type": "object", "additionalProperties": {"type": "string"}}, "of any name"),
    ({"type": "object", "additionalProperties": True}, "of any name"),
    ({"type": "object", "properties": {"z": {"type": "string"}}}, "'z' is optional"),
    ({"description": "anything"}, "anything is allowed"),
    ({"not": {"type": "string"}}, "'not'"),
]


@pytest.mark.parametrize(("part", "word"), NOT_STRICT)
def test_what_strict_mode_does_not_take_is_said_with_its_place(
    part: dict[str, Any], word: str
) -> None:
    """Such a schema with strict: true is a 400 for the whole request (J03)."""
    schema = {"type": "object", "properties": {"a": part}, "required": ["a"]}
    _, problems = strict_schema(schema)
    assert any(word in line and line.startswith("the arguments.properties.a") for line in problems)


# ── every corner ──────────────────────────────────────────────────────────────────────────────────

REF = {"$ref": "#/$defs/A"}
CORNERS: dict[str, Any] = {
    **dict.fromkeys(
        (
            "additionalItems",
            "additionalProperties",
            "contains",
            "contentSchema",
            "else",
            "if",
            "items",
            "not",
            "propertyNames",
            "then",
            "unevaluatedItems",
            "unevaluatedProperties",
        ),
        REF,
    ),
    **{key: [{"type": "null"}, REF] for key in ("allOf", "anyOf", "oneOf", "prefixItems")},
    **{key: {"default": REF} for key in ("definitions", "dependencies", "dependentSchemas")},
    **{key: {"default": REF} for key in ("patternProperties", "properties")},
}
VALUES = ("const", "default", "enum", "examples")


@pytest.mark.parametrize("keyword", [*CORNERS, "items of a tuple"])
def test_a_reference_is_seen_in_every_corner(keyword: str) -> None:
    """Also inside of the arrays of anyOf (J02)."""
    corner = CORNERS.get(keyword, [{"type": "null"}, REF])
    schema = {keyword if keyword in CORNERS else "items": corner, "$defs": {"A": {"type": "null"}}}
    assert REF in [child for _, child in subschemas(schema)]
    marked = rebuilt(schema, lambda child: {"seen": child})
    assert str(marked).count("'seen'") == len(list(nested(schema)))
    assert str(simplify_schema(schema)).count("$ref") == 0


@pytest.mark.parametrize("keyword", VALUES)
def test_a_value_is_no_schema(keyword: str) -> None:
    """Whatever it looks like."""
    schema = {keyword: [REF], "$defs": {"A": {"type": "null"}}}
    assert [child for _, child in subschemas(schema)] == [{"type": "null"}]
    assert simplify_schema(schema)[keyword] == [REF]


@pytest.mark.parametrize("keyword", ["anyOf", "items", "properties", "$defs", "required"])
def test_nonsense_in_a_schema_is_passed_by(keyword: str) -> None:
    """It is the provider's to refuse; nothing is lost on the way."""
    for wrong in (None, 3, "x", [3, None], {"a": 3}):
        schema = {"type": "object", keyword: wrong}
        assert rebuilt(schema, dict) == schema
        assert simplify_schema(schema) == schema
        strict_schema(schema)


# ── the form of an answer ─────────────────────────────────────────────────────────────────────────


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]
    link: HttpUrl | None = None


class Owner(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    first: Cat = Field(description="the first one")
    names: list[str] = Field(default_factory=list[str], max_length=3)


def test_what_can_be_said_in_another_way_is() -> None:
    """The whole form of a schema that strict mode would refuse for five reasons (J03)."""
    form = strict_output(output_spec(Owner).schema.schema)
    assert form is not None
    assert simplify_schema(form) == {
        "type": "object",
        "properties": {
            "pet": {"anyOf": [CAT, DOG]},
            "first": {"anyOf": [CAT], "description": "the first one"},
            "names": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
        },
        "required": ["pet", "first", "names"],
        "additionalProperties": False,
    }
    assert set(form["$defs"]) == {"Cat", "Dog"}


CAT = {
    "type": "object",
    "properties": {"kind": {"const": "cat", "type": "string"}, "lives": {"type": "integer"}},
    "required": ["kind", "lives"],
    "additionalProperties": False,
}
DOG = {
    "type": "object",
    "properties": {
        "kind": {"const": "dog", "type": "string"},
        "link": {
            "anyOf": [
                {"type": "string", "description": "(minLength 1, maxLength 2083)"},
                {"type": "null"},
            ]
        },
    },
    "required": ["kind", "link"],
    "additionalProperties": False,
}


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


def of(part: Any, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": part}, "required": ["a"], **more}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"type": "string"}},
        {"anyOf": [of({"type": "string"})]},
        of({"type": "string"}, anyOf=[of({"type": "string"})]),
        of({"type": "object"}),
        of({"type": ["object", "null"], "properties": {"b": {"type": "string"}}}),
        of(True),
        of({"type": "array", "items": True}),
        of(
            {"$ref": "#/$defs/A", "anyOf": [{"type": "null"}]}, **{"$defs": {"A": {"type": "null"}}}
        ),
        of({"oneOf": [{"type": "string"}, {"type": "integer"}]}),
        of({"enum": list(range(1_001))}),
        {
            "type": "object",
            "properties": {str(n): {"type": "null"} for n in range(5_001)},
            "required": [str(n) for n in range(5_001)],
        },
        deep(11),
        deep(3_000),
    ],
)
def test_what_has_no_strict_form_has_none_j03(schema: dict[str, Any]) -> None:
    """One such schema under strict refuses the whole request (J03)."""
    assert strict_output(schema) is None


def test_an_object_that_may_be_null_is_closed_as_well() -> None:
    """It is an object in most answers."""
    form = strict_output(of({**of({"type": "string"}), "type": ["object", "null"]}))
    assert form is not None
    assert form["properties"]["a"]["additionalProperties"] is False


def test_a_definition_that_is_true_stays_one() -> None:
    """There is nothing to put in its place."""
    schema = of({"$ref": "#/$defs/A"}, b=1, **{"$defs": {"A": True, "B": {"type": "null"}}})
    assert simplify_schema(schema)["$defs"] == {"A": True}


def test_levels_of_objects_are_counted_as_a_provider_counts_them() -> None:
    """Ten are allowed; a definition begins anew."""
    assert strict_output(deep(10)) is not None
    below = of({"$ref": "#/$defs/A"}, **{"$defs": {"A": deep(10)}})
    assert strict_output(below) is not None


Schemas = st.SearchStrategy[dict[str, Any]]

LEAVES: list[dict[str, Any]] = [
    {"type": "string", "maxLength": 2},
    {"type": "integer", "default": 1},
    {"type": "null"},
    {"enum": ["a", 1]},
    {"type": ["string", "null"], "format": "uri"},
]


def arrays(inner: Schemas) -> Schemas:
    def made(item: dict[str, Any]) -> dict[str, Any]:
        return {"type": "array", "items": item}

    return st.builds(made, inner)


def choices(inner: Schemas) -> Schemas:
    def made(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
        return {"anyOf": [first, second]}

    return st.builds(made, inner, inner)


def objects(inner: Schemas) -> Schemas:
    def made(properties: dict[str, Any], required: int, extra: bool | None) -> dict[str, Any]:
        more = {} if extra is None else {"additionalProperties": extra}
        names = list(properties)[:required]
        return {"type": "object", "properties": properties, "required": names, **more}

    properties = st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    return st.builds(made, properties, st.integers(0, 3), st.sampled_from([None, False, True]))


def larger(inner: Schemas) -> Schemas:
    return arrays(inner) | choices(inner) | objects(inner)


schemas = objects(st.recursive(st.sampled_from(LEAVES), larger, max_leaves=8))


def sample(schema: dict[str, Any], data: st.DataObject) -> Any:
    """A value that satisfies a schema in strict form."""
    if "anyOf" in schema:
        return sample(data.draw(st.sampled_from(schema["anyOf"])), data)
    if "enum" in schema:
        return data.draw(st.sampled_from(schema["enum"]))
    kind: object = schema["type"]
    kinds = cast("list[object]", kind) if isinstance(kind, list) else [kind]
    match data.draw(st.sampled_from(kinds)):
        case "object":
            return {name: sample(item, data) for name, item in schema["properties"].items()}
        case "array":
            return [sample(schema["items"], data) for _ in range(data.draw(st.integers(0, 2)))]
        case "string":
            return data.draw(st.text(max_size=2))
        case "integer":
            return data.draw(st.integers())
        case _:
            return None


@given(schemas, st.data())
def test_an_answer_in_strict_form_satisfies_the_schema(
    schema: dict[str, Any], data: st.DataObject
) -> None:
    """The form is narrower, never other; it is its own form, and the original is left alone."""
    before = str(schema)
    form = strict_output(schema)
    assert str(schema) == before
    if form is not None:
        assert strict_output(form) == form
        value = sample(form, data)
        assert SchemaValidator(schema).check(value)[1] == []
