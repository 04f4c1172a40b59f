"""Parameters of a Chat Completions request, and requests that are refused before they are sent."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from llm_client.codecs.openai_chat import OpenAIChatCodec, chat_dialect
from llm_client.errors import LocalProtocolError, UnsupportedFeature
from llm_client.types import (
    Audio,
    File,
    Image,
    LLMRequest,
    Message,
    NamedTool,
    OutputSchema,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    ToolSpec,
)
from tests.chat_bodies import CLOSED, TOOL, ask, body, called, params, wire


def test_nothing_is_sent_that_was_not_asked_for() -> None:
    """A parameter that a model does not know is a 400."""
    assert params(ask()) == {}


def test_every_parameter_under_its_name() -> None:
    """OpenAI's names; the output limit under its new one."""
    request = ask(
        model="m",
        max_output_tokens=9,
        temperature=0.0,
        top_p=0.5,
        seed=7,
        stop=("a", "b"),
        reasoning_effort="low",
        tools=(TOOL,),
        tool_choice="required",
        parallel_tool_calls=False,
    )
    assert params(request, "openai", stream=True) == {
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_completion_tokens": 9,
        "temperature": 0.0,
        "top_p": 0.5,
        "seed": 7,
        "stop": ["a", "b"],
        "reasoning_effort": "low",
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "look_up",
                    "description": "Looks something up.",
                    "parameters": CLOSED,
                },
            }
        ],
    }


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        ("mistral", {"stream": True, "max_tokens": 9, "random_seed": 7, "tool_choice": "any"}),
        (
            "groq",
            {
                "stream": True,
                "stream_options": {"include_usage": True},
                "max_completion_tokens": 9,
                "seed": 7,
                "tool_choice": "required",
            },
        ),
    ],
)
def test_vendors_have_their_own_names(provider: str, expected: dict[str, Any]) -> None:
    """Each deviation is data of the dialect."""
    request = ask(max_output_tokens=9, seed=7, tools=(TOOL,), tool_choice="required")
    found = params(request, provider, stream=True)
    del found["tools"]
    assert found == expected


def test_openrouter_takes_the_effort_in_an_object() -> None:
    """One parameter for all the models behind it."""
    assert params(ask(reasoning_effort="high"), "openrouter") == {"reasoning": {"effort": "high"}}


def test_reasoning_is_bounded_in_tokens_where_a_vendor_counts_it_so() -> None:
    """Elsewhere a bound that would be ignored is refused."""
    request = ask(thinking_tokens=2000)
    assert params(request, "openrouter") == {"reasoning": {"max_tokens": 2000}}
    assert params(request, "qwen") == {"thinking_budget": 2000}
    with pytest.raises(UnsupportedFeature, match="openai has no parameter for thinking_tokens"):
        params(request, "openai")


def test_tools_that_the_provider_runs_follow_our_own_as_they_are() -> None:
    """Each vendor has its own form of them."""
    search = {"type": "web_search", "max_results": 3}
    tools = params(ask(tools=(TOOL,), server_tools=(search,)))["tools"]
    assert [tool["type"] for tool in tools] == ["function", "web_search"]
    assert params(ask(server_tools=(search,))) == {"tools": [search]}


def test_a_wish_for_caching_is_no_parameter_here() -> None:
    """These vendors keep prompts without being asked."""
    assert params(ask(cache="5m")) == {}


def test_aliases_and_unknown_vendors_have_a_dialect() -> None:
    """An unknown vendor speaks the common part under its own name."""
    assert chat_dialect("dashscope") == chat_dialect("qwen")
    assert chat_dialect("acme").provider == "acme"
    assert "acme" in repr(OpenAIChatCodec(chat_dialect("acme")))


def test_extra_has_the_last_word_except_on_what_the_request_itself_says() -> None:
    """For parameters that only one vendor has, or to override."""
    request = ask(temperature=0.0, extra={"temperature": 1.0, "enable_thinking": False})
    assert params(request) == {"temperature": 1.0, "enable_thinking": False}
    for name in ("messages", "tools", "stream"):
        with pytest.raises(UnsupportedFeature, match=name):
            params(ask(extra={name: []}))


def test_a_tool_can_be_named() -> None:
    """And must then be one of the request's."""
    assert params(ask(tools=(TOOL,), tool_choice=NamedTool("look_up")))["tool_choice"] == {
        "type": "function",
        "function": {"name": "look_up"},
    }
    with pytest.raises(LocalProtocolError, match="C02"):
        params(ask(tools=(TOOL,), tool_choice=NamedTool("other")))


def test_tool_parameters_are_left_out_without_tools() -> None:
    """Vendors refuse tool_choice and parallel_tool_calls without tools."""
    assert params(ask(tool_choice="required", parallel_tool_calls=True)) == {}


def test_a_tool_without_parameters_gets_an_empty_object() -> None:
    """Some vendors insist on a schema."""
    function = params(ask(tools=(ToolSpec("f", "", {}),)))["tools"][0]["function"]
    assert function["parameters"] == {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("change", "strict"),
    [
        ({}, True),
        ({"additionalProperties": True}, False),
        ({"required": []}, False),
        ({"properties": {"city": {"oneOf": [{"type": "string"}]}}}, False),
        ({"properties": {"city": {"allOf": [{"type": "string"}]}}}, False),
        ({"properties": {"city": {"type": "object", "properties": {}}}}, True),
        ({"properties": {"city": {"type": "object"}}}, False),
        ({"properties": {"city": {"type": "array", "items": {"type": "object"}}}}, False),
        ({"properties": {"city": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}, True),
        ({"properties": {"city": {"anyOf": [{"type": "object"}]}}}, False),
        ({"properties": {"city": {"$ref": "#/$defs/c"}}, "$defs": {"c": CLOSED}}, True),
        (
            {"properties": {"city": {"$ref": "#/$defs/c"}}, "$defs": {"c": {"type": "object"}}},
            False,
        ),
        ({"properties": {"city": True}}, False),
    ],
)
def test_strict_is_asked_for_only_where_the_schema_allows_it(
    change: dict[str, Any], strict: bool
) -> None:
    """J03: one open object under strict refuses the whole request. J02: also behind $ref."""
    schema = {**CLOSED, **change}
    tool = ToolSpec("f", "", schema, strict=True)
    assert params(ask(tools=(tool,)))["tools"][0]["function"]["strict"] is strict
    output = params(ask(output_schema=OutputSchema("answer", schema)))["response_format"]
    assert output["json_schema"]["strict"] is strict


def test_what_strict_mode_takes_in_another_form_is_sent_in_that_form() -> None:
    """Objects that do not say that they are open are closed (J03); an answer also states defaults,
    and is told bounds in words. The schema is not touched where strict is not asked for."""
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "default": "Bern", "maxLength": 9}},
    }
    closed = {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "(maxLength 9)"}},
        "required": ["city"],
        "additionalProperties": False,
    }
    strict, loose = (
        params(ask(output_schema=OutputSchema("answer", schema, strict=strict)))
        for strict in (True, False)
    )
    assert strict["response_format"]["json_schema"] == {
        "name": "answer",
        "schema": closed,
        "strict": True,
    }
    assert loose["response_format"]["json_schema"]["schema"] == schema
    tool = ToolSpec("f", "", {"type": "object", "properties": {}}, strict=True)
    assert params(ask(tools=(tool,)))["tools"][0]["function"]["parameters"] == {
        "type": "object",
        "properties": {},
        "additionalProperties": False,
    }


def test_an_output_schema_becomes_a_response_format() -> None:
    """With its name and description."""
    schema = OutputSchema("answer", CLOSED, strict=False, description="The answer.")
    assert params(ask(output_schema=schema)) == {
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "name": "answer",
                "schema": CLOSED,
                "description": "The answer.",
                "strict": False,
            },
        }
    }


def test_a_vendor_without_schemas_says_what_to_do_instead() -> None:
    """ "This response_format type is unavailable now" would come back otherwise."""
    with pytest.raises(UnsupportedFeature, match="json_object"):
        params(ask(output_schema=OutputSchema("answer", CLOSED)), "deepseek")


LONE = "\ud83d"


@pytest.mark.parametrize(
    ("request_", "rule"),
    [
        (ask(stop=("a", "b", "c", "d", "e")), "C04"),
        (ask(tools=(ToolSpec("a b", "", {}),)), "C01"),
        (ask(tools=(ToolSpec("x" * 65, "", {}),)), "C01"),
        (ask(tools=(TOOL, TOOL)), "C02"),
        (ask(tools=tuple(ToolSpec(f"t{n}", "", {}) for n in range(129))), "C03"),
        (ask(output_schema=OutputSchema("a b", CLOSED)), "C01"),
        (ask(temperature=float("nan")), "X1"),
        (ask(extra={"a": [{"b": float("inf")}]}), "X1"),
        (ask(extra={"a": object()}), "X1"),
        (ask(tools=(ToolSpec("f", "", {"default": float("nan")}),)), "X1"),
        (ask(tools=(ToolSpec("f", LONE, {}),)), "X1"),
        (ask(system=LONE), "X1"),
        (LLMRequest((Message.user(LONE),)), "X1"),
        (LLMRequest((Message.assistant(LONE),)), "X1"),
        (LLMRequest(()), "C09"),
        (LLMRequest((Message("user", (ToolCall("a", "f"),)),)), "C05"),
        (LLMRequest((Message("user", (Text("a"), Thinking("b"))),)), "C05"),
        (LLMRequest((Message("system", (Image(url="u"),)),)), "C05"),
        (LLMRequest((Message("assistant", (ToolResult("a", ()),)),)), "C05"),
        (LLMRequest((called(ToolCall("a", "f")), Message("tool", (Text("x"),)))), "C05"),
        (LLMRequest((called(ToolCall("a", "f")), Message("tool", ()))), "C06"),
        (LLMRequest((called(ToolCall("a", "f")), Message.tool("", "x"))), "C06"),
    ],
)
def test_what_a_provider_would_refuse_is_refused_here_with_the_rule(
    request_: LLMRequest, rule: str
) -> None:
    """Before anything is sent, naming what to change."""
    with pytest.raises(LocalProtocolError) as found:
        body(request_)
    assert found.value.rule == rule
    assert not found.value.retryable
    assert not found.value.sent


def test_a_schema_nested_beyond_reason_is_an_error_of_ours() -> None:
    """Not a RecursionError."""
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"a": deep}
    with pytest.raises(LocalProtocolError):
        body(ask(tools=(ToolSpec("f", "", deep),)))


@pytest.mark.parametrize(
    ("part", "says"),
    [
        (Image(), "the image part is empty; give it data or a url"),
        (File(), "the file part is empty; give it data or a url"),
        (Audio(id="x"), "an audio part needs its data"),
    ],
)
def test_a_part_that_says_nothing_the_protocol_can_carry_is_named(part: Part, says: str) -> None:
    """Neither data nor an address."""
    with pytest.raises(UnsupportedFeature, match=says):
        wire(Message("user", (part,)))


def test_data_of_images_is_not_copied_into_errors() -> None:
    """An error is logged; megabytes of base64 are not."""
    data = b"x" * 10_000
    with pytest.raises(LocalProtocolError) as found:
        wire(Message("user", (Image(data), Text(LONE))))
    assert base64.b64encode(data).decode()[:100] not in str(found.value)
    assert len(str(found.value)) < 300


def test_headers_and_path_say_what_is_wanted() -> None:
    """A stream is asked for as one."""
    codec = OpenAIChatCodec()
    request = ask()
    assert codec.encode(request, stream=True).headers["accept"] == "text/event-stream"
    assert codec.encode(request, stream=False).headers["accept"] == "application/json"
    assert codec.encode(request, stream=False).path == "/chat/completions"
