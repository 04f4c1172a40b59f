"""The JSON Schema of an answer that is either a tool call or final.

{"tool": "read_file", "arguments": {"path": "notes.txt"}}
{"answer": "The pier."}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from llm_client.codecs._json import is_object
from llm_client.codecs._schema import rebuilt
from llm_client.emulated_tools.emulation import Emulation, Turn
from llm_client.types import OutputSchema, ToolSpec

__all__ = ["answer_schema", "narrowed", "sample", "sample_object"]

_PLAIN_TEXT: dict[str, Any] = {"type": "string"}
_BOUND = ("enum", "const", "maxLength", "pattern", "format")
_COMBINED = ("anyOf", "oneOf", "allOf")
DEEPEST = 32


def answer_schema(turn: Turn, output: OutputSchema | None, emulation: Emulation) -> OutputSchema:
    """The schema that binds the model to what `turn` allows. A final answer satisfies `output`,
    if one is given, and is text otherwise."""
    definitions: dict[str, Any] = {}
    branches = [_call(tool, definitions, emulation) for tool in turn.tools]
    if turn.answer:
        final = _PLAIN_TEXT if output is None else _hoisted(output.schema, "answer", definitions)
        branches.append(_object({"answer": final}))
    schema = branches[0] if len(branches) == 1 else {"anyOf": branches}
    if definitions:
        schema = {**schema, "$defs": definitions}
    return OutputSchema("answer", schema)


def narrowed(tool: ToolSpec, emulation: Emulation) -> dict[str, Any]:
    """The schema of the arguments of `tool`, narrowed as `emulation` says."""
    schema = dict(tool.parameters) or {"type": "object", "properties": {}}
    schema.setdefault("additionalProperties", False)
    properties = _mapping(schema.get("properties"))
    if emulation.required_only:
        required = set(_list(schema.get("required")))
        properties = {name: value for name, value in properties.items() if name in required}
    schema["properties"] = {
        name: _bounded(name, value, emulation) for name, value in properties.items()
    }
    return schema


def sample(schema: Any, words: Iterator[str], deep: int = 0) -> Any:
    """A small value in the shape of `schema`: its own example where it has one, a word of `words`
    for any other string. A string's choices are left out on purpose: small models prefer the one
    they have seen."""
    facts = _mapping(schema)
    for given in (facts.get("const"), *_list(facts.get("examples"))[:1], facts.get("default")):
        if given is not None:
            return given
    choices = _list(facts.get("enum"))
    if choices and not isinstance(choices[0], str):
        return choices[0]
    nested = [one for name in _COMBINED for one in _list(facts.get(name))]
    if nested and deep < DEEPEST:
        return sample(nested[0], words, deep + 1)
    match facts.get("type"):
        case "integer" | "number":
            return facts.get("minimum", 1)
        case "boolean":
            return True
        case "array":
            return []
        case "object":
            return {} if deep >= DEEPEST else sample_object(facts, words, deep + 1)
        case _:
            return next(words)


def sample_object(schema: Mapping[str, Any], words: Iterator[str], deep: int = 0) -> dict[str, Any]:
    """A sample of each required property of `schema`."""
    properties = _mapping(schema.get("properties"))
    required = _list(schema.get("required"))
    return {name: sample(properties[name], words, deep) for name in required if name in properties}


def _call(tool: ToolSpec, definitions: dict[str, Any], emulation: Emulation) -> dict[str, Any]:
    arguments = _hoisted(narrowed(tool, emulation), tool.name, definitions)
    return _object({"tool": {"type": "string", "enum": [tool.name]}, "arguments": arguments})


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _bounded(name: str, schema: Any, emulation: Emulation) -> Any:
    facts = _mapping(schema)
    if facts.get("type") != "string" or any(key in facts for key in _BOUND):
        return schema
    if name in emulation.choices:
        return {**facts, "enum": list(emulation.choices[name])}
    if emulation.longest_string is None:
        return schema
    return {**facts, "maxLength": emulation.longest_string}


def _hoisted(schema: dict[str, Any], owner: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """`schema` with its definitions moved to the root of the whole, under names of their own:
    a reference is always resolved from the root."""
    moved = {key: _mapping(schema[key]) for key in ("$defs", "definitions") if key in schema}
    prefixes = {f"#/{key}/": f"#/$defs/{owner}.{key.lstrip('$')}." for key in moved}
    for key, named in moved.items():
        for name, value in named.items():
            moved_to = f"{owner}.{key.lstrip('$')}.{name}"
            definitions[moved_to] = _renamed(value, prefixes) if is_object(value) else value
    rest = {key: value for key, value in schema.items() if key not in moved}
    return _renamed(rest, prefixes)


def _renamed(schema: Mapping[str, Any], prefixes: Mapping[str, str]) -> dict[str, Any]:
    copy = rebuilt(schema, lambda inner: _renamed(inner, prefixes))
    target = copy.get("$ref")
    if isinstance(target, str):
        for old, new in prefixes.items():
            if target.startswith(old):
                copy["$ref"] = new + target.removeprefix(old)
    return copy


def _mapping(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []
