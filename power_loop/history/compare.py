"""Where two records differ first, for a person to read."""

from __future__ import annotations

from typing import Any, cast

import msgspec
from msgspec import Struct

from power_loop.session.records import Record

__all__ = ["Difference", "first_difference", "same_bytes", "shown"]

_SHOWN = 300


class Difference(Struct, frozen=True):
    """The first field that differs.

    Attributes:
        path: its name, from the type of the record on: `ModelConfigured.tools[0].description`; of
            two records of different types only the type of the first.
        first: the value there in the first record, as plain data; None where it has none.
        second: the value there in the second.
    """

    path: str
    first: Any
    second: Any

    def __str__(self) -> str:
        return f"{self.path}: {shown(self.first)} ≠ {shown(self.second)}"


def same_bytes(first: Record, second: Record) -> bool:
    """Whether two records are stored in the same form."""
    return msgspec.json.encode(first) == msgspec.json.encode(second)


def first_difference(first: Record, second: Record) -> Difference | None:
    """Where two records differ first, in the order of their fields; None if they do not."""
    name = type(first).__name__
    one, other = msgspec.to_builtins(first), msgspec.to_builtins(second)
    if type(first) is not type(second):
        return Difference(name, one, other)
    return _difference(name, one, other)


def shown(value: object) -> str:
    """A value on one line, cut to a length that a terminal shows."""
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _difference(path: str, first: Any, second: Any) -> Difference | None:
    if isinstance(first, dict) and isinstance(second, dict):
        one, other = cast("dict[str, Any]", first), cast("dict[str, Any]", second)
        for key in dict.fromkeys((*one, *other)):
            found = _difference(f"{path}.{key}", one.get(key), other.get(key))
            if found is not None:
                return found
        return None
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return _of_lists(path, cast("list[Any]", first), cast("list[Any]", second))
    return None if first == second else Difference(path, first, second)


def _of_lists(path: str, first: list[Any], second: list[Any]) -> Difference | None:
    for index in range(max(len(first), len(second))):
        one = first[index] if index < len(first) else None
        other = second[index] if index < len(second) else None
        found = _difference(f"{path}[{index}]", one, other)
        if found is not None:
            return found
    return None
