"""Token counts under all the names that providers give them."""

from __future__ import annotations

from typing import Any

from llm_client.codecs._json import as_dict
from llm_client.types import Usage

__all__ = ["read_usage"]

_INPUT = ("prompt_tokens", "input_tokens", "promptTokens", "inputTokens", "promptTokenCount")
_OUTPUT = (
    "completion_tokens",
    "output_tokens",
    "completionTokens",
    "outputTokens",
    "candidatesTokenCount",
)
_TOTAL = ("total_tokens", "totalTokens", "totalTokenCount")
_INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details", "promptTokensDetails")
_OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details", "completionTokensDetails")
_CACHED = ("cached_tokens", "cachedTokens")
_CACHED_TOP = (
    "prompt_cache_hit_tokens",
    "cached_tokens",
    "num_cached_tokens",
    "cache_read_input_tokens",
    "cachedContentTokenCount",
    "cachedInputTokens",
)
_WRITTEN = ("cache_write_tokens", "cache_creation_tokens", "cache_creation_input_tokens")
_REASONING = ("reasoning_tokens", "reasoningTokens", "thoughtsTokenCount", "thinking_tokens")
_LARGEST = 2**53


def read_usage(raw: object, *, trust_total: bool = True) -> Usage | None:
    """The counts in a provider's usage object, None if there is none worth the name.

    Some providers (xAI) count reasoning beside the output instead of inside it. With `trust_total`
    such reasoning is added to the output when the provider's own total shows that it was left out.
    """
    usage = as_dict(raw)
    if not usage:
        return None
    asked = _first(usage, _INPUT)
    given = _first(usage, _OUTPUT)
    total = _first(usage, _TOTAL)
    about_input = _details(usage, _INPUT_DETAILS)
    about_output = _details(usage, _OUTPUT_DETAILS)
    reasoning = _either(_first(about_output, _REASONING), _first(usage, _REASONING))
    if total is not None:
        if asked is None and given is not None and total >= given:
            asked = total - given
        elif given is None and asked is not None and total >= asked:
            given = total - asked
    if trust_total and reasoning and asked is not None and given is not None:
        left_out = total == asked + given + reasoning
        given += reasoning if left_out else 0
    found = Usage(
        asked,
        given,
        _either(_first(about_input, _CACHED), _first(usage, _CACHED_TOP)),
        _either(_first(about_input, _WRITTEN), _first(usage, _WRITTEN)),
        reasoning,
        _sum(_first(about_input, _AUDIO), _first(about_output, _AUDIO)),
    )
    return None if found == Usage() else found


_AUDIO = ("audio_tokens", "audioTokens")


def _details(usage: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    for name in names:
        details = as_dict(usage.get(name))
        if details:
            return details
    return {}


def _first(source: dict[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        value = source.get(name)
        if value is not None:
            count = _count(value)
            if count is not None:
                return count
    return None


def _count(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST:
        return value
    return None


def _either(a: int | None, b: int | None) -> int | None:
    return b if a is None else a


def _sum(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else a + b
