"""Requests in the wire form of Cohere v2 chat.

Transcripts follow the rules of Chat Completions (see `openai_chat._rules`): each call is answered
right after the message that makes it, before anything else is said.
"""

from __future__ import annotations

from typing import Any

from llm_client.codecs._json import encode, object_text, require_finite
from llm_client.codecs._media import in_words, media_url, shown
from llm_client.codecs._names import IdForm, wire_name
from llm_client.codecs._request import (
    add_numbers,
    check_choice,
    check_tools,
    merge_extra,
    refuse,
    refuse_single_calls,
)
from llm_client.codecs._turns import call_ids, misplaced, opaque_value, what
from llm_client.codecs.cohere._answer import PLAN
from llm_client.codecs.openai_chat._rules import START, Encoded, Walk, check_end, walk
from llm_client.errors import LocalProtocolError, UnsupportedFeature
from llm_client.types import (
    Audio,
    CachePoint,
    File,
    Image,
    LLMRequest,
    Message,
    NamedTool,
    Opaque,
    Part,
    Seal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    ToolSpec,
)

__all__ = ["CohereForm", "encode_options", "encode_tools"]

_CALL_ID = IdForm(r"[\w.:-]{1,128}")
_MOST_STOPS = 5
_RESERVED = frozenset({"messages", "tools", "stream"})


class CohereForm:
    """Messages in wire form, for a `TranscriptEncoder`."""

    start = START

    def encode(self, message: Message) -> Encoded:
        """See `WireForm`."""
        match message.role:
            case "assistant":
                return _assistant(message)
            case "tool":
                return _tool(message)
            case "user":
                content: object = _user_content(message)
            case "system":
                content = _only_text(message)
        if not content:
            return Encoded(message.role, ())
        fields = {"role": message.role, "content": content}
        return Encoded(message.role, (encode(fields, what(message)),))

    def walk(self, state: Walk, encoded: Encoded, position: int) -> tuple[Walk, list[bytes]]:
        """See `WireForm`."""
        return walk(state, encoded, position)

    def show(self, part: Image | Audio | File) -> object:
        """See `WireForm`."""
        return _block(part)

    def check_end(self, state: Walk) -> None:
        """See `WireForm`."""
        check_end(state)


class _Said:
    """The parts of an assistant message, sorted by what becomes of them."""

    __slots__ = ("calls", "content", "plan")

    def __init__(self) -> None:
        self.content: list[dict[str, Any]] = []
        self.plan: list[str] = []
        self.calls: list[ToolCall] = []

    def take(self, message: Message, part: Part) -> None:
        match part:
            case Text(text) if text:
                self.content.append({"type": "text", "text": text})
            case Thinking(text, seal) if seal == PLAN:
                self.plan.append(text)
            case Thinking(text, Seal(origin="cohere")) if text:
                self.content.append({"type": "thinking", "thinking": text})
            case ToolCall():
                self.calls.append(part)
            case Opaque(provider="cohere"):
                self.content.append(opaque_value(part))
            case Image() | Audio() | File():
                self.content.append({"type": "text", "text": in_words(part)})
            case ToolResult():
                raise misplaced(message, part)
            case Text() | Thinking() | Opaque() | CachePoint():
                pass

    @property
    def says_nothing(self) -> bool:
        """Reasoning alone is no message."""
        return not self.calls and all(block["type"] == "thinking" for block in self.content)


def _assistant(message: Message) -> Encoded:
    said = _Said()
    for part in message.parts:
        said.take(message, part)
    if said.says_nothing:
        return Encoded("assistant", ())
    ids = call_ids(message, said.calls, _CALL_ID)
    fields: dict[str, Any] = {"role": "assistant"}
    if said.content:
        fields["content"] = said.content
    if said.plan and said.calls:
        fields["tool_plan"] = "".join(said.plan)
    if said.calls:
        fields["tool_calls"] = [
            {
                "id": id,
                "type": "function",
                "function": {
                    "name": wire_name(call.name),
                    "arguments": object_text(call.arguments),
                },
            }
            for id, call in zip(ids, said.calls, strict=True)
        ]
    return Encoded("assistant", (encode(fields, what(message)),), ids)


def _tool(message: Message) -> Encoded:
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
        id = _CALL_ID(part.call_id)
        others = [item for item in part.content if not isinstance(item, Text | Opaque)]
        text = part.text or ("(in the next message)" if others else "(nothing)")
        if others:
            told = {"type": "text", "text": f"From tool call {id}:"}
            attachments.append(encode(told, what(message)))
            attachments.extend(encode(_shown(item), what(message)) for item in others)
        results.append(id)
        fields = {"role": "tool", "tool_call_id": id, "content": text}
        values.append(encode(fields, what(message)))
    if not values:
        raise LocalProtocolError(f"{what(message)} is a tool message without a result", rule="C06")
    return Encoded("tool", tuple(values), (), tuple(results), tuple(attachments))


def _user_content(message: Message) -> str | list[dict[str, Any]]:
    if all(isinstance(part, Text | CachePoint | Opaque) for part in message.parts):
        return message.text
    return [
        _user_block(message, part)
        for part in message.parts
        if not isinstance(part, CachePoint | Opaque) and part != Text("")
    ]


def _user_block(message: Message, part: Part) -> dict[str, Any]:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case Image() | File() | Audio():
            return _shown(part)
        case _:
            raise misplaced(message, part)


def _shown(part: Image | Audio | File) -> dict[str, Any]:
    return shown(part, _block, lambda words: {"type": "text", "text": words})


def _block(part: Image | Audio | File) -> dict[str, Any]:
    match part:
        case Audio():
            raise UnsupportedFeature("Cohere takes no sound; transcribe it first")
        case Image():
            image: dict[str, Any] = {"url": media_url(part, "image/png")}
            if part.detail is not None:
                image["detail"] = part.detail
            return {"type": "image_url", "image_url": image}
        case File():
            raise UnsupportedFeature(
                "Cohere takes no files; send their text, or pass documents in extra"
            )


def _only_text(message: Message) -> str:
    for part in message.parts:
        if not isinstance(part, Text | CachePoint | Opaque):
            raise misplaced(message, part)
    return message.text


def encode_options(request: LLMRequest, provider: str, *, stream: bool) -> bytes:
    """The request's parameters as one JSON object.

    Raises:
        LocalProtocolError: a parameter breaks a rule of the protocol.
        UnsupportedFeature: the protocol has no such parameter.
    """
    if request.server_tools:
        raise UnsupportedFeature(f"{provider} runs no tools in this protocol")
    refuse(provider, compact_at=request.compact_at)
    refuse_single_calls(request, provider)
    body: dict[str, Any] = {"stream": stream}
    if request.model is not None:
        body["model"] = request.model
    add_numbers(
        body,
        max_tokens=request.max_output_tokens,
        temperature=request.temperature,
        p=request.top_p,
        seed=request.seed,
    )
    if len(request.stop) > _MOST_STOPS:
        raise LocalProtocolError(
            f"{len(request.stop)} stop sequences are given, but the protocol takes at most "
            f"{_MOST_STOPS}",
            rule="C04",
        )
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    _add_thinking(request, body)
    if request.output_schema is not None:
        require_finite(request.output_schema.schema, "the output schema")
        schema = request.output_schema.schema
        body["response_format"] = {"type": "json_object", "json_schema": schema}
    if request.tools and request.tool_choice != "auto":
        check_choice(request, "C02")
        body["tool_choice"] = "NONE" if request.tool_choice == "none" else "REQUIRED"
    merge_extra(request, body, _RESERVED)
    return encode(body, "the request")


def _add_thinking(request: LLMRequest, body: dict[str, Any]) -> None:
    if request.thinking_tokens is not None:
        body["thinking"] = {"type": "enabled", "token_budget": request.thinking_tokens}
    elif request.reasoning_effort is not None:
        kind = "disabled" if request.reasoning_effort == "none" else "enabled"
        body["thinking"] = {"type": kind}


def encode_tools(request: LLMRequest) -> bytes:
    """The tools as a JSON array. Of a named tool only that one is offered: the protocol can demand
    a call, but not which.

    Raises:
        LocalProtocolError: a name that is not allowed, or used twice.
    """
    check_tools(request.tools, name_rule="C01", twice_rule="C02")
    choice = request.tool_choice
    offered = request.tools
    if isinstance(choice, NamedTool):
        offered = tuple(tool for tool in offered if tool.name == choice.name)
    return encode([_tool_spec(tool) for tool in offered], "the tools")


def _tool_spec(tool: ToolSpec) -> dict[str, Any]:
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters or {"type": "object", "properties": {}},
    }
    return {"type": "function", "function": function}
