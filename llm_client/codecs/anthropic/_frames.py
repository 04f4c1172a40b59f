"""The shape of nearly every frame of a Messages stream, for the fast path of the decoder.

Any other frame does not fit and takes the tolerant path.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

__all__ = ["JsonPiece", "TextPiece", "ThinkingPiece", "decode_frame"]


class TextPiece(Struct, frozen=True, gc=False, tag_field="type", tag="text_delta"):
    text: str


class ThinkingPiece(Struct, frozen=True, gc=False, tag_field="type", tag="thinking_delta"):
    thinking: str


class JsonPiece(Struct, frozen=True, gc=False, tag_field="type", tag="input_json_delta"):
    partial_json: str


class Frame(Struct, frozen=True, gc=False, tag_field="type", tag="content_block_delta"):
    index: int
    delta: TextPiece | ThinkingPiece | JsonPiece


decode_frame = msgspec.json.Decoder(Frame).decode
