"""Reads an answer that came in one piece: the same for every protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from llm_client.codecs._answer import Answer
from llm_client.codecs._http_errors import error_from_body, request_id
from llm_client.codecs._json import is_array, is_object, loads_valid
from llm_client.codecs._stream_decoder import StreamDecoder
from llm_client.errors import LLMError, MalformedResponse, excerpt
from llm_client.stream import Accumulator, StreamEvent
from llm_client.types import LLMResponse

__all__ = ["decode_whole"]


def decode_whole(
    answer: Callable[[], Answer],
    provider: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    now: Callable[[], float] | None = None,
) -> LLMResponse:
    """What `body` says, read by an `answer`.

    Raises:
        LLMError: it is an error, or cannot be decoded.
    """
    if not 200 <= status < 300:
        raise error_from_body(provider, status, headers, body, now)
    asked = request_id(headers)
    try:
        return _accumulated(_events(answer, provider, body), asked)
    except RecursionError as error:
        raise MalformedResponse(
            "the answer is nested too deeply; ask again",
            status=status,
            request_id=asked,
            provider=provider,
        ) from error
    except LLMError as error:
        error.status = error.status or status
        error.request_id = error.request_id or asked
        error.provider = error.provider or provider
        raise


def _events(answer: Callable[[], Answer], provider: str, body: bytes) -> list[StreamEvent]:
    start = body.lstrip()[:6]
    if start.startswith((b"data:", b"event:", b":")):
        # A server that streams although nobody asked it to.
        decoder = StreamDecoder(answer(), provider)
        return [*decoder.feed(body), *decoder.close()]
    try:
        value = loads_valid(body)
    except ValueError as error:
        raise MalformedResponse(_not_json(body)) from error
    if not is_object(value) and not is_array(value):
        raise MalformedResponse(_not_json(body))
    whole = answer()
    events: list[StreamEvent] = []
    whole.take_whole(value, events)
    whole.finish(events)
    return events


def _accumulated(events: list[StreamEvent], asked: str | None) -> LLMResponse:
    accumulator = Accumulator()
    for event in events:
        accumulator.add(event)
    return accumulator.response(asked)


def _not_json(body: bytes) -> str:
    begins = excerpt(body[:2000].decode("utf-8", "replace")) or "nothing"
    return (
        "the answer is not JSON; check the base address and any proxy in between. It begins: "
        f"{begins}"
    )
