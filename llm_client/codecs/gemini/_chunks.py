"""The shape that nearly every streamed chunk of Gemini has, for the fast path of the decoder.

A chunk with anything else in it (a call, an image, sources) does not fit and takes the tolerant
path.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

__all__ = ["Candidate", "Chunk", "Counts", "decode_chunk"]


class TextPart(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    text: str
    thought: bool = False
    thought_signature: str | None = None


class Content(Struct, frozen=True):
    parts: list[TextPart]


class Candidate(Struct, frozen=True, rename="camel"):
    content: Content
    index: int = 0
    finish_reason: str | None = None
    finish_message: str | None = None
    grounding_metadata: None = None
    citation_metadata: None = None
    url_context_metadata: None = None


class Counts(Struct, frozen=True, rename="camel"):
    """Tokens as Gemini counts them: reasoning beside the answer, what tools read beside the
    prompt."""

    prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    cached_content_token_count: int | None = None


class Chunk(Struct, frozen=True, rename="camel"):
    candidates: list[Candidate]
    usage_metadata: Counts | None = None
    model_version: str | None = None
    response_id: str | None = None
    prompt_feedback: None = None
    error: None = None


decode_chunk = msgspec.json.Decoder(Chunk).decode
