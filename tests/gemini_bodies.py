"""Bodies of Gemini requests to test with."""

from __future__ import annotations

from typing import Any

import msgspec

from llm_client.codecs.gemini import GeminiCodec, gemini_dialect
from llm_client.types import LLMRequest, Message, Seal, ToolCall, ToolSpec

OLD, NEW = "gemini-2.5-flash", "gemini-3-flash-preview"

CITY: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
TOOL = ToolSpec("look_up", "Looks something up.", CITY)


def body(request: LLMRequest, provider: str = "gemini", *, model: str = NEW) -> dict[str, Any]:
    """The request's body, decoded."""
    if request.model is None:
        request = msgspec.structs.replace(request, model=model)
    encoded = GeminiCodec(gemini_dialect(provider)).encode(request, stream=False)
    assert encoded.content_length == len(b"".join(encoded.body))
    return msgspec.json.decode(b"".join(encoded.body), type=dict[str, Any])


def wire(*messages: Message, model: str = NEW) -> list[dict[str, Any]]:
    """The contents that messages become."""
    found: list[dict[str, Any]] = body(LLMRequest(messages), model=model)["contents"]
    return found


def params(request: LLMRequest, provider: str = "gemini", *, model: str = NEW) -> dict[str, Any]:
    """The body without its contents."""
    found = body(request, provider, model=model)
    del found["contents"]
    return found


def ask(**fields: Any) -> LLMRequest:
    """A request of one user message with `fields`."""
    return LLMRequest((Message.user("hi"),), **fields)


def own(id: str, name: str = "look_up", arguments: str = "{}", signature: str = "c2ln") -> ToolCall:
    """A call that Gemini made, signed."""
    return ToolCall(id, name, arguments, Seal("gemini", signature))


def called(*calls: ToolCall) -> Message:
    """An assistant message that makes `calls`."""
    return Message.assistant("", *calls)
