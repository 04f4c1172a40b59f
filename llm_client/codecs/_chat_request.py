"""Everything of a Chat Completions request but its messages."""

from __future__ import annotations

from typing import Any

from llm_client.codecs._chat_dialect import ChatDialect
from llm_client.codecs._json import encode, require_finite
from llm_client.codecs._names import NAME
from llm_client.codecs._schema import allows_strict
from llm_client.errors import LocalProtocolError, UnsupportedFeature
from llm_client.types import LLMRequest, NamedTool, OutputSchema, ToolSpec

__all__ = ["encode_options", "encode_system", "encode_tools"]

_MOST_TOOLS = 128
_MOST_STOPS = 4


def encode_options(request: LLMRequest, dialect: ChatDialect, *, stream: bool) -> bytes:
    """The request's parameters as one JSON object; `extra` has the last word.

    Raises:
        LocalProtocolError: a parameter breaks a rule of the protocol.
        UnsupportedFeature: the vendor has no such parameter.
    """
    body: dict[str, Any] = {}
    if request.model is not None:
        body["model"] = request.model
    if stream:
        body["stream"] = True
    if stream and dialect.stream_options:
        body["stream_options"] = {"include_usage": True}
    _add_numbers(request, dialect, body)
    if request.stop:
        body["stop"] = _stop(request.stop)
    effort = request.reasoning_effort
    if effort is not None:
        body[dialect.effort] = (
            effort if dialect.effort == "reasoning_effort" else {"effort": effort}
        )
    if request.output_schema is not None:
        body["response_format"] = _response_format(request.output_schema, dialect)
    if request.tools:
        _add_tool_choice(request, dialect, body)
    if request.extra:
        _add_extra(request, body)
    return encode(body, "the request")


def _add_numbers(request: LLMRequest, dialect: ChatDialect, body: dict[str, Any]) -> None:
    numbers = (
        (dialect.max_tokens, request.max_output_tokens),
        (dialect.seed, request.seed),
        ("temperature", request.temperature),
        ("top_p", request.top_p),
    )
    for name, value in numbers:
        if value is not None:
            require_finite(value, name)
            body[name] = value


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
    described: dict[str, Any] = {"name": schema.name, "schema": schema.schema}
    if schema.description is not None:
        described["description"] = schema.description
    described["strict"] = schema.strict and allows_strict(schema.schema)
    return {"type": "json_schema", "json_schema": described}


def _add_tool_choice(request: LLMRequest, dialect: ChatDialect, body: dict[str, Any]) -> None:
    choice = request.tool_choice
    if isinstance(choice, NamedTool):
        if all(tool.name != choice.name for tool in request.tools):
            raise LocalProtocolError(
                f"tool_choice names {choice.name!r}, which is none of the request's tools",
                rule="C02",
            )
        body["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    elif choice != "auto":
        body["tool_choice"] = dialect.required if choice == "required" else choice
    if request.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = request.parallel_tool_calls


def _add_extra(request: LLMRequest, body: dict[str, Any]) -> None:
    reserved = {"messages", "tools", "stream"} & request.extra.keys()
    if reserved:
        raise UnsupportedFeature(
            f"extra may not replace {', '.join(sorted(reserved))}; set them on the request itself"
        )
    require_finite(request.extra, "extra")
    body.update(request.extra)


def encode_system(text: str, dialect: ChatDialect) -> bytes:
    """The system prompt as the first message."""
    return encode({"role": dialect.system_role, "content": text}, "the system prompt")


def encode_tools(tools: tuple[ToolSpec, ...]) -> bytes:
    """The tools as a JSON array.

    Raises:
        LocalProtocolError: too many, a name that is not allowed, or a name used twice.
    """
    if len(tools) > _MOST_TOOLS:
        raise LocalProtocolError(
            f"{len(tools)} tools are offered, but the protocol takes at most {_MOST_TOOLS}",
            rule="C03",
        )
    seen: set[str] = set()
    functions: list[dict[str, Any]] = []
    for tool in tools:
        if NAME.fullmatch(tool.name) is None:
            raise LocalProtocolError(
                f"the tool name {tool.name!r} must be 1 to 64 of a-z, A-Z, 0-9, _ and -", rule="C01"
            )
        if tool.name in seen:
            raise LocalProtocolError(f"two tools are named {tool.name!r}; rename one", rule="C02")
        seen.add(tool.name)
        functions.append({"type": "function", "function": _function(tool)})
    require_finite(functions, "the tools")
    return encode(functions, "the tools")


def _function(tool: ToolSpec) -> dict[str, Any]:
    parameters = tool.parameters or {"type": "object", "properties": {}}
    function: dict[str, Any] = {
        "name": tool.name,
        "description": tool.description,
        "parameters": parameters,
    }
    if tool.strict is not None:
        # One schema that strict mode cannot take would make the provider refuse the whole request.
        function["strict"] = tool.strict and allows_strict(parameters)
    return function
