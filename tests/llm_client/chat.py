"""Chat Completions answers for scripted servers, and services that ask them."""

from __future__ import annotations

from typing import Any

import msgspec

from llm_client.codecs.openai_chat import OpenAIChatCodec
from llm_client.http_service import HttpLLMService, RequestDefaults
from llm_client.transport.base import Transport
from llm_client.transport.deadlines import Deadlines
from llm_client.types import LLMRequest, Message
from tests.llm_client.transports import CANARY
from tests.loopback import LoopbackServer

HELLO = LLMRequest([Message.user("hello")])


def frame(value: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def delta(text: str | None = None, finish: str | None = None) -> bytes:
    """One chunk of a streamed answer."""
    content = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": content, "finish_reason": finish}
    return frame({"id": "c1", "model": "m-1", "choices": [choice]})


DONE = b"data: [DONE]\n\n"
HELLO_WORLD = (delta("Hel"), delta("lo"), delta(" world"), delta(finish="stop"), DONE)


def whole(text: str, **more: Any) -> bytes:
    """A whole answer."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop",
    }
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return msgspec.json.encode({"id": "c1", "choices": [choice], "usage": usage, **more})


def service_at(
    server: LoopbackServer,
    transport: Transport,
    *,
    deadlines: Deadlines | None = None,
    defaults: RequestDefaults | None = None,
    key: str = CANARY,
) -> HttpLLMService:
    """A service of `server`, with the canary as its key."""
    return HttpLLMService(
        OpenAIChatCodec(),
        transport,
        base_url=f"{server.url}/v1",
        model="m-1",
        headers={"authorization": f"Bearer {key}"},
        deadlines=deadlines,
        defaults=defaults,
        provider="loopback",
    )
