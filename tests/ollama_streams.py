"""Streams of Ollama's own protocol to test with, built by hand."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["built_streams", "end", "line", "lines"]


def lines(*values: dict[str, Any]) -> bytes:
    """A stream of `values`."""
    return b"".join(msgspec.json.encode(value) + b"\n" for value in values)


def line(content: str = "", **fields: Any) -> dict[str, Any]:
    """A line with a piece of the message."""
    message = {"role": "assistant", "content": content, **fields}
    return {"model": "m-1", "created_at": "2026-08-07", "message": message, "done": False}


def end(reason: str | None = "stop") -> dict[str, Any]:
    """The last line."""
    counts = {"prompt_eval_count": 17, "eval_count": 63, "total_duration": 1}
    reasons = {} if reason is None else {"done_reason": reason}
    return {**line(), "done": True, **reasons, **counts}


def built_streams() -> list[bytes]:
    """Streams that hold every shape once."""
    calls: list[dict[str, Any]] = [
        {"id": "call_a", "function": {"index": 0, "name": "look_up", "arguments": {"a": 2}}},
        {"function": {"index": 0, "name": "look_up", "arguments": {}}},
    ]
    return [
        lines(
            line("", thinking="Hm, "), line("", thinking="so."), line("Héllo "), line("🌍"), end()
        ),
        lines(line("", thinking="I look."), line("", tool_calls=calls), end()),
        lines(line("cut"), {"error": "the runner has stopped"}),
        lines(line("no end")),
    ]
