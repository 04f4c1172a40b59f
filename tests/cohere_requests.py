"""Recorded Cohere requests, read back into our types."""

from __future__ import annotations

from typing import Any

import msgspec

from llm_client.codecs._json import as_dict, as_list
from llm_client.types import (
    Image,
    LLMRequest,
    Message,
    Opaque,
    Part,
    Seal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    ToolSpec,
)
from tests.chat_requests import UnknownShape

__all__ = ["read_request"]


def read_request(body: dict[str, Any]) -> LLMRequest:
    """A request from its wire form."""
    if "messages" not in body:
        raise UnknownShape("version 1 of the protocol")
    messages = tuple(_message(as_dict(item)) for item in as_list(body.get("messages")))
    tools = tuple(_tool(as_dict(as_dict(item).get("function"))) for item in body.get("tools", []))
    return LLMRequest(messages, model=body.get("model"), tools=tools)


def _message(fields: dict[str, Any]) -> Message:
    match fields.get("role"):
        case "system" | "user" as role:
            return Message(role, tuple(_content(fields.get("content"))))
        case "assistant":
            plan = fields.get("tool_plan")
            parts: list[Part] = [Thinking(plan, Seal("cohere", kind="tool_plan"))] if plan else []
            parts += _content(fields.get("content"))
            parts += [_call(as_dict(item)) for item in as_list(fields.get("tool_calls"))]
            return Message("assistant", tuple(parts))
        case "tool":
            content = [part for part in _content(fields["content"]) if isinstance(part, Text)]
            return Message("tool", (ToolResult(fields["tool_call_id"], tuple(content)),))
        case role:
            raise UnknownShape(f"role {role!r}")


def _tool(function: dict[str, Any]) -> ToolSpec:
    description = function.get("description") or ""
    return ToolSpec(function["name"], description, function.get("parameters") or {})


def _call(fields: dict[str, Any]) -> ToolCall:
    function = as_dict(fields.get("function"))
    return ToolCall(fields["id"], function["name"], function.get("arguments") or "")


def _content(value: object) -> list[Part]:
    if isinstance(value, str):
        return [Text(value)]
    return [_block(as_dict(item)) for item in as_list(value)]


def _block(fields: dict[str, Any]) -> Part:
    match fields.get("type"):
        case "text":
            return Text(fields["text"])
        case "thinking":
            return Thinking(fields["thinking"], Seal("cohere"))
        case "image_url":
            return Image(url=as_dict(fields["image_url"])["url"])
        case "document":
            # To the model a document in a result is text; only its citations name it.
            return Text(msgspec.json.encode(as_dict(fields["document"]).get("data")).decode())
        case kind:
            return Opaque("cohere", str(kind), msgspec.json.encode(fields).decode())
