"""Messages in the wire form of Chat Completions, straight from our types to bytes."""

from __future__ import annotations

from typing import Any

from llm_client.codecs._json import encode, object_text
from llm_client.codecs._media import base64_text, in_words, media_url, shown
from llm_client.codecs._names import wire_name
from llm_client.codecs._turns import call_ids, misplaced, opaque_value, what
from llm_client.codecs.openai_chat._dialect import ChatDialect
from llm_client.codecs.openai_chat._rules import Encoded
from llm_client.errors import LocalProtocolError, UnsupportedFeature
from llm_client.types import (
    Audio,
    CachePoint,
    File,
    Image,
    Message,
    Opaque,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)

__all__ = ["encode_message", "media_block"]


def encode_message(message: Message, dialect: ChatDialect) -> Encoded:
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
        case "user":
            fields: dict[str, Any] = {"role": "user", "content": _user_content(message)}
        case "system":
            fields = {"role": dialect.system_role, "content": _only_text(message)}
    if message.name:
        fields["name"] = message.name
    return Encoded(message.role, (encode(fields, what(message)),))


class _Said:
    """The parts of an assistant message, sorted by what becomes of them."""

    __slots__ = ("calls", "fields", "texts", "thinking")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.thinking: list[str] = []
        self.calls: list[ToolCall] = []
        self.fields: dict[str, Any] = {}

    def take(self, message: Message, part: Part, dialect: ChatDialect) -> None:
        match part:
            case Text(text):
                self.texts.append(text)
            case ToolCall():
                self.calls.append(part)
            case Thinking(text, None):
                self.thinking.append(text)
            case Thinking() | CachePoint():
                pass  # Sealed reasoning is another protocol's, which means nothing here.
            case Opaque():
                if part.provider == dialect.provider and dialect.reasoning_details:
                    self.fields[part.kind] = opaque_value(part)
            case Audio(id=str(sound)):
                self.fields["audio"] = {"id": sound}
            case Audio() | Image() | File():
                self.texts.append(in_words(part))
            case ToolResult():
                raise misplaced(message, part)


def _assistant(message: Message, dialect: ChatDialect) -> Encoded:
    said = _Said()
    for part in message.parts:
        said.take(message, part, dialect)
    text = "".join(said.texts)
    fields: dict[str, Any] = {"role": "assistant", "content": text, **said.fields}
    if not text and (said.calls or "audio" in fields):
        fields["content"] = None
    if message.name:
        fields["name"] = message.name
    echo = dialect.echo
    if echo is not None and (said.calls or echo.always):
        reasoning = "".join(said.thinking) or echo.empty
        if reasoning is not None:
            fields[echo.field] = reasoning
    ids = call_ids(message, said.calls, dialect.call_id)
    if said.calls:
        fields["tool_calls"] = [
            {
                "id": call_id,
                "type": "function",
                "function": {
                    "name": wire_name(call.name),
                    "arguments": object_text(call.arguments),
                },
            }
            for call_id, call in zip(ids, said.calls, strict=True)
        ]
    if not (text or said.calls or _says_more(fields, dialect)):
        # An empty answer: vendors refuse it (C12), and to the model it says nothing.
        return Encoded("assistant", ())
    return Encoded("assistant", (encode(fields, what(message)),), ids)


def _says_more(fields: dict[str, Any], dialect: ChatDialect) -> bool:
    echo = dialect.echo
    echoed = echo is not None and bool(fields.get(echo.field))
    return echoed or "audio" in fields or "reasoning_details" in fields


def _tool(message: Message, dialect: ChatDialect) -> Encoded:
    values: list[bytes] = []
    results: list[str] = []
    attachments: list[bytes] = []
    for part in message.parts:
        if not isinstance(part, ToolResult):
            raise misplaced(message, part)
        if not part.call_id:
            raise LocalProtocolError(
                f"{what(message)} holds a result without the id of its call", rule="C06"
            )
        call_id = dialect.call_id(part.call_id)
        others = [item for item in part.content if not isinstance(item, Text | Opaque)]
        text = part.text
        if others:
            count = f"{len(others)} attachment{'s' if len(others) > 1 else ''}"
            text = text or f"({count}, in the next user message)"
            attachments.append(
                encode({"type": "text", "text": f"From tool call {call_id}:"}, what(message))
            )
            attachments.extend(encode(_shown(item), what(message)) for item in others)
        results.append(call_id)
        fields = {"role": "tool", "tool_call_id": call_id, "content": text}
        values.append(encode(fields, what(message)))
    if not values:
        raise LocalProtocolError(f"{what(message)} is a tool message without a result", rule="C06")
    return Encoded("tool", tuple(values), (), tuple(results), tuple(attachments))


def _user_content(message: Message) -> str | list[dict[str, Any]]:
    if all(isinstance(part, Text | CachePoint | Opaque) for part in message.parts):
        return message.text
    blocks: list[dict[str, Any]] = []
    for part in message.parts:
        match part:
            case Text(text):
                if text:
                    blocks.append({"type": "text", "text": text})
            case Image() | Audio() | File():
                blocks.append(_shown(part))
            case CachePoint() | Opaque():
                pass  # What another vendor takes in a question means nothing here.
            case _:
                raise misplaced(message, part)
    return blocks


def _only_text(message: Message) -> str:
    for part in message.parts:
        if not isinstance(part, Text | CachePoint | Opaque):
            raise misplaced(message, part)
    return message.text


def _shown(part: Image | Audio | File) -> dict[str, Any]:
    return shown(part, media_block, lambda words: {"type": "text", "text": words})


def media_block(part: Image | Audio | File) -> dict[str, Any]:
    """An attachment in wire form.

    Raises:
        UnsupportedFeature: it is empty, or known to another vendor only.
    """
    match part:
        case Image():
            image = {"url": media_url(part, "image/png")}
            if part.detail is not None:
                image["detail"] = part.detail
            return {"type": "image_url", "image_url": image}
        case Audio():
            if part.data is None:
                raise UnsupportedFeature(
                    "an audio part needs its data; Chat Completions takes no id"
                )
            sound = {"data": base64_text(part.data), "format": part.format or "wav"}
            return {"type": "input_audio", "input_audio": sound}
        case File():
            file: dict[str, str] = {}
            if part.id is not None:
                file["file_id"] = part.id
            else:
                file["file_data"] = media_url(part, "application/octet-stream")
                file["filename"] = part.name or "file"
            return {"type": "file", "file": file}
