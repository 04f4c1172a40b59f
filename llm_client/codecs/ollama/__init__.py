"""Ollama's own chat protocol: unlike its copy of Chat Completions it takes `num_ctx`, the size of
the window, without which long prompts are cut silently."""

from __future__ import annotations

from collections.abc import Callable

from llm_client.codec import HttpRequest
from llm_client.codecs._json import encode
from llm_client.codecs._reader import AnswerReader
from llm_client.codecs._request import JSON_HEADERS
from llm_client.codecs._transcript import TranscriptEncoder
from llm_client.codecs.ollama._answer import OllamaAnswer
from llm_client.codecs.ollama._encode import OllamaForm, encode_options, encode_tools
from llm_client.errors import LocalProtocolError
from llm_client.ndjson import NDJSONParser
from llm_client.types import LLMRequest

__all__ = ["OllamaCodec", "ollama_codec"]

_STREAM = {"content-type": "application/json", "accept": "application/x-ndjson"}


class OllamaCodec(AnswerReader):
    """A `Codec`. What it has encoded is kept as in `OpenAIChatCodec`.

    Options of a model, `num_ctx` before all, go into `LLMRequest.extra["options"]`, where they join
    those that the request itself sets.
    """

    def __init__(
        self, provider: str = "ollama-native", *, now: Callable[[], float] | None = None
    ) -> None:
        super().__init__(provider, lambda: OllamaAnswer(provider), frames=NDJSONParser, now=now)
        self._transcripts = TranscriptEncoder(OllamaForm())

    @property
    def binds_output(self) -> bool:
        """True."""
        return True

    def encode(self, request: LLMRequest, *, stream: bool) -> HttpRequest:
        """See `Codec.encode`."""
        head = encode_options(request, self.provider, stream=stream)[:-1]
        if request.tools and request.tool_choice != "none":
            head += b',"tools":' + encode_tools(request.tools)
        head += b',"messages":['
        pieces = self._transcripts.pieces(request)
        if request.system:
            system = {"role": "system", "content": request.system}
            head += encode(system, "the system prompt") + (b"," if pieces else b"")
        elif not pieces:
            raise LocalProtocolError("the request holds no message; send at least one", rule="C09")
        headers = _STREAM if stream else JSON_HEADERS
        return HttpRequest("/api/chat", [head, *pieces, b"]}"], headers)


def ollama_codec(dialect: str, provider: str) -> OllamaCodec:
    """The codec for `provider`; this protocol has one dialect."""
    del dialect
    return OllamaCodec(provider)
