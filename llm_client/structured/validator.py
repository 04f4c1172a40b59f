"""A small JSON Schema validator, for tools and answers that come with a schema and no types.

Checked are `type`, `properties`, `required`, `additionalProperties`, `items`, `enum`, `const`, the
bounds of numbers and of the lengths of strings and arrays, `anyOf`, `oneOf`, `allOf`, and `$ref`
into the schema itself. Every other keyword (`pattern`, `format`, `if` …) is told to the model and
not checked here. As with typed functions, "10" is taken for 10 where only a number fits.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from llm_client.errors import ConfigError
from llm_client.structured.problems import Problem, shown_path, shown_value

__all__ = ["SchemaValidator"]

Path = tuple[int | str, ...]
Schema = Mapping[str, Any]

_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}
_INTEGER = re.compile(r"[+-]?\d{1,4300}")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?")
_DEPTH = 64
_COMBINED = ("anyOf", "oneOf", "allOf")

_BOUNDS: Mapping[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "minimum": ("at least", lambda value, bound: value >= bound),
    "maximum": ("at most", lambda value, bound: value <= bound),
    "exclusiveMinimum": ("more than", lambda value, bound: value > bound),
    "exclusiveMaximum": ("less than", lambda value, bound: value < bound),
}
_LENGTHS: Mapping[str, tuple[type, str, Callable[[int, int], bool]]] = {
    "minLength": (str, "characters or more", lambda length, bound: length >= bound),
    "maxLength": (str, "characters or fewer", lambda length, bound: length <= bound),
    "minItems": (list, "items or more", lambda length, bound: length >= bound),
    "maxItems": (list, "items or fewer", lambda length, bound: length <= bound),
}


class SchemaValidator:
    """Checks values against one schema of type object."""

    def __init__(self, schema: Schema) -> None:
        """Reads the schema.

        Raises:
            ConfigError: it is not of type object, a keyword that is checked has a value of
                the wrong kind, or a `$ref` leads nowhere or back to itself.
        """
        self._root = schema
        self._known: set[int] = set()
        if schema.get("type") != "object":
            raise self._refused((), "it must be of type 'object'")
        self._read(schema, ())

    def check(self, value: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        """The value with text turned into numbers where only these fit, and what is wrong."""
        problems: list[Problem] = []
        return self._check(value, self._root, (), problems), problems

    # ── reading ──

    def _refused(self, path: Path, why: str) -> ConfigError:
        where = f" at {shown_path(path)!r}" if path else ""
        return ConfigError(f"the schema{where}: {why}")

    def _read(self, schema: object, path: Path) -> None:
        if isinstance(schema, bool) or id(schema) in self._known:
            return
        if not isinstance(schema, Mapping):
            raise self._refused(path, f"{shown_value(schema)} is no schema; use an object")
        if len(path) > 2 * _DEPTH:
            raise self._refused(path[:4], "it is nested too deeply")
        self._known.add(id(cast("object", schema)))
        body = cast("Schema", schema)
        for kind in _types(body):
            if str(kind) not in _TYPES:  # it may be anything, {} or 3
                raise self._refused(path, f"type {kind!r} is unknown; use {', '.join(_TYPES)}")
        self._read_values(body, path)
        if "$ref" in body:
            self._read(self._target(body, path), (*path, "$ref"))
        for place, child in _subschemas(body):
            self._read(child, (*path, *place))
        self._need_end(body, path)

    def _read_values(self, schema: Schema, path: Path) -> None:
        for key in ("properties", "$defs", "definitions"):
            if key in schema and not isinstance(schema[key], Mapping):
                raise self._refused(path, f"{key!r} must be an object")
        for key in ("required", "enum", *_COMBINED):
            if key in schema and not isinstance(schema[key], list):
                raise self._refused(path, f"{key!r} must be a list")
        for key in (*_BOUNDS, *_LENGTHS):
            bound = schema.get(key, 0)
            if isinstance(bound, bool) or not isinstance(bound, (int, float)):
                raise self._refused(path, f"{key!r} must be a number")

    def _target(self, schema: Schema, path: Path) -> Schema:
        """What a `$ref` leads to."""
        reference = schema["$ref"]
        if not isinstance(reference, str) or reference[:1] != "#":
            why = f"$ref {reference!r} must lead to another place in this schema, as '#/$defs/…'"
            raise self._refused(path, why)
        found: Any = self._root
        for step in reference[1:].split("/")[1:]:
            inside: Schema = cast("Schema", found) if isinstance(found, Mapping) else {}
            found = inside.get(step.replace("~1", "/").replace("~0", "~"))
        if found is None or not isinstance(found, Mapping):
            raise self._refused(path, f"$ref {reference!r} leads nowhere")
        return cast("Schema", found)

    def _need_end(self, schema: Schema, path: Path) -> None:
        """Refuses a schema that is about the same value again before anything is checked."""
        seen: set[int] = set()
        todo = [schema]
        while todo:
            body = todo.pop()
            parts: list[object] = [self._target(body, path)] if "$ref" in body else []
            for key in _COMBINED:
                parts += cast("list[object]", body.get(key, []))
            for part in parts:
                if part is schema:
                    raise self._refused(path, "it leads back to itself")
                further: Schema = cast("Schema", part) if isinstance(part, Mapping) else {}
                if further and id(further) not in seen:
                    seen.add(id(further))
                    todo.append(further)

    # ── checking ──

    def _check(self, value: Any, schema: object, path: Path, problems: list[Problem]) -> Any:
        if not isinstance(schema, Mapping):
            if schema is False:
                problems.append(Problem(shown_path(path), "nothing", shown_value(value)))
            return value
        body = cast("Schema", schema)
        if len(path) > _DEPTH:
            problems.append(Problem(shown_path(path[:4]), f"at most {_DEPTH} levels", "more"))
            return value
        if "$ref" in body:
            value = self._check(value, self._target(body, path), path, problems)
        kinds = _types(body)
        value = _coerced(value, kinds)
        if kinds and not any(_is(value, kind) for kind in kinds):
            problems.append(Problem(shown_path(path), _wanted(kinds), shown_value(value)))
            return value
        problems += [
            Problem(shown_path(path), expected, shown_value(value))
            for expected in _unmet(value, body)
        ]
        if isinstance(value, dict):
            value = self._check_object(cast("dict[str, Any]", value), body, path, problems)
        elif isinstance(value, list) and "items" in body:
            items = cast("list[Any]", value)
            value = [
                self._check(item, body["items"], (*path, index), problems)
                for index, item in enumerate(items)
            ]
        return self._check_combined(value, body, path, problems)

    def _check_object(
        self, value: dict[str, Any], schema: Schema, path: Path, problems: list[Problem]
    ) -> dict[str, Any]:
        properties: Schema = schema.get("properties", {})
        others: object = schema.get("additionalProperties", True)
        problems += [
            Problem(shown_path((*path, name)), "a value, it is required", "nothing")
            for name in schema.get("required", [])
            if name not in value
        ]
        result: dict[str, Any] = {}
        for name, item in value.items():
            if name not in properties and others is False and "patternProperties" not in schema:
                known = f"no such argument; there are: {', '.join(properties) or 'none'}"
                problems.append(Problem(shown_path((*path, name)), known, shown_value(item)))
            else:
                rule = properties.get(name, others if "patternProperties" not in schema else True)
                result[name] = self._check(item, rule, (*path, name), problems)
        return result

    def _check_combined(
        self, value: Any, schema: Schema, path: Path, problems: list[Problem]
    ) -> Any:
        for part in schema.get("allOf", []):
            value = self._check(value, part, path, problems)
        for key in ("anyOf", "oneOf"):
            if key not in schema:
                continue
            tried = [self._attempt(value, branch, path) for branch in schema[key]]
            fitting = [result for result, wrong in tried if not wrong]
            if fitting and (key == "anyOf" or len(fitting) == 1):
                value = fitting[0]
            elif fitting:
                expected = f"what fits exactly one of {len(tried)} forms, not {len(fitting)}"
                problems.append(Problem(shown_path(path), expected, shown_value(value)))
            else:
                problems += _nearest([wrong for _, wrong in tried], value, path)
        return value

    def _attempt(self, value: Any, schema: object, path: Path) -> tuple[Any, list[Problem]]:
        problems: list[Problem] = []
        return self._check(value, schema, path, problems), problems


def _subschemas(schema: Schema) -> Iterator[tuple[Path, object]]:
    for key in ("properties", "$defs", "definitions"):
        for name, child in cast("Schema", schema.get(key, {})).items():
            yield (key, name), child
    for key in _COMBINED:
        for index, child in enumerate(cast("list[object]", schema.get(key, []))):
            yield (key, index), child
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield (key,), schema[key]


def _types(schema: Schema) -> tuple[str, ...]:
    kind = schema.get("type", [])
    return tuple(cast("list[str]", kind)) if isinstance(kind, list) else (kind,)


def _is(value: object, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES[kind])


def _wanted(kinds: tuple[str, ...]) -> str:
    return " or ".join([f"{'an' if kind[0] in 'aoi' else 'a'} {kind}" for kind in kinds])


def _coerced(value: Any, kinds: tuple[str, ...]) -> Any:
    """Text as the number or truth value it spells, and 3.0 as 3, where nothing else fits."""
    if isinstance(value, float) and "integer" in kinds and "number" not in kinds:
        return int(value) if value.is_integer() else value
    if not isinstance(value, str) or "string" in kinds:
        return value
    text = value.strip()
    if "boolean" in kinds and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if ("integer" in kinds or "number" in kinds) and _INTEGER.fullmatch(text):
        return int(text)
    if "number" in kinds and _NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return value


def _unmet(value: Any, schema: Schema) -> Iterator[str]:
    """What the plain keywords ask for and the value is not."""
    if "enum" in schema and not any(_same(value, item) for item in schema["enum"]):
        yield f"one of {', '.join([shown_value(item) for item in schema['enum']])}"
    if "const" in schema and not _same(value, schema["const"]):
        yield shown_value(schema["const"])
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        for key, (words, fits) in _BOUNDS.items():
            if key in schema and not fits(value, schema[key]):
                yield f"{words} {schema[key]}"
    for key, (kind, words, fits) in _LENGTHS.items():
        if key in schema and isinstance(value, kind):
            length = len(cast("str | list[Any]", value))
            if not fits(length, schema[key]):
                yield f"{schema[key]} {words}, not {length}"


def _same(value: object, other: object) -> bool:
    """JSON equality: unlike in Python, true is not 1."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def _nearest(wrong: list[list[Problem]], value: object, path: Path) -> list[Problem]:
    """Of several forms that all do not fit, the one that is the least wrong further down."""
    here = shown_path(path)
    inside = [problems for problems in wrong if all(item.path != here for item in problems)]
    if len(inside) == 1:
        return inside[0]
    expected = dict.fromkeys([item.expected for problems in wrong for item in problems])
    return [Problem(here, " or ".join(expected) or "nothing", shown_value(value))]
