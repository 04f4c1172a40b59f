"""The parameters of a Gemini request: where it goes, tools, thinking, bound answers."""

from __future__ import annotations

import math
from typing import Any

import pytest

from llm_client.codecs.gemini import GeminiCodec, gemini_codec
from llm_client.errors import ConfigError, LocalProtocolError, UnsupportedFeature
from llm_client.types import LLMRequest, Message, NamedTool, OutputSchema, ToolChoice, ToolSpec
from tests.gemini_bodies import CITY, NEW, OLD, TOOL, ask, body, params

SEARCH: dict[str, Any] = {"googleSearch": {}}


@pytest.mark.parametrize(
    ("model", "place"),
    [
        ("gemini-3-flash-preview", "/models/gemini-3-flash-preview"),
        ("models/gemini-2.5-pro", "/models/gemini-2.5-pro"),
        ("tunedModels/mine", "/tunedModels/mine"),
        ("gemini@001", "/models/gemini@001"),
        ("a?b#c:d", "/models/a%3Fb%23c%3Ad"),
    ],
)
def test_the_model_is_part_of_the_address(model: str, place: str) -> None:
    """The body has no field for it; what it is called cannot change the rest of the address."""
    codec = GeminiCodec()
    request = ask(model=model)
    assert codec.encode(request, stream=False).path == f"{place}:generateContent"
    assert codec.encode(request, stream=True).path == f"{place}:streamGenerateContent?alt=sse"
    assert params(request) == {}


def test_a_request_without_a_model_has_no_address() -> None:
    """It says so before anything is sent."""
    with pytest.raises(ConfigError):
        GeminiCodec().encode(ask(), stream=False)


def test_parameters_have_geminis_names() -> None:
    """And are sent only when set."""
    request = ask(
        system="Be brief.",
        max_output_tokens=5,
        temperature=0.5,
        top_p=0.9,
        seed=7,
        stop=("a", "b"),
        parallel_tool_calls=True,
        cache="1h",
    )
    assert params(request) == {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "generationConfig": {
            "maxOutputTokens": 5,
            "temperature": 0.5,
            "topP": 0.9,
            "seed": 7,
            "stopSequences": ["a", "b"],
        },
    }
    assert params(ask()) == {}
    assert "systemInstruction" not in params(ask(system=""))


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        ("auto", None),
        ("none", {"functionCallingConfig": {"mode": "NONE"}}),
        ("required", {"functionCallingConfig": {"mode": "ANY"}}),
        (
            NamedTool("look_up"),
            {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["look_up"]}},
        ),
    ],
)
def test_a_tool_choice_is_a_mode(choice: ToolChoice, config: object) -> None:
    """Only beside tools."""
    assert params(ask(tools=(TOOL,), tool_choice=choice)).get("toolConfig") == config
    if not isinstance(choice, NamedTool):
        assert params(ask(tool_choice=choice)) == {}


def test_functions_are_declared_with_their_whole_schema() -> None:
    """In the field for JSON Schema; a function without parameters needs none."""
    found = params(ask(tools=(TOOL, ToolSpec("now", "The time.", {}))))
    assert found["tools"] == [
        {
            "functionDeclarations": [
                {
                    "name": "look_up",
                    "description": "Looks something up.",
                    "parametersJsonSchema": CITY,
                },
                {"name": "now", "description": "The time."},
            ]
        }
    ]


def test_a_reference_is_legal_in_every_corner_of_a_schema() -> None:
    """J02: alone where it stands, and to `$defs`, under each keyword that holds schemas."""
    ref = {"$ref": "#/definitions/A", "description": "An A."}
    changed = {"anyOf": [{"$ref": "#/$defs/A"}], "description": "An A."}
    lists = ("anyOf", "oneOf", "allOf", "prefixItems")
    singles = (
        "items",
        "additionalProperties",
        "not",
        "if",
        "then",
        "else",
        "contains",
        "propertyNames",
        "unevaluatedProperties",
    )
    maps = ("properties", "patternProperties", "dependentSchemas")

    def build(leaf: object, defs: str) -> dict[str, Any]:
        return {
            "type": "object",
            **{name: [{"properties": {"a": leaf}}] for name in lists},
            **dict.fromkeys(singles, leaf),
            **{name: {"$ref": leaf, "description": leaf} for name in maps},
            defs: {"A": {"type": "array", "items": leaf}},
            "default": {"$ref": "#/definitions/A", "x": 1},
            "enum": [{"$ref": "#/definitions/A", "x": 1}],
        }

    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **build(ref, "definitions"),
    }
    tool = ToolSpec("f", "", schema)
    output = OutputSchema("answer", schema)
    expected = build(changed, "$defs")
    found = params(ask(tools=(tool,), output_schema=output))
    assert found["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"] == expected
    assert found["generationConfig"]["responseJsonSchema"] == expected
    assert schema["not"] is ref
    assert ref["$ref"] == "#/definitions/A"


def test_a_reference_beside_a_choice_keeps_both() -> None:
    """And one that stands alone stays as it is."""
    schema: dict[str, Any] = {
        "properties": {
            "a": {"$ref": "#/$defs/A", "anyOf": [{"minLength": 1}]},
            "b": {"$ref": "#/$defs/A"},
        }
    }
    tool = ToolSpec("f", "", schema)
    (entry,) = params(ask(tools=(tool,)))["tools"]
    (function,) = entry["functionDeclarations"]
    assert function["parametersJsonSchema"]["properties"] == {
        "a": {"allOf": [{"$ref": "#/$defs/A"}], "anyOf": [{"minLength": 1}]},
        "b": {"$ref": "#/$defs/A"},
    }


@pytest.mark.parametrize(
    ("tools", "rule"),
    [
        ((ToolSpec("9x", "", {}),), "G01"),
        ((ToolSpec("a b", "", {}),), "G01"),
        ((ToolSpec("", "", {}),), "G01"),
        ((TOOL, TOOL), "G01"),
        (tuple(ToolSpec(f"t{n}", "", {}) for n in range(513)), "G10"),
        ((ToolSpec("x", "", {"minimum": math.nan}),), "X1"),
    ],
)
def test_tools_that_gemini_refuses_are_refused_here(tools: tuple[ToolSpec, ...], rule: str) -> None:
    """Names, doubles, numbers."""
    with pytest.raises(LocalProtocolError) as found:
        params(ask(tools=tools))
    assert found.value.rule == rule


def test_tools_that_the_provider_runs_are_sent_as_they_are() -> None:
    """Beside functions the Gemini API wants to show their calls; Vertex has no such flag."""
    assert params(ask(server_tools=(SEARCH,)))["tools"] == [SEARCH]
    assert "toolConfig" not in params(ask(server_tools=(SEARCH,)))
    both = ask(tools=(TOOL,), server_tools=(SEARCH, {"urlContext": {}}))
    found = params(both)
    assert found["tools"][1:] == [SEARCH, {"urlContext": {}}]
    assert found["toolConfig"] == {"includeServerSideToolInvocations": True}
    assert "toolConfig" not in params(both, "vertex")


def test_an_answer_is_bound_to_a_schema() -> None:
    """With references to definitions as Gemini looks for them."""
    found = params(ask(output_schema=OutputSchema("answer", CITY)), model=OLD)
    assert found["generationConfig"] == {
        "responseMimeType": "application/json",
        "responseJsonSchema": CITY,
    }
    assert GeminiCodec().binds_output


@pytest.mark.parametrize(
    "fields", [{"output_schema": OutputSchema("answer", CITY)}, {"server_tools": (SEARCH,)}]
)
def test_models_before_3_take_functions_alone(fields: dict[str, Any]) -> None:
    """Neither beside a bound answer nor beside tools of the provider."""
    request = ask(tools=(TOOL,), **fields)
    assert params(request, model=NEW)["tools"]
    with pytest.raises(UnsupportedFeature, match=OLD):
        params(request, model=OLD)


@pytest.mark.parametrize(
    ("model", "fields", "config"),
    [
        (OLD, {}, None),
        (OLD, {"reasoning_effort": "low"}, {"thinkingBudget": 1024, "includeThoughts": True}),
        (OLD, {"reasoning_effort": "none"}, {"thinkingBudget": 0}),
        ("gemini-2.5-pro", {"reasoning_effort": "none"}, {"thinkingBudget": 128}),
        (OLD, {"thinking_tokens": 500}, {"thinkingBudget": 500, "includeThoughts": True}),
        (OLD, {"thinking_tokens": 0}, {"thinkingBudget": 0}),
        (NEW, {"reasoning_effort": "high"}, {"thinkingLevel": "high", "includeThoughts": True}),
        (NEW, {"reasoning_effort": "none"}, {"thinkingLevel": "minimal"}),
        (NEW, {"thinking_tokens": 500}, {"thinkingBudget": 500, "includeThoughts": True}),
        (
            NEW,
            {"thinking_tokens": 500, "reasoning_effort": "low"},
            {"thinkingBudget": 500, "includeThoughts": True},
        ),
        (
            "models/gemini-3-pro-preview",
            {"reasoning_effort": "medium"},
            {"thinkingLevel": "high", "includeThoughts": True},
        ),
        (
            "gemini-9-ultra",
            {"reasoning_effort": "low"},
            {"thinkingLevel": "low", "includeThoughts": True},
        ),
        ("gemini-2.0-flash", {"reasoning_effort": "none"}, None),
    ],
)
def test_effort_is_a_budget_or_a_level_by_the_model(
    model: str, fields: dict[str, Any], config: object
) -> None:
    """Whoever asks for reasoning gets to see it; never both a level and a budget."""
    found = params(ask(**fields), model=model).get("generationConfig", {})
    assert found.get("thinkingConfig") == config


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        ("gemini-2.0-flash", {"reasoning_effort": "low"}),
        ("gemini-2.0-flash", {"thinking_tokens": 500}),
        ("gemma-3-27b-it", {"thinking_tokens": 500}),
        (NEW, {"reasoning_effort": "enormous"}),
        (NEW, {"parallel_tool_calls": False}),
    ],
)
def test_what_the_protocol_or_the_model_has_no_word_for_is_unsupported(
    model: str, fields: dict[str, Any]
) -> None:
    """Named, before anything is sent."""
    (name,) = fields
    with pytest.raises(UnsupportedFeature) as found:
        params(ask(**{"tools": (TOOL,), **fields}), model=model)
    assert name.split("_")[0] in found.value.message


def test_extra_has_the_last_word_field_by_field() -> None:
    """What only Gemini has, without losing what the request says."""
    request = ask(
        temperature=0.5,
        tools=(TOOL,),
        tool_choice="required",
        extra={
            "generationConfig": {"topK": 5, "temperature": 0.7},
            "toolConfig": {"functionCallingConfig": {"mode": "VALIDATED"}},
            "cachedContent": "cachedContents/x",
            "safetySettings": [],
        },
    )
    found = params(request)
    assert found["generationConfig"] == {"temperature": 0.7, "topK": 5}
    assert found["toolConfig"] == {"functionCallingConfig": {"mode": "VALIDATED"}}
    assert found["cachedContent"] == "cachedContents/x"


@pytest.mark.parametrize("name", ["contents", "tools", "systemInstruction"])
def test_extra_may_not_replace_what_is_built(name: str) -> None:
    """The request has fields for it."""
    with pytest.raises(UnsupportedFeature, match=name):
        params(ask(extra={name: []}))


@pytest.mark.parametrize(
    "request_",
    [
        ask(temperature=math.nan),
        ask(top_p=math.inf),
        ask(extra={"generationConfig": {"topK": math.nan}}),
        ask(server_tools=({"x": math.inf},)),
        ask(output_schema=OutputSchema("x", {"minimum": math.nan})),
    ],
)
def test_numbers_that_json_does_not_have_are_refused(request_: LLMRequest) -> None:
    """An encoder would write null."""
    with pytest.raises(LocalProtocolError) as found:
        params(request_)
    assert found.value.rule == "X1"


def test_a_choice_or_a_stop_that_cannot_be_met_is_refused() -> None:
    """A tool that is not offered; a sixth stop sequence."""
    with pytest.raises(LocalProtocolError, match="G01"):
        params(ask(tools=(TOOL,), tool_choice=NamedTool("other")))
    with pytest.raises(LocalProtocolError, match="G10"):
        params(ask(stop=tuple("abcdef")))


def test_vertex_is_the_same_protocol_under_another_name() -> None:
    """Its parts are known as Gemini's, so that a session can change the service."""
    codec = gemini_codec("vertex", "mine")
    assert (codec.dialect.provider, codec.dialect.origin) == ("mine", "gemini")
    assert not codec.dialect.tool_traces
    assert gemini_codec("gemini", "gemini").dialect.tool_traces
    assert repr(codec) == "GeminiCodec('mine')"
    assert body(LLMRequest((Message.user("hi"),)), "vertex")["contents"]
