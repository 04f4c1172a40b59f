"""The checker of transcripts, against requests that real providers accepted.

Each accepted request passes; each mutation of one breaks the rule that it is meant to break.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import pytest

from llm_client.codecs.openai_chat import OpenAIChatCodec
from llm_client.errors import LocalProtocolError
from llm_client.types import LLMRequest, Message, Part, Text, ToolCall, ToolResult
from tests.chat_requests import accepted_requests
from tests.telling import Tell

History = list[Message]
Mutation = Callable[[History], History | None]


def rule_of(messages: Sequence[Message]) -> str | None:
    """The rule that `messages` break, None if they are legal."""
    try:
        OpenAIChatCodec().encode(LLMRequest(messages), stream=False)
    except LocalProtocolError as error:
        return error.rule
    return None


def results(message: Message) -> tuple[ToolResult, ...]:
    """The results in a message."""
    return tuple(part for part in message.parts if isinstance(part, ToolResult))


def first(messages: History, role: str) -> int | None:
    """The place of the first message of `role` that takes part in a call."""
    for place, message in enumerate(messages):
        if message.role == role and (message.tool_calls or results(message)):
            return place
    return None


def batch(messages: History) -> tuple[int, int] | None:
    """The places of the first message with calls and of the last of its results."""
    start = first(messages, "assistant")
    if start is None:
        return None
    end = start
    while end + 1 < len(messages) and messages[end + 1].role == "tool":
        end += 1
    return (start, end) if end > start else None


def parts_of(message: Message, *parts: Part) -> Message:
    """`message` with other parts."""
    return msgspec.structs.replace(message, parts=parts)


def drop_a_result(messages: History) -> History | None:
    found = batch(messages)
    return None if found is None else messages[: found[1]] + messages[found[1] + 1 :]


def drop_the_call(messages: History) -> History | None:
    found = batch(messages)
    return None if found is None else messages[: found[0]] + messages[found[0] + 1 :]


def repeat_a_result(messages: History) -> History | None:
    found = batch(messages)
    return None if found is None else messages[: found[1] + 1] + messages[found[1] :]


def put_a_user_message_between(messages: History) -> History | None:
    found = batch(messages)
    if found is None:
        return None
    return [*messages[: found[1]], Message.user("well?"), *messages[found[1] :]]


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
    result = results(messages[found[1]])[0]
    renamed = msgspec.structs.replace(result, call_id=result.call_id + "x")
    changed = list(messages)
    changed[found[1]] = parts_of(messages[found[1]], renamed)
    return changed


def end_with_open_calls(messages: History) -> History | None:
    found = batch(messages)
    return None if found is None else messages[: found[0] + 1]


def empty_the_id(messages: History) -> History | None:
    found = batch(messages)
    if found is None:
        return None
    call = messages[found[0]].tool_calls[0]
    changed = list(messages)
    changed[found[0]] = parts_of(messages[found[0]], ToolCall("", call.name, call.arguments))
    return changed


def use_an_id_twice(messages: History) -> History | None:
    found = batch(messages)
    if found is None:
        return None
    call = messages[found[0]].tool_calls[0]
    changed = list(messages)
    changed[found[0]] = parts_of(messages[found[0]], call, call)
    return changed


def answer_an_older_turn(messages: History) -> History | None:
    found = batch(messages)
    if found is None:
        return None
    late = messages[found[1]]
    return [*messages[: found[1] + 1], Message.user("next"), late]


def break_a_character(messages: History) -> History | None:
    for place, message in enumerate(messages):
        if message.role == "user" and message.text:
            changed = list(messages)
            changed[place] = parts_of(message, Text(message.text + "\ud83d"))
            return changed
    return None


@pytest.mark.parametrize(
    ("mutate", "rules"),
    [
        (drop_a_result, {"C10", "C20"}),
        (drop_the_call, {"C07", "C08"}),
        (repeat_a_result, {"C08"}),
        (put_a_user_message_between, {"C10"}),
        (put_the_call_behind_its_result, {"C07"}),
        (answer_another_call, {"C07"}),
        (end_with_open_calls, {"C20"}),
        (empty_the_id, {"C13"}),
        (use_an_id_twice, {"C14"}),
        (answer_an_older_turn, {"C07"}),
        (break_a_character, {"X1"}),
    ],
)
def test_each_mutation_of_an_accepted_request_breaks_its_rule(
    mutate: Mutation, rules: set[str], tell: Tell
) -> None:
    """O09, O12: the checker blocks before sending, and names what is wrong."""
    tried = 0
    for id, request in accepted_requests():
        mutated = mutate(list(request.messages))
        if mutated is not None:
            tried += 1
            assert rule_of(mutated) in rules, id
    tell(f"{mutate.__name__}: {tried} mutated requests refused")
    assert tried > 100


def test_every_request_that_a_provider_accepted_is_legal_here() -> None:
    """The checker is no stricter than the world, beyond the rules that say so."""
    requests = accepted_requests()
    refused = [id for id, request in requests if rule_of(request.messages) is not None]
    assert refused == []
    assert len(requests) > 1000


def test_shapes_that_are_free_stay_free() -> None:
    """Roles in a row, a system message later on, an assistant first or last: all accepted."""
    user, assistant = Message.user("u"), Message.assistant("a")
    system = Message("system", (Text("s"),))
    for history in (
        [user, user],
        [assistant],
        [assistant, user, system, assistant, assistant],
        [user, Message.assistant("text", ToolCall("a", "f")), Message.tool("a", ""), assistant],
        [Message.assistant("", ToolCall("a", "f")), Message.tool("a", ""), user],
    ):
        assert rule_of(history) is None


def test_results_may_come_in_any_order_within_their_batch() -> None:
    """Tools finish when they finish."""
    calls = Message.assistant("", ToolCall("a", "f"), ToolCall("b", "f"))
    assert rule_of([calls, Message.tool("b", ""), Message.tool("a", "")]) is None


def test_an_id_may_come_back_in_a_later_turn() -> None:
    """Ids are unique within a turn (C14); some servers begin again at 0."""
    call = Message.assistant("", ToolCall("0", "f"))
    assert rule_of([call, Message.tool("0", ""), call, Message.tool("0", "")]) is None
