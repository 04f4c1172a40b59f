"""Tokens of one message, of tools, and of what else a request holds."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from llm_client.codecs._json import as_dict, as_list
from llm_client.tokens._media import audio_seconds, image_tokens, pages
from llm_client.tokens.base import TokenEstimate
from llm_client.tokens.families import Family
from llm_client.types import (
    Audio,
    CachePoint,
    File,
    Image,
    Message,
    Opaque,
    OutputSchema,
    Part,
    Seal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    ToolSpec,
)

__all__ = ["Measure", "estimate_text"]

_OTHER_CHARACTERS = 3.6
_CJK_TOKENS = 0.7
_CJK = re.compile(
    "[\u1100-\u11ff\u2e80-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef"
    "\U0001f000-\U0001faff\U00020000-\U0003ffff]+"
)
"""Scripts without spaces, whose characters are tokens of their own more often than not: Chinese,
Japanese, Korean; and pictures such as emoji."""

_SEALED_CHARACTERS = 4


def estimate_text(text: str) -> int:
    """Tokens of `text` for a model whose vocabulary is not known: 0.7 for a Chinese, Japanese or
    Korean character, one for 3.6 others."""
    if not text:
        return 0
    dense = 0 if text.isascii() else sum(map(len, _CJK.findall(text)))
    return max(1, round(dense * _CJK_TOKENS + (len(text) - dense) / _OTHER_CHARACTERS))


_OtherPart = Thinking | Image | Audio | File | ToolCall | Opaque | CachePoint


class Measure:
    """What a family's models make of things; `text` counts a text."""

    def __init__(self, family: Family, text: Callable[[str], int]) -> None:
        self._family = family
        self.text = text

    def message(self, message: Message) -> TokenEstimate:
        """One message, with what surrounds it."""
        family = self._family
        count = TokenEstimate(family.per_message, exact=family.framing_known)
        if message.name is not None:
            count += TokenEstimate(1 + self.text(message.name), exact=True)
        thought = self._counts_reasoning(message)
        for part in message.parts:
            if thought or not isinstance(part, Thinking):
                count += self._part(part)
        return count

    def _counts_reasoning(self, message: Message) -> bool:
        when = self._family.reasoning
        return when == "always" or (when == "with_calls" and bool(message.tool_calls))

    def prompt(self, system: str | None) -> TokenEstimate:
        """What surrounds the messages, and the system prompt."""
        family = self._family
        count = TokenEstimate(family.per_request, exact=family.framing_known)
        if system is None:
            return count
        return count + TokenEstimate(family.per_message + self.text(system), exact=True)

    def tools(self, tools: tuple[ToolSpec, ...]) -> TokenEstimate:
        """The declarations of tools."""
        if not tools:
            return TokenEstimate(0, exact=True)
        count = self._family.for_tools + sum(map(self._tool, tools))
        return TokenEstimate(count, exact=False)

    def server_tools(self, tools: tuple[dict[str, Any], ...]) -> TokenEstimate:
        """The declarations of tools that the provider runs."""
        return TokenEstimate(sum(map(self._json, tools)), exact=not tools)

    def schema(self, schema: OutputSchema | None) -> TokenEstimate:
        """What binds the answer."""
        if schema is None or not self._family.schema_counts:
            return TokenEstimate(0, exact=schema is None)
        count = self._family.for_schema + self._json(schema.schema) + self.text(schema.name)
        return TokenEstimate(count, exact=False)

    def _part(self, part: Part) -> TokenEstimate:
        match part:
            case Text():
                exact = self._family.own_vocabulary
                return TokenEstimate(self.text(part.text), exact=exact)
            case ToolResult():
                inner = [self._part(item) for item in part.content]
                return sum(inner, TokenEstimate(0, exact=False))
            case _:
                return TokenEstimate(self._other_part(part), exact=False)

    def _other_part(self, part: _OtherPart) -> int:
        match part:
            case ToolCall():
                return self._call(part)
            case Image():
                return image_tokens(part, self._family.image)
            case Audio():
                spoken = math.ceil(audio_seconds(part) * self._family.audio_second)
                return spoken or self.text(part.transcript or "")
            case File():
                return self._file(part)
            case Thinking():
                return self._thinking(part)
            case Opaque():
                return self.text(part.json)
            case CachePoint():
                return 0

    def _call(self, call: ToolCall) -> int:
        said = self._family.per_call + self.text(call.name) + self.text(call.arguments)
        return said + (self._sealed(call.seal) or 0)

    def _thinking(self, part: Thinking) -> int:
        sealed = self._sealed(part.seal)
        if sealed is not None:
            return sealed
        if part.redacted and part.seal is not None:
            return len(part.seal.signature or "") // _SEALED_CHARACTERS
        return self.text(part.text)

    def _sealed(self, seal: Seal | None) -> int | None:
        """The reasoning behind a seal; None where only what is shown of it counts."""
        if self._family.sealed is None or seal is None or not seal.signature:
            return None
        return round(len(seal.signature) / self._family.sealed)

    def _file(self, part: File) -> int:
        kind = part.media_type or ""
        if part.data is not None and (kind.startswith("text/") or kind == "application/json"):
            return self.text(part.data.decode("utf-8", "replace"))
        return pages(part) * self._family.page

    def _tool(self, tool: ToolSpec) -> int:
        family = self._family
        if family.recipe:
            head = f"{tool.name}:{tool.description.removesuffix('.')}"
            return family.per_tool + self.text(head) + self._properties(tool.parameters)
        declared = self._json(
            {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
        )
        return family.per_tool + round(declared * family.tool_factor)

    def _properties(self, schema: Mapping[str, Any]) -> int:
        """By the recipe for functions of OpenAI's cookbook, carried on into nested objects."""
        properties = as_dict(schema.get("properties"))
        if not properties:
            return 0
        return 3 + sum(self._property(name, as_dict(each)) for name, each in properties.items())

    def _property(self, name: str, schema: Mapping[str, Any]) -> int:
        description = str(schema.get("description", "")).removesuffix(".")
        line = f"{name}:{schema.get('type', '')}:{description}"
        choices = as_list(schema.get("enum"))
        listed = sum(3 + self.text(str(choice)) for choice in choices) - 3 if choices else 0
        nested = self._properties(schema) + self._properties(as_dict(schema.get("items")))
        return 3 + self.text(line) + listed + nested

    def _json(self, value: object) -> int:
        # What cannot be written as JSON is refused by whoever sends it, not here.
        return self.text(json.dumps(value, ensure_ascii=False, default=str))
