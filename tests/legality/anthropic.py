"""Rules of Anthropic Messages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tests.legality.values import broken_text, items, members, text_of, tool_names

__all__ = ["violations"]

_ID = re.compile(r"[a-zA-Z0-9_-]+")
_SERVER_TURN = ("server_tool_use", "_tool_result")


def violations(body: dict[str, Any], canonical: bool) -> list[str]:
    """The rules that `body` breaks."""
    turns = [(role, [members(block) for block in blocks]) for role, blocks in _turns(body)]
    tools = [members(item) for item in items(body.get("tools"))]
    own = [tool for tool in tools if tool.get("type", "custom") == "custom"]
    found = [*_pairs(turns), *_parameters(body), *_blocks(turns, canonical=canonical)]
    found += tool_names((tool.get("name") for tool in own), "A03", "A04")
    for tool in own:
        if members(tool.get("input_schema")).get("type") != "object":
            found.append(f"A05: the schema of {tool.get('name')!r} is no object")
    for role, _ in turns:
        if role not in ("user", "assistant", "system"):
            found.append(f"A06: the role {role!r}")
    if turns and canonical and turns[-1][0] == "assistant":
        last = turns[-1][1][-1:]
        if last and last[0].get("type") in ("thinking", "redacted_thinking"):
            found.append("A18: the transcript ends in thinking")
        if last and text_of(last[0].get("text")) != text_of(last[0].get("text")).rstrip():
            found.append("A11: the transcript ends in white space")
    if broken_text(body):
        found.append("X1: broken text or number")
    return found


def _turns(body: dict[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """The turns as the server sees them: neighbours of one role are one turn."""
    role: str | None = None
    blocks: list[Any] = []
    for item in items(body.get("messages")):
        message = members(item)
        content = message.get("content")
        held = [{"type": "text", "text": content}] if isinstance(content, str) else items(content)
        if role is not None and message.get("role") != role:
            yield role, blocks
            blocks = []
        role = str(message.get("role"))
        blocks = [*blocks, *held]
    if role is not None:
        yield role, blocks


def _pairs(turns: list[tuple[str, list[dict[str, Any]]]]) -> Iterator[str]:
    open_calls: list[str] = []
    for number, (role, blocks) in enumerate(turns):
        if role == "system":
            continue
        yield from _answers(number, role, blocks, open_calls)
        open_calls = [str(b.get("id")) for b in blocks if b.get("type") == "tool_use"]
        if len(set(open_calls)) != len(open_calls):
            yield f"A12: turn {number} makes two calls of one id"
        kinds = [block.get("type") for block in blocks]
        if "tool_use" in kinds and "text" in kinds[kinds.index("tool_use") :]:
            yield f"A14: turn {number} has text behind a call"
    if open_calls:
        yield f"A19: the transcript ends with open calls {open_calls}"


def _answers(
    number: int, role: str, blocks: list[dict[str, Any]], open_calls: list[str]
) -> Iterator[str]:
    results = [str(b.get("tool_use_id")) for b in blocks if b.get("type") == "tool_result"]
    for id in results:
        if id not in open_calls:
            yield f"A21: turn {number} answers {id!r}, which the turn before did not make"
    missing = [id for id in open_calls if id not in results]
    if missing:
        yield f"A20: turn {number} lacks the results of {missing}"
    if len(set(results)) != len(results):
        yield f"A22: turn {number} answers a call twice"
    kinds = [block.get("type") for block in blocks]
    first_other = next((i for i, kind in enumerate(kinds) if kind != "tool_result"), len(kinds))
    if role == "user" and "tool_result" in kinds[first_other:]:
        yield f"A23: turn {number} has a result behind something else"


def _parameters(body: dict[str, Any]) -> Iterator[str]:
    if not isinstance(body.get("max_tokens"), int):
        yield "A01: max_tokens is missing"
    thinking = members(body.get("thinking"))
    budget = thinking.get("budget_tokens")
    if thinking.get("type") == "enabled" and (
        not isinstance(budget, int) or not 1024 <= budget < body.get("max_tokens", 0)
    ):
        yield f"A02: a thinking budget of {budget!r}"


def _blocks(turns: list[tuple[str, list[dict[str, Any]]]], *, canonical: bool) -> Iterator[str]:
    for number, (role, blocks) in enumerate(turns):
        if not blocks and not (number == len(turns) - 1 and role == "assistant"):
            yield f"A08: turn {number} is empty"
        kinds = {str(block.get("type")) for block in blocks}
        excused = any(kind.endswith(_SERVER_TURN) for kind in kinds) or "tool_use" in kinds
        for block in blocks:
            yield from _block(number, block, strict=canonical or not excused)
    marks = sum("cache_control" in block for _, blocks in turns for block in blocks)
    if marks > 4:
        yield f"A25: {marks} cache breakpoints"


def _block(number: int, block: dict[str, Any], *, strict: bool) -> Iterator[str]:
    match block.get("type"):
        case "text":
            if strict and not text_of(block.get("text")).strip():
                yield f"A09: turn {number} has a text that says nothing"
        case "thinking":
            if not text_of(block.get("signature")):
                yield f"A16: turn {number} has thinking without its signature"
        case "tool_use":
            if not isinstance(block.get("input"), dict):
                yield f"A15: turn {number} has an input that is no object"
            if _ID.fullmatch(str(block.get("id"))) is None:
                yield f"A13: turn {number} has the call id {block.get('id')!r}"
        case _:
            pass
