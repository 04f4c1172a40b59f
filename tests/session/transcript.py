"""Says which rules of OpenAI Chat a transcript breaks. Shares no code with what it judges."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

from llm_client.types import (
    Audio,
    CachePoint,
    File,
    Image,
    Message,
    Opaque,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)

__all__ = ["transcript_violations"]

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def transcript_violations(messages: Sequence[Message], *, stored: bool = False) -> list[str]:
    """Which rules of OpenAI Chat a transcript breaks, at the strict level we hold ourselves to.

    With `stored`, rules that an encoder settles when it writes the request are left out: the length
    of ids (C15), arguments that are no JSON object (C16, C17), names of functions (C01).
    """
    found: list[str] = []
    waiting: dict[str, None] = {}
    answered: set[str] = set()
    for place, message in enumerate(messages):
        here = f"message {place}"
        if message.role == "tool":
            found.extend(_result_faults(message, waiting, answered, here))
            continue
        if waiting:
            found.append(f"C10: {here} stands between calls and their results")
        waiting = dict.fromkeys(call.id for call in message.tool_calls)
        answered = set()
        found.extend(_shape_faults(message, here))
        found.extend(_call_faults(message, here, stored=stored))
    if waiting:
        found.append(f"C20: the transcript ends with open calls: {', '.join(waiting)}")
    for place, message in enumerate(messages):
        if not all(_is_unicode(text) for text in _texts(message.parts)):
            found.append(f"X1: message {place} holds text that is no Unicode, or NUL")
    return found


def _result_faults(
    message: Message, waiting: dict[str, None], answered: set[str], here: str
) -> Iterator[str]:
    results = [part for part in message.parts if isinstance(part, ToolResult)]
    if not results or len(results) != len(message.parts):
        yield f"C09: {here} is a tool message but not results alone"
    for result in results:
        if result.call_id in answered:
            yield f"C08: {here} answers {result.call_id!r} a second time"
        elif result.call_id not in waiting:
            yield f"C06: {here} answers {result.call_id!r}, which the turn before did not call"
        waiting.pop(result.call_id, None)
        answered.add(result.call_id)


def _shape_faults(message: Message, here: str) -> Iterator[str]:
    if message.role not in ("system", "user", "assistant"):
        yield f"C05: {here} has the role {message.role!r}"
    if not message.parts:
        yield f"{'C12' if message.role == 'assistant' else 'C09'}: {here} has no content"
    if message.role != "assistant" and message.tool_calls:
        yield f"C05: {here} has calls, but is not the assistant's"
    if any(isinstance(part, ToolResult) for part in message.parts):
        yield f"C06: {here} carries a result, but is not a tool message"


def _call_faults(message: Message, here: str, *, stored: bool) -> Iterator[str]:
    seen: set[str] = set()
    for call in message.tool_calls:
        if not call.id or call.id in seen:
            yield f"C13: {here} has the call id {call.id!r} empty or twice"
        seen.add(call.id)
        if stored:
            continue
        if len(call.id) > 40:
            yield f"C15: {here} has a call id of {len(call.id)} characters"
        if not _NAME.fullmatch(call.name):
            yield f"C01: {here} calls {call.name!r}"
        if not _is_object(call.arguments):
            yield f"C17: {here} has arguments that are no JSON object"


def _is_object(text: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return False


def _texts(parts: Sequence[Part]) -> Iterator[str]:
    for part in parts:
        match part:
            case Text(text=text) | Thinking(text=text):
                yield text
            case ToolCall():
                yield from (part.id, part.name, part.arguments)
            case ToolResult():
                yield from _texts(part.content)
            case Image() | Audio() | File() | Opaque() | CachePoint():
                pass


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in text
