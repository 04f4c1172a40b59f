"""Reading of wire values, for the checkers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, cast

__all__ = ["NAME", "broken_text", "is_object_text", "items", "members", "text_of", "tool_names"]

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def members(value: object) -> dict[str, Any]:
    """`value` if it is an object, else an empty one."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    """`value` if it is an array, else an empty one."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def text_of(value: object) -> str:
    """`value` if it is text, else none."""
    return value if isinstance(value, str) else ""


def is_object_text(value: object) -> bool:
    """Whether `value` is the JSON text of an object."""
    if not isinstance(value, str):
        return False
    try:
        return isinstance(json.loads(value), dict)
    except (ValueError, RecursionError):
        return False


def broken_text(value: object) -> bool:
    """Whether some text in `value` is no Unicode, or some number is none (rule X1)."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        return True
    return False


def tool_names(found: Iterator[object], name_rule: str, twice_rule: str) -> Iterator[str]:
    """What is wrong with the names of tools."""
    seen: set[object] = set()
    for name in found:
        if not isinstance(name, str) or NAME.fullmatch(name) is None:
            yield f"{name_rule}: tool name {name!r}"
        if name in seen:
            yield f"{twice_rule}: tool name {name!r} twice"
        seen.add(name)
