"""Token counts of a Gemini answer."""

from __future__ import annotations

from msgspec.structs import astuple

from llm_client.codecs._json import as_dict
from llm_client.codecs.gemini._chunks import Counts
from llm_client.types import Usage

__all__ = ["read_counts", "together", "usage_of"]

_LARGEST = 2**53


def read_counts(value: object) -> Counts:
    """The counts in a usage object; what is no count is left out."""
    usage = as_dict(value)
    return Counts(
        _count(usage.get("promptTokenCount")),
        _count(usage.get("candidatesTokenCount")),
        _count(usage.get("thoughtsTokenCount")),
        _count(usage.get("toolUsePromptTokenCount")),
        _count(usage.get("cachedContentTokenCount")),
    )


def together(earlier: Counts, later: Counts) -> Counts:
    """What is known after both: a count that a later chunk leaves out still holds."""
    return Counts(
        *(
            before if after is None else after
            for before, after in zip(astuple(earlier), astuple(later), strict=True)
        )
    )


def usage_of(counts: Counts) -> Usage | None:
    """The counts in our terms, None if there are none: output includes reasoning, input what tools
    read."""
    thought = _sound(counts.thoughts_token_count)
    read = _sound(counts.tool_use_prompt_token_count)
    found = Usage(
        _sum(_sound(counts.prompt_token_count), read),
        _sum(_sound(counts.candidates_token_count), thought),
        _sound(counts.cached_content_token_count),
        None,
        thought,
    )
    return None if found == Usage() else found


def _count(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _sound(count: int | None) -> int | None:
    return count if count is not None and 0 <= count < _LARGEST else None


def _sum(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else a + b
