"""Takes a JSON answer apart while it is being written: a call's arguments, or the answer's text."""

from __future__ import annotations

import json
import re
from enum import Enum, auto
from typing import Any, cast

from llm_client.stream import StreamEvent, TextDelta, ToolCallDelta, ToolCallStarted
from llm_client.types import new_id

__all__ = ["AnswerReader", "JsonString", "JsonValue"]

_FENCE = r"\s*(?:```(?:json)?\s*)?"
_CALL = re.compile(
    _FENCE + r'\{\s*"tool"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*(?=\S)', re.DOTALL
)
_TEXT = re.compile(_FENCE + r'\{\s*"answer"\s*:\s*"')
_VALUE = re.compile(_FENCE + r'\{\s*"answer"\s*:\s*(?=\S)')
_PROMISING = re.compile(r"\s*(?:\{|`{1,3}|$)")

_RUN = re.compile(r'[^"\\]+')
_MARK = re.compile(r'[{}\[\]"\\,\s]')
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "u": "", "\\": "\\", '"': '"'}
_UNIT = 6
"""Characters of an escape such as `\\u0041`."""


class JsonString:
    """The characters of a JSON string, piece by piece; begins after its opening quote.

    A surrogate without its partner becomes U+FFFD, an escape that JSON does not know itself.
    """

    __slots__ = ("_held", "closed")

    def __init__(self) -> None:
        self._held = ""
        self.closed = False

    def feed(self, text: str) -> str:
        """The characters that `text` completes."""
        return self.take(text, 0)[0]

    def take(self, text: str, start: int) -> tuple[str, int]:
        """The characters that `text` completes from `start` on, and where the string ends in it."""
        held = len(self._held)
        data, at = (self._held + text[start:], 0) if held else (text, start)
        out: list[str] = []
        while at < len(data) and not self.closed:
            run = _RUN.match(data, at)
            if run is not None:
                out.append(run.group())
                at = run.end()
            elif data[at] == '"':
                self.closed = True
                at += 1
            else:
                character, length = self._escape(data, at)
                if length == 0:
                    break
                out.append(character)
                at += length
        self._held = "" if self.closed else data[at:]
        if not self.closed:
            return "".join(out), len(text)
        return "".join(out), at - held + start if held else at

    @staticmethod
    def _escape(data: str, at: int) -> tuple[str, int]:
        """The character at the backslash `at` and the length of its escape, 0 if more is needed."""
        kind = data[at + 1 : at + 2]
        if kind == "":
            return "", 0
        if kind != "u":
            return _ESCAPES.get(kind, kind), 2
        if len(data) < at + _UNIT:
            return "", 0
        high = _unit(data, at)
        if high is None:
            return "\ufffd", 2
        if not 0xD800 <= high < 0xE000:
            return chr(high), _UNIT
        follows = data[at + _UNIT : at + 2 * _UNIT]
        if high >= 0xDC00 or not "\\u".startswith(follows[:2]):
            return "\ufffd", _UNIT
        if len(follows) < _UNIT:
            return "", 0
        low = _unit(follows, 0)
        if low is None or not 0xDC00 <= low < 0xE000:
            return "\ufffd", _UNIT
        return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)), 2 * _UNIT


def _unit(data: str, at: int) -> int | None:
    try:
        return int(data[at + 2 : at + _UNIT], 16)
    except ValueError:
        return None


class JsonValue:
    """The text of one JSON value of any kind, exactly as it stands, piece by piece; begins at its
    first character."""

    __slots__ = ("_depth", "_escaped", "_quoted", "closed")

    def __init__(self) -> None:
        self._depth = 0
        self._quoted = False
        self._escaped = False
        self.closed = False

    def feed(self, text: str) -> str:
        """As much of `text` as belongs to the value."""
        at = 0
        if self._escaped and text:
            at, self._escaped = 1, False
        while not self.closed:
            mark = _MARK.search(text, at)
            if mark is None:
                return text
            at = mark.end()
            if self._quoted:
                at = self._inside_string(mark.group(), text, at)
            elif self._ends_before(mark.group()):
                return text[: mark.start()]
        return text[:at]

    def _inside_string(self, mark: str, text: str, at: int) -> int:
        if mark == "\\":
            self._escaped = at == len(text)
            return at + 1
        if mark == '"':
            self._quoted = False
            self.closed = self._depth == 0
        return at

    def _ends_before(self, mark: str) -> bool:
        if mark == '"':
            self._quoted = True
        elif mark in "{[":
            self._depth += 1
        elif mark in "}]":
            if self._depth == 0:
                self.closed = True
                return True
            self._depth -= 1
            self.closed = self._depth == 0
        elif self._depth == 0:
            self.closed = True
            return True
        return False


class _State(Enum):
    HEAD = auto()
    CALL = auto()
    STRING = auto()
    VALUE = auto()
    PLAIN = auto()


class AnswerReader:
    """Turns the pieces of one answer into stream events.

    The wanted forms are streamed as they grow; what follows them is not part of the answer. Any
    other form is the model's text as it stands, once that is certain: a model whose server does not
    enforce the schema still gets its say.

    Args:
        calls: the answer may be a tool call; whether there is such a tool is not decided here.
        text: a final answer is text, not JSON of some schema.
    """

    def __init__(self, *, calls: bool, text: bool = True) -> None:
        self._calls = calls
        self._text = text
        self._state = _State.HEAD
        self._head = ""
        self._string = JsonString()
        self._value = JsonValue()
        self.called = False
        """The answer is a tool call."""

    def feed(self, text: str) -> list[StreamEvent]:
        """The events that `text` completes."""
        match self._state:
            case _State.HEAD:
                return self._feed_head(text)
            case _State.CALL:
                piece = self._value.feed(text)
                return [ToolCallDelta(0, piece)] if piece else []
            case _State.STRING:
                return _text(self._string.feed(text))
            case _State.VALUE:
                return _text(self._value.feed(text))
            case _State.PLAIN:
                return _text(text)

    def _feed_head(self, text: str) -> list[StreamEvent]:
        self._head += text
        head = self._head
        call = _CALL.match(head)
        if call is not None and self._calls:
            return self._enter_call(_name(call.group(1)), head[call.end() :])
        final = _TEXT.match(head) if self._text else _VALUE.match(head)
        if final is not None:
            return self._enter(_State.STRING if self._text else _State.VALUE, head[final.end() :])
        if call is not None or not _PROMISING.match(head):
            return self._enter(_State.PLAIN, head)
        return []

    def _enter(self, state: _State, rest: str) -> list[StreamEvent]:
        self._state, self._head = state, ""
        return self.feed(rest)

    def _enter_call(self, name: str, rest: str) -> list[StreamEvent]:
        self.called = True
        started = ToolCallStarted(0, new_id("call_"), name)
        return [started, *self._enter(_State.CALL, rest)]

    def close(self) -> list[StreamEvent]:
        """The last events, at the end of the answer."""
        if self._state is not _State.HEAD:
            return []
        head = self._head
        try:
            value = json.loads(head)
        except ValueError:
            return self._enter(_State.PLAIN, head)
        facts = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        name, answer = facts.get("tool"), facts.get("answer")
        if isinstance(name, str) and self._calls:
            return self._enter_call(name, json.dumps(facts.get("arguments", {})))
        if isinstance(answer, str):
            return self._enter(_State.PLAIN, answer)
        return self._enter(_State.PLAIN, head)


def _name(quoted: str) -> str:
    try:
        return str(json.loads(quoted))
    except ValueError:
        return ""


def _text(text: str) -> list[StreamEvent]:
    return [TextDelta(text)] if text else []
