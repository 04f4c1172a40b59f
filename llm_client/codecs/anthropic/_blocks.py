"""The blocks that a Messages answer consists of, each read from its start, its pieces and its end.

A block that came whole is a start that already holds everything, so that there is one place for
every kind.
"""

from __future__ import annotations

from typing import Any

import msgspec

from llm_client.codecs._json import as_dict, as_list, is_object, loads_valid
from llm_client.errors import MalformedResponse
from llm_client.stream import (
    PartCompleted,
    PartSealed,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStarted,
)
from llm_client.types import Citation, Opaque, Seal, Thinking

__all__ = [
    "CONTAINER",
    "Block",
    "CallBlock",
    "Said",
    "TextBlock",
    "ThinkingBlock",
    "open_block",
    "text_of",
]

CONTAINER = "container"
"""The kind of an opaque part that is no block: where the provider ran code for this answer."""


def text_of(value: object, what: str) -> str:
    """`value` as text; None counts as none.

    Raises:
        MalformedResponse: it is anything else.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    raise MalformedResponse(
        f"{what} of the answer should be text but is {type(value).__name__}; ask again, or report "
        "it to the provider"
    )


class Said:
    """What the blocks of one answer must know of each other."""

    __slots__ = ("_bare", "_ids", "_run", "asked", "calls", "origin")

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.calls = 0
        """How many calls of our tools the answer holds."""
        self.asked = False
        """Some of them are the model's own, not those of code that the provider runs."""
        self._run = ""
        self._ids: set[str] = set()
        self._bare: dict[int, None] = {}

    def begin(self, run: str, out: list[StreamEvent]) -> None:
        """A block of the kind `run` begins: it is a part of its own."""
        if self._run == run:
            out.append(PartSealed())
        self._run = ""

    def end(self, run: str, out: list[StreamEvent], seal: PartSealed | None) -> None:
        """A block that said something has ended."""
        if seal is None:
            self._run = run
        else:
            out.append(seal)

    def whole(self, part: Opaque | Thinking, out: list[StreamEvent]) -> None:
        """A part came whole."""
        self._run = ""
        out.append(PartCompleted(part))

    def call(self, id: str, name: str, seal: Seal | None, out: list[StreamEvent]) -> int:
        """A call begins; returns its number."""
        number = self.calls
        base = unique = id or f"call_{number}"
        while unique in self._ids:
            number += 1
            unique = f"{base}_{number}"
        self._ids.add(unique)
        index = self.calls
        self.calls += 1
        self.asked = self.asked or seal is None
        self._run = ""
        self._bare[index] = None
        out.append(ToolCallStarted(index, unique, name, seal))
        return index

    def argued(self, index: int) -> None:
        """The call has arguments."""
        self._bare.pop(index, None)

    def fill(self, out: list[StreamEvent]) -> None:
        """Gives the calls that came without arguments empty ones."""
        out.extend(ToolCallDelta(index, "{}") for index in self._bare)


class TextBlock:
    """Text, with the sources that it cites."""

    __slots__ = ("_citations", "_said", "_spoke")

    def __init__(self, said: Said, fields: dict[str, Any], out: list[StreamEvent]) -> None:
        self._said = said
        self._spoke = False
        self._citations = [_citation(as_dict(item)) for item in as_list(fields.get("citations"))]
        said.begin("text", out)
        self.add(text_of(fields.get("text"), "a text block"), out)

    def add(self, text: str, out: list[StreamEvent]) -> None:
        """More text."""
        if text:
            self._spoke = True
            out.append(TextDelta(text))

    def take(self, delta: dict[str, Any], out: list[StreamEvent]) -> None:
        """Takes a piece in; a kind that is not known says nothing."""
        match delta.get("type"):
            case "text_delta":
                self.add(text_of(delta.get("text"), "a piece of text"), out)
            case "citations_delta" if is_object(delta.get("citation")):
                self._citations.append(_citation(as_dict(delta["citation"])))
            case _:
                pass

    def close(self, out: list[StreamEvent]) -> None:
        """The block has ended."""
        if self._spoke:
            cited = tuple(self._citations)
            self._said.end("text", out, PartSealed(None, cited) if cited else None)


def _citation(fields: dict[str, Any]) -> Citation:
    def text(*names: str) -> str | None:
        found = (fields.get(name) for name in names)
        return next((value for value in found if isinstance(value, str) and value), None)

    return Citation(
        msgspec.json.encode(fields).decode(),
        text("url", "source"),
        text("title", "document_title"),
        text("cited_text"),
    )


class ThinkingBlock:
    """Reasoning. Its text may be withheld; the signature then stands for it."""

    __slots__ = ("_said", "_signature", "_spoke")

    def __init__(self, said: Said, fields: dict[str, Any], out: list[StreamEvent]) -> None:
        self._said = said
        self._spoke = False
        self._signature = text_of(fields.get("signature"), "a signature")
        said.begin("thinking", out)
        self.add(text_of(fields.get("thinking"), "a thinking block"), out)

    def add(self, text: str, out: list[StreamEvent]) -> None:
        """More reasoning."""
        if text:
            self._spoke = True
            out.append(ThinkingDelta(text))

    def take(self, delta: dict[str, Any], out: list[StreamEvent]) -> None:
        """Takes a piece in; a kind that is not known says nothing."""
        match delta.get("type"):
            case "thinking_delta":
                self.add(text_of(delta.get("thinking"), "a piece of thinking"), out)
            case "signature_delta":
                self._signature = text_of(delta.get("signature"), "a signature")
            case _:
                pass

    def close(self, out: list[StreamEvent]) -> None:
        """The block has ended."""
        said, signature = self._said, self._signature
        seal = Seal(said.origin, signature) if signature else None
        if self._spoke:
            said.end("thinking", out, PartSealed(seal) if seal else None)
        elif seal is not None:
            said.whole(Thinking("", seal), out)


class CallBlock:
    """A call of one of our tools."""

    __slots__ = ("_index", "_input", "_said")

    def __init__(self, said: Said, fields: dict[str, Any], out: list[StreamEvent]) -> None:
        name = text_of(fields.get("name"), "a tool call's name")
        if not name:
            raise MalformedResponse(
                "the answer holds a tool call without a name; ask again, or report it to the "
                "provider"
            )
        self._said = said
        self._input = fields.get("input")
        """Arguments that came with the start: what there is if no pieces follow."""
        id = text_of(fields.get("id"), "a tool call's id")
        self._index = said.call(id, name, _caller(said.origin, fields), out)

    def add(self, arguments: str, out: list[StreamEvent]) -> None:
        """More arguments."""
        if arguments:
            self._input = None
            self._said.argued(self._index)
            out.append(ToolCallDelta(self._index, arguments))

    def take(self, delta: dict[str, Any], out: list[StreamEvent]) -> None:
        """Takes a piece in; a kind that is not known says nothing."""
        if delta.get("type") == "input_json_delta":
            self.add(text_of(delta.get("partial_json"), "a tool call's arguments"), out)

    def close(self, out: list[StreamEvent]) -> None:
        """The block has ended."""
        given = self._input
        if isinstance(given, str):
            self.add(given, out)
        elif given:
            self.add(msgspec.json.encode(given).decode(), out)


def _caller(origin: str, fields: dict[str, Any]) -> Seal | None:
    """Code that the provider runs may make calls; whoever answers must say whose they were."""
    caller = as_dict(fields.get("caller"))
    kind, by = caller.get("type"), caller.get("tool_id")
    if not isinstance(kind, str) or kind == "direct":
        return None
    return Seal(origin, id=by if isinstance(by, str) else None, kind=kind)


class OtherBlock:
    """Anything else: kept as it is, to be sent back unchanged."""

    __slots__ = ("_fields", "_kind", "_pieces", "_said")

    def __init__(self, said: Said, fields: dict[str, Any]) -> None:
        kind = fields.get("type")
        self._said = said
        self._kind = kind if isinstance(kind, str) else ""
        self._fields = dict(fields)
        self._pieces: list[str] = []

    def take(self, delta: dict[str, Any], out: list[StreamEvent]) -> None:
        """Takes a piece in: pieces of text are joined, any other value replaces the one before."""
        if delta.get("type") == "input_json_delta":
            self._pieces.append(text_of(delta.get("partial_json"), "an input"))
            return
        for name, value in delta.items():
            before = self._fields.get(name)
            if name == "type" or value is None:
                continue
            joins = isinstance(before, str) and isinstance(value, str)
            self._fields[name] = f"{before}{value}" if joins else value

    def close(self, out: list[StreamEvent]) -> None:
        """The block has ended."""
        try:
            given = loads_valid("".join(self._pieces).encode()) if self._pieces else None
        except ValueError:
            given = None  # Cut off in the middle: the start's own input is all there is.
        if is_object(given):
            self._fields["input"] = given
        json = msgspec.json.encode(self._fields).decode()
        self._said.whole(Opaque(self._said.origin, self._kind, json), out)


class DoneBlock:
    """A block that was whole with its start."""

    __slots__ = ()

    def take(self, delta: dict[str, Any], out: list[StreamEvent]) -> None:
        """Nothing can follow."""

    def close(self, out: list[StreamEvent]) -> None:
        """It had ended before."""


Block = TextBlock | ThinkingBlock | CallBlock | OtherBlock | DoneBlock


def open_block(said: Said, fields: dict[str, Any], out: list[StreamEvent]) -> Block:
    """The block that starts with `fields`; what it already holds is appended to `out`.

    Raises:
        MalformedResponse: it makes no sense.
    """
    match fields.get("type"):
        case "text":
            return TextBlock(said, fields, out)
        case "thinking":
            return ThinkingBlock(said, fields, out)
        case "tool_use":
            return CallBlock(said, fields, out)
        case "redacted_thinking":
            data = text_of(fields.get("data"), "a redacted thinking block")
            said.whole(Thinking("", Seal(said.origin, data), redacted=True), out)
            return DoneBlock()
        case _:
            return OtherBlock(said, fields)
