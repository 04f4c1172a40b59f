"""Everything of a Messages request but its messages."""

from __future__ import annotations

from typing import Any

from llm_client.codecs._json import encode, require_finite
from llm_client.codecs._request import (
    add_numbers,
    check_choice,
    check_compaction,
    check_tools,
    merge_extra,
    refuse,
)
from llm_client.codecs.anthropic._dialect import AnthropicDialect
from llm_client.codecs.anthropic._models import Generation
from llm_client.codecs.anthropic._schema import closed_schema, tool_schema
from llm_client.errors import LocalProtocolError, UnsupportedFeature
from llm_client.types import LLMRequest, NamedTool, OutputSchema, ToolSpec

__all__ = ["encode_options", "encode_tools"]

_RESERVED = frozenset({"messages", "tools", "stream", "system"})
_LEAST_BUDGET = 1024
_LEAST_COMPACTED = 50_000
"""Tokens that a prompt may have at least before it is compacted."""
_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 24_576}
_BUDGETS["max"] = 31_999
"""Tokens to think in for models that know no efforts."""
_OFF = frozenset({"none", "off"})


def encode_options(
    request: LLMRequest, dialect: AnthropicDialect, generation: Generation, *, stream: bool
) -> bytes:
    """The request's parameters as one JSON object; `extra` has the last word.

    Raises:
        LocalProtocolError: a parameter breaks a rule of the protocol.
        UnsupportedFeature: the vendor or the model has no such parameter.
    """
    refuse(dialect.provider, seed=request.seed)
    body: dict[str, Any] = {}
    if dialect.body_version is not None:
        body["anthropic_version"] = dialect.body_version
    if request.model is not None and dialect.model_in_body:
        body["model"] = request.model
    if stream:
        body["stream"] = True
    output = dict[str, Any]()
    thinking = _thinking(request, generation, output)
    body["max_tokens"] = _limit(request, dialect, generation, thinking)
    if thinking is not None:
        body["thinking"] = thinking
    _add_sampling(request, generation, thinking, body)
    if request.stop:
        body["stop_sequences"] = _stop(request.stop)
    if request.output_schema is not None:
        output["format"] = _format(request.output_schema, dialect, generation, request.model)
    if output:
        body["output_config"] = output
    if request.tools or request.server_tools:
        _add_tool_choice(request, thinking, body)
    if request.compact_at is not None:
        body["context_management"] = _compaction(request, request.compact_at, dialect, generation)
    merge_extra(request, body, _RESERVED)
    return encode(body, "the request")


# ── thinking, and what it bears on ────────────────────────────────────────────────────────────────


def _thinking(
    request: LLMRequest, generation: Generation, output: dict[str, Any]
) -> dict[str, Any] | None:
    """How the model is to think, None if nothing is to be said of it."""
    effort, tokens = request.reasoning_effort, request.thinking_tokens
    if effort is None and tokens is None:
        return None
    if effort in _OFF or tokens == 0:
        return _no_thinking(request, generation)
    if generation.thinking == "none":
        raise UnsupportedFeature(f"the model {request.model!r} cannot think; ask another one")
    if generation.efforts and effort is not None:
        output["effort"] = _effort(effort, request, generation)
    if tokens is not None:
        if generation.thinking == "adaptive":
            raise UnsupportedFeature(
                f"the model {request.model!r} knows no budget of thinking; leave thinking_tokens "
                "out and set reasoning_effort"
            )
        return _budget(tokens)
    if generation.efforts:
        shown = {} if generation.shows_thinking else {"display": "summarized"}
        return {"type": "adaptive", **shown}
    if effort not in _BUDGETS:
        raise _unknown_effort(effort, tuple(_BUDGETS))
    return {"type": "enabled", "budget_tokens": _BUDGETS[effort]}


def _no_thinking(request: LLMRequest, generation: Generation) -> dict[str, Any] | None:
    if generation.always_thinks:
        raise UnsupportedFeature(f"the model {request.model!r} always thinks; ask another one")
    # Only the newer ones may think unasked; the older ones need not know the word.
    return {"type": "disabled"} if generation.thinking == "adaptive" else None


def _effort(effort: str, request: LLMRequest, generation: Generation) -> str:
    word = "low" if effort == "minimal" else effort
    if word not in generation.efforts:
        raise _unknown_effort(effort, generation.efforts, request.model)
    return word


def _unknown_effort(
    effort: str | None, known: tuple[str, ...], model: str | None = None
) -> UnsupportedFeature:
    who = f"the model {model!r}" if model else "the protocol"
    return UnsupportedFeature(
        f"{who} knows no reasoning effort {effort!r}; use one of {', '.join(known)}"
    )


def _budget(tokens: int) -> dict[str, Any]:
    if tokens < _LEAST_BUDGET:
        raise LocalProtocolError(
            f"thinking_tokens is {tokens}, but the least budget of thinking is {_LEAST_BUDGET}",
            rule="A02",
        )
    return {"type": "enabled", "budget_tokens": tokens}


def _limit(
    request: LLMRequest,
    dialect: AnthropicDialect,
    generation: Generation,
    thinking: dict[str, Any] | None,
) -> int:
    """The output limit. It includes the thinking: a budget that was not set in tokens gives way to
    it, one that was must fit into it."""
    budget: int = (thinking or {}).get("budget_tokens", 0)
    limit = request.max_output_tokens
    if limit is None:
        # A model may also allow less than the budget and the usual answer together.
        limit = min(budget + dialect.max_tokens, generation.most_output)
    if thinking is None or budget < limit:
        return limit
    if request.thinking_tokens is None and limit > _LEAST_BUDGET:
        thinking["budget_tokens"] = max(_LEAST_BUDGET, limit // 2)
        return limit
    raise LocalProtocolError(
        f"the output limit of {limit} tokens must be larger than the budget of thinking, {budget}; "
        "raise max_output_tokens, or think less",
        rule="A02",
    )


def _add_sampling(
    request: LLMRequest,
    generation: Generation,
    thinking: dict[str, Any] | None,
    body: dict[str, Any],
) -> None:
    temperature, top_p = request.temperature, request.top_p
    add_numbers(body, temperature=temperature, top_p=top_p)
    if not generation.sampling and (temperature, top_p) != (None, None):
        raise UnsupportedFeature(
            f"the model {request.model!r} takes neither temperature nor top_p; leave them out"
        )
    thinks = thinking is not None and thinking["type"] != "disabled"
    if thinks and (temperature not in {None, 1} or (top_p is not None and top_p < _LEAST_TOP_P)):
        raise UnsupportedFeature(
            "while it thinks, the model takes no temperature but 1 and no top_p below "
            f"{_LEAST_TOP_P}; leave them out"
        )


_LEAST_TOP_P = 0.95


# ── the rest ──────────────────────────────────────────────────────────────────────────────────────


def _stop(stop: tuple[str, ...]) -> list[str]:
    if not all(text.strip() for text in stop):
        raise UnsupportedFeature(
            "a stop sequence of blanks alone is refused; give each some other character"
        )
    return list(stop)


def _format(
    schema: OutputSchema, dialect: AnthropicDialect, generation: Generation, model: str | None
) -> dict[str, Any]:
    if not (dialect.json_schema and generation.json_schema):
        who = f"the model {model!r}" if dialect.json_schema else dialect.provider
        raise UnsupportedFeature(
            f"{who} cannot bind an answer to a schema; describe it in the prompt, or offer it as a "
            "tool"
        )
    require_finite(schema.schema, "the output schema")
    return {"type": "json_schema", "schema": closed_schema(schema.schema)}


def _compaction(
    request: LLMRequest, tokens: int, dialect: AnthropicDialect, generation: Generation
) -> dict[str, Any]:
    if not dialect.compacts:
        refuse(dialect.provider, compact_at=tokens)
    if not generation.compacts:
        raise UnsupportedFeature(
            f"the model {request.model!r} compacts no prompts; leave compact_at out"
        )
    check_compaction(tokens, _LEAST_COMPACTED)
    trigger = {"type": "input_tokens", "value": tokens}
    return {"edits": [{"type": "compact_20260112", "trigger": trigger}]}


def _add_tool_choice(
    request: LLMRequest, thinking: dict[str, Any] | None, body: dict[str, Any]
) -> None:
    check_choice(request, "A04")
    wish = request.tool_choice
    choice: dict[str, Any] = {"type": "any" if wish == "required" else wish}
    if isinstance(wish, NamedTool):
        choice = {"type": "tool", "name": wish.name}
    if choice["type"] in {"any", "tool"} and (thinking or {}).get("type") == "enabled":
        raise UnsupportedFeature(
            'while it thinks, the model cannot be made to call a tool; use tool_choice="auto"'
        )
    if request.parallel_tool_calls is False and wish != "none":
        choice["disable_parallel_tool_use"] = True
    if choice != {"type": "auto"}:
        body["tool_choice"] = choice


def encode_tools(tools: tuple[ToolSpec, ...], *, strict: bool) -> bytes:
    """The tools as JSON objects, comma-separated; calls are bound to their schemas with `strict`
    only.

    Raises:
        LocalProtocolError: a name that is not allowed or is used twice, or a schema that is no
            object.
    """
    check_tools(tools, name_rule="A03", twice_rule="A04")
    return b",".join(
        [encode(_tool(tool, strict=strict), f"the tool {tool.name!r}") for tool in tools]
    )


def _tool(tool: ToolSpec, *, strict: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": tool.name}
    if tool.description:
        fields["description"] = tool.description
    fields["input_schema"] = tool_schema(tool.parameters, tool.name)
    if tool.strict and strict:
        # One schema that cannot be enforced would make the provider refuse the whole request.
        try:
            fields["input_schema"] = closed_schema(fields["input_schema"])
        except UnsupportedFeature:
            return fields
        fields["strict"] = True
    return fields
