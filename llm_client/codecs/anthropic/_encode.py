"""Messages in the wire form of the Messages protocol, straight from our types to bytes."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import structs

from llm_client.codecs._json import as_dict, encode, object_text
from llm_client.codecs._media import in_words, shown
from llm_client.codecs._names import IdForm, wire_name
from llm_client.codecs._turns import call_ids, misplaced, opaque_value, what
from llm_client.codecs.anthropic._blocks import CONTAINER
from llm_client.codecs.anthropic._marks import Lifetime, cached, lifetime
from llm_client.codecs.anthropic._media import media_block
from llm_client.codecs.anthropic._rules import Encoded
from llm_client.errors import LocalProtocolError
from llm_client.parts import COMPACTION
from llm_client.types import (
    Audio,
    CachePoint,
    Citation,
    File,
    Image,
    Message,
    Opaque,
    Part,
    Seal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)

__all__ = ["encode_message", "text_block"]

_CALL_ID = IdForm(r"[a-zA-Z0-9_-]{1,64}", prefix="toolu_", length=24)
_CITED = "_location"
"""How the names of all kinds of citations of this protocol end; those of others do not."""


def text_block(text: str, where: str) -> bytes:
    """A block of plain text."""
    return encode({"type": "text", "text": text}, where)


def encode_message(message: Message, origin: str, *, cache: bool) -> Encoded:
    """`message` in wire form. What others than `origin` have sealed is left out, and breakpoints of
    the cache without `cache`.

    Raises:
        LocalProtocolError: it holds something that a message of its role cannot hold.
        UnsupportedFeature: it holds something that the protocol has no form for.
    """
    blocks = _Blocks(message, cache=cache)
    match message.role:
        case "assistant":
            return _assistant(message, origin, blocks)
        case "tool":
            return _tool(message, origin, blocks)
        case "user":
            for part in message.parts:
                blocks.add(part, _user_block(message, part, origin))
            return blocks.encoded()
        case "system":
            return _system(message, origin, blocks)


class _Blocks:
    """The blocks of one message, as they are put together."""

    __slots__ = (
        "_cache",
        "_compacted",
        "_entries",
        "_first_call",
        "_message",
        "_opaque",
        "_points",
    )

    def __init__(self, message: Message, *, cache: bool) -> None:
        self._message = message
        self._cache = cache
        self._entries: list[tuple[Part, bytes]] = []
        self._first_call: int | None = None
        self._opaque = False
        self._compacted = False
        self._points = 0

    def add(self, part: Part, block: object) -> None:
        """Adds what became of `part`: a block, or nothing for None.

        A cache point goes to the block before it, or else to the nearest that can carry it. No text
        follows a call in its turn.
        """
        if isinstance(part, CachePoint):
            self._mark(part.ttl)
        if block is None:
            return
        place = len(self._entries)
        if isinstance(part, Opaque):
            self._opaque = True
            self._compacted = self._compacted or part.kind == COMPACTION
        if isinstance(part, ToolCall) and self._first_call is None:
            self._first_call = place
        elif self._first_call is not None and isinstance(part, Text | Image | Audio | File):
            place = self._first_call
            self._first_call += 1
        self._entries.insert(place, (part, encode(block, what(self._message))))

    def drop_last_thinking(self) -> None:
        """No assistant turn ends in thinking."""
        while self._entries and isinstance(self._entries[-1][0], Thinking):
            self._entries.pop()

    def encoded(self, calls: tuple[str, ...] = (), results: tuple[str, ...] = ()) -> Encoded:
        """The message as a whole."""
        last = self._entries[-1][0] if self._entries else None
        return Encoded(
            self._message.role,
            tuple([block for _, block in self._entries]),
            calls,
            results,
            points=self._points,
            fixed=isinstance(last, Opaque) and not results,
            blank_end=isinstance(last, Text) and last.text != last.text.rstrip(),
            opaque=self._opaque,
            compacted=self._compacted,
        )

    def _mark(self, ttl: Lifetime) -> None:
        for place in reversed(range(len(self._entries))):
            part, block = self._entries[place]
            if not isinstance(part, Thinking | Opaque):
                if self._cache and lifetime(block) is None:
                    self._entries[place] = (part, cached(block, ttl))
                    self._points += 1
                return


# ── what the model said ───────────────────────────────────────────────────────────────────────────


def _assistant(message: Message, origin: str, blocks: _Blocks) -> Encoded:
    ids = call_ids(message, message.tool_calls, _CALL_ID, ("A12", "A12"))
    wire_ids = iter(ids)
    container: str | None = None
    for part in message.parts:
        match part:
            case ToolCall():
                blocks.add(part, _call(part, next(wire_ids), origin))
            case Text(text, citations):
                blocks.add(part, _said(text, citations))
            case Thinking():
                blocks.add(part, _thought(part, origin))
            case Opaque(kind=kind) if kind == CONTAINER:
                container = _container(part, origin) or container
            case Opaque():
                blocks.add(part, _opaque(part, origin))
            case Image() | Audio() | File():
                blocks.add(part, _said(in_words(part)))
            case CachePoint():
                blocks.add(part, None)
            case ToolResult():
                raise misplaced(message, part, "A06")
    blocks.drop_last_thinking()
    encoded = blocks.encoded(ids)
    return encoded if container is None else structs.replace(encoded, container=container)


def _container(part: Opaque, origin: str) -> str | None:
    id = as_dict(_opaque(part, origin)).get("id")
    return id if isinstance(id, str) else None


def _call(call: ToolCall, id: str, origin: str) -> dict[str, Any]:
    block: dict[str, Any] = {
        "type": "tool_use",
        "id": id,
        "name": wire_name(call.name),
        "input": msgspec.Raw(object_text(call.arguments).encode()),
    }
    match call.seal:
        case Seal(seal_origin, id=str(by), kind=str(kind)) if seal_origin == origin:
            block["caller"] = {"type": kind, "tool_id": by}
        case _:
            pass
    return block


def _said(text: str, citations: tuple[Citation, ...] = ()) -> dict[str, Any] | None:
    if not text.strip():
        return None
    block: dict[str, Any] = {"type": "text", "text": text}
    cited = [value for value in map(_cited, citations) if value is not None]
    if cited:
        block["citations"] = cited
    return block


def _cited(citation: Citation) -> dict[str, Any] | None:
    try:
        fields = as_dict(msgspec.json.decode(citation.json))
    except (ValueError, RecursionError):
        return None
    kind = fields.get("type")
    return fields if isinstance(kind, str) and kind.endswith(_CITED) else None


def _thought(part: Thinking, origin: str) -> dict[str, Any] | None:
    """Thinking under its own seal, exactly as it came; any other is refused by the provider."""
    seal = part.seal
    if seal is None or seal.origin != origin or not seal.signature:
        return None
    if part.redacted:
        return {"type": "redacted_thinking", "data": seal.signature}
    return {"type": "thinking", "thinking": part.text, "signature": seal.signature}


def _opaque(part: Opaque, origin: str) -> object:
    return opaque_value(part, "A06") if part.provider == origin else None


# ── what it is told ───────────────────────────────────────────────────────────────────────────────


def _tool(message: Message, origin: str, blocks: _Blocks) -> Encoded:
    results: list[str] = []
    for part in message.parts:
        match part:
            case ToolResult():
                results.append(_answered(message, part.call_id))
                blocks.add(part, _result(part, results[-1], origin))
            case CachePoint():
                blocks.add(part, None)
            case _:
                raise misplaced(message, part, "A06")
    if not results:
        raise LocalProtocolError(f"{what(message)} is a tool message without a result", rule="A06")
    return blocks.encoded((), tuple(results))


def _answered(message: Message, call_id: str) -> str:
    if not call_id:
        raise LocalProtocolError(
            f"{what(message)} holds a result without the id of its call", rule="A21"
        )
    return _CALL_ID(call_id)


def _result(part: ToolResult, call_id: str, origin: str) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": call_id}
    shown = [_content(item, origin) for item in part.content]
    content = [value for value in shown if value is not None]
    if content:
        block["content"] = content
    if part.is_error:
        block["is_error"] = True
    return block


def _content(part: Text | Image | File | Opaque, origin: str) -> object:
    match part:
        case Text(text):
            return _said(text)
        case Image() | File():
            return shown(part, media_block, _said)
        case Opaque():
            return _opaque(part, origin)


def _user_block(message: Message, part: Part, origin: str) -> object:
    match part:
        case Text() | Image() | File() | Opaque():
            return _content(part, origin)
        case Audio():
            return shown(part, media_block, _said)
        case CachePoint():
            return None
        case _:
            raise misplaced(message, part, "A06")


def _system(message: Message, origin: str, blocks: _Blocks) -> Encoded:
    words: list[bytes] = []
    for part in message.parts:
        match part:
            case Text(text):
                block = _said(text)
                blocks.add(part, block)
                if block is not None:
                    words.append(text_block(f"<system>\n{text}\n</system>", what(message)))
            case Opaque():
                blocks.add(part, _opaque(part, origin))
            case CachePoint():
                blocks.add(part, None)
            case _:
                raise misplaced(message, part, "A06")
    return structs.replace(blocks.encoded(), words=tuple(words))
