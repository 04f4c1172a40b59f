"""What can be asked for: types of all kinds, their schemas, and what is told of a wrong answer."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple, NotRequired

import pytest
from msgspec import Meta, Struct
from pydantic import BaseModel, Field, HttpUrl, ValidationInfo, field_validator
from typing_extensions import TypedDict

from llm_client import OutputSpec, StructuredOutputError, output_spec
from llm_client.codecs._schema import strict_output
from llm_client.errors import ConfigError
from llm_client.types import OutputSchema


class Leg(BaseModel):
    to: str
    km: float = Field(ge=0)


class Trip(BaseModel):
    legs: list[Leg]
    note: str | None = None


@dataclass
class Point:
    x: int
    y: int = 0
    tags: list[str] = field(default_factory=list[str])


class Named(TypedDict):
    name: str
    nick: NotRequired[str]


class Pair(NamedTuple):
    left: int
    right: int = 0


class Stop(Struct):
    name: Annotated[str, Meta(min_length=1)]
    next: Stop | None = None


class Route(Struct):
    stops: list[Stop]


class Node(BaseModel):
    name: str
    kids: list[Node] = []


SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "rank": {"type": "integer", "minimum": 1},
        "kind": {"$ref": "#/$defs/Kind"},
    },
    "required": ["city"],
    "additionalProperties": False,
    "$defs": {"Kind": {"enum": ["old", "new"]}},
}


@pytest.mark.parametrize(
    ("output_type", "text", "value"),
    [
        (
            Trip,
            '{"legs": [{"to": "Bern", "km": 3}], "note": null}',
            Trip(legs=[Leg(to="Bern", km=3)]),
        ),
        (Point, '{"x": 1, "tags": ["a"]}', Point(1, 0, ["a"])),
        (Named, '{"name": "x"}', {"name": "x"}),
        (Stop, '{"name": "a", "next": {"name": "b"}}', Stop("a", Stop("b"))),
        (Route, '{"stops": [{"name": "a"}]}', Route([Stop("a")])),
        (list[Stop], '{"value": [{"name": "a"}]}', [Stop("a")]),
        (list[Stop], '[{"name": "a"}]', [Stop("a")]),
        (Node, '{"name": "a", "kids": [{"name": "b"}]}', Node(name="a", kids=[Node(name="b")])),
        (Stop | None, '{"value": null}', None),
        (Literal["a", "b"], '{"value": "b"}', "b"),
        (str, '{"value": "a } : b"}', "a } : b"),
        (SCHEMA, '{"city": "Bern", "rank": "2", "kind": "old"}', {"rank": 2}),
    ],
)
def test_a_value_of_any_kind_can_be_asked_for(output_type: Any, text: str, value: Any) -> None:
    """Its schema is an object's, whatever it is itself."""
    spec = output_spec(output_type)
    assert spec.schema.schema["type"] == "object"
    found = spec.parse(text)
    if output_type is SCHEMA:
        assert found == {"city": "Bern", "kind": "old", **value}
    else:
        assert found == value
        assert type(found) is type(value)
    assert spec.fault(text) is None


def test_an_object_that_contains_itself_stands_at_the_top() -> None:
    """Not a reference to it, which no provider takes there."""
    schema = output_spec(Node).schema.schema
    assert list(schema["properties"]) == ["name", "kids"]
    assert schema["$defs"]["Node"]["properties"]["kids"]["items"] == {"$ref": "#/$defs/Node"}
    assert output_spec(Node).schema.strict


@pytest.mark.parametrize(
    ("output_type", "strict"),
    [(Trip, True), (Point, True), (Stop, True), (Named, False), (dict[str, int], False)],
)
def test_strict_is_asked_for_where_there_is_a_form_for_it(output_type: Any, strict: bool) -> None:
    """A property with a default can be stated; one that may be missing for good cannot."""
    spec = output_spec(output_type)
    assert spec.schema.strict is strict
    assert (strict_output(spec.schema.schema) is not None) is strict


@pytest.mark.parametrize(
    ("output_type", "name"),
    [
        (Trip, "Trip"),
        (int | None, "answer"),
        ({**SCHEMA, "title": "a city!"}, "a_city_"),
        ({**SCHEMA, "title": "9 lives"}, "answer"),
        (SCHEMA, "answer"),
    ],
)
def test_an_answer_has_a_name_that_every_provider_takes(output_type: Any, name: str) -> None:
    """That of the type where it has one."""
    assert output_spec(output_type).name == name
    assert output_spec(output_type, "my own").name == "my_own"


def test_a_spec_is_taken_as_it_is() -> None:
    """Making one costs time; it can be kept."""
    spec: OutputSpec[Trip] = output_spec(Trip)
    assert output_spec(spec) is spec
    assert isinstance(spec.schema, OutputSchema)


def test_the_prompt_holds_the_schema_without_noise() -> None:
    """No titles, and no reference that need not be."""
    prompt = output_spec(Trip).prompt
    assert '"km"' in prompt
    assert "$ref" not in prompt
    assert "title" not in prompt


@pytest.mark.parametrize(
    ("output_type", "text", "fault"),
    [
        (Trip, '{"legs": [{"to": "Bern", "km": -1}]}', "legs.0.km: Input should be greater than"),
        (Stop, '{"name": ""}', "length >= 1 - at `$.name`"),
        (Stop, "{}", "missing required field `name`"),
        (Stop, '{"name": "\\ud800"}', "truncated"),
        (str, '{"value": "\\ud800"}', "Invalid JSON"),
        (Stop, '{"name": ' + "[" * 600 + "]" * 600 + "}", "Expected `str`"),
        (SCHEMA, '{"city": "Bern", "rank": 0}', "rank: expected at least 1, got 0"),
        (SCHEMA, '{"city": "Bern", "kind": "odd"}', 'kind: expected one of "old", "new"'),
        (SCHEMA, '{"rank": 1}', "city: expected a value, it is required, got nothing"),
        (SCHEMA, "[1]", "not a JSON object"),
        (int, "9" * 5_000, "no JSON object"),
    ],
)
def test_a_fault_is_told_in_words(output_type: Any, text: str, fault: str) -> None:
    """With its place."""
    told = output_spec(output_type).fault(text)
    assert told is not None
    assert fault in told


def test_a_fault_is_short_and_holds_no_address() -> None:
    """However long the answer, its keys, and the list of what is wrong."""

    class Loud(BaseModel):
        link: HttpUrl
        rest: dict[str, int]

        @field_validator("rest")
        @classmethod
        def refuse(cls, value: dict[str, int], info: ValidationInfo) -> dict[str, int]:
            raise ValueError("no " * 10_000)

    rest = {"k" * 1_000 + str(n): "x" for n in range(1_000)}
    text = json.dumps({"link": "nowhere", "rest": rest})
    for answer in (text, '{"link": "http://a.b", "rest": {}}'):
        told = output_spec(Loud).fault(answer)
        assert told is not None
        assert len(told) < 1_500
        assert "errors.pydantic.dev" not in told
    with pytest.raises(StructuredOutputError) as caught:
        output_spec(Loud).parse(text)
    assert caught.value.reason == "invalid"


def _one() -> int:
    """Would be called with what a model has written."""
    raise AssertionError


@pytest.mark.parametrize(
    ("output_type", "why"),
    [
        (5, "cannot be asked for"),
        ("Nowhere", "cannot be asked for"),
        (type("Foreign", (), {}), "cannot be asked for"),
        (print, "cannot be asked for"),
        (lambda: 1, "a function is no type"),
        (_one, "a function is no type"),
        (partial(_one), "a function is no type"),
        (dict[str, _one], "a function is no type"),
        ({"type": "array"}, "must be of type 'object'"),
        ({"type": "object", "properties": {"a": {"type": "strnig"}}}, "'strnig' is unknown"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_at_once(output_type: Any, why: str) -> None:
    """In one line that says what can be, without the libraries' addresses."""
    with pytest.raises(ConfigError, match=why) as caught:
        output_spec(output_type)
    assert "\n" not in str(caught.value)
    assert "https://" not in str(caught.value)


def test_a_named_tuple_is_a_type() -> None:
    """It is made by a call too, but of a class."""
    assert output_spec(Pair).parse('{"value": [1]}') == Pair(1)
