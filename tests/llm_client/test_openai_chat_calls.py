"""Tool calls of Chat Completions, in all the pieces in which servers send them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from llm_client.codecs.openai_chat import OpenAIChatCodec
from llm_client.errors import MalformedResponse
from llm_client.stream import Finished, ToolCallDelta, ToolCallStarted
from llm_client.types import (
    LLMRequest,
    Message,
    StopReason,
    ToolCall,
)
from tests.chat_streams import (
    answer,
    both,
    call,
    calls,
    chunk,
    decode,
    read,
    sse,
    whole,
)


def test_calls_are_announced_and_their_arguments_streamed() -> None:
    """As soon as their id, name and first arguments are known."""
    body = sse(
        calls(call(0, "a", "f", "")),
        calls(call(0, arguments='{"x":')),
        calls(call(0, arguments="1}")),
        chunk(finish="tool_calls"),
    )
    events, error = read([body])
    assert error is None
    assert events[1:] == [
        ToolCallStarted(0, "a", "f"),
        ToolCallDelta(0, '{"x":'),
        ToolCallDelta(0, "1}"),
        Finished(StopReason.TOOL_CALLS, "tool_calls"),
    ]


def test_calls_without_an_index_are_neither_lost_nor_merged() -> None:
    """S14: by id, else by position, else as the continuation of the latest."""
    by_id = answer(
        calls(call(None, "a", "f", '{"x":'), call(None, "b", "g", "{}")),
        calls(call(None, "a", None, "1}")),
        chunk(finish="tool_calls"),
    )
    by_position = answer(
        calls(call(None, None, "f", '{"x":'), call(None, None, "g", "{}")),
        calls(call(None, None, None, "1}"), call()),
        chunk(finish="tool_calls"),
    )
    by_order = answer(
        calls(call(None, None, "f", '{"x":')),
        calls(call(None, None, None, "1}")),
        calls(call(None, None, "g", "{}")),
        chunk(finish="tool_calls"),
    )
    for response in (by_id, by_position, by_order):
        found = [(one.name, one.arguments) for one in response.tool_calls]
        assert found == [("f", '{"x":1}'), ("g", "{}")]


def test_a_new_id_under_a_known_index_is_a_new_call() -> None:
    """S16: no `}{`; later fragments without an id belong to the newest."""
    response = answer(
        calls(call(0, "a", "f", '{"x":')),
        calls(call(0, None, None, "1}")),
        calls(call(0, "b", "f", '{"x":')),
        calls(call(0, None, None, "2}")),
        calls(call(0, "a", None, " ")),
        chunk(finish="tool_calls"),
    )
    assert response.tool_calls == (ToolCall("a", "f", '{"x":1} '), ToolCall("b", "f", '{"x":2}'))


def test_a_new_name_after_complete_arguments_is_a_new_call() -> None:
    """S16 for servers that give index 0 to every call and no ids at all."""
    response = answer(
        calls(call(0, None, "f", '{"x":1}')),
        calls(call(0, None, "f", '{"x":2}')),
        chunk(finish="stop"),
    )
    assert [one.arguments for one in response.tool_calls] == ['{"x":1}', '{"x":2}']


def test_interleaved_arguments_go_to_the_call_of_their_index() -> None:
    """S18."""
    response = answer(
        calls(call(0, "a", "f", "")),
        calls(call(1, "b", "g", "")),
        calls(call(0, None, None, '{"x"')),
        calls(call(1, None, None, '{"y"')),
        calls(call(0, None, None, ":1}")),
        calls(call(1, None, None, ":2}")),
        chunk(finish="tool_calls"),
    )
    assert response.tool_calls == (ToolCall("a", "f", '{"x":1}'), ToolCall("b", "g", '{"y":2}'))


def test_an_id_that_comes_late_is_adopted_and_a_missing_one_made_up() -> None:
    """S19: stable, unique within the answer, the same however the bytes are cut."""
    response = answer(
        calls(call(0, None, "f", "{")),
        calls(call(0, "real", None, "}")),
        calls(call(1, None, "g", "{}")),
        calls(call(2, "call_1", "h", "{}")),
        chunk(finish="tool_calls"),
    )
    assert [one.id for one in response.tool_calls] == ["real", "call_0adc2896_1", "call_1"]
    assert len({one.id for one in response.tool_calls}) == 3


def test_ids_that_come_twice_are_made_unique() -> None:
    """C14: a result could not be told apart otherwise."""
    same = [call(0, "x", "f", "{}"), call(1, "x", "f", "{}")]
    for response in (
        answer(calls(*same, finish="tool_calls")),
        decode(whole({"tool_calls": same})),
    ):
        assert [one.id for one in response.tool_calls] == ["x", "x_1"]


def test_arguments_wait_until_the_name_is_known_s20() -> None:
    """S20: whoever shows calls needs a name first."""
    body = sse(
        calls(call(0, "a", None, '{"x":')),
        calls(call(0, None, "f", "1}")),
        chunk(finish="tool_calls"),
    )
    events, _ = read([body])
    assert events[1:3] == [ToolCallStarted(0, "a", "f"), ToolCallDelta(0, '{"x":1}')]


def test_a_call_that_never_gets_a_name_is_an_error_unless_the_answer_was_cut_off() -> None:
    """S20: it cannot be run, and it cannot be sent back."""
    nameless = calls(call(0, "a", None, "{}"))
    with pytest.raises(MalformedResponse, match="without a name"):
        answer(nameless, chunk(finish="tool_calls"))
    assert answer(nameless, chunk(finish="length")).tool_calls == ()


def test_a_name_may_come_in_pieces_or_again_and_again() -> None:
    """Recorded from Kimi behind OpenRouter: id and name stand in every fragment."""
    response = answer(
        calls(call(0, "0", "llm_version", "")),
        calls(call(0, "0", "llm_version", "{}")),
        calls(call(1, "1", "get_", None)),
        calls(call(1, None, "time", "{}")),
        chunk(finish="tool_calls"),
    )
    assert [(one.id, one.name) for one in response.tool_calls] == [
        ("0", "llm_version"),
        ("1", "get_time"),
    ]


def test_calls_keep_the_order_in_which_they_appeared() -> None:
    """Even if a later one is complete first."""
    response = answer(
        calls(call(0, "a", None, None)),
        calls(call(1, "b", "g", "{}")),
        calls(call(0, None, "f", "{}")),
        chunk(finish="tool_calls"),
    )
    assert [one.name for one in response.tool_calls] == ["f", "g"]


def test_a_call_without_arguments_has_an_empty_object() -> None:
    """Empty, null or missing is how servers say that there are none; cut off, it stays empty."""
    for arguments in ("", None):
        one = call(0, "a", "f", arguments)
        assert answer(calls(one, finish="tool_calls")).tool_calls == (ToolCall("a", "f", "{}"),)
        assert decode(whole({"tool_calls": [one]})).tool_calls == (ToolCall("a", "f", "{}"),)
    cut = answer(calls(call(0, "a", "f", ""), finish="length"))
    assert cut.tool_calls == (ToolCall("a", "f", ""),)


def test_arguments_given_as_an_object_become_its_text() -> None:
    """Some servers forget that the protocol wants a string."""
    one = {"id": "a", "function": {"name": "f", "arguments": {"x": [1]}}}
    assert both({"tool_calls": [one]}, "tool_calls").tool_calls == (
        ToolCall("a", "f", '{"x":[1]}'),
    )


def test_the_legacy_function_call_is_a_call() -> None:
    """Whole and streamed, with an id made up."""
    response = both(
        {"content": None, "function_call": {"name": "f", "arguments": "{}"}}, "function_call"
    )
    assert response.tool_calls == (ToolCall("call_0adc2896_0", "f", "{}"),)
    assert response.stop_reason is StopReason.TOOL_CALLS
    streamed = answer(
        chunk({"function_call": {"name": "f", "arguments": ""}}),
        chunk({"function_call": {"arguments": '{"x":'}}),
        chunk({"function_call": {"arguments": "1}"}}),
        chunk(finish="function_call"),
    )
    assert streamed.tool_calls == (ToolCall("call_0adc2896_0", "f", '{"x":1}'),)


def test_ids_that_are_made_up_differ_from_answer_to_answer() -> None:
    """A session holds many answers; the same bytes always give the same ids."""
    first = answer({**calls(call(0, None, "f", "{}")), "id": "a"}, chunk(finish="tool_calls"))
    other = answer({**calls(call(0, None, "f", "{}")), "id": "b"}, chunk(finish="tool_calls"))
    again = answer({**calls(call(0, None, "f", "{}")), "id": "a"}, chunk(finish="tool_calls"))
    assert first.tool_calls == again.tool_calls
    assert first.tool_calls[0].id != other.tool_calls[0].id


@pytest.mark.parametrize("last", [call(0, None, "f", ""), call(0, "", "f", ""), call(0, "c1", "f")])
def test_a_name_that_is_said_again_at_the_end_is_no_call(last: dict[str, Any]) -> None:
    """S16: it would run a second time, without its arguments."""
    response = answer(calls(call(0, "c1", "f", '{"a":1}')), calls(last), chunk(finish="tool_calls"))
    assert response.tool_calls == (ToolCall("c1", "f", '{"a":1}'),)


@pytest.mark.parametrize("id", [None, "c1"])
def test_arguments_that_are_said_again_at_the_end_are_said_once(id: str | None) -> None:
    """S16: not one after the other, which no tool could read."""
    response = answer(
        calls(call(0, "c1", "f", '{"a":')),
        calls(call(0, None, None, "1}")),
        calls(call(0, id, "f", '{"a":1}')),
        chunk(finish="tool_calls"),
    )
    assert response.tool_calls == (ToolCall("c1", "f", '{"a":1}'),)


def test_an_empty_object_that_stands_for_arguments_to_come_is_replaced_by_them() -> None:
    """S16: some servers announce a call with it; if nothing comes, it is what was meant."""
    filled = answer(
        calls(call(0, "c1", "f", "{}")),
        calls(call(0, None, None, '{"a"')),
        calls(call(0, None, None, ":1}")),
        chunk(finish="tool_calls"),
    )
    assert filled.tool_calls == (ToolCall("c1", "f", '{"a":1}'),)
    empty = answer(calls(call(0, "c1", "f", "{}")), chunk(finish="tool_calls"))
    assert empty.tool_calls == (ToolCall("c1", "f", "{}"),)


def test_the_free_text_of_a_custom_tool_becomes_an_argument() -> None:
    """OpenAI's custom tools take text, not JSON; the vendor's SDK fails on such an answer."""
    custom = {"id": "a", "type": "custom", "custom": {"name": "math", "input": '4 + "4"'}}
    found = both({"content": None, "tool_calls": [custom]}, "tool_calls").tool_calls
    assert found == (ToolCall("a", "math", '{"input":"4 + \\"4\\""}'),)
    streamed = answer(
        calls({"index": 0, "id": "a", "custom": {"name": "math", "input": "4 "}}),
        calls({"index": 0, "custom": {"input": "+ 4"}}),
        chunk(finish="tool_calls"),
    )
    assert streamed.tool_calls == (ToolCall("a", "math", '{"input":"4 + 4"}'),)


@pytest.mark.parametrize("arguments", ['{"x": ', '{"x": ' + "1" * 5000 + "}", '{"x": NaN}'])
def test_invalid_arguments_are_kept_as_they_are_and_sent_back_as_an_object(arguments: str) -> None:
    """A04, A05, A07: whatever the finish reason says, it is for the caller to refuse them."""
    response = answer(calls(call(0, "a", "f", arguments), finish="tool_calls"))
    assert response.tool_calls == (ToolCall("a", "f", arguments),)
    history = (Message("assistant", response.parts), Message.tool("a", "invalid"))
    encoded = OpenAIChatCodec().encode(LLMRequest(history), stream=False)
    body = msgspec.json.decode(b"".join(encoded.body))
    assert body["messages"][0]["tool_calls"][0]["function"]["arguments"] == "{}"
