"""Schemas of tools as models see them: no generated noise, no needless references."""

from __future__ import annotations

from pydantic import BaseModel, Field

from power_loop.tools import tool


class Leaf(BaseModel):
    """A leaf."""

    title: str = Field(title="Noise", description="kept")
    items: int = 0


class Branch(BaseModel):
    left: Leaf
    right: Leaf | None = None
    map: dict[str, Leaf] = {}


class Node(BaseModel):
    leaf: Leaf
    kids: list[Node] = []


def test_titles_go_and_properties_called_title_stay() -> None:
    """Only where a schema may stand is "title" a keyword."""

    @tool
    def use(leaf: Leaf) -> None:
        """Uses."""

    leaf = use.spec.parameters["properties"]["leaf"]
    assert leaf == {
        "type": "object",
        "description": "A leaf.",
        "properties": {
            "title": {"type": "string", "description": "kept"},
            "items": {"type": "integer", "default": 0},
        },
        "required": ["title"],
    }


def test_definitions_are_put_in_place_under_every_keyword_j02() -> None:
    """In anyOf, in additionalProperties, in lists: wherever a reference may stand (J02)."""

    @tool
    def use(branches: list[Branch], either: Leaf | list[Branch] | None = None) -> None:
        """Uses."""

    text = str(use.spec.parameters)
    assert "$ref" not in text
    assert "$defs" not in text


def test_a_definition_that_contains_itself_stays_one() -> None:
    """And what it refers to besides is still put in place."""

    @tool
    def use(node: Node) -> None:
        """Uses."""

    schema = use.spec.parameters
    assert list(schema["$defs"]) == ["Node"]
    assert schema["properties"]["node"] == {"$ref": "#/$defs/Node"}
    assert schema["$defs"]["Node"]["properties"]["leaf"]["properties"]["title"]
    assert schema["$defs"]["Node"]["properties"]["kids"]["items"] == {"$ref": "#/$defs/Node"}
