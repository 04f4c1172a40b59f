"""Bodies of Responses requests to test with."""

from __future__ import annotations

from typing import Any

import msgspec

from llm_client.codecs.openai_responses import OpenAIResponsesCodec, responses_dialect
from llm_client.types import LLMRequest, Message, Opaque, Seal, ToolSpec

ORIGIN = "openai.responses"
CLOSED: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL = ToolSpec("look_up", "Looks something up.", CLOSED)


def body(
    request: LLMRequest, provider: str = "openai", *, store: bool = False, stream: bool = False
) -> dict[str, Any]:
    """The request's body, decoded."""
    dialect = msgspec.structs.replace(responses_dialect(provider), store=store)
    encoded = OpenAIResponsesCodec(dialect).encode(request, stream=stream)
    assert encoded.content_length == len(b"".join(encoded.body))
    return msgspec.json.decode(b"".join(encoded.body), type=dict[str, Any])


def wire(*messages: Message, provider: str = "openai", store: bool = False) -> list[dict[str, Any]]:
    """The messages in wire form."""
    found: list[dict[str, Any]] = body(LLMRequest(messages), provider, store=store)["input"]
    return found


def params(
    request: LLMRequest, provider: str = "compatible", *, store: bool = False, stream: bool = False
) -> dict[str, Any]:
    """The body without its input."""
    found = body(request, provider, store=store, stream=stream)
    del found["input"]
    return found


def ask(**fields: Any) -> LLMRequest:
    """A request of one user message with `fields`."""
    return LLMRequest((Message.user("hi"),), **fields)


def sealed(id: str | None = None, signature: str | None = None, kind: str | None = None) -> Seal:
    """A seal of OpenAI's."""
    return Seal(ORIGIN, signature, id, kind)


def opaque(kind: str, origin: str = ORIGIN, **fields: Any) -> Opaque:
    """An item that is not modelled."""
    return Opaque(origin, kind, msgspec.json.encode({"type": kind, **fields}).decode())
