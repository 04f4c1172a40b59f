"""What the requests of all protocols have in common."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from typing import Any

from llm_client.codecs._json import require_finite
from llm_client.codecs._names import NAME
from llm_client.errors import LocalProtocolError, UnsupportedFeature
from llm_client.types import LLMRequest, NamedTool, ToolSpec

__all__ = [
    "JSON_HEADERS",
    "STREAM_HEADERS",
    "add_numbers",
    "check_choice",
    "check_compaction",
    "check_tools",
    "merge_extra",
    "refuse",
    "refuse_single_calls",
]

JSON_HEADERS = {"content-type": "application/json", "accept": "application/json"}
STREAM_HEADERS = {"content-type": "application/json", "accept": "text/event-stream"}


def merge_extra(request: LLMRequest, body: dict[str, Any], reserved: AbstractSet[str]) -> None:
    """Merges `request.extra` into `body`, where it has the last word.

    Raises:
        UnsupportedFeature: it would replace one of the `reserved` fields.
        LocalProtocolError: it holds NaN or Infinity.
    """
    if not request.extra:
        return
    forbidden = reserved & request.extra.keys()
    if forbidden:
        raise UnsupportedFeature(
            f"extra may not replace {', '.join(sorted(forbidden))}; set them on the request itself"
        )
    require_finite(request.extra, "extra")
    body.update(request.extra)


def add_numbers(body: dict[str, Any], **numbers: float | None) -> None:
    """Adds the numbers that are set.

    Raises:
        LocalProtocolError: one is NaN or infinite.
    """
    for name, value in numbers.items():
        if value is not None:
            require_finite(value, name)
            body[name] = value


def refuse(provider: str, **parameters: object) -> None:
    """Refuses parameters that a protocol has no word for, where they are set.

    Raises:
        UnsupportedFeature: one is; names it.
    """
    for name, value in parameters.items():
        if value is not None and value != ():
            raise UnsupportedFeature(f"{provider} has no parameter for {name}; leave it out")


def check_compaction(tokens: int, least: int) -> None:
    """Refuses to have prompts compacted that are shorter than a provider does.

    Raises:
        UnsupportedFeature: `tokens` are fewer than `least`.
    """
    if tokens < least:
        raise UnsupportedFeature(
            f"compact_at is {tokens}, but a prompt of less than {least} tokens is never compacted; "
            "raise it, or leave it out"
        )


def refuse_single_calls(request: LLMRequest, provider: str) -> None:
    """Refuses the wish for one call at a time, where a protocol cannot express it.

    Raises:
        UnsupportedFeature: the request has it.
    """
    if request.tools and request.parallel_tool_calls is False:
        raise UnsupportedFeature(
            f"{provider} cannot be kept from several calls at once; leave parallel_tool_calls out"
        )


def check_tools(
    tools: tuple[ToolSpec, ...],
    *,
    name_rule: str,
    twice_rule: str,
    most: int | None = None,
    most_rule: str = "",
    pattern: re.Pattern[str] = NAME,
) -> None:
    """Refuses tools that no provider of a protocol takes.

    Raises:
        LocalProtocolError: too many, a name that is not allowed, a name used twice, or a schema
            that holds NaN or Infinity.
    """
    if most is not None and len(tools) > most:
        raise LocalProtocolError(
            f"{len(tools)} tools are offered, but the protocol takes at most {most}", rule=most_rule
        )
    seen: set[str] = set()
    for tool in tools:
        if pattern.fullmatch(tool.name) is None:
            raise LocalProtocolError(
                f"the tool name {tool.name!r} must match {pattern.pattern}", rule=name_rule
            )
        if tool.name in seen:
            raise LocalProtocolError(
                f"two tools are named {tool.name!r}; rename one", rule=twice_rule
            )
        seen.add(tool.name)
        require_finite(tool.parameters, f"the schema of tool {tool.name!r}")


def check_choice(request: LLMRequest, rule: str) -> None:
    """Refuses a tool choice that cannot be met.

    Raises:
        LocalProtocolError: it names a tool that is not offered.
    """
    choice = request.tool_choice
    if isinstance(choice, NamedTool) and all(tool.name != choice.name for tool in request.tools):
        raise LocalProtocolError(
            f"tool_choice names {choice.name!r}, which is none of the request's tools", rule=rule
        )
