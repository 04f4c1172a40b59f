"""Why a Gemini answer ended, from the many words for it."""

from __future__ import annotations

from llm_client.errors import (
    BadRequest,
    LLMError,
    MalformedResponse,
    ServerError,
    ToolUseFailed,
    excerpt,
)
from llm_client.types import StopReason

__all__ = ["UNEXPECTED_CALL", "failure_of", "read_finish", "stop_reason", "tool_use_failed"]

UNEXPECTED_CALL = "UNEXPECTED_TOOL_CALL"
"""The model called a function that was not offered. The call itself is whole, and the provider
takes it back with an error as its result, so it is an answer like any other with a call in it."""

_UNSAID = ("", "FINISH_REASON_UNSPECIFIED", "0")

# The Gemini API and Vertex number the reasons from 6 on differently.
_NUMBERS = {"1": "STOP", "2": "MAX_TOKENS", "3": "SAFETY", "4": "RECITATION", "5": "OTHER"}

_STOPS = {
    "STOP": StopReason.END,
    UNEXPECTED_CALL: StopReason.END,
    "MAX_TOKENS": StopReason.LENGTH,
    "SAFETY": StopReason.CONTENT_FILTER,
    "RECITATION": StopReason.CONTENT_FILTER,
    "BLOCKLIST": StopReason.CONTENT_FILTER,
    "PROHIBITED_CONTENT": StopReason.CONTENT_FILTER,
    "SPII": StopReason.CONTENT_FILTER,
    "MODEL_ARMOR": StopReason.CONTENT_FILTER,
    "IMAGE_SAFETY": StopReason.CONTENT_FILTER,
    "IMAGE_PROHIBITED_CONTENT": StopReason.CONTENT_FILTER,
    "IMAGE_RECITATION": StopReason.CONTENT_FILTER,
}


def read_finish(value: object) -> str | None:
    """The provider's word for the end, None while there is none.

    Raises:
        MalformedResponse: it is neither a word nor a number.
    """
    if value is None:
        return None
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise MalformedResponse("the finish reason of the answer is no word; ask again")
    word = str(value)
    return None if word in _UNSAID else word


def stop_reason(raw: str | None, *, calls: bool) -> StopReason:
    """The reason in our terms. `calls` means that the answer holds calls of functions: then a
    plain end is a wish to have them run."""
    raw = "STOP" if raw is None else _NUMBERS.get(raw, raw)
    reason = _STOPS.get(raw, StopReason.OTHER)
    return StopReason.TOOL_CALLS if calls and reason is StopReason.END else reason


def failure_of(raw: str, said: str, provider: str) -> LLMError | None:
    """The error that a finish reason stands for, None if it is an ending."""
    match raw:
        case "MALFORMED_FUNCTION_CALL" | "TOO_MANY_TOOL_CALLS":
            return tool_use_failed(raw, said, provider)
        case "MALFORMED_RESPONSE":
            return ServerError(
                f"{provider}: the model wrote what cannot be read; ask again",
                code=raw,
                provider=provider,
            )
        case "MISSING_THOUGHT_SIGNATURE":
            return BadRequest(
                f"{provider}: the transcript lacks a signature that the model had given; send its "
                "messages back unchanged",
                code=raw,
                provider=provider,
            )
        case _:
            return None


def tool_use_failed(raw: str, said: str, provider: str) -> ToolUseFailed:
    """The error for a call that the provider found invalid; another try may well be valid."""
    told = f" It says: {excerpt(said)}" if said else ""
    error = ToolUseFailed(
        f"{provider}: the model wrote a function call that the provider found invalid; ask again, "
        f"or simplify the tool's schema.{told}",
        retryable=True,
        code=raw,
        provider=provider,
    )
    error.failed_generation = said or None
    return error
