"""How all codecs read: an answer of their own, in frames or whole, and one table of errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from llm_client.codecs._answer import Answer
from llm_client.codecs._http_errors import error_from_body
from llm_client.codecs._stream_decoder import Frames, StreamDecoder
from llm_client.codecs._whole import decode_whole
from llm_client.errors import LLMError
from llm_client.types import LLMResponse

__all__ = ["AnswerReader"]


class AnswerReader:
    """The reading half of a `Codec`.

    Args:
        provider: who answers; named in errors.
        answer: makes the state of one answer.
        frames: makes what cuts a stream into frames; by default server-sent events.
        now: seconds since 1970, asked where Retry-After is a date and the answer has none.
    """

    def __init__(
        self,
        provider: str,
        answer: Callable[[], Answer],
        *,
        frames: Callable[[], Frames] | None = None,
        now: Callable[[], float] | None = None,
    ) -> None:
        self.provider = provider
        self._answer = answer
        self._frames = frames
        self._now = now

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.provider!r})"

    def decoder(self) -> StreamDecoder:
        """A decoder for one streamed answer."""
        frames = None if self._frames is None else self._frames()
        return StreamDecoder(self._answer(), self.provider, frames)

    def decode(self, status: int, headers: Mapping[str, str], body: bytes) -> LLMResponse:
        """An answer that came whole.

        Raises:
            LLMError: the answer is an error, or cannot be decoded.
        """
        return decode_whole(self._answer, self.provider, status, headers, body, self._now)

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> LLMError:
        """The typed error for an answer whose status is not 200."""
        return error_from_body(self.provider, status, headers, body, self._now)
