"""Recorded Chat Completions requests, read back into our types."""

from __future__ import annotations

from typing import Any

from llm_client.codecs._json import as_dict, as_list, is_object
from llm_client.types import (
    Audio,
    File,
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
from tests.chat_streams import CORPUS_FILE
from tests.corpus import need_corpus, read_jsonl


class UnknownShape(Exception):
    """A request uses something of the protocol that these types have no word for."""


def accepted_requests() -> list[tuple[str, LLMRequest]]:
    """Id and content of each recorded request that was accepted and that our types can say."""
    found: list[tuple[str, LLMRequest]] = []
    for row in read_jsonl(need_corpus(CORPUS_FILE)):
        body = row["request_body"]
        if row["status"] == 200 and is_object(body):
            try:
                found.append((row["id"], read_request(body)))
            except UnknownShape:
                continue
    return found


def read_request(body: dict[str, Any]) -> LLMRequest:
    """A request from its wire form."""
    if "functions" in body:
        raise UnknownShape("legacy functions")
    messages = tuple(read_message(as_dict(item)) for item in as_list(body.get("messages")))
    tools = tuple(_tool(as_dict(item)) for item in as_list(body.get("tools")))
    return LLMRequest(messages, model=body.get("model"), tools=tools)


def read_message(fields: dict[str, Any]) -> Message:
    """A message from its wire form."""
    name = fields.get("name")
    match fields.get("role"):
        case "system" | "developer":
            return Message("system", tuple(_content(fields.get("content"))), name=name)
        case "user":
            return Message("user", tuple(_content(fields.get("content"))), name=name)
        case "assistant":
            parts = [*_reasoning(fields), *_content(fields.get("content"))]
            parts += [_call(as_dict(item)) for item in as_list(fields.get("tool_calls"))]
            return Message("assistant", tuple(parts), name=name)
        case "tool":
            content = tuple(
                part for part in _content(fields.get("content")) if isinstance(part, Text | Image)
            )
            return Message("tool", (ToolResult(fields["tool_call_id"], content),))
        case role:
            raise UnknownShape(f"role {role!r}")


def _tool(fields: dict[str, Any]) -> ToolSpec:
    function = as_dict(fields.get("function"))
    if not function:
        raise UnknownShape("a tool that is no function")
    name, description = function["name"], function.get("description") or ""
    return ToolSpec(name, description, function.get("parameters") or {})


def _reasoning(fields: dict[str, Any]) -> list[Part]:
    text = fields.get("reasoning_content") or fields.get("reasoning")
    return [Thinking(text)] if isinstance(text, str) else []


def _call(fields: dict[str, Any]) -> ToolCall:
    function = as_dict(fields.get("function"))
    if not function:
        raise UnknownShape("a call that is no function call")
    return ToolCall(fields["id"], function["name"], function.get("arguments") or "")


def _content(value: object) -> list[Part]:
    if isinstance(value, str):
        return [Text(value)]
    return [_block(as_dict(item)) for item in as_list(value)]


def _block(fields: dict[str, Any]) -> Part:
    match fields.get("type"):
        case "text":
            return Text(fields["text"])
        case "image_url":
            return Image(
                url=as_dict(fields["image_url"]).get("url") or "https://example.org/elided.png"
            )
        case "input_audio":
            return Audio(b"sound", as_dict(fields["input_audio"]).get("format"))
        case "file":
            return File(b"data", name=as_dict(fields["file"]).get("filename"))
        case "thinking":
            return Thinking("thought")
        case kind:
            raise UnknownShape(f"content block {kind!r}")
