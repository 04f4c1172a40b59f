"""Tool calls in Responses answers."""

from __future__ import annotations

from typing import Any

import pytest

from llm_client.errors import MalformedResponse
from llm_client.stream import ToolCallDelta, ToolCallStarted
from llm_client.types import Seal, StopReason, ToolCall
from tests.responses_streams import (
    CREATED,
    added,
    answer,
    arguments,
    both,
    done,
    end,
    event,
    function_call,
    read,
    sse,
)

ORIGIN = "openai.responses"


def call(**fields: Any) -> dict[str, Any]:
    """A call item."""
    return {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", **fields}


def begun(item: dict[str, Any]) -> dict[str, Any]:
    """It begins."""
    return event("output_item.added", 0, item=item)


def finished(item: dict[str, Any]) -> dict[str, Any]:
    """It is whole."""
    return event("output_item.done", 0, item=item)


def test_a_call_comes_as_it_is_written() -> None:
    """The name at once, then the arguments piece by piece."""
    events, _ = read([sse(CREATED, *function_call(0, "1", "f", '{"a"', ":1}"), end())])
    assert events[1:4] == [
        ToolCallStarted(0, "call_1", "f", Seal(ORIGIN, id="fc_1")),
        ToolCallDelta(0, '{"a"'),
        ToolCallDelta(0, ":1}"),
    ]


def test_calls_make_the_answer_a_wish_for_tools() -> None:
    """The protocol itself says no more than `completed`."""
    response = both(call(arguments='{"a":1}'), call(id="fc_2", call_id="call_2", arguments="{}"))
    assert response.stop_reason is StopReason.TOOL_CALLS
    assert response.raw_finish == "completed"
    assert [one.id for one in response.tool_calls] == ["call_1", "call_2"]


def test_a_tool_that_the_provider_ran_is_no_wish_for_tools() -> None:
    """F05: nobody loops on it."""
    ran = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    mcp = {"type": "mcp_call", "id": "mcp_1", "name": "f", "arguments": "{}", "output": "x"}
    response = both(ran, mcp)
    assert response.tool_calls == ()
    assert response.stop_reason is StopReason.END


def test_no_arguments_are_an_empty_object() -> None:
    """Unless the call was cut off before they came."""
    assert both(call(arguments="")).tool_calls[0].arguments == "{}"
    cut = answer(CREATED, begun(call(arguments="")), end("incomplete"))
    assert cut.tool_calls[0].arguments == ""
    assert cut.truncated


@pytest.mark.parametrize(
    "events",
    [
        [event("function_call_arguments.done", 0, arguments='{"a":1}')],
        [finished(call(arguments='{"a":1}'))],
        [finished(call(arguments={"a": 1}))],
        [arguments(0, '{"a"'), finished(call(arguments='{"a":1}'))],
        [arguments(0, '{"a":1}'), finished(call(arguments='{"a":1}'))],
        [event("function_call_arguments.delta", item_id="fc_1", delta='{"a":1}')],
        [event("function_call_arguments.delta", delta='{"a":1}')],
    ],
)
def test_arguments_are_found_wherever_they_come_s14(events: list[dict[str, Any]]) -> None:
    """S14: with a place, with an id, with neither; in pieces, whole, or both, and never twice."""
    response = answer(CREATED, begun(call(arguments="")), *events, end())
    assert [one.arguments for one in response.tool_calls] == ['{"a":1}']


def test_a_new_item_at_a_used_place_is_a_new_call() -> None:
    """S16: some servers number every item 0."""
    first, second = (function_call(0, number, "f", "{}") for number in ("1", "2"))
    response = answer(CREATED, *first, *second, end())
    assert [one.id for one in response.tool_calls] == ["call_1", "call_2"]


def test_a_call_without_an_id_gets_one_s19() -> None:
    """S19: that of its item, or one made up; one that comes late is waited for."""
    late = call(arguments="{}")
    early = {key: value for key, value in late.items() if key != "call_id"}
    response = answer(CREATED, begun(early), arguments(0, "{}"), finished(late), end())
    assert response.tool_calls == (ToolCall("call_1", "f", "{}", Seal(ORIGIN, id="fc_1")),)
    assert both(early).tool_calls[0].id == "fc_1"
    assert both({"type": "function_call", "name": "f"}).tool_calls == (
        ToolCall("call_0", "f", "{}"),
    )


def test_arguments_before_the_name_wait_for_it() -> None:
    """S20: and a call that never gets one is no call."""
    nameless = {key: value for key, value in call().items() if key != "name"}
    opened = [CREATED, begun(nameless), arguments(0, '{"a":1}')]
    response = answer(*opened, finished(call(arguments='{"a":1}')), end())
    assert response.tool_calls[0].arguments == '{"a":1}'
    with pytest.raises(MalformedResponse, match="no name"):
        answer(*opened, end())


def test_the_namespace_of_a_tool_is_kept() -> None:
    """It goes back with the call."""
    (found,) = both(call(namespace="crm", arguments="{}")).tool_calls
    assert found.seal == Seal(ORIGIN, id="fc_1", kind="namespace:crm")


def test_a_custom_tools_input_becomes_an_argument() -> None:
    """Plain text, so that every tool is called in the same way."""
    fields = {"id": "ctc_1", "call_id": "call_1", "name": "sql"}
    whole = both({"type": "custom_tool_call", "input": 'SELECT "é\n"', **fields})
    (found,) = whole.tool_calls
    assert found.arguments == '{"input":"SELECT \\"é\\n\\""}'
    assert found.seal == Seal(ORIGIN, id="ctc_1", kind="custom_tool_call")
    streamed = answer(
        CREATED,
        added(0, "custom_tool_call", input="", **fields),
        event("custom_tool_call_input.delta", 0, delta='SELECT "'),
        event("custom_tool_call_input.delta", 0, delta='é\n"'),
        event("custom_tool_call_input.done", 0, input='SELECT "é\n"'),
        done(0, "custom_tool_call", input='SELECT "é\n"', **fields),
        end(),
    )
    assert streamed.parts == whole.parts
    assert both({"type": "custom_tool_call", "input": "", **fields}).tool_calls[0].arguments == (
        '{"input":""}'
    )


def test_a_custom_call_that_was_cut_off_is_no_valid_one() -> None:
    """A03: its arguments stay open, so that nobody runs half of a command."""
    fields = {"id": "ctc_1", "call_id": "call_1", "name": "sh"}
    response = answer(
        CREATED,
        added(0, "custom_tool_call", **fields),
        event("custom_tool_call_input.delta", 0, delta="rm -rf /tm"),
        done(0, "custom_tool_call", status="incomplete", input="rm -rf /tm", **fields),
        end("incomplete", incomplete_details={"reason": "max_output_tokens"}),
    )
    assert response.tool_calls[0].arguments == '{"input":"rm -rf /tm'
    assert response.truncated


def test_a_call_that_was_cut_off_is_marked() -> None:
    """A03, A04: the reason says that the arguments may lack their end."""
    fields = call(arguments='{"path":"/', status="incomplete")
    response = both(fields, status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    assert response.stop_reason is StopReason.LENGTH
    assert response.tool_calls[0].arguments == '{"path":"/'


def test_numbers_of_thousands_of_digits_stay_text() -> None:
    """A07: in the arguments they are the model's business."""
    digits = '{"a":' + "9" * 5000 + "}"
    assert both(call(arguments=digits)).tool_calls[0].arguments == digits


def test_a_call_that_only_the_whole_answer_tells_of_is_not_lost() -> None:
    """And the one that was told before is not doubled, in whatever order they stand there."""
    told = call(id="fc_1", call_id="call_1", arguments='{"n":1}')
    late = call(id="fc_0", call_id="call_0", arguments='{"n":0}')
    response = answer(
        CREATED, begun(told), finished(told), end(output=[late, told], status="completed")
    )
    assert [(one.id, one.arguments) for one in response.tool_calls] == [
        ("call_1", '{"n":1}'),
        ("call_0", '{"n":0}'),
    ]


def test_two_calls_under_one_id_get_ids_of_their_own() -> None:
    """S16: their results could not be told apart, and no vendor would take the history."""
    twice = [call(id="fc_1", arguments='{"n":1}'), call(id="fc_2", arguments='{"n":2}')]
    response = both(*twice)
    assert len({one.id for one in response.tool_calls}) == 2
    assert response.tool_calls[0].id == "call_1"
