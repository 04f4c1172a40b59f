"""A conversation of any length: in each turn a question, a call, its result, an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from benchmarks.scenarios import ANSWER
from llm_client.parts import ToolCall
from llm_client.types import Message

__all__ = ["MESSAGES", "PLAIN", "ours"]

Value = dict[str, Any]

MESSAGES = 4
"""Messages of a turn."""

_LOOK = "Let me look."
_FOUND = "Rome: 21 degrees and sunny, with a light wind from the sea."


def _asked(day: int) -> str:
    return f"What is the weather in Rome on day {day}?"


def ours(day: int) -> list[Message]:
    """A turn in our types."""
    call = ToolCall(f"call_{day}", "weather", f'{{"city":"Rome","day":{day}}}')
    return [
        Message.user(_asked(day)),
        Message.assistant(_LOOK, call),
        Message.tool(call.id, _FOUND),
        Message.assistant(ANSWER),
    ]


def _chat(day: int) -> list[Value]:
    function = {"name": "weather", "arguments": f'{{"city":"Rome","day":{day}}}'}
    call = {"id": f"call_{day}", "type": "function", "function": function}
    return [
        {"role": "user", "content": _asked(day)},
        {"role": "assistant", "content": _LOOK, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"call_{day}", "content": _FOUND},
        {"role": "assistant", "content": ANSWER},
    ]


def _responses(day: int) -> list[Value]:
    arguments = f'{{"city":"Rome","day":{day}}}'
    call = {"call_id": f"call_{day}", "name": "weather", "arguments": arguments}
    return [
        {"role": "user", "content": _asked(day)},
        {"role": "assistant", "content": _LOOK},
        {"type": "function_call", **call},
        {"type": "function_call_output", "call_id": f"call_{day}", "output": _FOUND},
        {"role": "assistant", "content": ANSWER},
    ]


def _messages(day: int) -> list[Value]:
    call = {"type": "tool_use", "id": f"call_{day}", "name": "weather"}
    used = {**call, "input": {"city": "Rome", "day": day}}
    result = {"type": "tool_result", "tool_use_id": f"call_{day}", "content": _FOUND}
    return [
        {"role": "user", "content": _asked(day)},
        {"role": "assistant", "content": [{"type": "text", "text": _LOOK}, used]},
        {"role": "user", "content": [result]},
        {"role": "assistant", "content": [{"type": "text", "text": ANSWER}]},
    ]


PLAIN: Mapping[str, Callable[[int], list[Value]]] = MappingProxyType(
    {"chat": _chat, "responses": _responses, "messages": _messages}
)
"""The same turn as the SDKs take it."""
