"""The Responses protocol: OpenAI's newer one, and that of those who speak it too."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from llm_client.codecs._http_errors import error_from_body
from llm_client.codecs._responses_answer import ResponsesAnswer
from llm_client.codecs._responses_dialect import (
    COMPATIBLE,
    DIALECTS,
    ResponsesDialect,
    responses_dialect,
)
from llm_client.codecs._stream_decoder import StreamDecoder
from llm_client.codecs._whole import decode_whole
from llm_client.errors import LLMError
from llm_client.types import LLMResponse

__all__ = [
    "COMPATIBLE",
    "DIALECTS",
    "OpenAIResponsesCodec",
    "ResponsesDialect",
    "responses_dialect",
]


class OpenAIResponsesCodec:
    """A `Codec` for one vendor's dialect."""

    def __init__(
        self, dialect: ResponsesDialect = COMPATIBLE, *, now: Callable[[], float] | None = None
    ) -> None:
        self.dialect = dialect
        self._now = now

    def decoder(self) -> StreamDecoder:
        """A decoder for one streamed answer."""
        return StreamDecoder(ResponsesAnswer(self.dialect), self.dialect.provider)

    def decode(self, status: int, headers: Mapping[str, str], body: bytes) -> LLMResponse:
        """An answer that came whole.

        Raises:
            LLMError: the answer is an error, or cannot be decoded.
        """
        return decode_whole(
            lambda: ResponsesAnswer(self.dialect),
            self.dialect.provider,
            status,
            headers,
            body,
            self._now,
        )

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> LLMError:
        """The typed error for an answer whose status is not 200."""
        return error_from_body(self.dialect.provider, status, headers, body, self._now)
