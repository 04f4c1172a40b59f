"""Rules of Gemini's generateContent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tests.legality.values import broken_text, items, members

__all__ = ["violations"]

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}")


def violations(body: dict[str, Any], canonical: bool) -> list[str]:
    """The rules that `body` breaks."""
    turns = [members(item) for item in items(body.get("contents"))]
    found = list(_pairs(turns))
    for number, turn in enumerate(turns):
        allowed = ("user", "model") if canonical else ("user", "model", "function", "tool", None)
        if turn.get("role") not in allowed:
            found.append(f"G02: contents[{number}] has the role {turn.get('role')!r}")
        if canonical and not items(turn.get("parts")):
            found.append(f"G03: contents[{number}] is empty")
        for part in map(members, items(turn.get("parts"))):
            response = part.get("functionResponse") or part.get("function_response")
            if response and not isinstance(members(response).get("response"), dict):
                found.append(f"G08: contents[{number}] has a response that is no object")
    found += [
        f"G01: tool name {name!r}"
        for name in _tool_names(body)
        if not isinstance(name, str) or _NAME.fullmatch(name) is None
    ]
    if canonical:
        found += _signatures(turns)
    if broken_text(body):
        found.append("X1: broken text or number")
    return found


def _tool_names(body: dict[str, Any]) -> Iterator[object]:
    for tool in map(members, items(body.get("tools"))):
        held = tool.get("functionDeclarations") or tool.get("function_declarations")
        for function in map(members, items(held)):
            yield function.get("name")


def _named(turn: dict[str, Any], *keys: str) -> list[str]:
    found: list[str] = []
    for part in map(members, items(turn.get("parts"))):
        held = next((part[key] for key in keys if part.get(key)), None)
        if held is not None:
            found.append(str(members(held).get("name")))
    return found


def _pairs(turns: list[dict[str, Any]]) -> Iterator[str]:
    open_calls: list[str] = []
    answered: list[str] = []
    for number, turn in enumerate(turns):
        responses = _named(turn, "functionResponse", "function_response")
        calls = _named(turn, "functionCall", "function_call")
        if responses:
            if not open_calls:
                yield f"G07: contents[{number}] answers no call"
            answered += responses
            if len(answered) > len(open_calls):
                yield f"G05: contents[{number}] has more responses than calls"
            continue
        if open_calls and sorted(answered) != sorted(open_calls):
            yield f"G06: before contents[{number}] {answered} answer {open_calls}"
        previous = turns[number - 1] if number else {}
        if calls and turn.get("role") == "model" and previous.get("role") == "model":
            yield f"G04: contents[{number}] calls without a question before it"
        if calls and not number:
            yield "G04: the transcript begins with a call"
        open_calls, answered = calls, []
    if open_calls and sorted(answered) != sorted(open_calls):
        yield f"G06: the transcript ends with {answered} for {open_calls}"


def _signatures(turns: list[dict[str, Any]]) -> Iterator[str]:
    for number, turn in enumerate(turns):
        parts = [members(part) for part in items(turn.get("parts"))]
        calls = [part for part in parts if part.get("functionCall")]
        if calls and not calls[0].get("thoughtSignature"):
            yield f"G09: the first call of contents[{number}] is unsigned"
