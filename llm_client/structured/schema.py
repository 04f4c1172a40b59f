"""JSON Schemas as models should see them: no noise, no needless references."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llm_client.codecs._json import as_dict, is_object
from llm_client.codecs._schema import rebuilt, strict_schema, subschemas

__all__ = ["simplify_schema", "strict_schema"]

Schema = dict[str, Any]

_INLINED_AT_MOST = 2_000
"""Schema objects after inlining. A few definitions that use each other twice grow without bound."""


class _TooLarge(Exception):
    """Inlining would make the schema larger than is reasonable."""


def simplify_schema(schema: Mapping[str, Any]) -> Schema:
    """A copy without generated titles, and with its `$defs` put in place of their references.

    Definitions that contain themselves stay in `$defs`, as do all of them where inlining would make
    the schema very large; both are legal JSON Schema.
    """
    plain = _untitled(schema)
    defined = as_dict(plain.get("$defs"))
    # True and False are schemas too, but nothing that could be put in place of a reference.
    definitions: dict[str, Schema] = {k: item for k, item in defined.items() if is_object(item)}
    if not definitions:
        return plain
    kept = {name for name in definitions if _reaches(name, name, definitions)}
    kept |= defined.keys() - definitions.keys()
    try:
        return _Inliner(definitions, kept).run(plain)
    except _TooLarge:
        return plain


def _untitled(schema: Mapping[str, Any]) -> Schema:
    copy = rebuilt(schema, _untitled)
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
    for place, child in subschemas(schema):
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
            kept = {name: body for name, body in schema["$defs"].items() if name in self.kept}
            result |= rebuilt({"$defs": kept}, self.inline)
        return result

    def inline(self, schema: Schema) -> Schema:
        self.count += 1
        if self.count > _INLINED_AT_MOST:
            raise _TooLarge
        target = _target(schema)
        if target is None or target in self.kept or target not in self.definitions:
            return rebuilt(schema, self.inline)
        # What stands beside a reference (a description, a default) is about this very use of it.
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        return self.inline({**self.definitions[target], **beside})
