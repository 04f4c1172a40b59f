"""A JSON value while it is being written.

    '{"name": "Ber'                  {"name": "Ber"}
    '{"name": "Bern", "peop'         {"name": "Bern"}
    '{"name": "Bern", "people": 13'  {"name": "Bern"}
    '{"name": "Bern", "people": 134794, "parts": [{'   … "people": 134794, "parts": [{}]}

Objects, arrays and strings show as they grow; numbers, names and the words true, false and null
once they are whole. Every character is looked at once, whatever the text is cut into.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from itertools import islice
from typing import Any

from llm_client.codecs._json import is_object
from llm_client.emulated_tools.reader import JsonString
from llm_client.structured.errors import StructuredOutputError
from llm_client.structured.reasoning import LeadingReasoning
from llm_client.structured.text import decoded

__all__ = ["Partial", "PartialJson"]

_SPACE = re.compile(r"[ \t\r\n]*+")
_OPENING = re.compile(r"[{\[]")
_SCALAR = re.compile(r"[^\s,\]}]*+")
_LONGEST_SCALAR = 5_000
_DEEPEST = 500


class _Frame:
    """An object or array that is open. What is complete in it is never changed again, only added
    to; so a snapshot need only know how much there was."""

    __slots__ = ("items", "key", "outer", "outer_size")

    def __init__(self, items: dict[str, Any] | list[Any], outer: _Frame | None, key: str) -> None:
        self.items = items
        self.outer = outer
        self.outer_size = 0 if outer is None else len(outer.items)
        self.key = key

    def put(self, key: str, value: Any) -> None:
        _put(self.items, key, value)


class Partial:
    """What an answer says so far.

    Attributes:
        complete: nothing more can come.
    """

    __slots__ = ("_frame", "_key", "_made", "_member", "_pieces", "_size", "_string", "complete")

    def __init__(
        self,
        frame: _Frame,
        member: str | None,
        key: str = "",
        string: list[str] | None = None,
        *,
        complete: bool = False,
    ) -> None:
        self._frame = frame
        self._size = len(frame.items)
        self._member = member
        self._key = key
        self._string = string
        self._pieces = len(string or ())
        self._made: tuple[Any, ...] = ()
        self.complete = complete

    def __repr__(self) -> str:
        return f"Partial({self.value!r}, complete={self.complete})"

    @property
    def value(self) -> Any:
        """The JSON value. It is put together when it is first asked for; later ones share what is
        complete in it, so change nothing inside of it."""
        if not self._made:
            self._made = (self._make(),)
        return self._made[0]

    def _make(self) -> Any:
        value = _first(self._frame.items, self._size)
        if self._string is not None:
            _put(value, self._key, "".join(self._string[: self._pieces]))
        frame = self._frame
        while frame.outer is not None:
            around = _first(frame.outer.items, frame.outer_size)
            _put(around, frame.key, value)
            value, frame = around, frame.outer
        if self._member is not None and is_object(value):
            return value[self._member]
        return value


def _first(items: dict[str, Any] | list[Any], size: int) -> dict[str, Any] | list[Any]:
    return dict(islice(items.items(), size)) if is_object(items) else items[:size]


def _put(items: dict[str, Any] | list[Any], key: str, value: Any) -> None:
    if is_object(items):
        items[key] = value
    else:
        items.append(value)


class _State(Enum):
    BEFORE = auto()
    KEY = auto()
    IN_KEY = auto()
    COLON = auto()
    VALUE = auto()
    IN_STRING = auto()
    IN_SCALAR = auto()
    AFTER = auto()
    OVER = auto()


class PartialJson:
    """Reads the first object or array of a text, piece by piece, after reasoning in tags.

    Args:
        member: of an object, only the value of this member is shown.

    `failed` is true once the text turns out not to be JSON; what was there then stays. A comma that
    nothing follows is forgiven.
    """

    def __init__(self, member: str | None = None) -> None:
        self._member = member
        self._reasoning = LeadingReasoning()
        self._state = _State.BEFORE
        self._frame = _Frame([], None, "")
        self._depth = 0
        self._key = ""
        self._string = JsonString()
        self._pieces: list[str] = []
        self._shown = False
        self._grown = False
        self.failed = False
        self.complete = False

    def feed(self, text: str) -> bool:
        """Takes the next piece in; whether there is more to show than before."""
        self._grown = False
        text = self._reasoning.feed(text)
        at = 0
        while at < len(text) and self._state is not _State.OVER:
            at = self._step(text, at)
        return self._grown and self._shown

    def snapshot(self) -> Partial:
        """What there is to show. Ask only after `feed` has said that there is something."""
        if self._state is _State.IN_STRING:
            return Partial(self._frame, self._member, self._key, self._pieces)
        return Partial(self._frame, self._member, complete=self.complete)

    # ── one step: what `text` holds at `at` ──

    def _step(self, text: str, at: int) -> int:
        match self._state:
            case _State.BEFORE:
                return self._before(text, at)
            case _State.KEY:
                return self._before_key(text, at)
            case _State.IN_KEY:
                return self._in_key(text, at)
            case _State.COLON:
                return self._colon(text, at)
            case _State.VALUE:
                return self._before_value(text, at)
            case _State.IN_STRING:
                return self._in_string(text, at)
            case _State.IN_SCALAR:
                return self._in_scalar(text, at)
            case _State.AFTER | _State.OVER:
                return self._after_value(text, at)

    def _before(self, text: str, at: int) -> int:
        place = _OPENING.search(text, at)
        if place is None:
            return len(text)
        self._shown = self._member is None or place.group() == "["
        return self._open(place.group(), place.end())

    def _before_key(self, text: str, at: int) -> int:
        mark, at = _mark(text, at)
        if mark == "}":
            return self._close(at)
        if mark == '"':
            self._string, self._pieces = JsonString(), []
            self._state = _State.IN_KEY
            return at
        return self._fail(mark, at)

    def _in_key(self, text: str, at: int) -> int:
        piece, at = self._string.take(text, at)
        self._pieces.append(piece)
        if self._string.closed:
            self._key = "".join(self._pieces)
            self._state = _State.COLON
        return at

    def _colon(self, text: str, at: int) -> int:
        mark, at = _mark(text, at)
        if mark == ":":
            self._state = _State.VALUE
            return at
        return self._fail(mark, at)

    def _before_value(self, text: str, at: int) -> int:
        mark, after = _mark(text, at)
        match mark:
            case "":
                pass
            case "{" | "[":
                self._begin()
                return self._open(mark, after)
            case '"':
                self._begin()
                self._string, self._pieces = JsonString(), []
                self._state = _State.IN_STRING
            case "]" if not is_object(self._frame.items):
                return self._close(after)
            case "," | "]" | "}" | ":":
                return self._fail(mark, after)
            case _:
                self._pieces = []
                self._state = _State.IN_SCALAR
                return after - 1
        return after

    def _in_string(self, text: str, at: int) -> int:
        piece, at = self._string.take(text, at)
        if piece:
            self._pieces.append(piece)
            self._grown = True
        if self._string.closed:
            self._frame.put(self._key, "".join(self._pieces))
            self._state = _State.AFTER
        return at

    def _in_scalar(self, text: str, at: int) -> int:
        place = _SCALAR.match(text, at)
        end = at if place is None else place.end()
        self._pieces.append(text[at:end])
        if end == len(text) and len(self._pieces) <= _LONGEST_SCALAR:
            return end
        try:
            value = decoded("".join(self._pieces))
        except StructuredOutputError:
            return self._fail("?", end)
        self._begin()
        self._frame.put(self._key, value)
        self._state = _State.AFTER
        return end

    def _after_value(self, text: str, at: int) -> int:
        mark, at = _mark(text, at)
        inside = is_object(self._frame.items)
        if mark == ",":
            self._state = _State.KEY if inside else _State.VALUE
            return at
        if mark == ("}" if inside else "]"):
            return self._close(at)
        return self._fail(mark, at)

    # ── what a step does ──

    def _begin(self) -> None:
        """A value can be seen from now on."""
        self._grown = True
        if self._depth == 1 and self._key == self._member:
            self._shown = True

    def _open(self, mark: str, at: int) -> int:
        items: dict[str, Any] | list[Any] = {} if mark == "{" else []
        self._frame = _Frame(items, self._frame if self._depth else None, self._key)
        self._depth += 1
        self._grown = True
        self._state = _State.KEY if mark == "{" else _State.VALUE
        return at if self._depth <= _DEEPEST else self._fail(mark, at)

    def _close(self, at: int) -> int:
        frame = self._frame
        self._depth -= 1
        if frame.outer is None:
            self.complete = self._grown = True
            self._state = _State.OVER
            return at
        frame.outer.put(frame.key, frame.items)
        self._frame = frame.outer
        self._state = _State.AFTER
        return at

    def _fail(self, mark: str, at: int) -> int:
        """Gives up, unless `mark` is nothing: then there is more to come."""
        if mark:
            self.failed = True
            self._state = _State.OVER
        return at


def _mark(text: str, at: int) -> tuple[str, int]:
    """The first character from `at` on that is not white, "" if there is none, and what follows."""
    space = _SPACE.match(text, at)
    at = at if space is None else space.end()
    return text[at : at + 1], at + 1
