"""JSON Schemas: where schemas stand in them, and what OpenAI's strict mode makes of one.

A provider refuses the whole request for one schema that its strict mode does not take. What can be
said in another way is rewritten; for the rest `strict` is not asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from llm_client.codecs._json import as_dict, as_list, is_array, is_object

__all__ = ["nested", "rebuilt", "strict_output", "strict_schema", "subschemas"]

Schema = dict[str, Any]

_ONE = (
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
)
_MANY = ("allOf", "anyOf", "items", "oneOf", "prefixItems")
_NAMED = (
    "$defs",
    "definitions",
    "dependencies",
    "dependentSchemas",
    "patternProperties",
    "properties",
)


def nested(schema: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """What stands directly inside `schema` where a schema may stand, each with its place. It may
    also be True or False. A property that happens to be called "items" is a schema, a default is
    not."""
    for key in _ONE:
        if key in schema and not is_array(schema[key]):
            yield key, schema[key]
    for key in _MANY:
        for index, item in enumerate(as_list(schema.get(key))):
            yield f"{key}[{index}]", item
    for key in _NAMED:
        for name, item in as_dict(schema.get(key)).items():
            yield f"{key}.{name}", item


def subschemas(schema: Mapping[str, Any]) -> Iterator[tuple[str, Schema]]:
    """The schemas directly inside `schema`, each with its place."""
    for place, item in nested(schema):
        if is_object(item):
            yield place, item


def rebuilt(schema: Mapping[str, Any], change: Callable[[Schema], Schema]) -> Schema:
    """A copy of `schema` with `change` applied to each schema directly inside."""

    def changed(item: Any) -> Any:
        return change(item) if is_object(item) else item

    copy = dict(schema)
    for key in _ONE:
        if key in copy:
            copy[key] = changed(copy[key])
    for key in _MANY:
        if is_array(items := copy.get(key)):
            copy[key] = [changed(item) for item in items]
    for key in _NAMED:
        if is_object(named := copy.get(key)):
            copy[key] = {name: changed(item) for name, item in named.items()}
    return copy


# ── strict mode ───────────────────────────────────────────────────────────────────────────────────

_FORBIDDEN = (
    "allOf",
    "contains",
    "default",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "if",
    "not",
    "oneOf",
    "patternProperties",
    "prefixItems",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
)
_SAYS_SOMETHING = frozenset({"type", "anyOf", "enum", "const", "$ref"})
_FORMATS = (
    "date-time",
    "time",
    "date",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "uuid",
)
_DEFINITIONS = frozenset({"$defs", "definitions"})
_ALONE = frozenset({"$ref", *_DEFINITIONS})
_BOUNDS = ("minLength", "maxLength", "uniqueItems", "minProperties", "maxProperties")
"""What strict mode does not take, or not from every model."""

_DEEPEST = 10
_MOST_PROPERTIES = 5_000
_MOST_CHOICES = 1_000


def strict_schema(schema: Mapping[str, Any]) -> tuple[Schema, tuple[str, ...]]:
    """A schema for `strict: true`, and what stands against it.

    Objects that list their properties and do not say whether they take more are closed. A provider
    refuses the whole request for one schema that strict mode does not take, so use the result only
    if the second value is empty; otherwise its lines say what and where.
    """
    try:
        closed = _closed(schema)
        return closed, (*_root_problems(closed), *_problems(closed, "the arguments"))
    except RecursionError:
        return dict(schema), ("the arguments: nested too deeply",)


def strict_output(schema: Mapping[str, Any]) -> Schema | None:
    """`schema` in the form in which strict mode enforces it on an answer, None if there is none.

    Every answer in that form also satisfies `schema`, up to bounds that become words of a
    description and have to be checked in the answer. A property that has a default must be stated.
    """
    try:
        form, problems = strict_schema(_stated(schema))
    except RecursionError:
        return None
    return None if problems else form


def _closed(schema: Mapping[str, Any]) -> Schema:
    copy = rebuilt(schema, _closed)
    if copy.get("format") not in _FORMATS:
        copy.pop("format", None)
    if "oneOf" in copy and "anyOf" not in copy and is_object(copy.get("discriminator")):
        # Its branches exclude each other, so that "any" and "exactly one" are the same.
        copy["anyOf"] = copy.pop("oneOf")
        del copy["discriminator"]
    if _is_object_type(copy) and "properties" in copy:
        copy.setdefault("additionalProperties", False)
    if "$ref" in copy and "anyOf" not in copy and not copy.keys() <= _ALONE:
        # Beside a reference nothing may stand, but beside a choice of one reference.
        copy["anyOf"] = [{"$ref": copy.pop("$ref")}]
    return copy


def _is_object_type(schema: Mapping[str, Any]) -> bool:
    kind = schema.get("type")
    return kind == "object" or (is_array(kind) and "object" in kind)


def _root_problems(schema: Mapping[str, Any]) -> Iterator[str]:
    if schema.get("type") != "object" or "anyOf" in schema:
        yield "the arguments: they must be one object, without alternatives"
    properties, choices, deepest = 0, 0, 0
    todo: list[tuple[Mapping[str, Any], int]] = [(schema, 0)]
    while todo:
        one, depth = todo.pop()
        depth += _is_object_type(one)
        deepest = max(deepest, depth)
        properties += len(as_dict(one.get("properties")))
        choices += len(as_list(one.get("enum")))
        for place, child in subschemas(one):
            todo.append((child, 0 if place.partition(".")[0] in _DEFINITIONS else depth))
    if deepest > _DEEPEST or properties > _MOST_PROPERTIES or choices > _MOST_CHOICES:
        yield (
            f"the arguments: {deepest} levels of objects, {properties} properties and {choices} "
            f"choices; at most {_DEEPEST}, {_MOST_PROPERTIES} and {_MOST_CHOICES} are allowed"
        )


def _problems(schema: Mapping[str, Any], path: str) -> Iterator[str]:
    for key in _FORBIDDEN:
        if key in schema:
            yield f"{path}: {key!r} is not allowed"
    if "$ref" in schema and not schema.keys() <= _ALONE:
        yield f"{path}: nothing may stand beside '$ref'"
    if not _SAYS_SOMETHING & schema.keys():
        yield f"{path}: anything is allowed there; give it a type"
    if _is_object_type(schema) or "properties" in schema:
        yield from _object_problems(schema, path)
    for place, child in nested(schema):
        if is_object(child):
            yield from _problems(child, f"{path}.{place}")
        elif place != "additionalProperties":
            yield f"{path}.{place}: anything or nothing is allowed there; give it a type"


def _object_problems(schema: Mapping[str, Any], path: str) -> Iterator[str]:
    if schema.get("additionalProperties") is not False:
        yield f"{path}: it takes properties of any name; name them"
    required = as_list(schema.get("required"))
    for name in as_dict(schema.get("properties")):
        if name not in required:
            yield f"{path}: {name!r} is optional; take its default away (`X | None` is allowed)"


def _stated(schema: Mapping[str, Any]) -> Schema:
    """`schema` without defaults: who may leave a property out and mean its default can also say
    it. Bounds that cannot be keywords are told in the description."""
    copy = rebuilt(schema, _stated)
    copy.pop("default", None)
    required = as_list(schema.get("required"))
    properties = as_dict(schema.get("properties"))
    if added := [
        name
        for name, item in properties.items()
        if "default" in as_dict(item) and name not in required
    ]:
        copy["required"] = [*required, *added]
    bounds = {key: copy.pop(key) for key in _BOUNDS if key in copy}
    if bounds:
        words = ", ".join(
            f"{key} {msgspec.json.encode(value).decode()}" for key, value in bounds.items()
        )
        told = copy.get("description")
        copy["description"] = f"{told} ({words})" if isinstance(told, str) else f"({words})"
    return copy
