"""Requests in the wire form of Ollama's own protocol.

Transcripts follow the rules of Chat Completions (see `openai_chat._rules`), with one more: results
stand in the order of their calls, because older servers tell them apart by nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from llm_client.codecs._json import as_dict, encode, object_text, require_finite
from llm_client.codecs._media import base64_text, in_words, shown
from llm_client.codecs._names import IdForm, wire_name
from llm_client.codecs._request import (
    add_numbers,
    check_tools,
    merge_extra,
    refuse,
    refuse_single_calls,
)
from llm_client.codecs._turns import call_ids, misplaced, what
from llm_client.codecs.openai_chat._rules import START, Walk, check_end, walk
from llm_client.codecs.openai_chat._rules import Encoded as Placed
from llm_client.errors import LocalProtocolError, UnsupportedFeature
from llm_client.types import (
    Audio,
    CachePoint,
    File,
    Image,
    LLMRequest,
    Message,
    Opaque,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    ToolSpec,
)

__all__ = ["OllamaForm", "State", "encode_options", "encode_tools"]

_CALL_ID = IdForm(r"(?s).{1,64}")
_RESERVED = frozenset({"messages", "tools", "stream"})
_IMAGES_TOLD = b'{"role":"user","content":"The images that the tools returned.","images":['


class Encoded(Struct, frozen=True, gc=False):
    """A message in wire form. `calls` pairs the wire ids that it opens with their tools' names;
    `results` those that it answers with the texts; `images` are in base64, as JSON strings."""

    role: str
    value: bytes = b""
    calls: tuple[tuple[str, str], ...] = ()
    results: tuple[tuple[str, str], ...] = ()
    images: tuple[bytes, ...] = ()

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        texts = sum(len(text) for _, text in self.results)
        return len(self.value) + texts + sum(map(len, self.images))


class State(Struct, frozen=True, gc=False):
    """What of the messages so far bears on the next one."""

    walk: Walk = START
    names: tuple[tuple[str, str], ...] = ()
    results: tuple[tuple[str, str], ...] = ()
    images: tuple[bytes, ...] = ()


class OllamaForm:
    """Messages in wire form, for a `TranscriptEncoder`."""

    start = State()

    def encode(self, message: Message) -> Encoded:
        """See `WireForm`."""
        match message.role:
            case "assistant":
                return _assistant(message)
            case "tool":
                return _tool(message)
            case "user" | "system":
                return _said_to(message)

    def walk(self, state: State, encoded: Encoded, position: int) -> tuple[State, list[bytes]]:
        """See `WireForm`."""
        ids = tuple([id for id, _ in encoded.calls])
        answered = tuple([id for id, _ in encoded.results])
        values = (encoded.value,) if encoded.value else ()
        placed = Placed(encoded.role, values, ids, answered)
        after, found = walk(state.walk, placed, position)
        if encoded.role != "tool":
            return State(after, encoded.calls), found
        results, images = state.results + encoded.results, state.images + encoded.images
        if after.open:
            return State(after, state.names, results, images), []
        texts = dict(results)
        told = [_result(name, id, texts[id]) for id, name in state.names]
        if images:
            told.append(_IMAGES_TOLD + b",".join(images) + b"]}")
        return State(after), told

    def show(self, part: Image | Audio | File) -> object:
        """See `WireForm`."""
        return _picture(part)

    def check_end(self, state: State) -> None:
        """See `WireForm`."""
        check_end(state.walk)


def _result(name: str, id: str, text: str) -> bytes:
    fields = {"role": "tool", "tool_name": name, "tool_call_id": id, "content": text}
    return msgspec.json.encode(fields)


class _Said:
    """The parts of an assistant message, sorted by what becomes of them."""

    __slots__ = ("calls", "texts", "thoughts")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self.calls: list[ToolCall] = []

    def take(self, message: Message, part: Part) -> None:
        match part:
            case Text(text):
                self.texts.append(text)
            case Thinking(text, None):
                self.thoughts.append(text)
            case ToolCall():
                self.calls.append(part)
            case Image() | Audio() | File():
                self.texts.append(in_words(part))
            case ToolResult():
                raise misplaced(message, part)
            case Thinking() | Opaque() | CachePoint():
                pass


def _assistant(message: Message) -> Encoded:
    said = _Said()
    for part in message.parts:
        said.take(message, part)
    calls = said.calls
    if not calls and not any(said.texts):
        return Encoded("assistant")
    ids = call_ids(message, calls, _CALL_ID)
    fields: dict[str, Any] = {"role": "assistant", "content": "".join(said.texts)}
    if said.thoughts and calls:
        # Models that think want it back while they use tools.
        fields["thinking"] = "".join(said.thoughts)
    names = [wire_name(call.name) for call in calls]
    if calls:
        fields["tool_calls"] = [
            {
                "id": id,
                "function": {
                    "name": name,
                    "arguments": msgspec.Raw(object_text(call.arguments).encode()),
                },
            }
            for id, name, call in zip(ids, names, calls, strict=True)
        ]
    value = encode(fields, what(message))
    return Encoded("assistant", value, tuple(zip(ids, names, strict=True)))


def _tool(message: Message) -> Encoded:
    results: list[tuple[str, str]] = []
    images: list[bytes] = []
    for part in message.parts:
        if not isinstance(part, ToolResult):
            raise misplaced(message, part)
        if not part.call_id:
            raise LocalProtocolError(
                f"{what(message)} holds a result without the id of its call", rule="C06"
            )
        text, pictures = _told([part for part in part.content if not isinstance(part, Opaque)])
        encode(text, what(message))
        images += map(msgspec.json.encode, pictures)
        results.append((_CALL_ID(part.call_id), text or ("(an image)" if pictures else "")))
    if not results:
        raise LocalProtocolError(f"{what(message)} is a tool message without a result", rule="C06")
    return Encoded("tool", results=tuple(results), images=tuple(images))


def _said_to(message: Message) -> Encoded:
    told: list[Text | Image | Audio | File] = []
    for part in message.parts:
        match part:
            case Text():
                told.append(part)
            case Image() | Audio() | File() if message.role == "user":
                told.append(part)
            case CachePoint() | Opaque():
                pass
            case _:
                raise misplaced(message, part)
    text, images = _told(told)
    if not images and not text:
        return Encoded(message.role)
    fields: dict[str, Any] = {"role": message.role, "content": text}
    if images:
        fields["images"] = images
    return Encoded(message.role, encode(fields, what(message)))


def _told(parts: Sequence[Text | Image | Audio | File]) -> tuple[str, list[str]]:
    """All text of `parts`, and the pictures among them; words stand for what is neither."""
    texts: list[str] = []
    pictures: list[str] = []
    for part in parts:
        if isinstance(part, Text):
            texts.append(part.text)
        else:
            shown(part, lambda seen: pictures.append(_picture(seen)), texts.append)
    return "\n\n".join(filter(None, texts)), pictures


def _picture(part: Image | Audio | File) -> str:
    if not isinstance(part, Image):
        raise UnsupportedFeature(
            f"Ollama takes no {type(part).__name__.lower()} parts; send their text"
        )
    if part.data is None:
        raise UnsupportedFeature("Ollama fetches no images; give the image's data, not its address")
    return base64_text(part.data)


def encode_options(request: LLMRequest, provider: str, *, stream: bool) -> bytes:
    """The request's parameters as one JSON object.

    Raises:
        LocalProtocolError: a parameter cannot be written as JSON.
        UnsupportedFeature: the protocol has no such parameter.
    """
    refuse(
        provider,
        server_tools=request.server_tools,
        thinking_tokens=request.thinking_tokens,
        compact_at=request.compact_at,
    )
    refuse_single_calls(request, provider)
    body: dict[str, Any] = {"stream": stream}
    if request.model is not None:
        body["model"] = request.model
    options: dict[str, Any] = {}
    add_numbers(
        options,
        num_predict=request.max_output_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        seed=request.seed,
    )
    if request.stop:
        options["stop"] = list(request.stop)
    if options:
        body["options"] = options
    if request.reasoning_effort is not None:
        effort = request.reasoning_effort
        body["think"] = effort if effort in ("low", "medium", "high") else effort != "none"
    if request.output_schema is not None:
        require_finite(request.output_schema.schema, "the output schema")
        body["format"] = request.output_schema.schema
    if request.tools and request.tool_choice not in ("auto", "none"):
        raise UnsupportedFeature(
            f"{provider} cannot be made to call a tool; leave tool_choice at 'auto', or emulate "
            "tools through a schema (llm_client.emulated_tools)"
        )
    merge_extra(request, body, _RESERVED)
    if options and "options" in request.extra:
        body["options"] = {**options, **as_dict(request.extra["options"])}
    return encode(body, "the request")


def encode_tools(tools: tuple[ToolSpec, ...]) -> bytes:
    """The tools as a JSON array.

    Raises:
        LocalProtocolError: a name that is not allowed, or used twice.
    """
    check_tools(tools, name_rule="C01", twice_rule="C02")
    return encode([_tool_spec(tool) for tool in tools], "the tools")


def _tool_spec(tool: ToolSpec) -> dict[str, Any]:
    parameters = tool.parameters or {"type": "object", "properties": {}}
    function = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {"type": "function", "function": function}
