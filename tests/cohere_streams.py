"""Cohere chat streams to test with, built by hand."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["built_streams", "call_start", "content", "end", "frames", "more_arguments", "plan"]


def frames(*events: dict[str, Any], done: bool = True) -> bytes:
    """A stream of `events`."""
    texts = [
        f"event: {event['type']}\ndata: {msgspec.json.encode(event).decode()}\n\n"
        for event in events
    ]
    return "".join(texts + (["data: [DONE]\n\n"] if done else [])).encode()


def content(index: int, **fields: str) -> dict[str, Any]:
    """More text or thinking of one block."""
    delta = {"message": {"content": fields}}
    return {"type": "content-delta", "index": index, "delta": delta}


def plan(text: str) -> dict[str, Any]:
    """More of the plan."""
    return {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": text}}}


def call_start(index: int, id: str, name: str) -> dict[str, Any]:
    """A call begins."""
    call = {"id": id, "type": "function", "function": {"name": name, "arguments": ""}}
    delta = {"message": {"tool_calls": call}}
    return {"type": "tool-call-start", "index": index, "delta": delta}


def more_arguments(index: int, text: str) -> dict[str, Any]:
    """More arguments of a call."""
    delta = {"message": {"tool_calls": {"function": {"arguments": text}}}}
    return {"type": "tool-call-delta", "index": index, "delta": delta}


def end(reason: str, **more: Any) -> dict[str, Any]:
    """The model's own end."""
    usage = {
        "billed_units": {"input_tokens": 3, "output_tokens": 4},
        "tokens": {"input_tokens": 65, "output_tokens": 28},
        "cached_tokens": 16,
    }
    return {"type": "message-end", "delta": {"finish_reason": reason, "usage": usage, **more}}


def built_streams() -> list[bytes]:
    """Streams that hold every shape once."""
    start: dict[str, Any] = {
        "id": "c-1",
        "type": "message-start",
        "delta": {"message": {"role": "assistant", "content": [], "tool_calls": []}},
    }
    opened = {
        "type": "content-start",
        "index": 0,
        "delta": {"message": {"content": {"type": "thinking", "thinking": ""}}},
    }
    cited = {
        "start": 0,
        "end": 5,
        "text": "Héllo",
        "sources": [{"type": "document", "document": {"title": "facts", "url": "https://e.org"}}],
    }
    citation = {"type": "citation-start", "index": 0, "delta": {"message": {"citations": cited}}}
    return [
        frames(
            start,
            opened,
            content(0, thinking="Let me "),
            content(0, thinking="see."),
            {"type": "content-end", "index": 0},
            content(1, text="Héllo "),
            content(1, text="wörld \u2028🌍"),
            citation,
            {"type": "citation-end", "index": 0},
            end("COMPLETE"),
        ),
        frames(
            start,
            plan("I will "),
            plan("look."),
            call_start(0, "look_1", "look_up"),
            more_arguments(0, '{"city":'),
            more_arguments(0, ' "Paris"}'),
            {"type": "tool-call-end", "index": 0},
            call_start(1, "look_2", "look_up"),
            {"type": "tool-call-end", "index": 1},
            end("TOOL_CALL"),
        ),
        frames(start, content(0, text="cut"), end("ERROR", error="the engine failed")),
        frames(start, content(0, text="no end"), done=False),
    ]
