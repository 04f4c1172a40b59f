"""Compares what a replay says with what the vendor's own SDK made of the same exchange."""

from __future__ import annotations

from typing import Any

from llm_client.codecs._json import as_dict, as_list, is_array

LEGACY_CALL = "the SDK leaves a legacy function_call out of the calls"
DIFFERENT = {
    "433f572b92200450": LEGACY_CALL,
    "abdfc16c6360a8f2": LEGACY_CALL,
    "9b522ddd81df47f4": LEGACY_CALL,
    "3e6d8fee9bfdbfc2": "the SDK joins id and name that the server repeats: '00', 'ff'",
    "c0bf6552c7b12361": "no arguments at all: None there, an empty object here",
}
"""Where we mean to differ in the calls, and why."""

NO_ANSWERS = {
    "0fb854fbcf068602": "the stream ends in an error that the SDK does not see",
    "3ef8a735d995791a": "an error in a body of status 200, which the SDK takes for an answer",
}


def text_of(expected: object) -> str:
    """The text of an expected answer; blocks of other kinds are no text."""
    if is_array(expected):
        return "".join(block["text"] for block in expected if block["type"] == "text")
    return str(expected or "")


def agreement(expected: dict[str, Any], found: dict[str, Any]) -> dict[str, bool]:
    """In what the two agree."""
    return {
        "text": text_of(expected["text"]) == (found["text"] or ""),
        "calls": _calls(expected) == _calls(found),
        "finish": expected["finish"] == found["raw_finish"],
        "refusal": (expected["refusal"] or "") == (found["refusal"] or ""),
        "usage": _same_usage(as_dict(expected["usage"]), as_dict(found["usage"])),
    }


def _calls(row: dict[str, Any]) -> list[tuple[object, ...]]:
    return [(call["id"], call["name"], call["args"]) for call in as_list(row["tool_calls"])]


def _same_usage(expected: dict[str, Any], found: dict[str, Any]) -> bool:
    """True if every count that the SDK read is the one that we read."""
    details = as_dict(expected.get("prompt_tokens_details"))
    details = details | as_dict(expected.get("completion_tokens_details"))
    pairs = [
        (expected.get("prompt_tokens"), "input_tokens"),
        (expected.get("completion_tokens"), "output_tokens"),
        (details.get("cached_tokens"), "cached_tokens"),
        (details.get("reasoning_tokens"), "reasoning_tokens"),
    ]
    return all(count is None or found.get(name) == count for count, name in pairs)
