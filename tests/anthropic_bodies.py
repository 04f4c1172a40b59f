"""Bodies of Messages requests to test with."""

from __future__ import annotations

from typing import Any

import msgspec

from llm_client.codecs.anthropic import AnthropicCodec, anthropic_dialect
from llm_client.types import LLMRequest, Message, ToolCall, ToolSpec

OLD = "claude-sonnet-4-5"
"""A model that thinks within a budget and takes temperatures."""
NEW = "claude-opus-4-8"
"""One that adapts its thinking and takes system messages in mid-transcript."""

CLOSED: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL = ToolSpec("look_up", "Looks something up.", CLOSED)


def body(
    request: LLMRequest, provider: str = "anthropic", *, stream: bool = False
) -> dict[str, Any]:
    """The request's body, decoded."""
    encoded = AnthropicCodec(anthropic_dialect(provider)).encode(request, stream=stream)
    assert encoded.content_length == len(b"".join(encoded.body))
    return msgspec.json.decode(b"".join(encoded.body), type=dict[str, Any])


def wire(*messages: Message, provider: str = "anthropic", model: str = OLD) -> list[dict[str, Any]]:
    """The messages in wire form."""
    found: list[dict[str, Any]] = body(LLMRequest(messages, model=model), provider)["messages"]
    return found


def blocks(*messages: Message, provider: str = "anthropic") -> list[dict[str, Any]]:
    """The blocks of the first message in wire form."""
    found: list[dict[str, Any]] = wire(*messages, provider=provider)[0]["content"]
    return found


def params(
    request: LLMRequest, provider: str = "anthropic", *, stream: bool = False
) -> dict[str, Any]:
    """The body without its messages."""
    found = body(request, provider, stream=stream)
    del found["messages"]
    return found


def ask(model: str | None = OLD, **fields: Any) -> LLMRequest:
    """A request of one user message with `fields`."""
    return LLMRequest((Message.user("hi"),), model=model, **fields)


def called(*calls: ToolCall) -> Message:
    """An assistant message that makes `calls`."""
    return Message.assistant("", *calls)
