"""JSON Schemas as Gemini reads them.

Its fields for JSON Schema take the whole language, but for a few words: beside a `$ref` nothing may
stand that does not begin with `$`, and definitions are looked for under `$defs` alone.
"""

from __future__ import annotations

from typing import Any

from llm_client.codecs._json import as_dict, as_list
from llm_client.codecs._schema import rebuilt

__all__ = ["gemini_schema"]

_OLD, _NEW = "#/definitions/", "#/$defs/"


def gemini_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema` in Gemini's words; it means the same."""
    changed = _changed(schema)
    changed.pop("$schema", None)
    return changed


def _changed(schema: dict[str, Any]) -> dict[str, Any]:
    found = rebuilt(schema, _changed)
    if "definitions" in found:
        found["$defs"] = as_dict(found.get("$defs")) | as_dict(found.pop("definitions"))
    reference = found.get("$ref")
    if isinstance(reference, str) and reference.startswith(_OLD):
        found["$ref"] = _NEW + reference.removeprefix(_OLD)
    if "$ref" in found and not all(name.startswith("$") for name in found):
        # One branch of a choice says the same, and may have a description beside it.
        choice = "anyOf" if "anyOf" not in found else "allOf"
        found[choice] = [{"$ref": found.pop("$ref")}, *as_list(found.get(choice))]
    return found
