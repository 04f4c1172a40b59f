"""Requests that are written anew because of what they come to as a whole: rare, and not kept."""

from __future__ import annotations

import operator

from msgspec import structs

from llm_client.types import CachePoint, LLMRequest, Message, Text, Transcript, with_tail_of

__all__ = ["room_for_points", "without_last_blanks", "without_tail_points"]


def without_tail_points(request: LLMRequest) -> LLMRequest:
    """`request` without cache points in its tail: it is not there in the next round, so that nobody
    would ever read what is kept up to there."""
    messages = request.messages
    if not isinstance(messages, Transcript) or not messages.tail:
        return request
    tail = tuple(map(_without_points, messages.tail))
    if all(map(operator.is_, tail, messages.tail)):
        return request
    listed = Transcript(messages.backing, messages.start, messages.stop, tail)
    return structs.replace(request, messages=listed)


def _without_points(message: Message) -> Message:
    parts = tuple([part for part in message.parts if not isinstance(part, CachePoint)])
    return message if len(parts) == len(message.parts) else structs.replace(message, parts=parts)


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
    return _with_messages(request, messages)


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
    return _with_messages(request, messages)


def _with_messages(request: LLMRequest, messages: list[Message]) -> LLMRequest:
    messages_now = with_tail_of(request.messages, messages)
    return structs.replace(request, messages=messages_now, cache_key=None)
