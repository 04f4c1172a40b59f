"""What a JSON Schema must look like so that a provider can enforce it strictly."""

from __future__ import annotations

from typing import Any

from llm_client.codecs._json import as_dict, as_list, is_array, is_object

__all__ = ["allows_strict"]

_FORBIDDEN = frozenset(
    {
        "allOf",
        "oneOf",
        "not",
        "if",
        "then",
        "else",
        "dependentRequired",
        "dependentSchemas",
        "patternProperties",
        "unevaluatedProperties",
        "propertyNames",
    }
)


def allows_strict(schema: dict[str, Any]) -> bool:
    """True if `schema` keeps to the subset that OpenAI's strict mode takes: every object closed,
    each property required, no oneOf, allOf, not or conditions. Anything else refuses the whole
    request."""
    try:
        return schema.get("type") == "object" and "anyOf" not in schema and _strict(schema)
    except RecursionError:
        return False


def _strict(value: object) -> bool:
    if not is_object(value):
        return not isinstance(value, bool)
    schema = as_dict(value)
    if _FORBIDDEN & schema.keys() or not _closed(schema):
        return False
    nested = [
        *as_dict(schema.get("properties")).values(),
        *as_dict(schema.get("$defs")).values(),
        *as_dict(schema.get("definitions")).values(),
        *as_list(schema.get("anyOf")),
    ]
    if "items" in schema:
        nested.append(schema["items"])
    return all(_strict(item) for item in nested)


def _closed(schema: dict[str, Any]) -> bool:
    kind = schema.get("type")
    if kind != "object" and not (is_array(kind) and "object" in kind):
        return "properties" not in schema
    names = as_dict(schema.get("properties")).keys()
    required = {name for name in as_list(schema.get("required")) if isinstance(name, str)}
    return schema.get("additionalProperties") is False and names <= required
