"""**Protocol** definitions of a provider without I/O: requests to bytes, bytes to events.

A codec is a pure description of one wire protocol. It can be tested with recorded bytes alone, and
any transport can carry it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from llm_client.errors import LLMError
from llm_client.stream import StreamEvent
from llm_client.types import LLMRequest, LLMResponse

__all__ = ["Codec", "Decoder", "HttpRequest"]


class HttpRequest(Struct, frozen=True):
    """What to send: `path` below the base address, with a query or without, and the body as pieces
    to be sent in order.

    Pieces let an encoder hand out what it has encoded before without copying it again.
    """

    path: str
    body: Sequence[bytes]
    headers: Mapping[str, str]

    @property
    def content_length(self) -> int:
        """Bytes of the whole body."""
        return sum(map(len, self.body))


class Decoder(Protocol):
    """**Protocol**: reads one streamed answer."""

    def feed(self, data: bytes) -> Sequence[StreamEvent]:
        """The events that `data` completes, in order.

        Raises:
            LLMError: the provider reported an error in the stream, or the bytes make no sense.
        """
        ...

    def close(self) -> Sequence[StreamEvent]:
        """The last events, at the end of the bytes, however they ended: a connection that breaks
        when the model had finished takes nothing away from its answer.

        Raises:
            IncompleteStream: the answer had not come to its positive end.
            LLMError: the error with which the stream ended.
        """
        ...

    @property
    def done(self) -> bool:
        """True once nothing more is expected: stop reading, and call `close`, which raises an error
        that came in the same bytes as good events."""
        ...


class Codec(Protocol):
    """**Protocol**: one wire protocol."""

    @property
    def binds_output(self) -> bool:
        """Whether the protocol can bind an answer to a schema."""
        ...

    def encode(self, request: LLMRequest, *, stream: bool) -> HttpRequest:
        """The request in wire form.

        Raises:
            LocalProtocolError: the transcript is illegal for this protocol; names the rule.
            UnsupportedFeature: the protocol cannot express something in the request.
        """
        ...

    def decoder(self) -> Decoder:
        """A decoder for one streamed answer."""
        ...

    def decode(self, status: int, headers: Mapping[str, str], body: bytes) -> LLMResponse:
        """An answer that came whole.

        Raises:
            LLMError: the answer is an error, or cannot be decoded.
        """
        ...

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> LLMError:
        """The typed error for an answer whose status is not 200."""
        ...
