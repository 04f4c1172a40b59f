"""Function calls of a Gemini answer: most come whole, some argument by argument.

On request, Vertex streams arguments as pairs of a JSON path and a value; a text may come in several
pieces under the same path. Such a call is known when it is complete, and its arguments are told
then.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import msgspec

from llm_client.codecs._json import as_dict, as_list, is_array, is_object
from llm_client.errors import MalformedResponse
from llm_client.stream import StreamEvent, ToolCallDelta, ToolCallStarted
from llm_client.types import Seal

__all__ = ["CallLog"]

_STEP = re.compile(
    r"""\.([^.\[\]]+)|\[(\d{1,6})\]|\['((?:[^'\\]|\\.)*)'\]|\["((?:[^"\\]|\\.)*)"\]""", re.DOTALL
)
_LONGEST_PATH = 64

_Scalar = str | float | bool | None


class CallLog:
    """The calls of one answer. `count` says how many have begun."""

    __slots__ = ("_origin", "_partial", "_used", "count")

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._used: set[str] = set()
        self._partial: dict[str, Any] | None = None
        self.count = 0

    def take(
        self, value: object, signature: str | None, response_id: str | None, out: list[StreamEvent]
    ) -> None:
        """Takes a functionCall in, whole or a piece of one.

        Raises:
            MalformedResponse: it is not one.
        """
        if not is_object(value):
            raise MalformedResponse("a function call of the answer is not an object; ask again")
        name = value.get("name")
        if name is None or name == "":
            self._go_on(value, out)
            return
        if not isinstance(name, str):
            raise MalformedResponse("a function call's name is no text; ask again")
        self.close(out)
        given = value.get("id")
        given = given if isinstance(given, str) and given else None
        seal = Seal(self._origin, signature, given) if signature or given else None
        call_id = self._unique(given or f"{response_id or 'call'}_{self.count}")
        out.append(ToolCallStarted(self.count, call_id, name, seal))
        self.count += 1
        if value.get("willContinue"):
            self._partial = {}
            self._add(value)
        else:
            arguments = value.get("args")
            self._tell({} if arguments is None else arguments, out)

    def close(self, out: list[StreamEvent]) -> None:
        """Tells the arguments of a call that came piece by piece."""
        if self._partial is not None:
            self._tell(self._partial, out)
            self._partial = None

    def _go_on(self, value: dict[str, Any], out: list[StreamEvent]) -> None:
        if self._partial is None:
            if value.get("args") or value.get("partialArgs"):
                raise MalformedResponse(
                    "the answer holds a function call without a name; ask again, or report it to "
                    "the provider"
                )
            return
        self._add(value)
        if not value.get("willContinue"):
            self.close(out)

    def _add(self, value: dict[str, Any]) -> None:
        assert self._partial is not None
        self._partial.update(as_dict(value.get("args")))
        for item in as_list(value.get("partialArgs")):
            piece = as_dict(item)
            path = piece.get("jsonPath")
            _put(self._partial, path if isinstance(path, str) else "", _value_of(piece))

    def _tell(self, arguments: object, out: list[StreamEvent]) -> None:
        out.append(ToolCallDelta(self.count - 1, msgspec.json.encode(arguments).decode()))

    def _unique(self, base: str) -> str:
        found, number = base, self.count
        while found in self._used:
            found = f"{base}_{number}"
            number += 1
        self._used.add(found)
        return found


def _value_of(piece: dict[str, Any]) -> _Scalar:
    for name in ("stringValue", "numberValue", "boolValue"):
        value = piece.get(name)
        if isinstance(value, str | int | float):
            return value
    return None


def _put(root: dict[str, Any], path: str, value: _Scalar) -> None:
    """Puts `value` where `path` says; a text goes on where there is one already."""
    steps = _steps(path)
    target: Any = root
    for step, following in pairwise(steps):
        inner = _get(target, step)
        if inner is None:
            inner = list[Any]() if isinstance(following, int) else dict[str, Any]()
            _set(target, step, inner)
        target = inner
    before = _get(target, steps[-1])
    if isinstance(before, str) and isinstance(value, str):
        value = before + value
    _set(target, steps[-1], value)


def _steps(path: str) -> list[str | int]:
    steps: list[str | int] = []
    place = 1
    while place < len(path) and len(steps) < _LONGEST_PATH:
        match = _STEP.match(path, place)
        if match is None:
            break
        plain, index, single, double = match.groups()
        quoted = single if double is None else double
        if index is not None:
            steps.append(int(index))
        else:
            steps.append(plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
        place = match.end()
    if not path.startswith("$") or place < len(path) or not steps:
        raise MalformedResponse(f"the answer names an argument by {path[:80]!r}; ask again")
    return steps


def _get(target: object, step: str | int) -> Any:
    if is_object(target) and isinstance(step, str):
        return target.get(step)
    if is_array(target) and isinstance(step, int):
        return target[step] if step < len(target) else None
    raise MalformedResponse("the arguments of a call contradict each other; ask again")


def _set(target: object, step: str | int, value: object) -> None:
    if is_object(target) and isinstance(step, str):
        target[step] = value
    elif is_array(target) and isinstance(step, int):
        target.extend([None] * (step + 1 - len(target)))
        target[step] = value
