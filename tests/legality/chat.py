"""Rules of Chat Completions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.legality.values import (
    broken_text,
    is_object_text,
    items,
    members,
    text_of,
    tool_names,
)

__all__ = ["pairs", "violations"]

_ROLES = {"system", "developer", "user", "assistant", "tool", "function"}
_SAYS = ("content", "tool_calls", "refusal", "audio", "function_call", "reasoning_content")


def violations(body: dict[str, Any], canonical: bool) -> list[str]:
    """The rules that `body` breaks."""
    messages = [members(item) for item in items(body.get("messages"))]
    tools = [members(item) for item in items(body.get("tools"))]
    found = [*pairs(messages), *_shapes(messages)]
    if items(body.get("stop")) and len(items(body.get("stop"))) > 4:
        found.append("C04: more than 4 stop sequences")
    functions = [members(tool.get("function")) for tool in tools if tool.get("type") == "function"]
    found += tool_names((f.get("name") for f in functions), "C01", "C02")
    if broken_text(body):
        found.append("X1: broken text or number")
    if canonical:
        found += _strict(messages)
        if len(tools) > 128:
            found.append("C03: more than 128 tools")
    return found


def pairs(messages: list[dict[str, Any]]) -> Iterator[str]:
    """What is wrong with calls and their results: they follow at once, each once."""
    turn: set[str] = set()
    open_calls: list[str] = []
    for position, message in enumerate(messages):
        if message.get("role") == "tool":
            id = text_of(message.get("tool_call_id"))
            if id not in turn:
                yield f"C07: messages[{position}] answers {id!r}, which was not called just before"
            elif id not in open_calls:
                yield f"C08: messages[{position}] answers {id!r} again"
            else:
                open_calls.remove(id)
            continue
        if open_calls:
            yield f"C10: messages[{position}] stands before the results of {open_calls}"
        calls = [members(item) for item in items(message.get("tool_calls"))]
        open_calls = [text_of(call.get("id")) for call in calls]
        turn = set(open_calls)
        if "" in turn:
            yield f"C13: messages[{position}] makes a call without an id"
        if len(turn) != len(open_calls):
            yield f"C14: messages[{position}] makes two calls of one id"
    if open_calls:
        yield f"C20: the transcript ends with open calls {open_calls}"


def _shapes(messages: list[dict[str, Any]]) -> Iterator[str]:
    for position, message in enumerate(messages):
        role = message.get("role")
        if role not in _ROLES:
            yield f"C05: messages[{position}] has the role {role!r}"
        for item in items(message.get("tool_calls")):
            function = members(members(item).get("function"))
            if function and not isinstance(function.get("arguments"), str):
                yield f"C16: messages[{position}] has arguments that are no text"


def _strict(messages: list[dict[str, Any]]) -> Iterator[str]:
    for position, message in enumerate(messages):
        if message.get("role") in ("tool", "user", "system") and message.get("content") is None:
            yield f"C09: messages[{position}] has no content"
        said = any(message.get(name) for name in (*_SAYS, "reasoning"))
        if message.get("role") == "assistant" and not said:
            yield f"C12: messages[{position}] says nothing"
        if message.get("content") == []:
            yield f"C19: messages[{position}] has an empty list of content"
        if message.get("tool_calls") == []:
            yield f"C11: messages[{position}] has an empty list of calls"
        for item in items(message.get("tool_calls")):
            call = members(item)
            if len(text_of(call.get("id"))) > 64:
                yield f"C15: messages[{position}] has an id of more than 64 characters"
            function = members(call.get("function"))
            if function and not is_object_text(function.get("arguments")):
                yield f"C17: messages[{position}] has arguments that are no object"
