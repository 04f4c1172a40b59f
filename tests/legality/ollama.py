"""Rules of Ollama's own protocol: results follow their calls, in their order."""

from __future__ import annotations

from typing import Any

from tests.legality.values import broken_text, items, members, tool_names

__all__ = ["violations"]


def violations(body: dict[str, Any], canonical: bool) -> list[str]:
    """The rules that `body` breaks."""
    messages = [members(item) for item in items(body.get("messages"))]
    tools = [members(members(item).get("function")) for item in items(body.get("tools"))]
    found = [*tool_names((tool.get("name") for tool in tools), "C01", "C02")]
    open_calls: list[str] = []
    for position, message in enumerate(messages):
        if message.get("role") == "tool":
            if not open_calls:
                found.append(f"C07: messages[{position}] answers no call")
                continue
            name = open_calls.pop(0)
            if canonical and message.get("tool_name") != name:
                found.append(f"C07: messages[{position}] does not answer {name!r}, which is next")
            continue
        if open_calls:
            found.append(f"C10: messages[{position}] stands before the results of {open_calls}")
        calls = [
            members(members(item).get("function")) for item in items(message.get("tool_calls"))
        ]
        open_calls = [str(call.get("name")) for call in calls]
        if not all(isinstance(call.get("arguments"), dict) for call in calls):
            found.append(f"C16: messages[{position}] has arguments that are no object")
        if message.get("role") not in ("system", "user", "assistant"):
            found.append(f"C05: messages[{position}] has the role {message.get('role')!r}")
    if open_calls:
        found.append(f"C20: the transcript ends with open calls {open_calls}")
    if broken_text(body):
        found.append("X1: broken text or number")
    return found
