"""Ways to make an accepted request illegal, and the rule that each breaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

from msgspec import Struct

from tests.legality.values import items, members

__all__ = ["MUTATIONS", "Mutation"]

Body = dict[str, Any]


class Mutation(Struct, frozen=True):
    """`change` alters a body in place, or returns False where there is nothing to alter."""

    protocol: str
    name: str
    rules: frozenset[str]
    change: Callable[[Body], bool]

    def of(self, body: Body) -> Body | None:
        """A changed copy of `body`."""
        copy = deepcopy(body)
        return copy if self.change(copy) else None


def _blocks(body: Body, *kinds: str) -> Iterator[tuple[int, list[Any], int]]:
    """Position of the message, the list, and the place in it, of each block of these kinds."""
    for position, message in enumerate(items(body.get("messages"))):
        content = members(message).get("content")
        for place, block in enumerate(items(content)):
            if members(block).get("type") in kinds:
                yield position, items(content), place


def _tools(body: Body) -> list[int]:
    messages = items(body.get("messages"))
    return [i for i, message in enumerate(messages) if members(message).get("role") == "tool"]


def _callers(body: Body) -> list[int]:
    messages = items(body.get("messages"))
    return [i for i, message in enumerate(messages) if members(message).get("tool_calls")]


def _entries(body: Body, kind: str) -> list[int]:
    entries = items(body.get("input"))
    return [i for i, entry in enumerate(entries) if members(entry).get("type") == kind]


def _parts(body: Body, key: str) -> list[tuple[int, list[Any], int]]:
    found: list[tuple[int, list[Any], int]] = []
    for position, turn in enumerate(items(body.get("contents"))):
        parts = items(members(turn).get("parts"))
        found += [(position, parts, i) for i, p in enumerate(parts) if members(p).get(key)]
    return found


# ── Chat Completions, Cohere, Ollama ──────────────────────────────────────────────────────────────


def _drop_a_result(body: Body) -> bool:
    found = _tools(body)
    if found:
        del body["messages"][found[0]]
    return bool(found)


def _drop_the_calls(body: Body) -> bool:
    found = _callers(body)
    if found:
        body["messages"][found[0]] = {"role": "assistant", "content": "x"}
    return bool(found) and bool(_tools(body))


def _say_something_between(body: Body) -> bool:
    found = _tools(body)
    if found:
        body["messages"].insert(found[0], {"role": "user", "content": "wait"})
    return bool(found)


def _end_with_calls(body: Body) -> bool:
    found = _callers(body)
    if found:
        del body["messages"][found[0] + 1 :]
    return bool(found)


def _repeat_a_result(body: Body) -> bool:
    found = _tools(body)
    if found:
        body["messages"].insert(found[0], deepcopy(body["messages"][found[0]]))
    return bool(found)


def _rename_a_tool(body: Body) -> bool:
    tools = items(body.get("tools"))
    tool = members(tools[0]) if tools else {}
    held = members(tool.get("function")) if tool.get("type") == "function" else {}
    if held:
        held["name"] = "two words"
    return bool(held)


# ── Anthropic ─────────────────────────────────────────────────────────────────────────────────────


def _drop_a_result_block(body: Body) -> bool:
    for _, blocks, place in _blocks(body, "tool_result"):
        blocks[place] = {"type": "text", "text": "x"}
        return True
    return False


def _drop_a_call_block(body: Body) -> bool:
    for _, blocks, place in _blocks(body, "tool_use"):
        blocks[place] = {"type": "text", "text": "x"}
        return True
    return False


def _repeat_a_result_block(body: Body) -> bool:
    for _, blocks, place in _blocks(body, "tool_result"):
        blocks.insert(place, deepcopy(blocks[place]))
        return True
    return False


def _put_text_before_a_result(body: Body) -> bool:
    for _, blocks, place in _blocks(body, "tool_result"):
        blocks.insert(place, {"type": "text", "text": "x"})
        return True
    return False


def _put_text_behind_a_call(body: Body) -> bool:
    for _, blocks, place in _blocks(body, "tool_use"):
        blocks.insert(place + 1, {"type": "text", "text": "x"})
        return True
    return False


def _end_with_a_call_block(body: Body) -> bool:
    for position, _, _ in _blocks(body, "tool_use"):
        del body["messages"][position + 1 :]
        return True
    return False


def _empty_a_signature(body: Body) -> bool:
    for _, blocks, place in _blocks(body, "thinking"):
        blocks[place]["signature"] = ""
        return True
    return False


def _empty_a_text(body: Body) -> bool:
    messages = items(body.get("messages"))
    if messages:
        messages[0]["content"] = [{"type": "text", "text": " "}]
    return bool(messages)


def _make_an_input_text(body: Body) -> bool:
    for _, blocks, place in _blocks(body, "tool_use"):
        blocks[place]["input"] = "{}"
        return True
    return False


def _put_a_foreign_id(body: Body) -> bool:
    for _, blocks, place in _blocks(body, "tool_use"):
        blocks[place]["id"] = "call:1"
        return True
    return False


def _forget_the_limit(body: Body) -> bool:
    return body.pop("max_tokens", None) is not None


# ── Responses ─────────────────────────────────────────────────────────────────────────────────────


def _drop_an_output(body: Body) -> bool:
    found = _entries(body, "function_call_output")
    if found and _entries(body, "function_call"):
        del body["input"][found[0]]
        return True
    return False


def _drop_a_call(body: Body) -> bool:
    found = _entries(body, "function_call")
    if found:
        del body["input"][found[0]]
    return bool(found) and not (body.get("previous_response_id") or body.get("conversation"))


def _repeat_a_call(body: Body) -> bool:
    found = _entries(body, "function_call")
    if found:
        body["input"].insert(found[0], deepcopy(body["input"][found[0]]))
    return bool(found)


def _drop_what_was_reasoned(body: Body) -> bool:
    found = _entries(body, "reasoning")
    if found:
        place = found[0] + 1
        kind = members(body["input"][place]).get("type")
        body["input"][place] = {"type": "message", "role": "user", "content": "x"}
        return kind != "reasoning"
    return False


def _end_with_reasoning(body: Body) -> bool:
    found = _entries(body, "reasoning")
    if found:
        body["input"] = [body["input"][found[0]]]
    return bool(found)


def _keep_nothing(body: Body) -> bool:
    found = _entries(body, "reasoning")
    for place in found:
        body["input"][place].pop("encrypted_content", None)
    body["store"] = False
    return bool(found)


def _chain_twice(body: Body) -> bool:
    body["previous_response_id"], body["conversation"] = "resp_1", "conv_1"
    return True


# ── Gemini ────────────────────────────────────────────────────────────────────────────────────────


def _drop_a_response(body: Body) -> bool:
    found = _parts(body, "functionResponse")
    if found:
        _, parts, place = found[0]
        parts[place] = {"text": "x"}
    return bool(found)


def _drop_a_function_call(body: Body) -> bool:
    found = _parts(body, "functionCall")
    if found:
        _, parts, place = found[0]
        parts[place] = {"text": "x"}
    return bool(found) and bool(_parts(body, "functionResponse"))


def _rename_a_response(body: Body) -> bool:
    found = _parts(body, "functionResponse")
    if found:
        _, parts, place = found[0]
        parts[place]["functionResponse"]["name"] = "another"
    return bool(found)


def _make_a_response_text(body: Body) -> bool:
    found = _parts(body, "functionResponse")
    if found:
        _, parts, place = found[0]
        parts[place]["functionResponse"]["response"] = "x"
    return bool(found)


def _take_a_foreign_role(body: Body) -> bool:
    turns = items(body.get("contents"))
    if turns:
        turns[0]["role"] = "assistant"
    return bool(turns)


def _take_the_signature(body: Body) -> bool:
    found = _parts(body, "functionCall")
    if found:
        _, parts, place = found[0]
        return parts[place].pop("thoughtSignature", None) is not None
    return False


def _all(protocol: str, **changes: tuple[Callable[[Body], bool], set[str]]) -> list[Mutation]:
    return [
        Mutation(protocol, name, frozenset(rules), change)
        for name, (change, rules) in changes.items()
    ]


def _break_a_character(body: Body) -> bool:
    body["note"] = "\ud83d"
    return True


_PAIRS: dict[str, tuple[Callable[[Body], bool], set[str]]] = {
    "drop_a_result": (_drop_a_result, {"C10", "C20"}),
    "drop_the_calls": (_drop_the_calls, {"C07"}),
    "say_something_between": (_say_something_between, {"C10"}),
    "end_with_calls": (_end_with_calls, {"C20"}),
    "rename_a_tool": (_rename_a_tool, {"C01"}),
    "break_a_character": (_break_a_character, {"X1"}),
}

MUTATIONS = (
    *_all("openai_chat", **_PAIRS, repeat_a_result=(_repeat_a_result, {"C08"})),
    *_all("cohere_chat", **_PAIRS, repeat_a_result=(_repeat_a_result, {"C08"})),
    *_all("ollama_native", **_PAIRS, repeat_a_result=(_repeat_a_result, {"C07"})),
    *_all(
        "anthropic_messages",
        drop_a_result=(_drop_a_result_block, {"A20"}),
        drop_a_call=(_drop_a_call_block, {"A21"}),
        repeat_a_result=(_repeat_a_result_block, {"A22"}),
        put_text_before_a_result=(_put_text_before_a_result, {"A23"}),
        put_text_behind_a_call=(_put_text_behind_a_call, {"A14"}),
        end_with_a_call=(_end_with_a_call_block, {"A19"}),
        empty_a_signature=(_empty_a_signature, {"A16"}),
        empty_a_text=(_empty_a_text, {"A09"}),
        make_an_input_text=(_make_an_input_text, {"A15"}),
        put_a_foreign_id=(_put_a_foreign_id, {"A13"}),
        forget_the_limit=(_forget_the_limit, {"A01"}),
        break_a_character=(_break_a_character, {"X1"}),
    ),
    *_all(
        "openai_responses",
        drop_an_output=(_drop_an_output, {"R12"}),
        drop_a_call=(_drop_a_call, {"R06"}),
        repeat_a_call=(_repeat_a_call, {"R04"}),
        drop_what_was_reasoned=(_drop_what_was_reasoned, {"R08"}),
        end_with_reasoning=(_end_with_reasoning, {"R08"}),
        keep_nothing=(_keep_nothing, {"R09"}),
        chain_twice=(_chain_twice, {"R01"}),
        break_a_character=(_break_a_character, {"X1"}),
    ),
    *_all(
        "gemini",
        drop_a_response=(_drop_a_response, {"G06", "G07", "G05"}),
        drop_a_call=(_drop_a_function_call, {"G05", "G06", "G07"}),
        rename_a_response=(_rename_a_response, {"G06"}),
        make_a_response_text=(_make_a_response_text, {"G08"}),
        take_a_foreign_role=(_take_a_foreign_role, {"G02"}),
        take_the_signature=(_take_the_signature, {"G09"}),
        break_a_character=(_break_a_character, {"X1"}),
    ),
)
