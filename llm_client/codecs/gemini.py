"""Gemini's generateContent protocol, as the Gemini API and Vertex speak it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import structs

from llm_client.codec import HttpRequest
from llm_client.codecs._gemini_answer import GeminiAnswer
from llm_client.codecs._gemini_dialect import GEMINI, VERTEX, GeminiDialect, gemini_dialect
from llm_client.codecs._gemini_frames import GeminiFrames
from llm_client.codecs._http_errors import error_from_body
from llm_client.codecs._stream_decoder import StreamDecoder
from llm_client.codecs._whole import decode_whole
from llm_client.errors import LLMError
from llm_client.types import LLMRequest, LLMResponse

__all__ = ["GEMINI", "VERTEX", "GeminiCodec", "GeminiDialect", "gemini_codec", "gemini_dialect"]


class GeminiCodec:
    """A `Codec` for one service's dialect."""

    def __init__(
        self, dialect: GeminiDialect = GEMINI, *, now: Callable[[], float] | None = None
    ) -> None:
        self.dialect = dialect
        self._now = now

    @property
    def binds_output(self) -> bool:
        """Whether the service can bind an answer to a schema: all of them can."""
        return True

    def encode(self, request: LLMRequest, *, stream: bool) -> HttpRequest:
        raise NotImplementedError

    def decoder(self) -> StreamDecoder:
        """A decoder for one streamed answer."""
        return StreamDecoder(GeminiAnswer(self.dialect), self.dialect.provider, GeminiFrames())

    def decode(self, status: int, headers: Mapping[str, str], body: bytes) -> LLMResponse:
        """An answer that came whole.

        Raises:
            LLMError: the answer is an error, or cannot be decoded.
        """
        return decode_whole(
            lambda: GeminiAnswer(self.dialect),
            self.dialect.provider,
            status,
            headers,
            body,
            self._now,
        )

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> LLMError:
        """The typed error for an answer whose status is not 200."""
        return error_from_body(self.dialect.provider, status, headers, body, self._now)


def gemini_codec(dialect: str, provider: str) -> GeminiCodec:
    """The codec of the service `dialect`, whose errors name `provider`."""
    return GeminiCodec(structs.replace(gemini_dialect(dialect), provider=provider))
