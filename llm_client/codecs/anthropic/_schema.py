"""What JSON Schemas must look like so that the Messages protocol takes them.

Schemas of tools may not be alternatives at the top. Schemas that bind an answer, or a strict tool,
are of a narrower kind: every object closed, no bounds of numbers or lengths, no recursion. A bound
that cannot be said as a keyword is said in the description; an open object cannot be said at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from llm_client.codecs._json import as_dict, as_list, is_array, is_object
from llm_client.errors import LocalProtocolError, UnsupportedFeature

__all__ = ["closed_schema", "tool_schema"]

_PROPERTY = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_ALTERNATIVES = ("anyOf", "oneOf", "allOf")
_ANNOTATIONS = frozenset({"title", "description", "type", "enum", "const", "default", "required"})
_MEANINGLESS = frozenset({"$schema", "$id", "$comment", "examples", "additionalProperties"})
_SAYS_SOMETHING = frozenset({"type", "enum", "const", *_ALTERNATIVES})
_FORMATS = frozenset(
    {
        "date-time",
        "time",
        "date",
        "duration",
        "email",
        "hostname",
        "uri",
        "ipv4",
        "ipv6",
        "uuid",
    }
)
_REFERENCE = re.compile(r'"\$ref":"#/(?:\$defs|definitions)/([^"/]+)')


def tool_schema(schema: dict[str, Any], tool: str) -> dict[str, Any]:
    """The schema of a tool's input: an object, without alternatives at the top.

    Alternatives become one object that has the properties of all of them and requires what each of
    them requires; the tool itself still checks the rest.

    Raises:
        LocalProtocolError: it is no object, or a property has a name that is refused.
    """
    if not schema:
        return {"type": "object", "properties": {}}
    if schema.get("type", "object") != "object":
        raise LocalProtocolError(
            f"the input of the tool {tool!r} is of type {schema['type']!r}; make it an object",
            rule="A05",
        )
    found = schema if "type" in schema else {"type": "object", **schema}
    for word in _ALTERNATIVES:
        if word in found:
            found = _flattened(found, word)
    for name in as_dict(found.get("properties")):
        if _PROPERTY.fullmatch(name) is None:
            raise LocalProtocolError(
                f"the property {name!r} of the tool {tool!r} must be 1 to 64 of a-z, A-Z, 0-9, _, "
                ". and -",
                rule="A05",
            )
    return found


def _flattened(schema: dict[str, Any], word: str) -> dict[str, Any]:
    variants = [_resolved(schema, item) for item in as_list(schema[word])]
    properties: dict[str, Any] = {}
    for variant in variants:
        properties |= as_dict(variant.get("properties"))
    demands = [_required(variant) for variant in variants]
    enough = any if word == "allOf" else all
    required = _required(schema)
    for name in [name for demand in demands for name in demand]:
        if name not in required and enough(name in demand for demand in demands):
            required.append(name)
    merged = {name: item for name, item in schema.items() if name != word}
    merged["properties"] = properties | as_dict(schema.get("properties"))
    if required:
        merged["required"] = required
    return merged


def _required(schema: dict[str, Any]) -> list[str]:
    return [name for name in as_list(schema.get("required")) if isinstance(name, str)]


def _resolved(schema: dict[str, Any], variant: object) -> dict[str, Any]:
    """`variant`, or what it refers to inside of `schema`."""
    reference = as_dict(variant).get("$ref")
    found: Any = schema
    if not isinstance(reference, str):
        return as_dict(variant)
    for step in reference.removeprefix("#/").split("/"):
        found = as_dict(found).get(step)
    return as_dict(found)


def closed_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema` in the form that can be enforced.

    Raises:
        UnsupportedFeature: it has no such form; says where and why.
    """
    defined = as_dict(schema.get("$defs")) | as_dict(schema.get("definitions"))
    uses = {
        name: set(_REFERENCE.findall(msgspec.json.encode(item).decode()))
        for name, item in defined.items()
    }
    while free := [name for name, used in uses.items() if used.isdisjoint(uses)]:
        for name in free:
            del uses[name]
    if uses:
        raise UnsupportedFeature(
            f"the schema is recursive in {', '.join(sorted(uses))}, which this provider cannot "
            "enforce; unroll it, or offer it as a tool that is not strict"
        )
    return _closed(schema, "the schema")


def _closed(value: object, where: str) -> dict[str, Any]:
    schema = as_dict(value)
    reference = schema.get("$ref")
    if isinstance(reference, str):
        found = {"$ref": reference}
        nested = {name: item for name, item in schema.items() if name in {"$defs", "definitions"}}
        return found | {name: _each(item, where) for name, item in nested.items()}
    if not _SAYS_SOMETHING & schema.keys():
        raise _open(where)
    found, rest = dict[str, Any](), dict[str, Any]()
    for word, item in schema.items():
        _take(word, item, where, found, rest)
    if _is_object_schema(schema):
        extra = schema.get("additionalProperties")
        if is_object(extra) or ("properties" not in schema and extra is not False):
            raise _open(where)
        found["additionalProperties"] = False
    if rest:
        bounds = ", ".join(
            f"{word}: {msgspec.json.encode(item).decode()}" for word, item in rest.items()
        )
        told = found.get("description")
        found["description"] = f"{told}\n\n{{{bounds}}}" if told else f"{{{bounds}}}"
    return found


def _take(word: str, item: object, where: str, found: dict[str, Any], rest: dict[str, Any]) -> None:
    nested = _NESTED.get(word)
    if nested is not None:
        name, read = nested
        found[name] = read(item, where)
    elif (
        word in _ANNOTATIONS
        or (word == "format" and item in _FORMATS)
        or (word == "minItems" and item in {0, 1})
    ):
        found[word] = item
    elif word not in _MEANINGLESS:
        rest[word] = item


def _each(item: object, where: str) -> dict[str, Any]:
    return {name: _closed(value, f"{where}: {name}") for name, value in as_dict(item).items()}


def _all(item: object, where: str) -> list[dict[str, Any]]:
    return [_closed(value, where) for value in as_list(item)]


_NESTED: dict[str, tuple[str, Callable[[object, str], object]]] = {
    "properties": ("properties", _each),
    "$defs": ("$defs", _each),
    "definitions": ("definitions", _each),
    "items": ("items", _closed),
    "anyOf": ("anyOf", _all),
    "oneOf": ("anyOf", _all),
    "allOf": ("allOf", _all),
}
"""What holds schemas, what becomes of it, and how it is read."""


def _is_object_schema(schema: dict[str, Any]) -> bool:
    kind = schema.get("type")
    return kind == "object" or (is_array(kind) and "object" in kind) or "properties" in schema


def _open(where: str) -> UnsupportedFeature:
    return UnsupportedFeature(
        f"{where} allows any value, which this provider cannot enforce; list the properties, or "
        "offer the schema as a tool that is not strict"
    )
