"""JSON Schemas as Gemini reads them.

Its fields for JSON Schema take the whole language, but for a few words: beside a `$ref` nothing may
stand that does not begin with `$`, and definitions are looked for under `$defs` alone.
"""

from __future__ import annotations

from typing import Any

from llm_client.codecs._json import as_dict, as_list, is_array, is_object

__all__ = ["gemini_schema"]

_MAPS = frozenset({"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"})
_SCHEMAS = frozenset(
    {
        "additionalItems",
        "additionalProperties",
        "allOf",
        "anyOf",
        "contains",
        "else",
        "if",
        "items",
        "not",
        "oneOf",
        "prefixItems",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)
_OLD, _NEW = "#/definitions/", "#/$defs/"


def gemini_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema` in Gemini's words; it means the same."""
    changed = _changed(schema)
    changed.pop("$schema", None)
    return changed


def _changed(schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in schema.items():
        if name in _MAPS:
            inner = {key: _any(item) for key, item in as_dict(value).items()}
            key = "$defs" if name == "definitions" else name
            found[key] = {**as_dict(found.get(key)), **inner}
        elif name in _SCHEMAS:
            found[name] = _any(value)
        elif name == "$ref" and isinstance(value, str) and value.startswith(_OLD):
            found[name] = _NEW + value.removeprefix(_OLD)
        else:
            found[name] = value
    if "$ref" in found and not all(name.startswith("$") for name in found):
        # One branch of a choice says the same, and may have a description beside it.
        choice = "anyOf" if "anyOf" not in found else "allOf"
        found[choice] = [{"$ref": found.pop("$ref")}, *as_list(found.get(choice))]
    return found


def _any(value: object) -> object:
    if is_object(value):
        return _changed(value)
    return [_any(item) for item in value] if is_array(value) else value
