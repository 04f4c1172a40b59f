"""What no request can hold is refused where it is made, before anything is encoded or sent."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest

from llm_client import CallerError, LLMRequest, Message, NamedTool, ToolSpec

MESSAGES = (Message.user("Hello"),)
TOOL = ToolSpec("look", "Looks.", {"type": "object"})


@pytest.mark.parametrize("choice", ["any", "auto ", "", None, {"type": "function"}, ["auto"]])
def test_a_tool_choice_that_is_none_is_refused_with_those_that_are(choice: Any) -> None:
    with pytest.raises(CallerError) as caught:
        LLMRequest(MESSAGES, tool_choice=choice)
    assert repr(choice) in str(caught.value)
    assert "not 'auto', 'none', 'required' or NamedTool(name)" in str(caught.value)


@pytest.mark.parametrize("choice", ["auto", "none", "required", NamedTool("look")])
def test_each_tool_choice_that_is_one_is_taken(choice: Any) -> None:
    assert LLMRequest(MESSAGES, tools=(TOOL,), tool_choice=choice).tool_choice == choice


@pytest.mark.parametrize("stop", ["END", ["END"], None])
def test_stop_sequences_that_are_no_tuple_are_refused(stop: Any) -> None:
    with pytest.raises(CallerError, match=f"stop is of type {type(stop).__name__}; make it a tup"):
        LLMRequest(MESSAGES, stop=stop)


def test_tools_in_a_list_are_refused_for_they_could_change_under_the_encoder() -> None:
    with pytest.raises(CallerError, match="tools is of type list; make it a tuple, even of one"):
        LLMRequest(MESSAGES, tools=cast("Any", [TOOL]))


def test_a_changed_copy_is_checked_too() -> None:
    request = LLMRequest(MESSAGES)
    with pytest.raises(CallerError, match="'any'"):
        msgspec.structs.replace(request, tool_choice=cast("Any", "any"))
