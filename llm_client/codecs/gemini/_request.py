"""Everything of a generateContent request but its contents."""

from __future__ import annotations

import re
from typing import Any

from llm_client.codecs._json import as_dict, encode, require_finite
from llm_client.codecs._request import (
    add_numbers,
    check_choice,
    check_tools,
    merge_extra,
    refuse,
    refuse_single_calls,
)
from llm_client.codecs.gemini._dialect import GeminiDialect, GeminiFamily
from llm_client.codecs.gemini._schema import gemini_schema
from llm_client.errors import LocalProtocolError, UnsupportedFeature
from llm_client.types import LLMRequest, NamedTool, ToolSpec

__all__ = ["encode_functions", "encode_options"]

_MOST_FUNCTIONS = 512
_MOST_STOPS = 5
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}")
_RESERVED = frozenset({"contents", "systemInstruction", "tools"})
_MODES = {"required": "ANY", "none": "NONE"}


def encode_options(request: LLMRequest, dialect: GeminiDialect, family: GeminiFamily) -> bytes:
    """The request's parameters as one JSON object; `extra` has the last word, field by field also
    within generationConfig and toolConfig.

    Raises:
        LocalProtocolError: a parameter breaks a rule of the protocol.
        UnsupportedFeature: the protocol or the model has no such parameter.
    """
    refuse(dialect.provider, compact_at=request.compact_at)
    refuse_single_calls(request, dialect.provider)
    if request.tools and not family.combines and (request.server_tools or request.output_schema):
        other = "beside tools that it runs itself" if request.server_tools else "for a bound answer"
        raise UnsupportedFeature(
            f"{request.model} takes no functions {other}; choose a Gemini model from 3 on, or ask "
            "in two steps"
        )
    body: dict[str, Any] = {}
    generation = _generation(request, dialect, family)
    if generation:
        body["generationConfig"] = generation
    config = _tool_config(request, dialect)
    if config:
        body["toolConfig"] = config
    nested = {
        name: {**body[name], **as_dict(request.extra.get(name))}
        for name in body
        if name in request.extra
    }
    merge_extra(request, body, _RESERVED)
    body.update(nested)
    return encode(body, "the request")


def _generation(
    request: LLMRequest, dialect: GeminiDialect, family: GeminiFamily
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    add_numbers(
        found,
        maxOutputTokens=request.max_output_tokens,
        temperature=request.temperature,
        topP=request.top_p,
        seed=request.seed,
    )
    if len(request.stop) > _MOST_STOPS:
        raise LocalProtocolError(
            f"{len(request.stop)} stop sequences are given, but the protocol takes at most "
            f"{_MOST_STOPS}",
            rule="G10",
        )
    if request.stop:
        found["stopSequences"] = list(request.stop)
    output = request.output_schema
    if output is not None:
        require_finite(output.schema, "the output schema")
        found["responseMimeType"] = "application/json"
        found["responseJsonSchema"] = gemini_schema(output.schema)
    thinking = _thinking(request, dialect, family)
    if thinking:
        found["thinkingConfig"] = thinking
    return found


def _thinking(request: LLMRequest, dialect: GeminiDialect, family: GeminiFamily) -> dict[str, Any]:
    """How much the model thinks. Who asks for reasoning gets to see it."""
    effort, tokens = request.reasoning_effort, request.thinking_tokens
    known = family.levels or family.budgets
    if not known:
        who = request.model or dialect.provider
        refuse(who, thinking_tokens=tokens, reasoning_effort=None if effort == "none" else effort)
        return {}
    if tokens is not None:
        # A level and a budget in one request are refused; the budget says more.
        shown = {"includeThoughts": True} if tokens else {}
        return {"thinkingBudget": tokens, **shown}
    if effort is None:
        return {}
    if effort not in known:
        raise UnsupportedFeature(
            f"{request.model} knows no reasoning effort {effort!r}; it knows {', '.join(known)}"
        )
    shown = {} if effort == "none" else {"includeThoughts": True}
    if family.levels:
        return {"thinkingLevel": family.levels[effort], **shown}
    return {"thinkingBudget": family.budgets[effort], **shown}


def _tool_config(request: LLMRequest, dialect: GeminiDialect) -> dict[str, Any]:
    check_choice(request, "G01")
    if not request.tools:
        return {}
    found: dict[str, Any] = {}
    choice = request.tool_choice
    if isinstance(choice, NamedTool):
        found["functionCallingConfig"] = {"mode": "ANY", "allowedFunctionNames": [choice.name]}
    elif choice != "auto":
        found["functionCallingConfig"] = {"mode": _MODES[choice]}
    if request.server_tools and dialect.tool_traces:
        found["includeServerSideToolInvocations"] = True
    return found


def encode_functions(tools: tuple[ToolSpec, ...]) -> bytes:
    """The functions as one entry of the tools array.

    Raises:
        LocalProtocolError: too many, a name that is not allowed, or a name used twice.
    """
    check_tools(
        tools,
        name_rule="G01",
        twice_rule="G01",
        most=_MOST_FUNCTIONS,
        most_rule="G10",
        pattern=_NAME,
    )
    return encode({"functionDeclarations": [_function(tool) for tool in tools]}, "the tools")


def _function(tool: ToolSpec) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "description": tool.description}
    if tool.parameters:
        function["parametersJsonSchema"] = gemini_schema(tool.parameters)
    return function
