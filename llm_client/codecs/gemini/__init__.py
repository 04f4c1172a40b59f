"""Gemini's generateContent protocol, as the Gemini API and Vertex speak it."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from msgspec import structs

from llm_client.codec import HttpRequest
from llm_client.codecs._json import encode, require_finite
from llm_client.codecs._reader import AnswerReader
from llm_client.codecs._request import JSON_HEADERS, STREAM_HEADERS
from llm_client.codecs._transcript import KeptTools, TranscriptEncoder
from llm_client.codecs.gemini._answer import GeminiAnswer
from llm_client.codecs.gemini._dialect import (
    GEMINI,
    VERTEX,
    GeminiDialect,
    gemini_dialect,
    gemini_family,
)
from llm_client.codecs.gemini._encode import encode_message, media_part
from llm_client.codecs.gemini._frames import GeminiFrames
from llm_client.codecs.gemini._request import encode_functions, encode_options
from llm_client.codecs.gemini._rules import START, Encoded, Walk, check_end, walk
from llm_client.errors import ConfigError
from llm_client.types import Audio, File, Image, LLMRequest, Message

__all__ = ["GEMINI", "VERTEX", "GeminiCodec", "GeminiDialect", "gemini_codec", "gemini_dialect"]


class _GeminiForm:
    """Messages in one dialect, for a `TranscriptEncoder`."""

    start = START

    def __init__(self, dialect: GeminiDialect, *, media_results: bool) -> None:
        self._dialect = dialect
        self._media_results = media_results

    def encode(self, message: Message) -> Encoded:
        return encode_message(message, self._dialect)

    def walk(self, state: Walk, encoded: Encoded, position: int) -> tuple[Walk, list[bytes]]:
        return walk(state, encoded, position, media_results=self._media_results)

    def show(self, part: Image | Audio | File) -> object:
        return media_part(part)

    def check_end(self, state: Walk) -> None:
        check_end(state)


class GeminiCodec(AnswerReader):
    """A `Codec` for one service's dialect.

    What it has encoded is kept and used again: whole conversations by the request's `cache_key`
    (the `conversations` most recently used, at most `cache_bytes` in all, for models before 3 and
    from 3 on each), single messages and tool sets by their identity. Not safe for concurrent use by
    several threads.

    `now` gives the seconds since 1970; it is asked only when a provider names a date to retry at
    and no date of its own.
    """

    def __init__(
        self,
        dialect: GeminiDialect = GEMINI,
        *,
        conversations: int = 512,
        cache_bytes: int = 64 * 1024 * 1024,
        now: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(
            dialect.provider, lambda: GeminiAnswer(dialect), frames=GeminiFrames, now=now
        )
        self.dialect = dialect
        self._transcripts = {
            media: TranscriptEncoder(
                _GeminiForm(dialect, media_results=media), conversations, cache_bytes
            )
            for media in (False, True)
        }
        self._tools = KeptTools()

    @property
    def binds_output(self) -> bool:
        """Whether the service can bind an answer to a schema: all of them can."""
        return True

    @property
    def kept_conversations(self) -> int:
        """How many conversations the encoder keeps at the moment."""
        return sum(encoder.kept_conversations for encoder in self._transcripts.values())

    def encode(self, request: LLMRequest, *, stream: bool) -> HttpRequest:
        """The request in wire form. The model is part of its path.

        Raises:
            ConfigError: the request names no model.
            LocalProtocolError: the transcript is illegal for this protocol; names the rule.
            UnsupportedFeature: the protocol cannot express something in the request.
        """
        if not request.model:
            raise ConfigError("Gemini's address names the model; give the request one")
        family = gemini_family(request.model)
        options = encode_options(request, self.dialect, family)
        head = options[:-1] + (b"," if len(options) > 2 else b"")
        tools = self._encoded_tools(request)
        if tools:
            head += b'"tools":[' + b",".join(tools) + b"],"
        found = self._transcripts[family.media_results].walked(request)
        system = list(found.state.system)
        if request.system:
            system.insert(0, encode({"text": request.system}, "the system prompt"))
        if system:
            head += b'"systemInstruction":{"parts":[' + b",".join(system) + b"]},"
        path = _path(request.model, stream=stream)
        headers = STREAM_HEADERS if stream else JSON_HEADERS
        return HttpRequest(path, [head + b'"contents":[', *found.pieces, b"]}"], headers)

    def _encoded_tools(self, request: LLMRequest) -> list[bytes]:
        found: list[bytes] = []
        if request.tools:
            kept = self._tools.get(request.tools)
            found.append(kept or self._tools.put(request.tools, encode_functions(request.tools)))
        require_finite(request.server_tools, "the server tools")
        found += [encode(tool, "a server tool") for tool in request.server_tools]
        return found


def _path(model: str, *, stream: bool) -> str:
    name = quote(model if "/" in model else f"models/{model}", safe="/@")
    return f"/{name}:streamGenerateContent?alt=sse" if stream else f"/{name}:generateContent"


def gemini_codec(dialect: str, provider: str) -> GeminiCodec:
    """The codec of the service `dialect`, whose errors name `provider`."""
    return GeminiCodec(structs.replace(gemini_dialect(dialect), provider=provider))
