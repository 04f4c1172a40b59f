"""The Chat Completions protocol: OpenAI's own and that of everyone who speaks it."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import structs

from llm_client.codec import HttpRequest
from llm_client.codecs._reader import AnswerReader
from llm_client.codecs._request import JSON_HEADERS, STREAM_HEADERS
from llm_client.codecs._transcript import KeptTools, TranscriptEncoder
from llm_client.codecs.openai_chat._answer import ChatAnswer
from llm_client.codecs.openai_chat._dialect import (
    COMPATIBLE,
    DIALECTS,
    ChatDialect,
    ReasoningEcho,
    chat_dialect,
)
from llm_client.codecs.openai_chat._encode import encode_message, media_block
from llm_client.codecs.openai_chat._request import encode_options, encode_system, encode_tools
from llm_client.codecs.openai_chat._rules import START, Encoded, Walk, check_end, walk
from llm_client.errors import LocalProtocolError
from llm_client.types import Audio, File, Image, LLMRequest, Message

__all__ = [
    "COMPATIBLE",
    "DIALECTS",
    "ChatDialect",
    "OpenAIChatCodec",
    "ReasoningEcho",
    "chat_codec",
    "chat_dialect",
]


class _ChatForm:
    """Messages in one dialect, for a `TranscriptEncoder`."""

    start = START

    def __init__(self, dialect: ChatDialect) -> None:
        self._dialect = dialect

    def encode(self, message: Message) -> Encoded:
        return encode_message(message, self._dialect)

    def walk(self, state: Walk, encoded: Encoded, position: int) -> tuple[Walk, list[bytes]]:
        return walk(state, encoded, position, bridge=self._dialect.bridge)

    def show(self, part: Image | Audio | File) -> object:
        return media_block(part)

    def check_end(self, state: Walk) -> None:
        check_end(state)


class OpenAIChatCodec(AnswerReader):
    """A `Codec` for one vendor's dialect.

    What it has encoded is kept and used again: whole conversations by the request's `cache_key`
    (the `conversations` most recently used, at most `cache_bytes` in all), single messages and tool
    sets by their identity. Not safe for concurrent use by several threads.

    `now` gives the seconds since 1970; it is asked only when a provider names a date to retry at
    and no date of its own.
    """

    def __init__(
        self,
        dialect: ChatDialect = COMPATIBLE,
        *,
        conversations: int = 512,
        cache_bytes: int = 64 * 1024 * 1024,
        now: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(dialect.provider, lambda: ChatAnswer(dialect), now=now)
        self.dialect = dialect
        self._transcripts = TranscriptEncoder(_ChatForm(dialect), conversations, cache_bytes)
        self._tools = KeptTools()

    @property
    def binds_output(self) -> bool:
        """Whether the vendor can bind an answer to a schema."""
        return self.dialect.json_schema

    @property
    def kept_conversations(self) -> int:
        """How many conversations the encoder keeps at the moment."""
        return self._transcripts.kept_conversations

    def encode(self, request: LLMRequest, *, stream: bool) -> HttpRequest:
        """The request in wire form.

        Raises:
            LocalProtocolError: the transcript is illegal for this protocol; names the rule.
            UnsupportedFeature: the protocol cannot express something in the request.
        """
        options = encode_options(request, self.dialect, stream=stream)
        head = options[:-1] + (b"," if len(options) > 2 else b"")
        if request.tools or request.server_tools:
            head += b'"tools":' + self._encoded_tools(request) + b","
        head += b'"messages":['
        pieces = self._transcripts.pieces(request)
        if request.system is not None:
            head += encode_system(request.system, self.dialect) + (b"," if pieces else b"")
        elif not pieces:
            raise LocalProtocolError("the request holds no message; send at least one", rule="C09")
        return HttpRequest(
            self.dialect.path, [head, *pieces, b"]}"], STREAM_HEADERS if stream else JSON_HEADERS
        )

    def _encoded_tools(self, request: LLMRequest) -> bytes:
        tools = request.tools
        if request.server_tools:
            return encode_tools(tools, request.server_tools)
        return self._tools.get(tools) or self._tools.put(tools, encode_tools(tools))


def chat_codec(dialect: str, provider: str) -> OpenAIChatCodec:
    """The codec of the vendor `dialect` for `provider`."""
    return OpenAIChatCodec(structs.replace(chat_dialect(dialect), provider=provider))
