"""What is wrong with a value, in words for a model."""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec
from msgspec import Struct

__all__ = ["Problem", "shown_path", "shown_text", "shown_value"]

_LONGEST = 80


class Problem(Struct, frozen=True):
    """One thing that is wrong with a value.

    Attributes:
        path: where, as in `filters[0].name`; "" for the value as a whole.
        expected: what belongs there, in words.
        got: the beginning of what was there, as JSON; "nothing" where a value is missing.
    """

    path: str
    expected: str
    got: str


def shown_path(path: Sequence[int | str]) -> str:
    """A place in a value, as in `filters[0].name`."""
    text = "".join([f"[{step}]" if isinstance(step, int) else f".{step}" for step in path])
    return text.removeprefix(".")


def shown_value(value: object) -> str:
    """The beginning of a value, as JSON where it is JSON."""
    if isinstance(value, str):
        return shown_text(json.dumps(value[: _LONGEST + 1], ensure_ascii=False))
    try:
        return shown_text(msgspec.json.encode(value, enc_hook=repr).decode())
    except (ValueError, RecursionError, TypeError):
        return f"a {type(value).__name__}"


def shown_text(text: str) -> str:
    """The beginning of `text`, as it can be encoded."""
    short = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return short.encode("utf-8", "backslashreplace").decode()
