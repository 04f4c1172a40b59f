"""Bodies of Chat Completions requests to test with."""

from __future__ import annotations

from typing import Any

import msgspec

from llm_client.codecs.openai_chat import OpenAIChatCodec, chat_dialect
from llm_client.types import (
    LLMRequest,
    Message,
    ToolCall,
    ToolSpec,
)

CLOSED: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL = ToolSpec("look_up", "Looks something up.", CLOSED)


def body(
    request: LLMRequest, provider: str = "compatible", *, stream: bool = False
) -> dict[str, Any]:
    """The request's body, decoded."""
    encoded = OpenAIChatCodec(chat_dialect(provider)).encode(request, stream=stream)
    assert encoded.content_length == len(b"".join(encoded.body))
    return msgspec.json.decode(b"".join(encoded.body), type=dict[str, Any])


def wire(
    *messages: Message, provider: str = "compatible", system: str | None = None
) -> list[dict[str, Any]]:
    """The messages in wire form."""
    found: list[dict[str, Any]] = body(LLMRequest(messages, system), provider)["messages"]
    return found


def params(
    request: LLMRequest, provider: str = "compatible", *, stream: bool = False
) -> dict[str, Any]:
    """The body without its messages."""
    found = body(request, provider, stream=stream)
    del found["messages"]
    return found


def ask(**fields: Any) -> LLMRequest:
    """A request of one user message with `fields`."""
    return LLMRequest((Message.user("hi"),), **fields)


def called(*calls: ToolCall) -> Message:
    """An assistant message that makes `calls`."""
    return Message.assistant("", *calls)
