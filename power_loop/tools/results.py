"""What a tool returned, as something a model can read."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from enum import Enum
from inspect import isawaitable
from pathlib import PurePath
from typing import cast

import msgspec
from msgspec import Struct
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

from llm_client.types import File, Image, Text
from power_loop.errors import ToolError
from power_loop.tools.base import ToolContent, ToolOutput

__all__ = ["to_output"]

_PARTS = (Text, Image, File)
_SUPPORTED = (
    "supported are str, None, numbers, lists, dicts, dataclasses, pydantic models, msgspec "
    "structs, dates, and Text, Image or File parts or a list of them"
)


def to_output(value: object, tool: str, nothing: str = "null") -> ToolOutput:
    """Turns what a tool returned into what the model reads.

    A string is text as it is; Text, Image and File parts, alone or in a list (strings may stand
    between them), are themselves; `nothing` stands for None; everything else becomes JSON.

    Raises:
        ToolError: it cannot be turned into text; says what was returned and what is supported.
    """
    if isinstance(value, str):
        return ToolOutput((Text(value),))
    if isinstance(value, ToolOutput):
        return value
    if value is None:
        return ToolOutput((Text(nothing),))
    if isinstance(value, _PARTS):
        return ToolOutput((value,))
    items = cast("Sequence[object]", value) if type(value) in (list, tuple) else ()
    if any(isinstance(item, _PARTS) for item in items):
        return ToolOutput(tuple([_part(item, tool) for item in items]))
    return ToolOutput((Text(_to_json(value, tool)),))


def _part(item: object, tool: str) -> ToolContent:
    if isinstance(item, str):
        return Text(item)
    if isinstance(item, _PARTS):
        return item
    raise _unsupported(tool, item, "a list with parts holds parts and strings only")


def _to_json(value: object, tool: str) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        raise _unsupported(
            tool, cast("object", value), "decode it, or return Image(data=…) or File(data=…)"
        )
    if isawaitable(value):
        raise _unsupported(tool, value, "an `await` is missing")
    try:
        return to_json(value, fallback=_plain).decode()
    except (PydanticSerializationError, ValueError, TypeError) as error:
        if "surrogates" in str(error):
            return _with_surrogates(value, tool)
        raise _unsupported(tool, value, str(error)) from error


def _with_surrogates(value: object, tool: str) -> str:
    """JSON that keeps lone surrogates as they are, for the loop to replace and to report."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_shallow)
    except (ValueError, TypeError, RecursionError) as error:
        raise _unsupported(tool, value, str(error)) from error


def _plain(value: object) -> object:
    if isinstance(value, Struct):
        return msgspec.to_builtins(value, enc_hook=to_jsonable_python)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return dict(cast("Mapping[object, object]", value))
    raise TypeError(f"a {type(value).__name__} is no JSON")


def _shallow(value: object) -> object:
    """One level of what the JSON encoder of the standard library does not know."""
    if isinstance(value, BaseModel):
        return dict(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (set, frozenset)):
        return list(cast("set[object]", value))
    try:
        return _plain(value)
    except TypeError:
        return cast("object", to_jsonable_python(value))


def _unsupported(tool: str, value: object, why: str) -> ToolError:
    return ToolError(
        f"tool {tool!r} ran, but returned {_described(value)}, which cannot be shown to a model "
        f"({why}); {_SUPPORTED}"
    )


def _described(value: object) -> str:
    kind = type(value)
    name = (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    return f"a value of type {name}"
