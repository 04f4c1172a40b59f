"""How large a prompt is: first by a bound that costs next to nothing, then by counting."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct
from msgspec.json import encode

from llm_client.tokens import ModelTokens
from llm_client.types import (
    LLMRequest,
    Message,
    OutputSchema,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    ToolSpec,
    Transcript,
)

__all__ = ["Bound", "Counters"]

Counters = Callable[[str], ModelTokens]
"""Gives the counter of a model; the same one again for the same session."""

_PER_MESSAGE = 32
_AROUND = 1024
_UNKNOWN = 1 << 40
"""What is no text is counted at once."""


class _Beside(Struct):
    tools: tuple[ToolSpec, ...]
    schema: OutputSchema | None
    size: int


class Bound:
    """No fewer tokens than a request has: a token is at least one byte of text.

    Of a transcript that has grown, only what is new is looked at.
    """

    def __init__(self) -> None:
        self._backing: list[Message] | None = None
        self._start = self._stop = self._sum = 0
        self._beside: _Beside | None = None

    def of(self, request: LLMRequest) -> int:
        """An upper bound of the tokens of `request`."""
        return (
            _AROUND
            + _bytes(request.system or "")
            + self._declared(request)
            + self._messages(request.messages)
        )

    def _declared(self, request: LLMRequest) -> int:
        known = self._beside
        tools, schema = request.tools, request.output_schema
        if known is None or known.tools is not tools or known.schema is not schema:
            size = len(encode([(t.name, t.description, t.parameters) for t in tools]))
            size += 0 if schema is None else len(encode(schema))
            known = self._beside = _Beside(tools, schema, size)
        return known.size

    def _messages(self, messages: Sequence[Message]) -> int:
        if not isinstance(messages, Transcript):
            return sum(map(_bound, messages))
        same = self._backing is messages.backing and self._start == messages.start
        if not same or messages.stop < self._stop:
            self._backing, self._start, self._sum = messages.backing, messages.start, 0
            self._stop = messages.start
        for place in range(self._stop, messages.stop):
            self._sum += _bound(messages.backing[place])
        self._stop = messages.stop
        return self._sum + sum(map(_bound, messages.tail))


def _bound(message: Message) -> int:
    return _PER_MESSAGE + len(message.name or "") + sum(map(_part, message.parts))


def _part(part: Part) -> int:
    match part:
        case Text():
            return _bytes(part.text)
        case ToolCall():
            return _PER_MESSAGE + _bytes(part.name) + _bytes(part.arguments)
        case ToolResult():
            return _PER_MESSAGE + sum(map(_part, part.content))
        case Thinking() if not part.redacted:
            return _bytes(part.text)
        case _:
            return _UNKNOWN


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
