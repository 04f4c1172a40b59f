"""Everything of a Responses request but its input."""

from __future__ import annotations

from typing import Any

from llm_client.codecs._json import as_list, encode, is_object, require_finite
from llm_client.codecs._names import NAME, IdForm
from llm_client.codecs._request import (
    add_numbers,
    check_compaction,
    check_tools,
    merge_extra,
    refuse,
)
from llm_client.codecs._sampling import check_sampling
from llm_client.codecs._schema import strict_output, strict_schema
from llm_client.codecs.openai_responses._dialect import ResponsesDialect
from llm_client.errors import LocalProtocolError, UnsupportedFeature
from llm_client.types import LLMRequest, NamedTool, OutputSchema, ToolSpec

__all__ = ["encode_options", "encode_tools", "is_continued"]

_MOST_TOOLS = 128
_LEAST_COMPACTED = 1000
"""Tokens that a prompt may have at least before it is compacted."""
_ENCRYPTED = "reasoning.encrypted_content"
_CACHE_KEY = IdForm(r"(?s).{1,64}", prefix="")
_RESERVED = frozenset({"input", "instructions", "stream", "tools"})
_MERGED = ("text", "reasoning")
"""Objects of which the request itself may set one field and `extra` others."""


def is_continued(request: LLMRequest) -> bool:
    """True if the provider holds what came before this request's messages.

    Raises:
        LocalProtocolError: it is told in two ways.
    """
    continued = {"previous_response_id", "conversation"} & {
        name for name, value in request.extra.items() if value is not None
    }
    if len(continued) > 1:
        raise LocalProtocolError(
            "extra holds both previous_response_id and conversation; give one of them", rule="R01"
        )
    return bool(continued)


def encode_options(request: LLMRequest, dialect: ResponsesDialect, *, stream: bool) -> bytes:
    """The request's parameters as one JSON object; `extra` has the last word.

    Raises:
        LocalProtocolError: a parameter breaks a rule of the protocol.
        UnsupportedFeature: the protocol or the model has no such parameter.
    """
    refuse(
        "Responses", stop=request.stop, seed=request.seed, thinking_tokens=request.thinking_tokens
    )
    check_sampling(request, dialect.fixed_sampling)
    body: dict[str, Any] = {}
    if request.model is not None:
        body["model"] = request.model
    if stream:
        body["stream"] = True
    body["store"] = dialect.store
    if dialect.encrypted and not dialect.store:
        body["include"] = [_ENCRYPTED]
    if request.system is not None:
        body["instructions"] = request.system
    add_numbers(
        body,
        max_output_tokens=request.max_output_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
    )
    if request.reasoning_effort is not None:
        body["reasoning"] = {"effort": request.reasoning_effort}
    if request.output_schema is not None:
        _add_format(request.output_schema, dialect, body)
    if request.tools or request.server_tools:
        _add_tool_choice(request, body)
    if dialect.prompt_cache_key and request.cache_key:
        body["prompt_cache_key"] = _CACHE_KEY(request.cache_key)
    _add_compaction(request, dialect, body)
    if request.extra:
        _add_extra(request, body)
    return encode(body, "the request")


def _add_compaction(request: LLMRequest, dialect: ResponsesDialect, body: dict[str, Any]) -> None:
    if not dialect.compacts:
        refuse(dialect.provider, compact_at=request.compact_at)
    if request.compact_at is not None:
        check_compaction(request.compact_at, _LEAST_COMPACTED)
        wished = {"type": "compaction", "compact_threshold": request.compact_at}
        body["context_management"] = [wished]


def _add_format(schema: OutputSchema, dialect: ResponsesDialect, body: dict[str, Any]) -> None:
    described = _format(schema)
    if dialect.format == "text":
        body["text"] = {"format": described}
    else:
        kind = described.pop("type")
        body["response_format"] = {"type": kind, kind: described}


def _format(schema: OutputSchema) -> dict[str, Any]:
    if NAME.fullmatch(schema.name) is None:
        raise LocalProtocolError(
            f"the output schema's name {schema.name!r} must be 1 to 64 of a-z, A-Z, 0-9, _ and -",
            rule="R02",
        )
    require_finite(schema.schema, "the output schema")
    form = strict_output(schema.schema) if schema.strict else None
    described: dict[str, Any] = {
        "type": "json_schema",
        "name": schema.name,
        "schema": schema.schema if form is None else form,
        "strict": form is not None,
    }
    if schema.description is not None:
        described["description"] = schema.description
    return described


def _add_tool_choice(request: LLMRequest, body: dict[str, Any]) -> None:
    choice = request.tool_choice
    if isinstance(choice, NamedTool):
        body["tool_choice"] = {"type": _type_of(choice.name, request), "name": choice.name}
    elif choice != "auto":
        body["tool_choice"] = choice
    if request.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = request.parallel_tool_calls


def _type_of(name: str, request: LLMRequest) -> str:
    if any(tool.name == name for tool in request.tools):
        return "function"
    for tool in request.server_tools:
        if tool.get("name") == name and isinstance(tool.get("type"), str):
            return tool["type"]
    raise LocalProtocolError(
        f"tool_choice names {name!r}, which is none of the request's tools", rule="R02"
    )


def _add_extra(request: LLMRequest, body: dict[str, Any]) -> None:
    if "store" in request.extra:
        raise UnsupportedFeature("extra may not replace store; choose it with the codec's dialect")
    before = dict(body)
    merge_extra(request, body, _RESERVED)
    for name in _MERGED:
        if is_object(before.get(name)) and is_object(body[name]):
            body[name] = before[name] | body[name]
    if "include" in before:
        # What is asked for in addition must not cost the model its own reasoning.
        more = [one for one in as_list(body["include"]) if one != _ENCRYPTED]
        body["include"] = [*before["include"], *more]


def encode_tools(tools: tuple[ToolSpec, ...]) -> bytes:
    """The tools as JSON objects, comma-separated.

    Raises:
        LocalProtocolError: too many, a name that is not allowed, or a name used twice.
    """
    check_tools(tools, name_rule="R02", twice_rule="R02", most=_MOST_TOOLS, most_rule="R02")
    functions = [_function(tool) for tool in tools]
    return encode(functions, "the tools")[1:-1]


def _function(tool: ToolSpec) -> dict[str, Any]:
    parameters = tool.parameters or {"type": "object", "properties": {}}
    strict = False
    if tool.strict:
        # One schema that strict mode cannot take would make the provider refuse the whole request.
        form, problems = strict_schema(parameters)
        strict = not problems
        parameters = form if strict else parameters
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": parameters,
        # Left out it would mean yes, and the provider would rewrite the schema.
        "strict": strict,
    }
