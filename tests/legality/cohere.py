"""Rules of Cohere's chat: those of Chat Completions."""

from __future__ import annotations

from typing import Any

from tests.legality.chat import pairs
from tests.legality.values import broken_text, is_object_text, items, members, tool_names

__all__ = ["violations"]


def violations(body: dict[str, Any], canonical: bool) -> list[str]:
    """The rules that `body` breaks."""
    messages = [members(item) for item in items(body.get("messages"))]
    tools = [members(members(item).get("function")) for item in items(body.get("tools"))]
    found = [*pairs(messages), *tool_names((tool.get("name") for tool in tools), "C01", "C02")]
    for position, message in enumerate(messages):
        if message.get("role") not in ("system", "user", "assistant", "tool"):
            found.append(f"C05: messages[{position}] has the role {message.get('role')!r}")
        calls = [
            members(members(item).get("function")) for item in items(message.get("tool_calls"))
        ]
        if canonical and not all(is_object_text(call.get("arguments")) for call in calls):
            found.append(f"C17: messages[{position}] has arguments that are no object")
        if canonical and not (message.get("content") or calls):
            found.append(f"C12: messages[{position}] says nothing")
    if broken_text(body):
        found.append("X1: broken text or number")
    return found
