"""Answers in wire form, protocol by protocol: one whole, and one streamed in pieces.

Chunks hold what their provider always sends, without its padding: what is measured is the reading
of text, not the skipping of what nobody reads.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from benchmarks.scenarios import ANSWER, PIECE

__all__ = ["STREAMS", "WHOLE", "chat_answer"]

Value = dict[str, Any]

_USAGE = {"input_tokens": 100, "output_tokens": 20}


def _packed(value: Value) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _data(value: Value) -> bytes:
    return b"data: " + _packed(value) + b"\n\n"


def _named(value: Value) -> bytes:
    return b"event: " + value["type"].encode() + b"\n" + _data(value)


# ── Chat Completions ──────────────────────────────────────────────────────────────────────────────


def chat_answer(message: Value, finish: str) -> bytes:
    """The body of an answer that holds `message`."""
    return _packed(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1750000000,
            "model": "mock",
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
        }
    )


def _chat() -> bytes:
    return chat_answer({"role": "assistant", "content": ANSWER}, "stop")


def _chat_stream(chunks: int) -> list[bytes]:
    def event(delta: Value, finish: str | None = None) -> bytes:
        return _data(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion.chunk",
                "created": 1750000000,
                "model": "mock",
                "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
            }
        )

    first, last = event({"role": "assistant", "content": ""}), event({}, "stop")
    return [first, *[event({"content": PIECE})] * chunks, last, b"data: [DONE]\n\n"]


# ── Responses ─────────────────────────────────────────────────────────────────────────────────────


def _response(status: str, output: list[Value]) -> Value:
    done = status == "completed"
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1750000000,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "model": "mock",
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": {**_USAGE, "total_tokens": 120} if done else None,
        "metadata": {},
    }


def _said(text: str) -> Value:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _item(status: str, content: list[Value]) -> Value:
    head = {"id": "msg_1", "type": "message", "status": status, "role": "assistant"}
    return {**head, "content": content}


def _responses() -> bytes:
    return _packed(_response("completed", [_item("completed", [_said(ANSWER)])]))


def _responses_stream(chunks: int) -> list[bytes]:
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    text = PIECE * chunks
    whole = _item("completed", [_said(text)])
    added = {"output_index": 0, "item": _item("in_progress", [])}
    begun: list[Value] = [
        {"type": "response.created", "response": _response("in_progress", [])},
        {"type": "response.in_progress", "response": _response("in_progress", [])},
        {"type": "response.output_item.added", **added},
        {"type": "response.content_part.added", **place, "part": _said("")},
    ]
    ended: list[Value] = [
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": _said(text)},
        {"type": "response.output_item.done", "output_index": 0, "item": whole},
        {"type": "response.completed", "response": _response("completed", [whole])},
    ]
    delta: Value = {"type": "response.output_text.delta", **place, "delta": PIECE, "logprobs": []}
    events = [*begun, *[delta] * chunks, *ended]
    return [_named({**event, "sequence_number": number}) for number, event in enumerate(events)]


# ── Messages ──────────────────────────────────────────────────────────────────────────────────────


def _message(content: list[Value], stop: str | None) -> Value:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "mock",
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": _USAGE,
    }


def _messages() -> bytes:
    return _packed(_message([{"type": "text", "text": ANSWER}], "end_turn"))


def _messages_stream(chunks: int) -> list[bytes]:
    block = {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "text", "text": ""},
    }
    piece = {"type": "text_delta", "text": PIECE}
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    return [
        _named({"type": "message_start", "message": _message([], None)}),
        _named(block),
        *[_named({"type": "content_block_delta", "index": 0, "delta": piece})] * chunks,
        _named({"type": "content_block_stop", "index": 0}),
        _named({"type": "message_delta", "delta": end, "usage": {"output_tokens": 20}}),
        _named({"type": "message_stop"}),
    ]


# ── those without an SDK to compare with ──────────────────────────────────────────────────────────


def _gemini_stream(chunks: int) -> list[bytes]:
    def event(text: str, **end: str) -> bytes:
        candidate = {"content": {"parts": [{"text": text}], "role": "model"}, **end, "index": 0}
        counts = {"promptTokenCount": 100, "candidatesTokenCount": 20, "totalTokenCount": 120}
        named = {"modelVersion": "mock", "responseId": "resp"}
        return _data({"candidates": [candidate], "usageMetadata": counts, **named})

    return [*[event(PIECE)] * (chunks - 1), event(PIECE, finishReason="STOP")]


def _cohere_stream(chunks: int) -> list[bytes]:
    def piece(text: str) -> Value:
        return {"delta": {"message": {"content": {"text": text}}}}

    begun: Value = {"message": {"role": "assistant", "content": [], "tool_calls": []}}
    block = {"message": {"content": {"type": "text", "text": ""}}}
    end = {"finish_reason": "COMPLETE", "usage": {"tokens": _USAGE}}
    return [
        _named({"id": "c-1", "type": "message-start", "delta": begun}),
        _named({"type": "content-start", "index": 0, "delta": block}),
        *[_named({"type": "content-delta", "index": 0, **piece(PIECE)})] * chunks,
        _named({"type": "content-end", "index": 0}),
        _named({"type": "message-end", "delta": end}),
        b"data: [DONE]\n\n",
    ]


def _ollama_stream(chunks: int) -> list[bytes]:
    def line(text: str, **end: Any) -> bytes:
        named = {"model": "mock", "created_at": "2026-01-01T00:00:00.000000Z"}
        message = {"role": "assistant", "content": text}
        return _packed({**named, "message": message, "done": False, **end}) + b"\n"

    counts = {"prompt_eval_count": 100, "eval_count": 20}
    return [*[line(PIECE)] * chunks, line("", done=True, done_reason="stop", **counts)]


WHOLE: Mapping[str, Callable[[], bytes]] = MappingProxyType(
    {"chat": _chat, "responses": _responses, "messages": _messages}
)
"""The body of a short answer."""

STREAMS: Mapping[str, Callable[[int], list[bytes]]] = MappingProxyType(
    {
        "chat": _chat_stream,
        "responses": _responses_stream,
        "messages": _messages_stream,
        "gemini": _gemini_stream,
        "cohere": _cohere_stream,
        "ollama": _ollama_stream,
    }
)
"""The events of an answer in so many chunks of text, each in wire form."""
