"""Logs as compact lines that a person can read and a diff can show.

Each line is one record: its tag, then every field that is not at its default. Of the usage
only input and output tokens are shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import msgspec
from msgspec import Struct

from llm_client.types import Message, Text, ToolCall, ToolResult, Usage
from power_loop.session.records import Record

__all__ = ["trace"]


def trace(records: Iterable[Record]) -> list[str]:
    """The records, a line each."""
    return [_line(record) for record in records]


def _line(value: Struct) -> str:
    tag = value.__struct_config__.tag
    name = tag if isinstance(tag, str) else type(value).__name__
    return " ".join([name, *_fields(value)])


def _fields(value: Struct) -> Iterable[str]:
    for field in msgspec.structs.fields(value):
        held = getattr(value, field.name)
        default = field.default
        if callable(field.default_factory):
            default = field.default_factory()
        if held != default:
            yield f"{field.name}={_shown(held)}"


def _shown(value: object) -> str:
    match value:
        case Message():
            extra = "".join(f" {k}={v!r}" for k, v in (("name", value.name),) if v)
            inside = " + ".join(_shown(part) for part in value.parts)
            return f"<{value.role} {value.id}{extra}: {inside}>"
        case Text():
            return repr(value.text)
        case ToolCall():
            return f"{value.name}#{value.id}({value.arguments})"
        case ToolResult():
            inside = " + ".join(_shown(part) for part in value.content)
            return f"{'error' if value.is_error else 'result'}#{value.call_id} {inside}"
        case Usage():
            spent = (value.input_tokens, value.output_tokens)
            return "+".join("?" if tokens is None else str(tokens) for tokens in spent)
        case Struct():
            return f"({_line(value)})"
        case tuple():
            items = cast("tuple[object, ...]", value)
            return f"[{', '.join(map(_shown, items))}]"
        case _:
            return str(getattr(value, "value", value))
