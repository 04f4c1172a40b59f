"""Recorded turns in our own types: what was asked, and the history after it was answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Struct, structs

from llm_client.codec import Codec
from llm_client.codecs._json import is_object
from llm_client.errors import LLMError
from llm_client.protocols import codec_for
from llm_client.replay import Exchange
from llm_client.stream import Accumulator
from llm_client.types import LLMRequest, LLMResponse, Message, Part, Text, ToolResult
from tests import (
    anthropic_requests,
    chat_requests,
    cohere_requests,
    gemini_requests,
    ollama_requests,
    responses_requests,
)
from tests.corpus import need_corpus, read_jsonl

__all__ = ["PROTOCOLS", "Turn", "recorded_turns"]

Row = dict[str, Any]


class Turn(Struct, frozen=True):
    """One recorded exchange. `body` is the request as it was sent."""

    id: str
    body: Row
    request: LLMRequest
    codec: Codec
    answer: LLMResponse | None

    @property
    def history(self) -> tuple[Message, ...]:
        """The transcript after the answer: its calls answered, and another question."""
        messages = _joined(self.request.messages)
        if self.answer is not None and self.answer.parts:
            messages.append(Message("assistant", self.answer.parts))
            messages += [
                Message("tool", (ToolResult(call.id, (Text("done"),)),))
                for call in self.answer.tool_calls
            ]
        return (*messages, Message.user("And now?"))


def _joined(messages: Iterator[Message] | Any) -> list[Message]:
    """`messages` with what one answer said in one message, as an application keeps it."""
    joined: list[Message] = []
    for message in messages:
        last = joined[-1] if joined else None
        if last is not None and last.role == message.role == "assistant":
            parts: tuple[Part, ...] = (*last.parts, *message.parts)
            joined[-1] = structs.replace(last, parts=parts)
        else:
            joined.append(message)
    return joined


def _responses(row: Row) -> LLMRequest:
    return responses_requests.read_request(row["request_body"], responses_requests.origin_of(row))


def _gemini(row: Row) -> LLMRequest:
    return gemini_requests.read_request(row["request_body"], row.get("model") or "")


PROTOCOLS: Mapping[str, Callable[[Row], LLMRequest]] = MappingProxyType(
    {
        "openai_chat": lambda row: chat_requests.read_request(row["request_body"]),
        "openai_responses": _responses,
        "anthropic_messages": lambda row: anthropic_requests.read_request(row["request_body"]),
        "gemini": _gemini,
        "cohere_chat": lambda row: cohere_requests.read_request(row["request_body"]),
        "ollama_native": lambda row: ollama_requests.read_request(row["request_body"]),
    }
)
"""Reads the request of a recorded row."""

_UNKNOWN = (chat_requests.UnknownShape, responses_requests.UnknownShape)


def recorded_turns(protocol: str) -> Iterator[Turn]:
    """The accepted turns of a protocol that our types can say; skips the test where none is."""
    read = PROTOCOLS[protocol]
    for row in read_jsonl(need_corpus(f"dev.{protocol}.jsonl")):
        if row["status"] != 200 or not is_object(row["request_body"]):
            continue
        try:
            request = read(row)
        except _UNKNOWN:
            continue
        codec = codec_for(protocol, row["provider"] or protocol)
        yield Turn(row["id"], row["request_body"], request, codec, _answer(codec, row))


def _answer(codec: Codec, row: Row) -> LLMResponse | None:
    exchange = msgspec.convert(row, Exchange, strict=False)
    try:
        if exchange.raw_sse is None:
            return codec.decode(200, exchange.response_headers, exchange.body())
        decoder, fold = codec.decoder(), Accumulator()
        for event in (*decoder.feed(exchange.body()), *decoder.close()):
            fold.add(event)
        return fold.response()
    except LLMError:
        return None
