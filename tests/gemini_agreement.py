"""Compares what a replay says with a plain reading of the same Gemini exchange."""

from __future__ import annotations

from typing import Any

import msgspec

from llm_client.codecs._json import as_dict, as_list

PIECES = (
    "a plain reading takes each piece of a streamed call for a call; here its arguments are put "
    "together"
)
DIFFERENT = {"bf69e2884eb671bf": PIECES, "feae0e1505e11178": PIECES}
"""Where we mean to differ in the calls, and why."""

NO_ANSWERS = {
    "219c46af8e3ad079": (
        "the prompt was blocked: an empty text to a plain reading, here a ContentFiltered"
    ),
}
"""What is taken for an answer there, and is an error here."""


def agreement(expected: dict[str, Any], found: dict[str, Any]) -> dict[str, bool]:
    """In what the two agree."""
    return {
        "text": (expected["text"] or "") == (found["text"] or ""),
        "calls": _calls(expected) == _calls(found),
        "finish": str(expected["finish"]) == str(found["raw_finish"]),
        "usage": _same_usage(as_dict(expected["usage"]), as_dict(found["usage"])),
    }


def _calls(row: dict[str, Any]) -> list[tuple[object, ...]]:
    """Name and arguments; where Gemini gives an id, that too is in the name of neither row."""
    return [(call["name"], _object(call["args"])) for call in as_list(row["tool_calls"])]


def _object(arguments: object) -> object:
    return msgspec.json.decode(arguments) if isinstance(arguments, str) else arguments


def _same_usage(expected: dict[str, Any], found: dict[str, Any]) -> bool:
    """True if every count is the one that the wire gives: reasoning, which it counts beside the
    output, in it, and what tools read in the input."""
    return (
        found.get("input_tokens") == _sum(expected, "promptTokenCount", "toolUsePromptTokenCount")
        and found.get("output_tokens")
        == _sum(expected, "candidatesTokenCount", "thoughtsTokenCount")
        and found.get("cached_tokens") == expected.get("cachedContentTokenCount")
        and found.get("reasoning_tokens") == expected.get("thoughtsTokenCount")
    )


def _sum(counts: dict[str, Any], *names: str) -> int | None:
    known = [counts[name] for name in names if name in counts]
    return sum(known) if known else None
