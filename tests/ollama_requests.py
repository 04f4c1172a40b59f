"""Recorded requests of Ollama's own protocol, read back into our types."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from llm_client.codecs._json import as_dict, as_list
from llm_client.types import (
    Image,
    LLMRequest,
    Message,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    ToolSpec,
)
from tests.chat_requests import UnknownShape

__all__ = ["read_request"]


def read_request(body: dict[str, Any]) -> LLMRequest:
    """A request from its wire form. Calls have no ids there: they are numbered."""
    messages: list[Message] = []
    open_calls: list[str] = []
    for position, item in enumerate(as_list(body.get("messages"))):
        fields = as_dict(item)
        match fields.get("role"):
            case "tool":
                result = ToolResult(open_calls.pop(0), (Text(fields["content"]),))
                messages.append(Message("tool", (result,)))
            case "assistant":
                message = _assistant(fields, position)
                open_calls = [call.id for call in message.tool_calls]
                messages.append(message)
            case "system" | "user" as role:
                messages.append(Message(role, (*_text(fields), *_images(fields))))
            case role:
                raise UnknownShape(f"role {role!r}")
    tools = tuple(
        _tool(as_dict(as_dict(item).get("function"))) for item in as_list(body.get("tools"))
    )
    return LLMRequest(messages, model=body.get("model"), tools=tools)


def _assistant(fields: dict[str, Any], position: int) -> Message:
    parts: list[Part] = []
    if fields.get("thinking"):
        parts.append(Thinking(fields["thinking"]))
    parts += _text(fields)
    for number, item in enumerate(as_list(fields.get("tool_calls"))):
        function = as_dict(as_dict(item).get("function"))
        arguments = msgspec.json.encode(function.get("arguments")).decode()
        parts.append(ToolCall(f"call_{position}_{number}", function["name"], arguments))
    return Message("assistant", tuple(parts))


def _text(fields: dict[str, Any]) -> list[Part]:
    return [Text(fields["content"])] if fields.get("content") else []


def _images(fields: dict[str, Any]) -> list[Part]:
    return [Image(_decoded(item)) for item in as_list(fields.get("images"))]


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:
        return b"\x89PNG"  # recorded in excerpt


def _tool(function: dict[str, Any]) -> ToolSpec:
    description = function.get("description") or ""
    return ToolSpec(function["name"], description, function.get("parameters") or {})
