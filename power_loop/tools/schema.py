"""JSON Schemas as models should see them: no noise, no needless references, strict where asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

__all__ = ["simplify_schema", "strict_schema"]

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
_MANY = ("allOf", "anyOf", "oneOf", "prefixItems")
_NAMED = ("$defs", "definitions", "dependentSchemas", "patternProperties", "properties")

_INLINED_AT_MOST = 2_000
"""Schema objects after inlining. A few definitions that use each other twice grow without bound."""

_NOT_STRICT = (
    "allOf",
    "contains",
    "default",
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


class _TooLarge(Exception):
    """Inlining would make the schema larger than is reasonable."""


def _schema(value: Any) -> Schema | None:
    return cast("Schema", value) if isinstance(value, dict) else None


def _children(schema: Mapping[str, Any]) -> Iterator[tuple[str, Schema]]:
    """The schemas directly inside a schema, each with its place. Only where a schema may stand:
    a property that happens to be called "title" or "items" is a schema, a default is not."""
    for key in _ONE:
        if (child := _schema(schema.get(key))) is not None:
            yield key, child
    for key in _MANY:
        for index, item in enumerate(cast("list[Any]", schema.get(key) or [])):
            if (child := _schema(item)) is not None:
                yield f"{key}[{index}]", child
    for key in _NAMED:
        for name, item in cast("dict[str, Any]", schema.get(key) or {}).items():
            if (child := _schema(item)) is not None:
                yield f"{key}.{name}", child


def _rebuild(schema: Schema, change: Callable[[Schema], Schema]) -> Schema:
    """A copy with `change` applied to each schema directly inside."""
    copy = dict(schema)
    for key in _ONE:
        if (child := _schema(copy.get(key))) is not None:
            copy[key] = change(child)
    for key in _MANY:
        if key in copy:
            copy[key] = [
                item if (child := _schema(item)) is None else change(child) for item in copy[key]
            ]
    for key in _NAMED:
        if key in copy:
            copy[key] = {
                name: item if (child := _schema(item)) is None else change(child)
                for name, item in copy[key].items()
            }
    return copy


# ── for every model ───────────────────────────────────────────────────────────────────────────────


def simplify_schema(schema: Schema) -> Schema:
    """A copy without generated titles, and with its `$defs` put in place of their references.

    Definitions that contain themselves stay in `$defs`, as do all of them where inlining would make
    the schema very large; both are legal JSON Schema.
    """
    plain = _untitled(schema)
    definitions = cast("dict[str, Schema]", plain.get("$defs", {}))
    if not definitions:
        return plain
    kept = {name for name in definitions if _reaches(name, name, definitions)}
    try:
        return _Inliner(definitions, kept).run(plain)
    except _TooLarge:
        return plain


def _untitled(schema: Schema) -> Schema:
    copy = _rebuild(schema, _untitled)
    copy.pop("title", None)
    return copy


def _target(schema: Mapping[str, Any]) -> str | None:
    reference = schema.get("$ref")
    prefix = "#/$defs/"
    if isinstance(reference, str) and reference.startswith(prefix):
        return reference.removeprefix(prefix).replace("~1", "/").replace("~0", "~")
    return None


def _references(schema: Mapping[str, Any]) -> Iterator[str]:
    target = _target(schema)
    if target is not None:
        yield target
    for place, child in _children(schema):
        if not place.startswith("$defs."):
            yield from _references(child)


def _reaches(start: str, goal: str, definitions: Mapping[str, Schema]) -> bool:
    seen: set[str] = set()
    todo = [start]
    while todo:
        for name in _references(definitions.get(todo.pop(), {})):
            if name == goal:
                return True
            if name not in seen:
                seen.add(name)
                todo.append(name)
    return False


class _Inliner:
    def __init__(self, definitions: Mapping[str, Schema], kept: set[str]) -> None:
        self.definitions = definitions
        self.kept = kept
        self.count = 0

    def run(self, schema: Schema) -> Schema:
        rest = {key: value for key, value in schema.items() if key != "$defs"}
        result = self.inline(rest)
        if self.kept:
            result["$defs"] = {
                name: self.inline(body)
                for name, body in self.definitions.items()
                if name in self.kept
            }
        return result

    def inline(self, schema: Schema) -> Schema:
        self.count += 1
        if self.count > _INLINED_AT_MOST:
            raise _TooLarge
        target = _target(schema)
        if target is None or target in self.kept or target not in self.definitions:
            return _rebuild(schema, self.inline)
        # What stands beside a reference (a description, a default) is about this very use of it.
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        return self.inline({**self.definitions[target], **beside})


# ── strict mode ───────────────────────────────────────────────────────────────────────────────────


def strict_schema(schema: Schema) -> tuple[Schema, tuple[str, ...]]:
    """A schema for `strict: true`, and what stands against it.

    Objects that do not say whether they take more properties are closed. A provider refuses the
    whole request for one schema that strict mode does not take, so use the result only if the
    second value is empty; otherwise its lines say what and where.
    """
    closed = _closed(schema)
    return closed, tuple(_strict_problems(closed, "the arguments"))


def _closed(schema: Schema) -> Schema:
    copy = _rebuild(schema, _closed)
    if copy.get("type") == "object":
        copy.setdefault("additionalProperties", False)
    return copy


def _strict_problems(schema: Schema, path: str) -> Iterator[str]:
    for key in _NOT_STRICT:
        if key in schema:
            yield f"{path}: {key!r} is not allowed"
    if not any(key in schema for key in ("type", "anyOf", "enum", "const", "$ref")):
        yield f"{path}: anything is allowed there; give it a type"
    if schema.get("type") == "object":
        if schema.get("additionalProperties") is not False:
            yield f"{path}: it takes properties of any name; name them"
        required = cast("list[str]", schema.get("required") or [])
        for name in cast("Schema", schema.get("properties") or {}):
            if name not in required:
                yield f"{path}: {name!r} is optional; take its default away (`X | None` is allowed)"
    for place, child in _children(schema):
        yield from _strict_problems(child, f"{path}.{place}")
