"""The checker of Responses transcripts, against requests that real providers accepted.

Each accepted request passes; each mutation of one breaks the rule that it is meant to break.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import pytest

from llm_client.codecs.openai_responses import OpenAIResponsesCodec, responses_dialect
from llm_client.errors import LocalProtocolError
from llm_client.types import LLMRequest, Message, Part, Text, ToolCall, ToolResult
from tests.responses_requests import accepted_requests
from tests.telling import Tell

History = list[Message]
Mutation = Callable[[History], History | None]


def rule_of(messages: Sequence[Message]) -> str | None:
    """The rule that `messages` break, None if they are legal."""
    return rule_of_request(LLMRequest(messages), "openai")


def rule_of_request(request: LLMRequest, provider: str) -> str | None:
    """The rule that `request` breaks, None if it is legal."""
    try:
        OpenAIResponsesCodec(responses_dialect(provider)).encode(request, stream=False)
    except LocalProtocolError as error:
        return error.rule
    return None


def batch(messages: History) -> tuple[int, int] | None:
    """The places of the first message with calls and of the last of its results."""
    for start, message in enumerate(messages):
        if message.tool_calls:
            end = start
            while end + 1 < len(messages) and messages[end + 1].role == "tool":
                end += 1
            return (start, end) if end > start else None
    return None


def with_parts(messages: History, place: int, *parts: Part) -> History:
    """`messages`, that at `place` with other parts."""
    changed = list(messages)
    changed[place] = msgspec.structs.replace(messages[place], parts=parts)
    return changed


def drop_a_result(messages: History) -> History | None:
    found = batch(messages)
    return None if found is None else messages[: found[1]] + messages[found[1] + 1 :]


def drop_the_call(messages: History) -> History | None:
    found = batch(messages)
    return None if found is None else messages[: found[0]] + messages[found[0] + 1 :]


def repeat_a_result(messages: History) -> History | None:
    found = batch(messages)
    return None if found is None else messages[: found[1] + 1] + messages[found[1] :]


def put_the_call_behind_its_result(messages: History) -> History | None:
    found = batch(messages)
    if found is None:
        return None
    start, end = found
    moved = [*messages[start + 1 : end + 1], messages[start]]
    return messages[:start] + moved + messages[end + 1 :]


def answer_another_call(messages: History) -> History | None:
    found = batch(messages)
    if found is None:
        return None
    result = messages[found[1]].parts[0]
    assert isinstance(result, ToolResult)
    renamed = msgspec.structs.replace(result, call_id=result.call_id + "x")
    return with_parts(messages, found[1], renamed)


def end_with_open_calls(messages: History) -> History | None:
    found = batch(messages)
    return None if found is None else messages[: found[0] + 1]


def empty_the_id(messages: History) -> History | None:
    found = batch(messages)
    if found is None:
        return None
    call = messages[found[0]].tool_calls[0]
    return with_parts(messages, found[0], ToolCall("", call.name, call.arguments))


def answer_nobody(messages: History) -> History | None:
    found = batch(messages)
    return None if found is None else with_parts(messages, found[1], ToolResult("", ()))


def use_an_id_twice(messages: History) -> History | None:
    found = batch(messages)
    if found is None:
        return None
    call = messages[found[0]].tool_calls[0]
    return with_parts(messages, found[0], call, call)


def call_again_before_the_result(messages: History) -> History | None:
    found = batch(messages)
    if found is None:
        return None
    return [*messages[: found[0] + 1], Message.user("well?"), *messages[found[0] :]]


def break_a_character(messages: History) -> History | None:
    for place, message in enumerate(messages):
        if message.role == "user" and message.text:
            return with_parts(messages, place, Text(message.text + "\ud83d"))
    return None


@pytest.mark.parametrize(
    ("mutate", "rules"),
    [
        (drop_a_result, {"R12"}),
        (drop_the_call, {"R06"}),
        (repeat_a_result, {"R06"}),
        (put_the_call_behind_its_result, {"R06"}),
        (answer_another_call, {"R06"}),
        (end_with_open_calls, {"R12"}),
        (empty_the_id, {"R04"}),
        (answer_nobody, {"R13"}),
        (use_an_id_twice, {"R04"}),
        (call_again_before_the_result, {"R04"}),
        (break_a_character, {"X1"}),
    ],
)
def test_each_mutation_of_an_accepted_request_breaks_its_rule(
    mutate: Mutation, rules: set[str], tell: Tell
) -> None:
    """O09, O12: the checker blocks before sending, and names what is wrong."""
    tried = 0
    for row, request in accepted_requests():
        mutated = mutate(list(request.messages))
        if mutated is not None:
            tried += 1
            assert rule_of(mutated) in rules, row["id"]
    tell(f"{mutate.__name__}: {tried} mutated requests refused")
    assert tried > 50


def test_every_request_that_a_provider_accepted_is_legal_here() -> None:
    """The checker is no stricter than the world, beyond the rules that say so."""
    requests = accepted_requests()
    refused = [
        row["id"]
        for row, request in requests
        if rule_of_request(request, row["provider"]) is not None
    ]
    assert refused == []
    assert len(requests) > 330


def test_shapes_that_are_free_stay_free() -> None:
    """Roles in a row, a system message later on, an assistant first or last, late results."""
    user, assistant = Message.user("u"), Message.assistant("a")
    system = Message("system", (Text("s"),))
    called, result = Message.assistant("t", ToolCall("a", "f")), Message.tool("a", "")
    for history in (
        [user, user],
        [assistant],
        [assistant, user, system, assistant, assistant],
        [user, called, result, assistant],
        [called, user, result],
        [called, result, called, result],
    ):
        assert rule_of(history) is None


def test_results_may_come_in_any_order() -> None:
    """Tools finish when they finish."""
    calls = Message.assistant("", ToolCall("a", "f"), ToolCall("b", "f"))
    assert rule_of([calls, Message.tool("b", ""), Message.tool("a", "")]) is None
