"""Recorded Messages requests, read back into our types, and what a request says."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from llm_client.codecs._json import as_dict, as_list, is_object
from llm_client.types import (
    CachePoint,
    Citation,
    File,
    Image,
    LLMRequest,
    Message,
    NamedTool,
    Opaque,
    OutputSchema,
    Part,
    Seal,
    Text,
    Thinking,
    ToolCall,
    ToolChoice,
    ToolResult,
    ToolSpec,
)
from tests.corpus import need_corpus, read_jsonl

CORPUS_FILE = "dev.anthropic_messages.jsonl"
EXPECTED_FILE = "expected.dev.anthropic_messages.jsonl"
ORIGIN = "anthropic"

_PLAIN = frozenset({"name", "description", "input_schema", "strict", "type"})
_EXTRA = ("context_management", "container", "metadata", "service_tier", "output_format")


def accepted_requests() -> list[tuple[str, dict[str, Any]]]:
    """Id and body of each recorded request that was accepted."""
    rows = read_jsonl(need_corpus(CORPUS_FILE))
    return [
        (row["id"], row["request_body"])
        for row in rows
        if row["status"] == 200 and is_object(row["request_body"])
    ]


def read_request(body: dict[str, Any]) -> LLMRequest:
    """A request from its wire form."""
    messages = _system(body.get("system"))
    for item in as_list(body.get("messages")):
        read = read_messages(as_dict(item))
        if messages and messages[-1].tool_calls and read[0].role == "assistant":
            # The provider combines turns of one role: these calls are answered together.
            read[0] = Message("assistant", messages.pop().parts + read[0].parts)
        messages += read
    tools = [as_dict(item) for item in as_list(body.get("tools"))]
    ours = [tool for tool in tools if tool.get("type") in {None, "custom"} and set(tool) <= _PLAIN]
    thinking, output = as_dict(body.get("thinking")), dict(as_dict(body.get("output_config")))
    schema = as_dict(output.pop("format", None)).get("schema")
    effort = output.pop("effort", "high") if thinking.get("type") == "adaptive" else None
    extra = {name: body[name] for name in _EXTRA if name in body}
    return LLMRequest(
        messages,
        model=body["model"],
        tools=tuple([_tool(tool) for tool in ours]),
        server_tools=tuple([tool for tool in tools if tool not in ours]),
        tool_choice=_choice(as_dict(body.get("tool_choice"))),
        parallel_tool_calls=False if "disable_parallel" in str(body.get("tool_choice")) else None,
        max_output_tokens=body["max_tokens"],
        temperature=body.get("temperature"),
        stop=tuple(as_list(body.get("stop_sequences"))),
        output_schema=OutputSchema("answer", schema) if schema else None,
        thinking_tokens=thinking.get("budget_tokens"),
        reasoning_effort=effort,
        cache=as_dict(body.get("cache_control")).get("ttl"),
        extra=extra | ({"output_config": output} if output else {}),
    )


def read_messages(fields: dict[str, Any]) -> list[Message]:
    """A turn from its wire form. Results become messages of their own."""
    content = fields["content"]
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    answered = [block["type"] == "tool_result" for block in blocks]
    results = [block for block, is_result in zip(blocks, answered, strict=True) if is_result]
    rest = [block for block, is_result in zip(blocks, answered, strict=True) if not is_result]
    found: list[Message] = []
    if results:
        found.append(Message("tool", _parts(results)))
    if rest:
        found.append(Message(fields["role"], _parts(rest)))
    return found


def _system(value: object) -> list[Message]:
    if isinstance(value, str):
        return [Message("system", (Text(value),))]
    blocks = as_list(value)
    return [Message("system", _parts(blocks))] if blocks else []


def _parts(blocks: list[dict[str, Any]]) -> tuple[Part, ...]:
    parts: list[Part] = []
    for block in blocks:
        point = block.get("cache_control")
        plain = {name: value for name, value in block.items() if name != "cache_control"}
        parts.append(_part(plain))
        if point:
            parts.append(CachePoint(point.get("ttl", "5m")))
    return tuple(parts)


def _part(block: dict[str, Any]) -> Part:
    kind, names = block["type"], set(block)
    source = as_dict(block.get("source"))
    if kind == "text":
        cited = [Citation(_json(item)) for item in as_list(block.get("citations"))]
        return Text(block["text"], tuple(cited))
    if kind == "thinking":
        return Thinking(block["thinking"], Seal(ORIGIN, block["signature"]))
    if kind == "redacted_thinking":
        return Thinking("", Seal(ORIGIN, block["data"]), redacted=True)
    if kind == "tool_use":
        return ToolCall(block["id"], block["name"], _json(block["input"]))
    if kind in {"image", "document"} and names == {"type", "source"}:
        return _medium(kind, source)
    if kind == "tool_result":
        content = block["content"]
        inner = [{"type": "text", "text": content}] if isinstance(content, str) else content
        read = [_part(item) for item in inner]
        held = [part for part in read if isinstance(part, Text | Image | File | Opaque)]
        return ToolResult(block["tool_use_id"], tuple(held), block.get("is_error", False))
    return Opaque(ORIGIN, kind, _json(block))


def _medium(kind: str, source: dict[str, Any]) -> Image | File:
    media_type = source.get("media_type") or ("image/*" if kind == "image" else None)
    data = _data(source["data"]) if "data" in source else None
    if kind == "image" and "file_id" not in source:
        return Image(data, source.get("url"), source.get("media_type"))
    return File(data, source.get("url"), source.get("file_id"), media_type=media_type)


def _data(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return text.encode()  # What was recorded is a word about what was left out.


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _tool(tool: dict[str, Any]) -> ToolSpec:
    return ToolSpec(
        tool["name"], tool.get("description", ""), tool["input_schema"], tool.get("strict")
    )


def _choice(choice: dict[str, Any]) -> ToolChoice:
    match choice.get("type"):
        case "any":
            return "required"
        case "none":
            return "none"
        case "tool":
            return NamedTool(choice["name"])
        case _:
            return "auto"


def meaning(body: dict[str, Any]) -> dict[str, Any]:
    """What a request says to the model, whatever form it chose among equal ones.

    Equal are a text and a block of text, turns of one role in a row and one turn of all of them,
    `is_error: false` and nothing, the effort "high" and nothing, and every way of asking for the
    cache. Blank texts say nothing.
    """
    turns: list[tuple[str, list[object]]] = []
    for message in as_list(body["messages"]):
        blocks = _said(message["content"])
        if turns and turns[-1][0] == message["role"]:
            turns[-1][1].extend(blocks)
        elif blocks:
            turns.append((message["role"], blocks))
    said = {
        name: body.get(name)
        for name in ("model", "max_tokens", "thinking", "temperature", "stop_sequences", *_EXTRA)
    }
    choice, output = as_dict(body.get("tool_choice")), as_dict(body.get("output_config"))
    return said | {
        "turns": turns,
        "system": _said(body.get("system") or []),
        "tools": sorted(_sorted(_plain_tool(as_dict(tool))) for tool in as_list(body.get("tools"))),
        "tool_choice": None if choice == {"type": "auto"} else choice or None,
        "output_config": {name: output[name] for name in output if output[name] != "high"},
    }


def _sorted(value: object) -> bytes:
    return msgspec.json.encode(value, order="sorted")


def _plain_tool(tool: dict[str, Any]) -> dict[str, Any]:
    empty = (("type", "custom"), ("description", ""))
    return {name: tool[name] for name in sorted(tool) if (name, tool[name]) not in empty}


def _said(content: object) -> list[object]:
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else as_list(content)
    found: list[object] = []
    for item in blocks:
        block = {name: value for name, value in as_dict(item).items() if name != "cache_control"}
        if block.get("is_error") is False:
            del block["is_error"]
        if block["type"] == "text" and not block["text"].strip():
            continue
        if block["type"] == "tool_result":
            block["content"] = _said(block.get("content") or [])
        source = as_dict(block.get("source"))
        if "data" in source:
            block["source"] = source | {"data": _data(source["data"])}
        found.append(block)
    return found
