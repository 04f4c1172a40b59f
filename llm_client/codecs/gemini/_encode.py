"""Messages in Gemini's wire form, straight from our types to bytes."""

from __future__ import annotations

from typing import Any

import msgspec

from llm_client.codecs._json import encode, object_text
from llm_client.codecs._media import base64_text, in_words, shown
from llm_client.codecs._names import wire_name
from llm_client.codecs._turns import misplaced, opaque_value, what
from llm_client.codecs.gemini._dialect import GeminiDialect
from llm_client.codecs.gemini._parts import METADATA, blob_data
from llm_client.codecs.gemini._rules import Call, Encoded, Result
from llm_client.errors import LocalProtocolError, MalformedResponse, UnsupportedFeature
from llm_client.types import (
    Audio,
    CachePoint,
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

__all__ = ["encode_message", "media_part"]

_SENTINEL = "skip_thought_signature_validator"
"""Stands for the signature of a call that Gemini did not make. Models from 3 on refuse a turn whose
first call has none; older ones take it as well, so that it need not depend on the model."""

_TYPES = {
    "gif": "image/gif",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "mp4": "video/mp4",
    "pdf": "application/pdf",
    "png": "image/png",
    "webp": "image/webp",
}
"""The media types that an address tells by its end."""


def _function_name(name: str) -> str:
    """A function's name as it may be sent: it must begin with a letter or an underscore."""
    sent = wire_name(name)
    return sent if sent[0].isalpha() or sent[0] == "_" else f"_{sent}"[:64]


def encode_message(message: Message, dialect: GeminiDialect) -> Encoded:
    """`message` in wire form.

    Raises:
        LocalProtocolError: it holds something that a message of its role cannot hold.
        UnsupportedFeature: it holds something that the protocol has no form for.
    """
    match message.role:
        case "assistant":
            return _assistant(message, dialect)
        case "tool":
            return _tool(message)
        case "user" | "system":
            found = (_given(message, part, dialect) for part in message.parts)
            return Encoded(message.role, tuple([part for part in found if part is not None]))


def _given(message: Message, part: Part, dialect: GeminiDialect) -> bytes | None:
    """A part of a message of the user, None if it is left out."""
    match part:
        case Text(text):
            return encode({"text": text}, what(message)) if text else None
        case Image() | Audio() | File() if message.role == "user":
            return encode(shown(part, media_part, _words), what(message))
        case Opaque() if message.role == "user":
            return _opaque(part, dialect)
        case CachePoint() | Opaque():
            return None
        case _:
            raise misplaced(message, part, "G02")


def _assistant(message: Message, dialect: GeminiDialect) -> Encoded:
    parts: list[bytes] = []
    calls: list[Call] = []
    for part in message.parts:
        match part:
            case ToolCall():
                call = _call(message, part, dialect)
                signed = _signed(part.seal, dialect)
                if not calls and not signed:
                    signed = {"thoughtSignature": _SENTINEL}
                calls.append(call)
                parts.append(encode(_function_call(call, part, signed), what(message)))
            case Opaque():
                opaque = _opaque(part, dialect)
                parts += [] if opaque is None else [opaque]
            case ToolResult():
                raise misplaced(message, part, "G02")
            case _:
                said = _said(part, dialect)
                parts += [] if said is None else [encode(said, what(message))]
    if len({call.id for call in calls}) != len(calls):
        raise LocalProtocolError(
            f"{what(message)} makes two calls with the same id; give each call its own", rule="G05"
        )
    return Encoded("assistant", tuple(parts), tuple(calls))


def _said(
    part: Text | Thinking | Image | Audio | File | CachePoint, dialect: GeminiDialect
) -> dict[str, Any] | None:
    """What the model said, None if it is left out."""
    match part:
        case Text(text):
            signed = _signed(part.seal, dialect)
            return {"text": text, **signed} if text or signed else None
        case Thinking(text):
            # Unsigned, it is a summary for people, which the model does not miss.
            signed = _signed(part.seal, dialect)
            return {"text": text, "thought": True, **signed} if signed else None
        case Image(seal=Seal(origin=origin)) if origin == dialect.origin:
            return {**media_part(part), **_signed(part.seal, dialect)}
        case Image() | Audio() | File():
            # Models from 3 on want a signature on images that they are said to have made.
            return {"text": in_words(part)}
        case CachePoint():
            return None


def _signed(seal: Seal | None, dialect: GeminiDialect) -> dict[str, str]:
    if seal is None or seal.origin != dialect.origin or not seal.signature:
        return {}
    return {"thoughtSignature": seal.signature}


def _call(message: Message, call: ToolCall, dialect: GeminiDialect) -> Call:
    if not call.id:
        raise LocalProtocolError(
            f"{what(message)} makes a call without an id; give each call one", rule="G05"
        )
    seal = call.seal
    wire_id = seal.id if seal is not None and seal.origin == dialect.origin else None
    return Call(call.id, _function_name(call.name), wire_id)


def _function_call(call: Call, part: ToolCall, signed: dict[str, str]) -> dict[str, Any]:
    function: dict[str, Any] = {} if call.wire_id is None else {"id": call.wire_id}
    function["name"] = call.name
    function["args"] = msgspec.Raw(object_text(part.arguments).encode())
    return {"functionCall": function, **signed}


def _opaque(part: Opaque, dialect: GeminiDialect) -> bytes | None:
    if part.provider != dialect.origin or part.kind in METADATA:
        return None
    value = opaque_value(part)
    if not isinstance(value, dict):
        raise LocalProtocolError(
            f"the opaque part {part.kind!r} is no part of a Gemini turn; drop it", rule="G02"
        )
    return part.json.encode()


def _tool(message: Message) -> Encoded:
    results: list[Result] = []
    for part in message.parts:
        if not isinstance(part, ToolResult):
            raise misplaced(message, part, "G02")
        if not part.call_id:
            raise LocalProtocolError(
                f"{what(message)} holds a result without the id of its call", rule="G07"
            )
        media = [
            encode(shown(item, media_part, _words), what(message))
            for item in part.content
            if not isinstance(item, Text | Opaque)
        ]
        response = _response(message, part, len(media))
        results.append(Result(part.call_id, response, tuple(media)))
    if not results:
        raise LocalProtocolError(f"{what(message)} is a tool message without a result", rule="G07")
    return Encoded("tool", (), (), tuple(results))


def _response(message: Message, result: ToolResult, attachments: int) -> bytes:
    """What the function returned, as the object that it must be (G08)."""
    text = result.text
    if result.is_error:
        return encode({"error": text}, what(message))
    if not text and attachments:
        text = f"({attachments} attachment{'s' if attachments > 1 else ''})"
    if text.startswith("{") and object_text(text) == text:
        return text.encode()
    return encode({"output": text}, what(message))


def _words(text: str) -> dict[str, Any]:
    return {"text": text}


def media_part(part: Image | Audio | File) -> dict[str, Any]:
    """An attachment in wire form.

    Raises:
        UnsupportedFeature: it is empty, or known to another vendor only.
    """
    match part:
        case Audio(data=None):
            raise UnsupportedFeature("an audio part needs its data; Gemini takes no id")
        case Audio(data=data):
            kind = part.format or "wav"
            media_type = kind if "/" in kind else f"audio/{'mpeg' if kind == 'mp3' else kind}"
            return _inline(data, media_type)
        case Image():
            return _image_or_file(part.data, part.url, part.media_type, "image/png")
        case File():
            media_type = part.media_type
            return _image_or_file(
                part.data, part.url or part.id, media_type, "application/octet-stream"
            )


def _image_or_file(
    data: bytes | None, url: str | None, media_type: str | None, usual_type: str
) -> dict[str, Any]:
    if data is not None:
        return _inline(data, media_type or usual_type)
    if not url:
        raise UnsupportedFeature("an image or file part is empty; give it data or a url")
    if url.startswith("data:"):
        return _from_data_url(url, media_type or usual_type)
    media_type = media_type or _TYPES.get(url.rpartition(".")[2].lower())
    named = {} if media_type is None else {"mimeType": media_type}
    return {"fileData": {**named, "fileUri": url}}


def _from_data_url(url: str, usual_type: str) -> dict[str, Any]:
    head, _, data = url.removeprefix("data:").partition(",")
    media_type, _, coding = head.partition(";")
    if not coding.endswith("base64"):
        raise UnsupportedFeature("a data URL must hold base64; give the part its data")
    try:
        return _inline(blob_data(data), media_type or usual_type)
    except MalformedResponse as error:
        raise UnsupportedFeature(
            "a data URL does not hold valid base64; give the part its data"
        ) from error


def _inline(data: bytes | None, media_type: str) -> dict[str, Any]:
    return {"inlineData": {"mimeType": media_type, "data": base64_text(data or b"")}}
