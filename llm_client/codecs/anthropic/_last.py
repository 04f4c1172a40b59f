"""Requests that are written anew because of what they come to as a whole: rare, and not kept."""

from __future__ import annotations

from msgspec import structs

from llm_client.types import CachePoint, LLMRequest, Message, Text

__all__ = ["room_for_points", "without_last_blanks"]


def room_for_points(request: LLMRequest, surplus: int) -> LLMRequest:
    """`request` without its first `surplus` cache points: of too many, the last ones win."""
    messages: list[Message] = []
    for message in request.messages:
        points = sum(isinstance(part, CachePoint) for part in message.parts)
        if not points or surplus <= 0:
            messages.append(message)
            continue
        parts = list(message.parts)
        for part in message.parts:
            if isinstance(part, CachePoint) and surplus > 0:
                parts.remove(part)
                surplus -= 1
        messages.append(structs.replace(message, parts=tuple(parts)))
    return structs.replace(request, messages=messages, cache_key=None)


def without_last_blanks(request: LLMRequest) -> LLMRequest:
    """`request` whose last assistant text has no blanks at its end: the model goes on from there,
    and a provider refuses to let it go on from a blank."""
    messages = list(request.messages)
    for place in reversed(range(len(messages))):
        parts = list(messages[place].parts)
        texts = [
            index
            for index, part in enumerate(parts)
            if isinstance(part, Text) and part.text.strip()
        ]
        if messages[place].role == "assistant" and texts:
            last = parts[texts[-1]]
            assert isinstance(last, Text)
            parts[texts[-1]] = structs.replace(last, text=last.text.rstrip())
            messages[place] = structs.replace(messages[place], parts=tuple(parts))
            break
    return structs.replace(request, messages=messages, cache_key=None)
