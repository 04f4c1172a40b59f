"""Compares what a replay says with what the vendor's own SDK made of the same Messages exchange.

They agree in everything but what a summary of the prompt has cost: it is paid for like the rest,
but the SDK leaves it out of its totals.
"""

from __future__ import annotations

from typing import Any

import msgspec

from llm_client.codecs._json import as_dict, as_list

SUMMARIES = {
    "8cc364d8b8a42254": (55_196, 125),
    "72b375c139296239": (99_195, 81),
    "46b2e586fa557f52": (60_385, 522),
    "30e2a6117b5cd978": (60_385, 592),
}
"""The exchanges in which the provider made a summary: tokens that it read and wrote for that."""


def agreement(expected: dict[str, Any], found: dict[str, Any]) -> dict[str, bool]:
    """In what the two agree."""
    thinking = [length for _, length, _ in as_list(expected["thinking"])]
    return {
        "text": (expected["text"] or "") == (found["text"] or ""),
        "calls": _calls(expected) == _calls(found),
        "finish": expected["finish"] == found["raw_finish"],
        "thinking": thinking == [len(text) for text in as_list(found["thinking"])],
        "usage": _same_usage(
            as_dict(expected["usage"]),
            as_dict(found["usage"]),
            SUMMARIES.get(expected["id"], (0, 0)),
        ),
    }


def _calls(row: dict[str, Any]) -> list[tuple[object, ...]]:
    return [(call["id"], call["name"], _object(call["args"])) for call in row["tool_calls"]]


def _object(arguments: object) -> object:
    return msgspec.json.decode(arguments) if isinstance(arguments, str) else arguments


def _same_usage(expected: dict[str, Any], found: dict[str, Any], summary: tuple[int, int]) -> bool:
    """True if every count that the SDK read is the one that we read. The wire counts what was read
    from the cache or written to it beside the input, we count it in."""
    read, written = (
        expected.get(f"cache_{name}_input_tokens") or 0 for name in ("read", "creation")
    )
    return (
        found.get("input_tokens") == expected.get("input_tokens", 0) + read + written + summary[0]
        and found.get("output_tokens") == expected.get("output_tokens", 0) + summary[1]
        and (found.get("cached_tokens") or 0) == read
    )
