"""Cohere's chat protocol, version 2."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from llm_client.codec import HttpRequest
from llm_client.codecs._http_errors import error_from_body
from llm_client.codecs._json import encode
from llm_client.codecs._request import JSON_HEADERS, STREAM_HEADERS
from llm_client.codecs._stream_decoder import StreamDecoder
from llm_client.codecs._transcript import TranscriptEncoder
from llm_client.codecs._whole import decode_whole
from llm_client.codecs.cohere._answer import CohereAnswer
from llm_client.codecs.cohere._encode import CohereForm, encode_options, encode_tools
from llm_client.errors import LLMError, LocalProtocolError
from llm_client.types import LLMRequest, LLMResponse

__all__ = ["CohereCodec", "cohere_codec"]


class CohereCodec:
    """A `Codec`. What it has encoded is kept as in `OpenAIChatCodec`.

    Documents for the model to cite go into `LLMRequest.extra`. An answer can be bound to a schema,
    but not in the same request as tools.
    """

    def __init__(self, provider: str = "cohere", *, now: Callable[[], float] | None = None) -> None:
        self.provider = provider
        self._now = now
        self._transcripts = TranscriptEncoder(CohereForm())

    def __repr__(self) -> str:
        return f"CohereCodec({self.provider!r})"

    @property
    def binds_output(self) -> bool:
        """True."""
        return True

    def encode(self, request: LLMRequest, *, stream: bool) -> HttpRequest:
        """See `Codec.encode`."""
        head = encode_options(request, self.provider, stream=stream)[:-1]
        if request.tools:
            head += b',"tools":' + encode_tools(request)
        head += b',"messages":['
        pieces = self._transcripts.pieces(request)
        if request.system:
            system = {"role": "system", "content": request.system}
            head += encode(system, "the system prompt") + (b"," if pieces else b"")
        elif not pieces:
            raise LocalProtocolError("the request holds no message; send at least one", rule="C09")
        headers = STREAM_HEADERS if stream else JSON_HEADERS
        return HttpRequest("/v2/chat", [head, *pieces, b"]}"], headers)

    def decoder(self) -> StreamDecoder:
        """See `Codec.decoder`."""
        return StreamDecoder(CohereAnswer(self.provider), self.provider)

    def decode(self, status: int, headers: Mapping[str, str], body: bytes) -> LLMResponse:
        """See `Codec.decode`."""
        return decode_whole(
            lambda: CohereAnswer(self.provider), self.provider, status, headers, body, self._now
        )

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> LLMError:
        """See `Codec.error`."""
        return error_from_body(self.provider, status, headers, body, self._now)


def cohere_codec(dialect: str, provider: str) -> CohereCodec:
    """The codec for `provider`; this protocol has one dialect."""
    del dialect
    return CohereCodec(provider)
