"""Messages in the wire form of Responses, straight from our types to bytes."""

from __future__ import annotations

from typing import Any

from llm_client.codecs._json import encode
from llm_client.codecs._media import media_url, shown
from llm_client.codecs._turns import call_ids, misplaced, what
from llm_client.codecs.openai_responses._dialect import ResponsesDialect
from llm_client.codecs.openai_responses._rules import Encoded
from llm_client.codecs.openai_responses._turn import Turn, decoded, wire_id
from llm_client.errors import LocalProtocolError, UnsupportedFeature
from llm_client.types import (
    Audio,
    CachePoint,
    File,
    Image,
    Message,
    Opaque,
    Text,
    ToolResult,
)

__all__ = ["encode_message", "media_block"]


def encode_message(message: Message, dialect: ResponsesDialect) -> Encoded:
    """`message` in wire form.

    Raises:
        LocalProtocolError: it holds something that a message of its role cannot hold.
        UnsupportedFeature: it holds something that the protocol has no form for.
    """
    match message.role:
        case "assistant":
            return _assistant(message, dialect)
        case "tool":
            return _tool(message, dialect)
        case "user" | "system":
            return _input(message, dialect)


# ── what the model is told ────────────────────────────────────────────────────────────────────────


def _input(message: Message, dialect: ResponsesDialect) -> Encoded:
    values: list[bytes] = []
    blocks: list[dict[str, Any]] = []
    for part in message.parts:
        match part:
            case Opaque():
                if part.provider == dialect.origin:
                    values += _input_message(message, blocks)
                    values.append(encode(decoded(part), what(message)))
                    blocks = []
            case CachePoint():
                pass
            case Text() | Image() | File() | Audio():
                if message.role == "system" and not isinstance(part, Text):
                    raise misplaced(message, part, "R11")
                if not isinstance(part, Text) or part.text:
                    blocks.append(_block(part, dialect))
            case _:
                raise misplaced(message, part, "R11")
    values += _input_message(message, blocks)
    return Encoded(message.role, tuple(values))


def _input_message(message: Message, blocks: list[dict[str, Any]]) -> list[bytes]:
    """At most one message: what comes to nothing adds nothing."""
    if all(block["type"] == "input_text" for block in blocks):
        content: Any = "".join(block["text"] for block in blocks)
        if not content.strip():
            return []
    else:
        content = blocks
    return [encode({"role": message.role, "content": content}, what(message))]


def _block(part: Text | Image | Audio | File, dialect: ResponsesDialect) -> dict[str, Any]:
    match part:
        case Text(text):
            return {"type": "input_text", "text": text}
        case Image() | Audio() | File():
            return shown(
                part,
                lambda it: media_block(it, dialect),
                lambda words: {"type": "input_text", "text": words},
            )


def media_block(part: Image | Audio | File, dialect: ResponsesDialect) -> dict[str, Any]:
    """An attachment in wire form.

    Raises:
        UnsupportedFeature: it is empty, known to another vendor only, or a sound.
    """
    match part:
        case Image():
            return _image(part, dialect)
        case File():
            return _file(part)
        case Audio():
            raise UnsupportedFeature(
                "Responses takes no audio; send what was said as text, or use Chat Completions"
            )


def _image(part: Image, dialect: ResponsesDialect) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "input_image"}
    seal = part.seal
    own = seal.id if seal is not None and seal.origin == dialect.origin else None
    if own is not None and part.data is None and part.url is None:
        block["file_id"] = own
    else:
        block["image_url"] = media_url(part, "image/png")
    if part.detail is not None:
        block["detail"] = part.detail
    return block


def _file(part: File) -> dict[str, Any]:
    if part.id is not None:
        return {"type": "input_file", "file_id": part.id}
    url = media_url(part, "application/octet-stream")
    if part.data is None:
        return {"type": "input_file", "file_url": url}
    return {"type": "input_file", "filename": part.name or "file", "file_data": url}


# ── what tools returned ───────────────────────────────────────────────────────────────────────────


def _tool(message: Message, dialect: ResponsesDialect) -> Encoded:
    results: list[tuple[str, bytes]] = []
    for part in message.parts:
        if not isinstance(part, ToolResult):
            raise misplaced(message, part, "R11")
        if not part.call_id:
            raise LocalProtocolError(
                f"{what(message)} holds a result without the id of its call", rule="R13"
            )
        call_id = wire_id(part.call_id)
        value = encode({"call_id": call_id, "output": _output(part, dialect)}, what(message))
        results.append((call_id, value[1:]))
    if not results:
        raise LocalProtocolError(f"{what(message)} is a tool message without a result", rule="R13")
    return Encoded("tool", results=tuple(results))


def _output(result: ToolResult, dialect: ResponsesDialect) -> str | list[dict[str, Any]]:
    if all(isinstance(part, Text | Opaque) for part in result.content):
        return result.text
    return [
        _block(part, dialect)
        for part in result.content
        if not isinstance(part, Opaque) and part != Text("")
    ]


# ── what the model has said ───────────────────────────────────────────────────────────────────────


def _assistant(message: Message, dialect: ResponsesDialect) -> Encoded:
    turn = Turn(message, dialect, keep_ids=dialect.store or _has_ids(message, dialect))
    call_ids(message, message.tool_calls, wire_id, ("R04", "R04"))
    for part in message.parts:
        if isinstance(part, ToolResult):
            raise misplaced(message, part, "R11")
        turn.take(part)
    return turn.encoded()


def _has_ids(message: Message, dialect: ResponsesDialect) -> bool:
    """True if the message holds items of the vendor that are known by their ids: then the others go
    by theirs too, because the vendor checks who belongs to whom."""
    return any(
        isinstance(part, Opaque)
        and part.provider == dialect.origin
        and bool(decoded(part).get("id"))
        for part in message.parts
    )
