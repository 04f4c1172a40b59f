"""Compares what a replay says with what the vendor's own SDK made of the same exchange."""

from __future__ import annotations

from typing import Any

from llm_client.codecs._json import as_dict, as_list
from llm_client.types import Image, LLMResponse, Opaque, Text, Thinking, ToolCall

CUSTOM_CALL = "the SDK does not count a custom_tool_call among the calls"
DIFFERENT = {
    "a3db3ff3d2c329b1": CUSTOM_CALL,
    "0039028e26069968": CUSTOM_CALL,
}
"""Where we mean to differ in the calls, and why: the caller must answer these too."""

EMPTY_MESSAGE = "a message without a word beside a picture: there is nothing to keep"
EMPTY = {
    "9bc9ac672f446c36": EMPTY_MESSAGE,
    "0a3ab68358ac66f6": EMPTY_MESSAGE,
    "ad28e8c372a212f9": EMPTY_MESSAGE,
    "d5cd1d453b624c30": EMPTY_MESSAGE,
    "6a0ffceb514c150b": EMPTY_MESSAGE,
}
"""Where we keep an item fewer than the SDK, and why."""


def agreement(expected: dict[str, Any], found: dict[str, Any]) -> dict[str, bool]:
    """In what the two agree."""
    return {
        "text": expected["text"] == (found["text"] or ""),
        "calls": _calls(expected) == _calls(found),
        "finish": expected["finish"] == found["raw_finish"],
        "usage": _same_usage(as_dict(expected["usage"]), as_dict(found["usage"])),
    }


def _calls(row: dict[str, Any]) -> list[tuple[object, ...]]:
    return [(call["id"], call["name"], call["args"]) for call in as_list(row["tool_calls"])]


def _same_usage(expected: dict[str, Any], found: dict[str, Any]) -> bool:
    """True if every count that the SDK read is the one that we read."""
    pairs = [
        (expected.get("input_tokens"), "input_tokens"),
        (expected.get("output_tokens"), "output_tokens"),
        (as_dict(expected.get("input_tokens_details")).get("cached_tokens"), "cached_tokens"),
        (
            as_dict(expected.get("output_tokens_details")).get("reasoning_tokens"),
            "reasoning_tokens",
        ),
    ]
    return all(count is None or found.get(name) == count for count, name in pairs)


def thinking_of(items: list[Any]) -> list[tuple[str, str | None, str | None]]:
    """The reasoning in the items of an answer: text, id and encrypted content of each."""
    found: list[tuple[str, str | None, str | None]] = []
    for item in map(as_dict, items):
        if item.get("type") == "reasoning":
            parts = [*as_list(item.get("content")), *as_list(item.get("summary"))]
            text = "\n\n".join(as_dict(part)["text"] for part in parts)
            found.append((text, item.get("id"), item.get("encrypted_content")))
    return found


def thinking_in(response: LLMResponse) -> list[tuple[str, str | None, str | None]]:
    """The same in what we made of it."""
    thoughts = [part for part in response.parts if isinstance(part, Thinking)]
    return [
        (part.text, part.seal and part.seal.id, part.seal and part.seal.signature)
        for part in thoughts
    ]


def kinds_in(response: LLMResponse) -> list[str]:
    """The types of the items that the parts were; blocks of one message are one."""
    found: list[tuple[str, object]] = []
    for part in response.parts:
        match part:
            case Text():
                one: tuple[str, object] = ("message", part.seal and part.seal.id)
            case Thinking():
                one = ("reasoning", part.seal and part.seal.id)
            case ToolCall():
                custom = part.seal is not None and part.seal.kind == "custom_tool_call"
                one = ("custom_tool_call" if custom else "function_call", part.id)
            case Opaque():
                one = (part.kind, part.json)
            case Image():
                continue
            case _:
                raise AssertionError(f"no answer holds a {type(part).__name__}")
        if not found or one != found[-1]:
            found.append(one)
    return [kind for kind, _ in found]
