"""Everything of a Messages request but its messages."""

from __future__ import annotations

from typing import Any

import pytest

from llm_client.codecs.anthropic import AnthropicCodec, anthropic_dialect
from llm_client.errors import LocalProtocolError, UnsupportedFeature
from llm_client.types import LLMRequest, Message, NamedTool, OutputSchema, ToolSpec
from tests.anthropic_bodies import CLOSED, NEW, OLD, TOOL, ask, body, params


def test_a_plain_request_holds_its_model_and_a_limit() -> None:
    """The protocol demands a limit; nothing else is sent unasked."""
    assert params(ask()) == {"model": OLD, "max_tokens": 8192}
    assert params(ask(), stream=True) == {"model": OLD, "max_tokens": 8192, "stream": True}
    assert params(ask(model="claude-3-opus-20240229"))["max_tokens"] == 4096


def test_what_is_set_is_sent_under_the_protocols_names() -> None:
    """Each in its own form."""
    request = ask(max_output_tokens=9, temperature=0.5, top_p=0.9, stop=("END",), system="Be.")
    assert params(request) == {
        "model": OLD,
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop_sequences": ["END"],
        "system": [{"type": "text", "text": "Be."}],
    }


def test_the_headers_name_the_version_and_the_betas() -> None:
    """By dialect."""
    codec = AnthropicCodec()
    assert codec.encode(ask(), stream=True).headers == {
        "content-type": "application/json",
        "accept": "text/event-stream",
        "anthropic-version": "2023-06-01",
    }
    beta = anthropic_dialect("anthropic")
    beta = type(beta)(provider="x", origin="anthropic", betas=("a-2025", "b-2026"))
    assert AnthropicCodec(beta).encode(ask(), stream=False).headers["anthropic-beta"] == (
        "a-2025,b-2026"
    )


def test_vertex_names_the_model_in_the_address_and_the_version_in_the_body() -> None:
    """The same protocol behind another address."""
    codec = AnthropicCodec(anthropic_dialect("vertex"))
    request = ask(model="claude-sonnet-4-5@20250929")
    plain, streamed = (codec.encode(request, stream=stream) for stream in (False, True))
    assert plain.path == "/publishers/anthropic/models/claude-sonnet-4-5@20250929:rawPredict"
    assert streamed.path.endswith(":streamRawPredict")
    assert "anthropic-version" not in plain.headers
    found = body(request, "vertex")
    assert found["anthropic_version"] == "vertex-2023-10-16"
    assert "model" not in found
    with pytest.raises(UnsupportedFeature, match="model"):
        codec.encode(ask(model=None), stream=False)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"seed": 1}, "seed"),
        ({"stop": ("END", "\n")}, "blanks"),
        ({"extra": {"system": "x"}}, "system"),
        ({"extra": {"messages": []}}, "messages"),
        ({"model": NEW, "temperature": 0.0}, "temperature"),
        ({"model": "claude-sonnet-5", "top_p": 0.9}, "top_p"),
    ],
)
def test_what_the_protocol_or_the_model_has_no_word_for_is_refused(
    fields: dict[str, Any], match: str
) -> None:
    """Here, with what to do, instead of there."""
    with pytest.raises(UnsupportedFeature, match=match):
        params(ask(**fields))


def test_extra_has_the_last_word() -> None:
    """For what only this protocol has."""
    extra = {"metadata": {"user_id": "1"}, "max_tokens": 5}
    assert params(ask(extra=extra)) == {"model": OLD, **extra}
    with pytest.raises(LocalProtocolError, match="X1"):
        params(ask(extra={"top_k": float("nan")}))
    with pytest.raises(LocalProtocolError, match="X1"):
        params(ask(temperature=float("inf")))


def test_a_request_without_messages_is_refused() -> None:
    """Rule A08: there must be something to answer."""
    for messages in ((), (Message.user(" "),)):
        with pytest.raises(LocalProtocolError, match="A08"):
            body(LLMRequest(messages, "Be.", model=OLD))


# ── tools ─────────────────────────────────────────────────────────────────────────────────────────


def test_tools_are_sent_with_their_schemas_and_the_providers_own_behind_them() -> None:
    """Those verbatim."""
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
    nothing = ToolSpec("now", "", {})
    assert params(ask(tools=(TOOL, nothing), server_tools=(search,)))["tools"] == [
        {"name": "look_up", "description": "Looks something up.", "input_schema": CLOSED},
        {"name": "now", "input_schema": {"type": "object", "properties": {}}},
        search,
    ]
    assert params(ask(server_tools=(search,)))["tools"] == [search]


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({}, None),
        ({"tool_choice": "none"}, {"type": "none"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": NamedTool("look_up")}, {"type": "tool", "name": "look_up"}),
        ({"parallel_tool_calls": True}, None),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        (
            {"tool_choice": "required", "parallel_tool_calls": False},
            {"type": "any", "disable_parallel_tool_use": True},
        ),
        ({"tool_choice": "none", "parallel_tool_calls": False}, {"type": "none"}),
    ],
)
def test_a_tool_choice_has_its_form(fields: dict[str, Any], sent: dict[str, Any] | None) -> None:
    """ "auto" is what goes without saying."""
    assert params(ask(tools=(TOOL,), **fields)).get("tool_choice") == sent
    assert "tool_choice" not in params(ask(parallel_tool_calls=False))


@pytest.mark.parametrize(
    ("tools", "rule"),
    [
        ((ToolSpec("a b", "", {}),), "A03"),
        ((ToolSpec("x" * 65, "", {}),), "A03"),
        ((TOOL, TOOL), "A04"),
        ((ToolSpec("f", "", {"type": "array"}),), "A05"),
        ((ToolSpec("f", "", {"type": "object", "properties": {"a b": {}}}),), "A05"),
    ],
)
def test_tools_that_would_be_refused_are_refused_here(
    tools: tuple[ToolSpec, ...], rule: str
) -> None:
    """With the rule that they break."""
    with pytest.raises(LocalProtocolError, match=rule):
        params(ask(tools=tools))


def test_a_choice_of_a_tool_that_is_not_offered_is_refused() -> None:
    """It cannot be met."""
    with pytest.raises(LocalProtocolError, match="A04"):
        params(ask(tools=(TOOL,), tool_choice=NamedTool("other")))


# ── thinking ──────────────────────────────────────────────────────────────────────────────────────

ADAPTIVE = {"type": "adaptive"}
SHOWN = {"type": "adaptive", "display": "summarized"}


def budget(tokens: int) -> dict[str, Any]:
    return {"type": "enabled", "budget_tokens": tokens}


@pytest.mark.parametrize(
    ("model", "effort", "thinking", "sent_effort"),
    [
        ("claude-sonnet-4-5", "low", budget(2048), None),
        ("claude-haiku-4-5-20251001", "high", budget(16_384), None),
        ("anthropic.claude-sonnet-4-20250514-v1:0", "minimal", budget(1024), None),
        ("claude-3-7-sonnet-latest", "max", budget(31_999), None),
        ("MiniMax-M2", "medium", budget(8192), None),
        ("claude-opus-4-6", "high", ADAPTIVE, "high"),
        ("anthropic/claude-sonnet-4.6", "minimal", ADAPTIVE, "low"),
        ("claude-opus-4-7@20260416", "xhigh", SHOWN, "xhigh"),
        ("claude-sonnet-5", "max", SHOWN, "max"),
        ("claude-5-sonnet", "max", SHOWN, "max"),
        ("claude-opus-5-5", "low", SHOWN, "low"),
        ("claude-mythos-preview", "medium", SHOWN, "medium"),
    ],
)
def test_an_effort_is_said_as_the_model_understands_it(
    model: str, effort: str, thinking: dict[str, Any], sent_effort: str | None
) -> None:
    """A budget for the older ones, an effort that the newer ones adapt to."""
    found = params(ask(model=model, reasoning_effort=effort))
    assert found["thinking"] == thinking
    assert found.get("output_config", {}).get("effort") == sent_effort


def test_a_budget_comes_on_top_of_the_usual_limit_and_must_fit_into_a_set_one() -> None:
    """The limit includes the thinking."""
    assert params(ask(thinking_tokens=4000))["max_tokens"] == 4000 + 8192
    both = params(ask(model="claude-opus-4-6", thinking_tokens=4000, reasoning_effort="low"))
    assert (both["thinking"], both["output_config"]) == (budget(4000), {"effort": "low"})
    assert params(ask(thinking_tokens=60_000))["max_tokens"] == 64_000
    assert params(ask(thinking_tokens=1024, max_output_tokens=1025))["max_tokens"] == 1025
    halved = params(ask(reasoning_effort="high", max_output_tokens=9000))
    assert halved["thinking"] == budget(4500)
    least = params(ask(reasoning_effort="high", max_output_tokens=1500))
    assert least["thinking"] == budget(1024)
    refused: tuple[dict[str, Any], ...] = (
        {"thinking_tokens": 1023},
        {"thinking_tokens": -1},
        {"thinking_tokens": 2000, "max_output_tokens": 2000},
        {"thinking_tokens": 64_000},
        {"reasoning_effort": "low", "max_output_tokens": 1024},
    )
    for fields in refused:
        with pytest.raises(LocalProtocolError, match=r"\(rule A02\)"):
            params(ask(**fields))


def test_thinking_can_be_switched_off() -> None:
    """The newer models may think unasked; some cannot be stopped."""
    for fields in ({"reasoning_effort": "none"}, {"thinking_tokens": 0}):
        assert "thinking" not in params(ask(model=OLD, **fields))
        assert "thinking" not in params(ask(model="claude-3-haiku-20240307", **fields))
        assert params(ask(model=NEW, **fields))["thinking"] == {"type": "disabled"}
        with pytest.raises(UnsupportedFeature, match="always thinks"):
            params(ask(model="claude-fable-5", **fields))


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"model": "claude-3-5-haiku-latest", "reasoning_effort": "low"}, "cannot think"),
        ({"model": NEW, "thinking_tokens": 2000}, "reasoning_effort"),
        ({"model": NEW, "reasoning_effort": "mild"}, "xhigh"),
        ({"model": "claude-opus-4-6", "reasoning_effort": "xhigh"}, "max"),
        ({"reasoning_effort": "mild"}, "medium"),
        ({"reasoning_effort": "low", "temperature": 0.3}, "temperature"),
        ({"reasoning_effort": "low", "top_p": 0.5}, "top_p"),
        ({"reasoning_effort": "low", "tools": (TOOL,), "tool_choice": "required"}, "auto"),
        (
            {"thinking_tokens": 2000, "tools": (TOOL,), "tool_choice": NamedTool("look_up")},
            "auto",
        ),
    ],
)
def test_thinking_that_would_be_refused_is_refused_here(fields: dict[str, Any], match: str) -> None:
    """With what to do."""
    with pytest.raises(UnsupportedFeature, match=match):
        params(ask(**fields))


def test_thinking_goes_with_what_it_goes_with() -> None:
    """A temperature of 1, and a choice of tools where the model adapts: both were accepted."""
    assert params(ask(reasoning_effort="low", temperature=1, top_p=0.95))["temperature"] == 1
    forced = ask(
        model="claude-opus-4-6", reasoning_effort="low", tools=(TOOL,), tool_choice="required"
    )
    assert params(forced)["tool_choice"] == {"type": "any"}


# ── structured output ─────────────────────────────────────────────────────────────────────────────


def test_an_answer_is_bound_to_a_schema() -> None:
    """Beside the effort."""
    schema = OutputSchema("answer", CLOSED)
    found = params(ask(model=NEW, output_schema=schema, reasoning_effort="low"))
    assert found["output_config"] == {
        "effort": "low",
        "format": {"type": "json_schema", "schema": CLOSED},
    }
    assert AnthropicCodec().binds_output
    assert not AnthropicCodec(anthropic_dialect("llama.cpp")).binds_output


@pytest.mark.parametrize(
    ("model", "provider"),
    [("claude-sonnet-4-0", "anthropic"), ("claude-3-7-sonnet-latest", "anthropic"), (OLD, "other")],
)
def test_a_schema_is_refused_where_it_cannot_be_enforced(model: str, provider: str) -> None:
    """Older models and other vendors' endpoints."""
    request = ask(model=model, output_schema=OutputSchema("answer", CLOSED))
    with pytest.raises(UnsupportedFeature, match="schema"):
        params(request, provider)


def test_a_tool_is_strict_where_its_schema_and_the_model_allow_it() -> None:
    """J03: one schema that cannot be enforced would refuse the whole request."""
    opened = {"type": "object", "properties": {"x": {"type": "object"}}}
    tools = (
        ToolSpec("closed", "", {"type": "object", "properties": {"a": {"type": "string"}}}, True),
        ToolSpec("open", "", opened, True),
        ToolSpec("lax", "", CLOSED, False),
    )
    closed, opened_tool, lax = params(ask(tools=tools))["tools"]
    assert closed["strict"] is True
    assert closed["input_schema"]["additionalProperties"] is False
    assert opened_tool == {"name": "open", "input_schema": opened}
    assert "strict" not in lax
    older = params(ask(model="claude-sonnet-4-0", tools=tools))["tools"]
    assert all("strict" not in tool for tool in older)
