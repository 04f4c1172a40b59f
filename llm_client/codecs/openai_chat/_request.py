"""Everything of a Chat Completions request but its messages."""

from __future__ import annotations

from typing import Any

from llm_client.codecs._json import encode, require_finite
from llm_client.codecs._names import NAME
from llm_client.codecs._request import add_numbers, check_choice, check_tools, merge_extra, refuse
from llm_client.codecs._sampling import check_sampling
from llm_client.codecs._schema import strict_output, strict_schema
from llm_client.codecs.openai_chat._dialect import ChatDialect
from llm_client.errors import LocalProtocolError, UnsupportedFeature
from llm_client.types import LLMRequest, NamedTool, OutputSchema, ToolSpec

__all__ = ["encode_options", "encode_system", "encode_tools"]

_MOST_TOOLS = 128
_MOST_STOPS = 4
_RESERVED = frozenset({"messages", "tools", "stream"})


def encode_options(request: LLMRequest, dialect: ChatDialect, *, stream: bool) -> bytes:
    """The request's parameters as one JSON object; `extra` has the last word.

    Raises:
        LocalProtocolError: a parameter breaks a rule of the protocol.
        UnsupportedFeature: the vendor or the model has no such parameter.
    """
    refuse(dialect.provider, compact_at=request.compact_at)
    check_sampling(request, dialect.fixed_sampling)
    body: dict[str, Any] = {}
    if request.model is not None:
        body["model"] = request.model
    if stream:
        body["stream"] = True
    if stream and dialect.stream_options:
        body["stream_options"] = {"include_usage": True}
    add_numbers(
        body,
        **{dialect.max_tokens: request.max_output_tokens, dialect.seed: request.seed},
        temperature=request.temperature,
        top_p=request.top_p,
    )
    if request.stop:
        body["stop"] = _stop(request.stop)
    _add_reasoning(request, dialect, body)
    if request.output_schema is not None:
        body["response_format"] = _response_format(request.output_schema, dialect)
    if request.tools:
        _add_tool_choice(request, dialect, body)
    merge_extra(request, body, _RESERVED)
    return encode(body, "the request")


def _add_reasoning(request: LLMRequest, dialect: ChatDialect, body: dict[str, Any]) -> None:
    effort, tokens = request.reasoning_effort, request.thinking_tokens
    if dialect.effort == "reasoning":
        if effort is not None or tokens is not None:
            wished = {"effort": effort} if tokens is None else {"max_tokens": tokens}
            body["reasoning"] = wished
        return
    if effort is not None:
        body["reasoning_effort"] = effort
    if dialect.thinking_tokens is None:
        refuse(dialect.provider, thinking_tokens=tokens)
    elif tokens is not None:
        body[dialect.thinking_tokens] = tokens


def _stop(stop: tuple[str, ...]) -> list[str]:
    if len(stop) > _MOST_STOPS:
        raise LocalProtocolError(
            f"{len(stop)} stop sequences are given, but the protocol takes at most {_MOST_STOPS}",
            rule="C04",
        )
    return list(stop)


def _response_format(schema: OutputSchema, dialect: ChatDialect) -> dict[str, Any]:
    if not dialect.json_schema:
        raise UnsupportedFeature(
            f"{dialect.provider} cannot bind an answer to a schema; describe it in the prompt, "
            'with extra={"response_format": {"type": "json_object"}}, or offer it as a tool'
        )
    if NAME.fullmatch(schema.name) is None:
        raise LocalProtocolError(
            f"the output schema's name {schema.name!r} must be 1 to 64 of a-z, A-Z, 0-9, _ and -",
            rule="C01",
        )
    require_finite(schema.schema, "the output schema")
    form = strict_output(schema.schema) if schema.strict else None
    described: dict[str, Any] = {"name": schema.name, "schema": form or schema.schema}
    if schema.description is not None:
        described["description"] = schema.description
    described["strict"] = form is not None
    return {"type": "json_schema", "json_schema": described}


def _add_tool_choice(request: LLMRequest, dialect: ChatDialect, body: dict[str, Any]) -> None:
    check_choice(request, "C02")
    choice = request.tool_choice
    if isinstance(choice, NamedTool):
        body["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    elif choice != "auto":
        body["tool_choice"] = dialect.required if choice == "required" else choice
    if request.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = request.parallel_tool_calls


def encode_system(text: str, dialect: ChatDialect) -> bytes:
    """The system prompt as the first message."""
    return encode({"role": dialect.system_role, "content": text}, "the system prompt")


def encode_tools(
    tools: tuple[ToolSpec, ...], server_tools: tuple[dict[str, Any], ...] = ()
) -> bytes:
    """The tools as a JSON array, followed by those that the provider runs, as they are.

    Raises:
        LocalProtocolError: too many, a name that is not allowed, or a name used twice.
    """
    check_tools(
        tools, name_rule="C01", twice_rule="C02", most=_MOST_TOOLS, most_rule="C03", pattern=NAME
    )
    functions = [{"type": "function", "function": _function(tool)} for tool in tools]
    return encode([*functions, *server_tools], "the tools")


def _function(tool: ToolSpec) -> dict[str, Any]:
    parameters = tool.parameters or {"type": "object", "properties": {}}
    function: dict[str, Any] = {
        "name": tool.name,
        "description": tool.description,
        "parameters": parameters,
    }
    if tool.strict is not None:
        # One schema that strict mode cannot take would make the provider refuse the whole request.
        form, problems = strict_schema(parameters)
        function["strict"] = tool.strict and not problems
        function["parameters"] = form if function["strict"] else parameters
    return function
