"""Cohere's chat protocol, version 2."""

from __future__ import annotations

from collections.abc import Callable

from llm_client.codec import HttpRequest
from llm_client.codecs._json import encode
from llm_client.codecs._reader import AnswerReader
from llm_client.codecs._request import JSON_HEADERS, STREAM_HEADERS
from llm_client.codecs._transcript import TranscriptEncoder
from llm_client.codecs.cohere._answer import CohereAnswer
from llm_client.codecs.cohere._encode import CohereForm, encode_options, encode_tools
from llm_client.errors import LocalProtocolError
from llm_client.types import LLMRequest

__all__ = ["CohereCodec", "cohere_codec"]


class CohereCodec(AnswerReader):
    """A `Codec`. What it has encoded is kept as in `OpenAIChatCodec`.

    Documents for the model to cite go into `LLMRequest.extra`. An answer can be bound to a schema,
    but not in the same request as tools.
    """

    def __init__(self, provider: str = "cohere", *, now: Callable[[], float] | None = None) -> None:
        super().__init__(provider, lambda: CohereAnswer(provider), now=now)
        self._transcripts = TranscriptEncoder(CohereForm())

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


def cohere_codec(dialect: str, provider: str) -> CohereCodec:
    """The codec for `provider`; this protocol has one dialect."""
    del dialect
    return CohereCodec(provider)
