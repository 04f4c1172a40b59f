"""Rules of OpenAI Responses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.legality.values import broken_text, is_object_text, items, members, tool_names

__all__ = ["violations"]

_ROLES = {"user", "assistant", "system", "developer"}
_ANSWERS = ("function_call_output", "custom_tool_call_output")
_USERS = {"user", "system", "developer"}


def violations(body: dict[str, Any], canonical: bool) -> list[str]:
    """The rules that `body` breaks."""
    entries = [members(item) for item in items(body.get("input"))]
    tools = [members(item) for item in items(body.get("tools"))]
    functions = [tool for tool in tools if tool.get("type") == "function"]
    chained = bool(body.get("previous_response_id") or body.get("conversation"))
    found = [*_calls(entries, chained=chained, canonical=canonical), *_reasoning(body, entries)]
    found += tool_names((tool.get("name") for tool in functions), "R02", "R02")
    if body.get("previous_response_id") and body.get("conversation"):
        found.append("R01: both previous_response_id and conversation")
    for position, entry in enumerate(entries):
        if entry.get("type", "message") == "message":
            if entry.get("role") not in _ROLES:
                found.append(f"R10: input[{position}] has the role {entry.get('role')!r}")
            if entry.get("content") is None or (canonical and not entry["content"]):
                found.append(f"R11: input[{position}] has no content")
    if broken_text(body):
        found.append("X1: broken text or number")
    return found


def _calls(entries: list[dict[str, Any]], *, chained: bool, canonical: bool) -> Iterator[str]:
    made: list[str] = []
    answered: list[str] = []
    others = {e.get("call_id") for e in entries if str(e.get("type")).endswith("_call")}
    for position, entry in enumerate(entries):
        kind, id = entry.get("type"), str(entry.get("call_id"))
        if kind in ("function_call", "custom_tool_call"):
            if id in made:
                yield f"R04: input[{position}] uses the call id {id!r} again"
            made.append(id)
            yield from _arguments(position, entry, canonical=canonical)
        elif kind in _ANSWERS:
            if id not in made and not chained and id not in others:
                yield f"R06: input[{position}] answers {id!r}, which nothing before it calls"
            if canonical and id in answered:
                yield f"R06: input[{position}] answers {id!r} again"
            answered.append(id)
    yield from (f"R12: the call {id!r} has no output" for id in made if id not in answered)


def _arguments(position: int, entry: dict[str, Any], *, canonical: bool) -> Iterator[str]:
    if entry.get("type") != "function_call":
        return
    if not isinstance(entry.get("arguments"), str):
        yield f"R05: input[{position}] has arguments that are no text"
    elif canonical and not is_object_text(entry["arguments"]):
        yield f"R05: input[{position}] has arguments that are no object"


def _reasoning(body: dict[str, Any], entries: list[dict[str, Any]]) -> Iterator[str]:
    for position, entry in enumerate(entries):
        if entry.get("type") != "reasoning":
            continue
        after = entries[position + 1] if position + 1 < len(entries) else None
        if after is None:
            yield f"R08: input[{position}] is reasoning with nothing after it"
        elif after.get("type") in _ANSWERS or after.get("role") in _USERS:
            yield f"R08: input[{position}] is reasoning without the item that it led to"
        if body.get("store") is False and not entry.get("encrypted_content"):
            yield f"R09: input[{position}] is reasoning that nobody keeps, without its content"
