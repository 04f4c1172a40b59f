"""Why a Chat Completions answer ended, from the many words for it."""

from __future__ import annotations

from llm_client.errors import LLMError, Overloaded, ServerError
from llm_client.types import StopReason

__all__ = ["failure_of", "stop_reason"]

_STOPS = {
    "stop": StopReason.END,
    "eos": StopReason.END,  # Together
    "end_turn": StopReason.END,  # proxies in front of Anthropic
    "": StopReason.END,  # Snowflake says nothing
    "tool_calls": StopReason.TOOL_CALLS,
    "function_call": StopReason.TOOL_CALLS,
    "tool_use": StopReason.TOOL_CALLS,
    "length": StopReason.LENGTH,
    "max_tokens": StopReason.LENGTH,
    "model_length": StopReason.LENGTH,  # Mistral
    "model_context_window_exceeded": StopReason.LENGTH,  # z.ai
    "stop_sequence": StopReason.STOP_SEQUENCE,
    "content_filter": StopReason.CONTENT_FILTER,
    "sensitive": StopReason.CONTENT_FILTER,  # z.ai
    "refusal": StopReason.REFUSAL,
}

_FAILURES: dict[str, tuple[type[LLMError], str]] = {
    "error": (ServerError, "the provider failed while answering"),
    "abort": (ServerError, "the provider broke the answer off"),
    "network_error": (ServerError, "the provider lost the model while answering"),
    "insufficient_system_resource": (
        Overloaded,
        "the provider ran out of capacity while answering",
    ),
}


def stop_reason(raw: str | None, *, calls: bool, refused: bool, stop_text: bool) -> StopReason:
    """The reason in our terms.

    `calls` means that the answer holds tool calls: without any, "tool_calls" is a plain end, and
    with some, "stop" is a wish for tools (Gemini, Ollama and named tool choices say so).
    `stop_text` means that the provider named the stop sequence it met.
    """
    reason = _STOPS.get(raw or "", StopReason.OTHER)
    if reason in (StopReason.END, StopReason.TOOL_CALLS):
        if calls:
            return StopReason.TOOL_CALLS
        if refused:
            return StopReason.REFUSAL
        return StopReason.STOP_SEQUENCE if stop_text else StopReason.END
    return reason


def failure_of(raw: str, provider: str) -> LLMError | None:
    """The error that a finish reason stands for, None if it is an ending."""
    failure = _FAILURES.get(raw)
    if failure is None:
        return None
    kind, what = failure
    return kind(f"{provider}: {what}; try again", code=raw, provider=provider)
