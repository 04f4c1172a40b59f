"""What the tests of every protocol's streams do alike: cut, decode, put together."""

from __future__ import annotations

from collections.abc import Iterable

from llm_client.codec import Decoder
from llm_client.errors import LLMError
from llm_client.stream import Accumulator, StreamEvent
from llm_client.types import LLMResponse

__all__ = ["accumulate", "decoded", "pieces"]


def pieces(body: bytes, size: int) -> list[bytes]:
    """`body` cut into pieces of `size` bytes."""
    return [body[start : start + size] for start in range(0, len(body), size)]


def decoded(decoder: Decoder, parts: Iterable[bytes]) -> tuple[list[StreamEvent], LLMError | None]:
    """The events of a stream and the error it ended with."""
    events: list[StreamEvent] = []
    try:
        for part in parts:
            events.extend(decoder.feed(part))
        events.extend(decoder.close())
    except LLMError as error:
        return events, error
    return events, None


def accumulate(events: Iterable[StreamEvent]) -> LLMResponse:
    """The response that `events` describe."""
    accumulator = Accumulator()
    for event in events:
        accumulator.add(event)
    return accumulator.response()
