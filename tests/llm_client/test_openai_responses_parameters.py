"""Parameters of a Responses request, and requests that are refused before they are sent."""

from __future__ import annotations

from typing import Any

import pytest

from llm_client.codecs.openai_responses import OpenAIResponsesCodec, responses_dialect
from llm_client.errors import LocalProtocolError, UnsupportedFeature
from llm_client.types import LLMRequest, Message, NamedTool, OutputSchema, ToolSpec
from tests.responses_bodies import CLOSED, TOOL, ask, body, params

FUNCTION = {
    "type": "function",
    "name": "look_up",
    "description": "Looks something up.",
    "parameters": CLOSED,
    "strict": False,
}
SEARCH = {"type": "web_search", "search_context_size": "low"}
OPEN: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}}


def test_nothing_is_sent_that_was_not_asked_for() -> None:
    """A parameter that a model does not know is a 400. Storing is the provider's default, so that
    not storing must be asked for."""
    assert params(ask()) == {"store": False}


def test_every_parameter_under_its_name() -> None:
    """OpenAI's own."""
    request = LLMRequest(
        (Message.user("hi"),),
        system="Be brief.",
        model="m",
        max_output_tokens=99,
        temperature=0.0,
        top_p=0.5,
        reasoning_effort="low",
        tools=(TOOL,),
        tool_choice="required",
        parallel_tool_calls=False,
        cache="1h",
        cache_key="session-1",
    )
    assert params(request, "openai", stream=True) == {
        "model": "m",
        "stream": True,
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "instructions": "Be brief.",
        "max_output_tokens": 99,
        "temperature": 0.0,
        "top_p": 0.5,
        "reasoning": {"effort": "low"},
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "prompt_cache_key": "session-1",
        "tools": [FUNCTION],
    }


def test_a_vendor_that_stores_is_not_asked_for_encrypted_reasoning() -> None:
    """It knows its own by their ids."""
    assert params(ask(), "openai", store=True) == {"store": True}


def test_the_name_of_a_conversation_is_a_hint_of_at_most_64_letters() -> None:
    """Only where it is known to be understood."""
    long = "x" * 65
    key = params(ask(cache_key=long), "xai")["prompt_cache_key"]
    assert key == params(ask(cache_key=long), "openai")["prompt_cache_key"]
    assert len(key) <= 64
    assert "prompt_cache_key" not in params(ask(cache_key="k"), "compatible")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"stop": ("x",)}, "stop"),
        ({"seed": 1}, "seed"),
        ({"thinking_tokens": 1024}, "thinking_tokens"),
    ],
)
def test_what_the_protocol_has_no_word_for_is_refused(fields: dict[str, Any], named: str) -> None:
    """Left out silently it would change the answer."""
    with pytest.raises(UnsupportedFeature, match=f"no parameter for {named}"):
        params(ask(**fields))


def test_tools_are_strict_only_where_they_can_be() -> None:
    """J03: and never by the protocol's default, which rewrites the schema."""
    tools = (
        ToolSpec("a", "", CLOSED, strict=True),
        ToolSpec("b", "", OPEN, strict=True),
        ToolSpec("c", "", CLOSED, strict=False),
        ToolSpec("d", "", CLOSED),
        ToolSpec("e", "", {}),
    )
    found = params(ask(tools=tools))["tools"]
    assert [one["strict"] for one in found] == [True, False, False, False, False]
    assert found[-1]["parameters"] == {"type": "object", "properties": {}}


def test_tools_of_the_provider_are_sent_as_they_are() -> None:
    """Behind our own, or alone."""
    assert params(ask(tools=(TOOL,), server_tools=(SEARCH,)))["tools"] == [FUNCTION, SEARCH]
    assert params(ask(server_tools=(SEARCH,), tool_choice="none")) == {
        "store": False,
        "tools": [SEARCH],
        "tool_choice": "none",
    }


def test_a_named_tool_is_asked_for_by_its_type() -> None:
    """Custom tools are the provider's to describe and ours to answer."""
    custom = {"type": "custom", "name": "sql"}
    request = {"tools": (TOOL,), "server_tools": (custom, SEARCH)}
    for name, kind in (("look_up", "function"), ("sql", "custom")):
        found = params(ask(tool_choice=NamedTool(name), **request))
        assert found["tool_choice"] == {"type": kind, "name": name}
    with pytest.raises(LocalProtocolError, match="none of the request's tools"):
        params(ask(tool_choice=NamedTool("other"), **request))


def test_an_answer_can_be_bound_to_a_schema() -> None:
    """J03: strictly where the schema allows it."""
    schema = OutputSchema("city", CLOSED, description="A city.")
    assert params(ask(output_schema=schema))["text"] == {
        "format": {
            "type": "json_schema",
            "name": "city",
            "schema": CLOSED,
            "strict": True,
            "description": "A city.",
        }
    }
    loose = params(ask(output_schema=OutputSchema("city", OPEN)))
    assert loose["text"]["format"]["strict"] is False
    assert OpenAIResponsesCodec().binds_output


def test_extra_parameters_have_the_last_word() -> None:
    """Next to what the request itself says of the same object; encrypted reasoning stays asked
    for."""
    request = ask(
        temperature=0.5,
        reasoning_effort="low",
        output_schema=OutputSchema("city", CLOSED),
        extra={
            "temperature": 1,
            "reasoning": {"summary": "auto"},
            "text": {"verbosity": "low"},
            "include": ["reasoning.encrypted_content", "file_search_call.results"],
            "service_tier": "flex",
        },
    )
    found = params(request, "openai")
    assert found["temperature"] == 1
    assert found["reasoning"] == {"effort": "low", "summary": "auto"}
    assert found["text"].keys() == {"format", "verbosity"}
    assert found["include"] == ["reasoning.encrypted_content", "file_search_call.results"]
    assert found["service_tier"] == "flex"
    assert params(ask(extra={"include": ["a"]}))["include"] == ["a"]
    assert params(ask(extra={"reasoning": {"summary": "auto"}}))["reasoning"] == {"summary": "auto"}


@pytest.mark.parametrize("name", ["input", "tools", "stream", "store", "instructions"])
def test_extra_may_not_replace_what_the_codec_itself_writes(name: str) -> None:
    """The codec must know what it has sent."""
    with pytest.raises(UnsupportedFeature, match=name):
        params(ask(extra={name: None}))


def test_earlier_turns_may_be_held_by_the_provider() -> None:
    """In one of two ways; a result may then answer a call that is not here."""
    result = Message.tool("call_1", "done")
    for extra in ({"previous_response_id": "resp_1"}, {"conversation": "conv_1"}):
        found = body(LLMRequest((result,), extra=extra))
        assert found["input"][0]["call_id"] == "call_1"
        assert found | extra == found
    with pytest.raises(LocalProtocolError, match="R06"):
        body(LLMRequest((result,)))
    with pytest.raises(LocalProtocolError, match="R06"):
        body(LLMRequest((result,), extra={"previous_response_id": None}))
    with pytest.raises(LocalProtocolError, match="R01"):
        params(ask(extra={"previous_response_id": "a", "conversation": "b"}))


def test_a_request_says_something() -> None:
    """Unless the provider holds what was said, or the prompt."""
    for messages in ((), (Message.user(""),)):
        with pytest.raises(LocalProtocolError, match="R11"):
            body(LLMRequest(messages))
    for name in ("previous_response_id", "prompt"):
        assert body(LLMRequest((), extra={name: "x"}))["input"] == []


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"tools": (ToolSpec("a b", "", {}),)}, "R02"),
        ({"tools": (TOOL, TOOL)}, "R02"),
        ({"tools": tuple(ToolSpec(f"t{n}", "", {}) for n in range(129))}, "R02"),
        ({"output_schema": OutputSchema("a b", CLOSED)}, "R02"),
        ({"temperature": float("nan")}, "X1"),
        ({"extra": {"a": [float("inf")]}}, "X1"),
        ({"server_tools": ({"type": "x", "n": float("inf")},)}, "X1"),
        ({"tools": (ToolSpec("a", "", {"maximum": float("inf")}),)}, "X1"),
        ({"system": "\ud800"}, "X1"),
    ],
)
def test_an_illegal_parameter_is_refused_with_its_rule(fields: dict[str, Any], rule: str) -> None:
    """Before anything is sent."""
    with pytest.raises(LocalProtocolError) as found:
        params(ask(**fields))
    assert found.value.rule == rule


def test_a_vendor_without_an_entry_speaks_what_all_accept() -> None:
    """Under its own name, which is also that of its seals."""
    dialect = responses_dialect("somebody")
    assert (dialect.provider, dialect.origin) == ("somebody", "somebody.responses")
    assert params(ask(cache_key="k"), "somebody") == {"store": False}
    assert repr(OpenAIResponsesCodec(dialect)) == "OpenAIResponsesCodec('somebody')"


def test_the_wire_says_what_it_is() -> None:
    """Path and headers."""
    codec = OpenAIResponsesCodec()
    for stream, accepted in ((True, "text/event-stream"), (False, "application/json")):
        found = codec.encode(ask(), stream=stream)
        assert found.path == "/responses"
        assert found.headers["accept"] == accepted
