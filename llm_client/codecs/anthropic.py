"""The Messages protocol: Anthropic's own, and that of everyone who speaks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from llm_client.codecs._anthropic_answer import AnthropicAnswer
from llm_client.codecs._anthropic_dialect import (
    ANTHROPIC,
    DIALECTS,
    AnthropicDialect,
    anthropic_dialect,
)
from llm_client.codecs._http_errors import error_from_body
from llm_client.codecs._stream_decoder import StreamDecoder
from llm_client.codecs._whole import decode_whole
from llm_client.errors import LLMError
from llm_client.types import LLMResponse

__all__ = ["ANTHROPIC", "DIALECTS", "AnthropicCodec", "AnthropicDialect", "anthropic_dialect"]


class AnthropicCodec:
    """A `Codec` for one vendor's dialect."""

    def __init__(
        self,
        dialect: AnthropicDialect = ANTHROPIC,
        *,
        now: Callable[[], float] | None = None,
    ) -> None:
        self.dialect = dialect
        self._now = now

    def decoder(self) -> StreamDecoder:
        """A decoder for one streamed answer."""
        return StreamDecoder(AnthropicAnswer(self.dialect), self.dialect.provider)

    def decode(self, status: int, headers: Mapping[str, str], body: bytes) -> LLMResponse:
        """An answer that came whole.

        Raises:
            LLMError: the answer is an error, or cannot be decoded.
        """
        return decode_whole(
            lambda: AnthropicAnswer(self.dialect),
            self.dialect.provider,
            status,
            headers,
            body,
            self._now,
        )

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> LLMError:
        """The typed error for an answer whose status is not 200."""
        return error_from_body(self.dialect.provider, status, headers, body, self._now)
