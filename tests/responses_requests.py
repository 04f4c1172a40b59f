"""Recorded Responses requests, read back into our types."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from llm_client.codecs._json import as_dict, as_list, is_array, is_object
from llm_client.types import (
    Citation,
    File,
    Image,
    LLMRequest,
    Message,
    NamedTool,
    Opaque,
    OutputSchema,
    Part,
    Role,
    Seal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    ToolSpec,
)
from tests.corpus import need_corpus, read_jsonl
from tests.responses_streams import CORPUS_FILE

_STRUCTURAL = {
    "input",
    "include",
    "instructions",
    "max_output_tokens",
    "model",
    "parallel_tool_calls",
    "store",
    "stream",
    "temperature",
    "tool_choice",
    "tools",
    "top_p",
}
_SAID = {"message", "reasoning", "function_call", "custom_tool_call"}
_TOLD_BY_CALLER = {"function_call_output", "custom_tool_call_output"}
_ROLES: dict[str, Role] = {"user": "user", "system": "system", "developer": "system"}


class UnknownShape(Exception):
    """A request uses something of the protocol that these types have no word for."""


def accepted_requests() -> list[tuple[dict[str, Any], LLMRequest]]:
    """Each recorded exchange whose request was accepted and can be said in our types, with the
    request."""
    found: list[tuple[dict[str, Any], LLMRequest]] = []
    for row in read_jsonl(need_corpus(CORPUS_FILE)):
        body = row["request_body"]
        if row["status"] == 200 and is_object(body):
            try:
                found.append((row, read_request(body, origin_of(row))))
            except UnknownShape:
                continue
    return found


def origin_of(row: dict[str, Any]) -> str:
    """Who seals the parts of a recorded exchange."""
    return f"{row['provider']}.responses"


def read_request(body: dict[str, Any], origin: str) -> LLMRequest:
    """A request from its wire form."""
    tools = [as_dict(item) for item in as_list(body.get("tools"))]
    extra = {name: value for name, value in body.items() if name not in _STRUCTURAL}
    include = [one for one in as_list(body.get("include")) if "encrypted" not in one]
    if include:
        extra["include"] = include
    functions = tuple(_tool(tool) for tool in tools if _is_plain(tool))
    return LLMRequest(
        tuple(read_input(body.get("input"), origin)),
        system=body.get("instructions"),
        model=body.get("model"),
        tools=functions,
        tool_choice=_choice(body.get("tool_choice")),
        parallel_tool_calls=body.get("parallel_tool_calls"),
        max_output_tokens=body.get("max_output_tokens"),
        temperature=body.get("temperature"),
        top_p=body.get("top_p"),
        output_schema=_schema(extra),
        server_tools=tuple(tool for tool in tools if not _is_plain(tool)),
        extra=extra,
    )


def _is_plain(tool: dict[str, Any]) -> bool:
    return tool.get("type") == "function" and not tool.get("defer_loading")


def _tool(fields: dict[str, Any]) -> ToolSpec:
    description, parameters = fields.get("description") or "", as_dict(fields.get("parameters"))
    return ToolSpec(fields["name"], description, parameters, fields.get("strict"))


def _choice(value: object) -> Any:
    if is_object(value):
        return NamedTool(value["name"])
    return value or "auto"


def _schema(extra: dict[str, Any]) -> OutputSchema | None:
    """The schema of the answer, taken out of `extra`."""
    text = as_dict(extra.get("text"))
    form = as_dict(text.get("format"))
    if form.get("type") != "json_schema":
        return None
    extra["text"] = {name: value for name, value in text.items() if name != "format"}
    strict = bool(form.get("strict"))
    return OutputSchema(form["name"], form["schema"], strict, form.get("description"))


def read_input(value: object, origin: str) -> list[Message]:
    """Messages from their wire form; what the model said in a row is one of them."""
    if isinstance(value, str):
        return [Message.user(value)]
    messages: list[Message] = []
    for item in map(as_dict, as_list(value)):
        message = read_item(item, origin)
        if message.role == "assistant" and messages and messages[-1].role == "assistant":
            message = Message("assistant", messages.pop().parts + message.parts)
        messages.append(message)
    return messages


def read_item(item: dict[str, Any], origin: str) -> Message:
    """The message that one item of the input is, or belongs to."""
    kind = item.get("type") or "message"
    if kind in _TOLD_BY_CALLER:
        return Message("tool", (ToolResult(item["call_id"], _output(item["output"])),))
    if kind not in _SAID:
        part = Opaque(origin, kind, msgspec.json.encode(item).decode())
        role = item.get("role")
        return Message("assistant" if role is None else _ROLES[role], (part,))
    if kind == "message" and item.get("role") != "assistant":
        return Message(_ROLES[item["role"]], tuple(_blocks(item.get("content"), origin)))
    return Message("assistant", tuple(_said(kind, item, origin)))


def _said(kind: str, item: dict[str, Any], origin: str) -> list[Part]:
    if kind == "message":
        return _texts(item, origin)
    id = item.get("id")
    if kind == "reasoning":
        summary = "\n\n".join(part["text"] for part in as_list(item.get("summary")))
        raw = "\n\n".join(part["text"] for part in as_list(item.get("content")))
        if raw:
            raise UnknownShape("reasoning with its text")
        return [Thinking(summary, Seal(origin, item.get("encrypted_content"), id))]
    if kind == "custom_tool_call":
        arguments = msgspec.json.encode({"input": item["input"]}).decode()
        return [ToolCall(item["call_id"], item["name"], arguments, Seal(origin, id=id, kind=kind))]
    namespace = item.get("namespace")
    seal = Seal(origin, id=id, kind=f"namespace:{namespace}" if namespace else None)
    return [ToolCall(item["call_id"], item["name"], item["arguments"], seal)]


def _texts(item: dict[str, Any], origin: str) -> list[Part]:
    id, phase, content = item.get("id"), item.get("phase"), item.get("content")
    seal = Seal(origin, id=id, kind=phase)
    if isinstance(content, str):
        return [Text(content, seal=seal)]
    parts: list[Part] = []
    for block in map(as_dict, as_list(content)):
        if block.get("type") != "output_text":
            raise UnknownShape(f"the model said {block.get('type')!r}")
        sources = [
            Citation(msgspec.json.encode(source).decode())
            for source in block.get("annotations", ())
        ]
        parts.append(Text(block["text"], tuple(sources), seal))
    return parts


def _output(value: object) -> tuple[Text | Image | File, ...]:
    blocks = _blocks(value, "")
    return tuple(block for block in blocks if isinstance(block, Text | Image | File))


def _blocks(value: object, origin: str) -> list[Part]:
    if not is_array(value):
        return [Text(str(value))]
    return [_block(as_dict(item), origin) for item in as_list(value)]


def _block(fields: dict[str, Any], origin: str) -> Part:
    match fields.get("type"):
        case "input_text":
            return Text(fields["text"])
        case "input_image" if fields.get("file_id"):
            return Image(detail=fields.get("detail"), seal=Seal(origin, id=fields["file_id"]))
        case "input_image":
            return Image(url=fields["image_url"], detail=fields.get("detail"))
        case "input_file":
            return _file(fields)
        case kind:
            raise UnknownShape(f"content block {kind!r}")


def _file(fields: dict[str, Any]) -> File:
    data = fields.get("file_data")
    if data is None:
        return File(url=fields.get("file_url"), id=fields.get("file_id"))
    head, comma, body = data.partition(",")
    if not comma:
        raise UnknownShape("a file without its media type")
    media_type = head.removeprefix("data:").removesuffix(";base64")
    content = base64.b64decode(body + "===")
    return File(content, name=fields.get("filename"), media_type=media_type)
