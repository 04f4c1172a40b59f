"""The Messages protocol: Anthropic's own, and that of everyone who speaks it."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from msgspec import structs

from llm_client.codec import HttpRequest
from llm_client.codecs._json import encode
from llm_client.codecs._reader import AnswerReader
from llm_client.codecs._request import JSON_HEADERS, STREAM_HEADERS
from llm_client.codecs._transcript import KeptTools, TranscriptEncoder, Walked
from llm_client.codecs.anthropic._answer import AnthropicAnswer
from llm_client.codecs.anthropic._dialect import (
    ANTHROPIC,
    DIALECTS,
    AnthropicDialect,
    anthropic_dialect,
)
from llm_client.codecs.anthropic._encode import encode_message, text_block
from llm_client.codecs.anthropic._last import (
    room_for_points,
    without_last_blanks,
    without_tail_points,
)
from llm_client.codecs.anthropic._marks import Lifetime, cached, in_order
from llm_client.codecs.anthropic._media import media_block
from llm_client.codecs.anthropic._models import Generation, generation_of
from llm_client.codecs.anthropic._request import encode_options, encode_tools
from llm_client.codecs.anthropic._rules import START, Encoded, Walk, check_end, noted, walk
from llm_client.errors import LocalProtocolError, UnsupportedFeature
from llm_client.types import Audio, File, Image, LLMRequest, Message

__all__ = [
    "ANTHROPIC",
    "DIALECTS",
    "AnthropicCodec",
    "AnthropicDialect",
    "anthropic_codec",
    "anthropic_dialect",
]

_COMPACTS = "compact-2026-01-12"
_MOST_POINTS = 4
_OWN_POINTS = 2
"""Breakpoints that a request for caching takes: behind the system prompt or the tools, and at the
end."""


class _AnthropicForm:
    """Messages in one dialect, for a `TranscriptEncoder`."""

    start = START

    def __init__(self, dialect: AnthropicDialect, *, system_turns: bool) -> None:
        self._dialect = dialect
        self._system_turns = system_turns

    def encode(self, message: Message) -> Encoded:
        return encode_message(message, self._dialect.origin, cache=self._dialect.cache)

    def walk(self, state: Walk, encoded: Encoded, position: int) -> tuple[Walk, list[bytes]]:
        return walk(state, encoded, position, system_turns=self._system_turns)

    def show(self, part: Image | Audio | File) -> object:
        return media_block(part)

    def check_end(self, state: Walk) -> None:
        check_end(state)


class AnthropicCodec(AnswerReader):
    """A `Codec` for one vendor's dialect.

    What it has encoded is kept and used again: whole conversations by the request's `cache_key`
    (the `conversations` most recently used, at most `cache_bytes` in all), single messages and tool
    sets by their identity. Not safe for concurrent use by several threads.

    `now` gives the seconds since 1970; it is asked only when a provider names a date to retry at
    and no date of its own.
    """

    def __init__(
        self,
        dialect: AnthropicDialect = ANTHROPIC,
        *,
        conversations: int = 512,
        cache_bytes: int = 64 * 1024 * 1024,
        now: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(dialect.provider, lambda: AnthropicAnswer(dialect), now=now)
        self.dialect = dialect
        # By what the model at hand takes: system turns, and strict tools.
        self._transcripts = {
            turns: TranscriptEncoder(
                _AnthropicForm(dialect, system_turns=turns), conversations, cache_bytes
            )
            for turns in (False, True)
        }
        # The same object each time: whoever merges them with others need not do it again.
        self._headers = {
            (stream, compacts): _headers(dialect, stream=stream, compacts=compacts)
            for stream in (False, True)
            for compacts in (False, True)
        }
        self._tools = {strict: KeptTools() for strict in (False, True)}

    @property
    def binds_output(self) -> bool:
        """Whether the vendor can bind an answer to a schema."""
        return self.dialect.json_schema

    @property
    def kept_conversations(self) -> int:
        """How many conversations the encoder keeps at the moment."""
        return sum(encoder.kept_conversations for encoder in self._transcripts.values())

    def encode(self, request: LLMRequest, *, stream: bool) -> HttpRequest:
        """The request in wire form.

        Raises:
            LocalProtocolError: the transcript is illegal for this protocol; names the rule.
            UnsupportedFeature: the protocol cannot express something in the request.
        """
        dialect = self.dialect
        generation = generation_of(request.model)
        options = encode_options(request, dialect, generation, stream=stream)
        found = self._messages(request, generation)
        pieces, state = found.pieces, found.state
        if not pieces:
            raise LocalProtocolError("the request holds no message; send at least one", rule="A08")
        system = state.system
        if request.system is not None and request.system.strip():
            system = (text_block(request.system, "the system prompt"), *system)
        tools = self._encoded_tools(request, generation)
        if request.cache is not None and dialect.cache:
            first, last = _lifetimes(request.cache, state)
            if system:
                system = in_order([*system[:-1], cached(system[-1], first)], short=False)
            elif tools:
                tools = cached(tools, first)
            _cache_end(found, last)
        head = options[:-1] + b","
        container = state.last.container if state.last is not None else None
        if container is not None and "container" not in request.extra:
            # The turn goes on where its code has run; a later one may find that expired.
            head += b'"container":' + encode(container, "the container") + b","
        if tools:
            head += b'"tools":[' + tools + b"],"
        if system:
            head += b'"system":[' + b",".join(system) + b"],"
        body = [head + b'"messages":[', *pieces, b"]}"]
        # A summary that goes back must be announced like the wish for one.
        headers = self._headers[stream, request.compact_at is not None or state.compacted]
        return HttpRequest(self._path(request, stream=stream), body, headers)

    def _messages(self, request: LLMRequest, generation: Generation) -> Walked[Walk]:
        """The messages in pieces, and the state after the last of them."""
        turns = generation.system_turns and self.dialect.system_turns
        encoder = self._transcripts[turns]
        request = without_tail_points(request)
        found = encoder.walked(request)
        room = _MOST_POINTS - (_OWN_POINTS if request.cache is not None else 0)
        while found.state.points > room:
            request = room_for_points(request, found.state.points - room)
            found = encoder.walked(request)
        state = found.state
        waiting = noted(state, None, system_turns=turns)
        if waiting:
            found.pieces += [b"," + turn if found.pieces else turn for turn in waiting]
        elif state.last is not None and state.last.role == "assistant":
            if not (generation.prefill or state.last.opaque):
                raise LocalProtocolError(
                    f"the transcript ends with an assistant message, which {request.model!r} "
                    "cannot continue; add a user message",
                    rule="A24",
                )
            if state.last.blank_end:
                found = encoder.walked(without_last_blanks(request))
        return found

    def _encoded_tools(self, request: LLMRequest, generation: Generation) -> bytes:
        """The tools, comma-separated."""
        tools, kept = request.tools, self._tools[generation.json_schema]
        encoded = kept.get(tools) or kept.put(
            tools, encode_tools(tools, strict=generation.json_schema and self.dialect.json_schema)
        )
        server = [encode(tool, "a server tool") for tool in request.server_tools]
        return b",".join([encoded, *server] if tools else server)

    def _path(self, request: LLMRequest, *, stream: bool) -> str:
        dialect = self.dialect
        path = dialect.stream_path if stream and dialect.stream_path is not None else dialect.path
        if "{model}" not in path:
            return path
        if request.model is None:
            raise UnsupportedFeature(f"{dialect.provider} needs a model in its address; name one")
        return path.replace("{model}", quote(request.model, safe="@:"))


def _headers(dialect: AnthropicDialect, *, stream: bool, compacts: bool) -> dict[str, str]:
    headers = dict(STREAM_HEADERS if stream else JSON_HEADERS)
    if dialect.version is not None:
        headers["anthropic-version"] = dialect.version
    betas = (*dialect.betas, _COMPACTS) if compacts else dialect.betas
    if betas:
        headers["anthropic-beta"] = ",".join(betas)
    return headers


def _lifetimes(wish: Lifetime, state: Walk) -> tuple[Lifetime, Lifetime]:
    """What the first breakpoint of the request and the last one keep: as long as is wished, except
    that none may be kept longer than one before it."""
    return "1h" if "1h" in state.ttls else wish, "5m" if "5m" in state.ttls else wish


def _cache_end(found: Walked[Walk], ttl: Lifetime) -> None:
    """Makes the last block before the tail a breakpoint, where it can carry one. Only one piece
    changes: what is kept of the conversation stays as it is."""
    pieces, at, last = found.pieces, found.stable_pieces - 1, found.stable.last
    if found.stable is found.state:
        # Nothing follows: notes that waited for it have been said.
        at, last = len(pieces) - 1, found.state.notes[-1] if found.state.notes else last
    if last is not None and not last.fixed:
        block = pieces[at].removesuffix(b"]}")
        pieces[at] = cached(block, ttl) + b"]}"


def anthropic_codec(dialect: str, provider: str) -> AnthropicCodec:
    """The codec of the vendor `dialect` for `provider`."""
    return AnthropicCodec(structs.replace(anthropic_dialect(dialect), provider=provider))
