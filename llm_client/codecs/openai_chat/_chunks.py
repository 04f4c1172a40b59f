"""The shape that nearly every streamed chunk has, for the fast path of the decoder.

A field that only some vendors send is typed as None here: a chunk in which it is set does not fit
and takes the tolerant path.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

__all__ = ["Chunk", "Delta", "decode_chunk"]


class Function(Struct, frozen=True):
    name: str | None = None
    arguments: str | None = None


class Call(Struct, frozen=True):
    index: int | None = None
    id: str | None = None
    function: Function | None = None
    custom: None = None


class Delta(Struct, frozen=True):
    content: str | None = None
    tool_calls: list[Call] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    thinking: None = None
    thinking_content: None = None
    reasoning_text: None = None
    thought: None = None
    reasoning_details: None = None
    function_call: None = None
    audio: None = None


class Choice(Struct, frozen=True):
    index: int = 0
    delta: Delta | None = None
    finish_reason: str | None = None
    message: None = None
    stop_reason: None = None
    usage: None = None


class Groq(Struct, frozen=True):
    usage: dict[str, Any] | None = None


class Chunk(Struct, frozen=True):
    choices: list[Choice]
    id: str | None = None
    model: str | None = None
    usage: dict[str, Any] | None = None
    x_groq: Groq | None = None
    error: None = None


decode_chunk = msgspec.json.Decoder(Chunk).decode
