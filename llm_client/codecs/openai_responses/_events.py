"""The shape that nearly every streamed event has, for the fast path of the decoder."""

from __future__ import annotations

import msgspec
from msgspec import Struct

__all__ = ["TEXT_DELTA", "Event", "decode_event"]

TEXT_DELTA = "response.output_text.delta"


class Event(Struct, frozen=True, gc=False):
    """An event with a piece of something. All others leave `delta` at None."""

    type: str
    delta: str | None = None
    item_id: str | None = None
    output_index: int | None = None
    content_index: int = 0


decode_event = msgspec.json.Decoder(Event).decode
