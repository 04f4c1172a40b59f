"""JSON Schemas: simplified, strict where it fits, and walked in every corner."""

from __future__ import annotations

from typing import Any

import pytest

from llm_client.structured.schema import simplify_schema, strict_schema


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
