"""JSON as providers really send it, and as they must be sent it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec
from typing_extensions import TypeIs

from llm_client.errors import LocalProtocolError

__all__ = [
    "SURROGATE_ESCAPE",
    "UNICODE_RULE",
    "as_dict",
    "as_list",
    "encode",
    "is_array",
    "is_complete_object",
    "is_object",
    "loads",
    "loads_valid",
    "mend",
    "mend_value",
    "object_text",
    "require_finite",
]

UNICODE_RULE = "X1"
"""Text on the wire is valid Unicode, JSON holds no NaN and no Infinity."""

_MAX_DIGITS = 20


def _small_int(digits: str) -> int | None:
    # int() itself refuses more than 4300 digits with a bare ValueError; no count is that large.
    return int(digits) if len(digits) <= _MAX_DIGITS else None


SURROGATE_ESCAPE = re.compile(rb"\\u[dD]")
"""Finds every JSON text that may hold half of a surrogate pair, and some that do not."""

_LENIENT = json.JSONDecoder(
    parse_constant=lambda _: None,
    parse_int=_small_int,
    strict=False,
)


def loads(data: bytes) -> Any:
    """The JSON value in `data`, read leniently where that cannot change what it says.

    NaN, Infinity and integers of absurd length become None, raw control characters in strings and
    escapes of single UTF-16 surrogates are kept.

    Raises:
        ValueError: `data` is not JSON, not UTF-8, or nested too deeply.
    """
    try:
        return msgspec.json.decode(data)
    except (ValueError, RecursionError):
        pass
    try:
        return _LENIENT.decode(data.decode("utf-8-sig"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def loads_valid(data: bytes) -> Any:
    """As `loads`, with single surrogates replaced by U+FFFD."""
    value = loads(data)
    return mend_value(value) if SURROGATE_ESCAPE.search(data) else value


def encode(value: object, what: str) -> bytes:
    """`value` as JSON bytes; `what` names it in an error.

    Raises:
        LocalProtocolError: `value` holds text that is no Unicode, or something JSON cannot hold.
    """
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError as error:
        raise LocalProtocolError(
            f"{what} holds a lone surrogate, which no JSON text can carry; replace it with U+FFFD",
            rule=UNICODE_RULE,
        ) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise LocalProtocolError(
            f"{what} cannot be written as JSON: {error}", rule=UNICODE_RULE
        ) from error


def require_finite(value: object, what: str) -> None:
    """Refuses NaN and Infinity anywhere in `value`, which an encoder would turn into null.

    Raises:
        LocalProtocolError: there is one, or `value` is nested too deeply.
    """
    try:
        finite = _is_finite(value)
    except RecursionError:
        finite = False
    if not finite:
        raise LocalProtocolError(
            f"{what} holds NaN or Infinity, or is nested too deeply; JSON has no such value",
            rule=UNICODE_RULE,
        )


def _is_finite(value: object) -> bool:
    match value:
        case float():
            return math.isfinite(value)
        case Mapping():
            return all(_is_finite(item) for item in cast("Mapping[Any, Any]", value).values())
        case str() | bytes():
            return True
        case Sequence():
            return all(_is_finite(item) for item in cast("Sequence[Any]", value))
        case _:
            return True


def mend(text: str) -> str:
    """`text` with surrogate pairs joined and single surrogates replaced by U+FFFD."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def mend_value(value: Any) -> Any:
    """`value` with `mend` applied to every text in it."""
    match value:
        case str():
            return mend(value)
        case dict():
            pairs = cast("dict[str, Any]", value).items()
            return {mend(key): mend_value(item) for key, item in pairs}
        case list():
            return [mend_value(item) for item in cast("list[Any]", value)]
        case _:
            return value


def is_complete_object(text: str) -> bool:
    """True if `text` is a whole JSON object, so that nothing can follow in it."""
    return text.rstrip().endswith("}") and isinstance(_strict(text), dict)


def object_text(arguments: str) -> str:
    """Arguments of a call as every provider accepts them: the text of a JSON object.

    What is no JSON at all goes out as `{}`; history keeps the original. Another JSON value is
    wrapped under "_".
    """
    if arguments == "{}":
        return arguments
    value = _strict(arguments)
    if isinstance(value, dict):
        return arguments
    if value is _INVALID:
        return "{}"
    return f'{{"_":{arguments}}}'


_INVALID = object()


def _strict(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return _INVALID


def is_object(value: object) -> TypeIs[dict[str, Any]]:
    """True if the JSON value is an object."""
    return isinstance(value, dict)


def is_array(value: object) -> TypeIs[list[Any]]:
    """True if the JSON value is an array."""
    return isinstance(value, list)


def as_dict(value: object) -> dict[str, Any]:
    """`value` if it is a JSON object, else an empty one."""
    return value if is_object(value) else {}


def as_list(value: object) -> list[Any]:
    """`value` if it is a JSON array, else an empty one."""
    return value if is_array(value) else []
