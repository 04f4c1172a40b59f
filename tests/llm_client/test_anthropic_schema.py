"""JSON Schemas in the form that the Messages protocol takes."""

from __future__ import annotations

from typing import Any

import pytest

from llm_client.codecs.anthropic._schema import closed_schema, tool_schema
from llm_client.errors import UnsupportedFeature
from tests.anthropic_requests import accepted_requests

STRING = {"type": "string"}


def thing(**properties: Any) -> dict[str, Any]:
    """The schema of an object."""
    return {"type": "object", "properties": properties}


def test_every_object_is_closed_wherever_it_stands() -> None:
    """J02: behind every keyword that holds schemas."""
    inner = thing(a=STRING)
    closed = {**inner, "additionalProperties": False}
    schema = {
        **thing(
            list={"type": "array", "items": inner},
            either={"anyOf": [inner, {"type": "null"}]},
            one={"oneOf": [inner]},
            every={"allOf": [inner]},
            ref={"$ref": "#/$defs/inner", "description": "beside a reference"},
            maybe={"type": ["object", "null"], "properties": {"a": STRING}},
        ),
        "$defs": {"inner": inner},
        "definitions": {"old": inner},
    }
    found = closed_schema(schema)
    assert found["additionalProperties"] is False
    assert found["$defs"] == {"inner": closed}
    assert found["definitions"] == {"old": closed}
    assert found["properties"] == {
        "list": {"type": "array", "items": closed},
        "either": {"anyOf": [closed, {"type": "null"}]},
        "one": {"anyOf": [closed]},
        "every": {"allOf": [closed]},
        "ref": {"$ref": "#/$defs/inner"},
        "maybe": {
            "type": ["object", "null"],
            "properties": {"a": STRING},
            "additionalProperties": False,
        },
    }


def test_bounds_are_said_in_the_description() -> None:
    """The model still reads them; what means nothing to it is left out."""
    number = {"type": "integer", "description": "Age.", "minimum": 0, "maximum": 150}
    words = {"type": "array", "items": STRING, "minItems": 2, "uniqueItems": True}
    schema = {
        **thing(age=number, words=words, mail={"type": "string", "format": "email"}),
        "$schema": "https://json-schema.org/draft/2020-12/schema",
    }
    found = closed_schema(schema)
    assert "$schema" not in found
    assert found["properties"] == {
        "age": {"type": "integer", "description": "Age.\n\n{minimum: 0, maximum: 150}"},
        "words": {
            "type": "array",
            "items": STRING,
            "description": "{minItems: 2, uniqueItems: true}",
        },
        "mail": {"type": "string", "format": "email"},
    }
    least = {"type": "array", "items": STRING, "minItems": 1}
    assert closed_schema(thing(x=least))["properties"]["x"] == least
    odd = closed_schema(thing(x={"type": "string", "format": "regex"}))["properties"]["x"]
    assert odd == {"type": "string", "description": '{format: "regex"}'}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        thing(x={}),
        thing(x={"description": "anything"}),
        thing(x=True),
        thing(x={"type": "object", "additionalProperties": {"type": "integer"}}),
        {"type": "object", "properties": {"a": STRING}, "additionalProperties": STRING},
        thing(list={"type": "array", "items": {"type": "object"}}),
    ],
)
def test_what_is_open_cannot_be_enforced(schema: dict[str, Any]) -> None:
    """Closing it would allow nothing but an empty object."""
    with pytest.raises(UnsupportedFeature, match="any value"):
        closed_schema(schema)


def test_what_refers_to_itself_cannot_be_enforced() -> None:
    """At once or by way of others; a reference used twice is none to itself."""
    tree = thing(children={"type": "array", "items": {"$ref": "#/$defs/node"}})
    with pytest.raises(UnsupportedFeature, match="node"):
        closed_schema({**thing(root={"$ref": "#/$defs/node"}), "$defs": {"node": tree}})
    a, b = thing(b={"$ref": "#/definitions/b"}), thing(a={"$ref": "#/definitions/a"})
    with pytest.raises(UnsupportedFeature, match="a, b"):
        closed_schema({**thing(a={"$ref": "#/definitions/a"}), "definitions": {"a": a, "b": b}})
    twice = thing(a={"$ref": "#/$defs/s"}, b={"$ref": "#/$defs/s"})
    assert closed_schema({**twice, "$defs": {"s": STRING}})["$defs"] == {"s": STRING}


def test_alternatives_at_the_top_become_one_object() -> None:
    """ "input_schema does not support oneOf, allOf, or anyOf at the top level"."""
    by_id = {**thing(id=STRING, kind=STRING), "required": ["id", "kind"]}
    by_name = {**thing(name=STRING, kind=STRING), "required": ["name", "kind"]}
    own = {**thing(note=STRING), "required": ["note"]}
    for word in ("anyOf", "oneOf"):
        found = tool_schema({**own, word: [by_id, by_name]}, "f")
        assert word not in found
        assert set(found["properties"]) == {"note", "id", "name", "kind"}
        assert found["required"] == ["note", "kind"]
    joined = tool_schema({"allOf": [by_id, by_name]}, "f")
    assert joined["type"] == "object"
    assert joined["required"] == ["id", "kind", "name"]


def test_alternatives_are_found_behind_references() -> None:
    """J02: as pydantic writes unions."""
    schema = {
        "anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/none"}],
        "$defs": {"a": thing(x=STRING)},
    }
    assert tool_schema(schema, "f")["properties"] == {"x": STRING}


def test_schemas_that_are_fine_are_sent_as_they_are() -> None:
    """Not a copy that differs in the order of its fields: the prompt cache compares bytes."""
    schema = {"properties": {"a": {"minimum": 1}}, "type": "object", "oddity": 1}
    assert tool_schema(schema, "f") is schema


def test_recorded_schemas_stay_as_they_were_accepted() -> None:
    """What the vendor's own SDK had rewritten is not rewritten again."""
    formats = [
        body["output_config"]["format"]["schema"]
        for _, body in accepted_requests()
        if "format" in body.get("output_config", {})
    ]
    assert len(formats) >= 13
    assert [closed_schema(schema) for schema in formats] == formats
