"""The Responses protocol: OpenAI's newer one, and that of those who speak it too."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import structs

from llm_client.codec import HttpRequest
from llm_client.codecs._json import encode, require_finite
from llm_client.codecs._reader import AnswerReader
from llm_client.codecs._request import JSON_HEADERS, STREAM_HEADERS
from llm_client.codecs._transcript import KeptTools, TranscriptEncoder
from llm_client.codecs.openai_responses._answer import ResponsesAnswer
from llm_client.codecs.openai_responses._dialect import (
    COMPATIBLE,
    DIALECTS,
    ResponsesDialect,
    responses_dialect,
)
from llm_client.codecs.openai_responses._encode import encode_message, media_block
from llm_client.codecs.openai_responses._request import encode_options, encode_tools, is_continued
from llm_client.codecs.openai_responses._rules import START, Encoded, Walk, check_end, walk
from llm_client.errors import LocalProtocolError
from llm_client.types import Audio, File, Image, LLMRequest, Message

__all__ = [
    "COMPATIBLE",
    "DIALECTS",
    "OpenAIResponsesCodec",
    "ResponsesDialect",
    "responses_codec",
    "responses_dialect",
]


_MAY_BE_EMPTY = frozenset({"previous_response_id", "conversation", "prompt"})


class _ResponsesForm:
    """Messages in one dialect, for a `TranscriptEncoder`. If `continued`, the provider holds what
    came before them."""

    start = START

    def __init__(self, dialect: ResponsesDialect, *, continued: bool) -> None:
        self._dialect = dialect
        self._continued = continued

    def encode(self, message: Message) -> Encoded:
        return encode_message(message, self._dialect)

    def walk(self, state: Walk, encoded: Encoded, position: int) -> tuple[Walk, list[bytes]]:
        return walk(state, encoded, position, continued=self._continued)

    def show(self, part: Image | Audio | File) -> object:
        return media_block(part, self._dialect)

    def check_end(self, state: Walk) -> None:
        check_end(state)


class OpenAIResponsesCodec(AnswerReader):
    """A `Codec` for one vendor's dialect.

    What it has encoded is kept and used again: whole conversations by the request's `cache_key`
    (the `conversations` most recently used, at most `cache_bytes` in all), single messages and tool
    sets by their identity. Not safe for concurrent use by several threads.

    `now` gives the seconds since 1970; it is asked only when a provider names a date to retry at
    and no date of its own.
    """

    binds_output = True

    def __init__(
        self,
        dialect: ResponsesDialect = COMPATIBLE,
        *,
        conversations: int = 512,
        cache_bytes: int = 64 * 1024 * 1024,
        now: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(dialect.provider, lambda: ResponsesAnswer(dialect), now=now)
        self.dialect = dialect
        self._whole = TranscriptEncoder(
            _ResponsesForm(dialect, continued=False), conversations, cache_bytes
        )
        self._continued = TranscriptEncoder(
            _ResponsesForm(dialect, continued=True), conversations, cache_bytes
        )
        self._tools = KeptTools()

    @property
    def kept_conversations(self) -> int:
        """How many conversations the encoder keeps at the moment."""
        return self._whole.kept_conversations + self._continued.kept_conversations

    def encode(self, request: LLMRequest, *, stream: bool) -> HttpRequest:
        """The request in wire form.

        Raises:
            LocalProtocolError: the transcript is illegal for this protocol; names the rule.
            UnsupportedFeature: the protocol cannot express something in the request.
        """
        transcripts = self._continued if is_continued(request) else self._whole
        head = encode_options(request, self.dialect, stream=stream)[:-1] + b","
        tools = self._encoded_tools(request)
        if tools:
            head += b'"tools":[' + tools + b"],"
        pieces = transcripts.pieces(request)
        if not pieces and not _MAY_BE_EMPTY & request.extra.keys():
            raise LocalProtocolError("the request holds no message; send at least one", rule="R11")
        head += b'"input":['
        headers = STREAM_HEADERS if stream else JSON_HEADERS
        return HttpRequest(self.dialect.path, [head, *pieces, b"]}"], headers)

    def _encoded_tools(self, request: LLMRequest) -> bytes:
        tools = request.tools
        ours = self._tools.get(tools) or self._tools.put(tools, encode_tools(tools))
        if not request.server_tools:
            return ours
        require_finite(request.server_tools, "the server tools")
        theirs = encode(request.server_tools, "the server tools")[1:-1]
        return ours + b"," + theirs if ours else theirs


def responses_codec(dialect: str, provider: str) -> OpenAIResponsesCodec:
    """The codec of the vendor `dialect` for `provider`."""
    return OpenAIResponsesCodec(structs.replace(responses_dialect(dialect), provider=provider))
