"""The Chat Completions protocol: OpenAI's own and that of everyone who speaks it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

from llm_client.codec import HttpRequest
from llm_client.codecs._blocks import Conversation, ConversationCache
from llm_client.codecs._chat_answer import ChatAnswer
from llm_client.codecs._chat_decoder import ChatDecoder
from llm_client.codecs._chat_dialect import (
    COMPATIBLE,
    DIALECTS,
    ChatDialect,
    ReasoningEcho,
    chat_dialect,
)
from llm_client.codecs._chat_encode import encode_message
from llm_client.codecs._chat_request import encode_options, encode_system, encode_tools
from llm_client.codecs._chat_rules import START, Encoded, Walk, check_end, walk
from llm_client.codecs._http_errors import error_from_body, request_id
from llm_client.codecs._json import as_dict, is_object, loads_valid
from llm_client.errors import LLMError, LocalProtocolError, MalformedResponse, excerpt
from llm_client.stream import Accumulator, StreamEvent
from llm_client.types import LLMRequest, LLMResponse, Message, ToolSpec

__all__ = [
    "COMPATIBLE",
    "DIALECTS",
    "ChatDialect",
    "OpenAIChatCodec",
    "ReasoningEcho",
    "chat_dialect",
]

_JSON = {"content-type": "application/json", "accept": "application/json"}
_STREAM = {"content-type": "application/json", "accept": "text/event-stream"}

_MESSAGES = 4096
_MESSAGE_BYTES = 64 * 1024
_TOOL_SETS = 64


class OpenAIChatCodec:
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
        self.dialect = dialect
        self._now = now
        self._conversations = ConversationCache[Walk](
            lambda: Conversation(START), conversations, cache_bytes
        )
        self._messages: OrderedDict[int, tuple[Message, Encoded]] = OrderedDict()
        self._tools: OrderedDict[int, tuple[tuple[ToolSpec, ...], bytes]] = OrderedDict()

    def __repr__(self) -> str:
        return f"OpenAIChatCodec({self.dialect.provider!r})"

    @property
    def binds_output(self) -> bool:
        """Whether the vendor can bind an answer to a schema."""
        return self.dialect.json_schema

    @property
    def kept_conversations(self) -> int:
        """How many conversations the encoder keeps at the moment."""
        return len(self._conversations)

    def encode(self, request: LLMRequest, *, stream: bool) -> HttpRequest:
        """The request in wire form.

        Raises:
            LocalProtocolError: the transcript is illegal for this protocol; names the rule.
            UnsupportedFeature: the protocol cannot express something in the request.
        """
        options = encode_options(request, self.dialect, stream=stream)
        head = options[:-1] + (b"," if len(options) > 2 else b"")
        if request.tools:
            head += b'"tools":' + self._encoded_tools(request.tools) + b","
        head += b'"messages":['
        pieces = self._transcript(request)
        if request.system is not None:
            head += encode_system(request.system, self.dialect) + (b"," if pieces else b"")
        elif not pieces:
            raise LocalProtocolError("the request holds no message; send at least one", rule="C09")
        return HttpRequest(self.dialect.path, [head, *pieces, b"]}"], _STREAM if stream else _JSON)

    def decoder(self) -> ChatDecoder:
        """A decoder for one streamed answer."""
        return ChatDecoder(self.dialect)

    def decode(self, status: int, headers: Mapping[str, str], body: bytes) -> LLMResponse:
        """An answer that came whole.

        Raises:
            LLMError: the answer is an error, or cannot be decoded.
        """
        if not 200 <= status < 300:
            raise self.error(status, headers, body)
        asked = request_id(headers)
        try:
            return _accumulated(self._events(body), asked)
        except RecursionError as error:
            raise MalformedResponse(
                "the answer is nested too deeply; ask again",
                status=status,
                request_id=asked,
                provider=self.dialect.provider,
            ) from error
        except LLMError as error:
            error.status = error.status or status
            error.request_id = error.request_id or asked
            error.provider = error.provider or self.dialect.provider
            raise

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> LLMError:
        """The typed error for an answer whose status is not 200."""
        return error_from_body(self.dialect.provider, status, headers, body, self._now)

    def _events(self, body: bytes) -> list[StreamEvent]:
        start = body.lstrip()[:6]
        if start.startswith((b"data:", b"event:", b":")):
            # A server that streams although nobody asked it to.
            decoder = self.decoder()
            return [*decoder.feed(body), *decoder.close()]
        try:
            value = loads_valid(body)
        except ValueError as error:
            raise MalformedResponse(_not_json(body)) from error
        if not is_object(value):
            raise MalformedResponse(_not_json(body))
        answer = ChatAnswer(self.dialect)
        events: list[StreamEvent] = []
        answer.take_whole(as_dict(value), events)
        answer.finish(events)
        return events

    def _transcript(self, request: LLMRequest) -> list[bytes]:
        key = request.cache_key
        if key is None:
            conversation = Conversation(START)
            pieces = conversation.update(request.messages, self._step_cached)
        else:
            # Taken out meanwhile: an illegal message must not leave a half-read conversation
            # behind.
            conversation = self._conversations.take(key)
            pieces = conversation.update(request.messages, self._step)
            self._conversations.put(key, conversation)
        check_end(conversation.state)
        return pieces

    def _step(self, state: Walk, message: Message, position: int) -> tuple[Walk, list[bytes]]:
        return walk(state, encode_message(message, self.dialect), position, self.dialect)

    def _step_cached(
        self, state: Walk, message: Message, position: int
    ) -> tuple[Walk, list[bytes]]:
        known = self._messages.get(id(message))
        # The entry holds the message itself, so that its id cannot have passed to another one.
        if known is not None and known[0] is message:
            return walk(state, known[1], position, self.dialect)
        encoded = encode_message(message, self.dialect)
        if sum(map(len, encoded.values + encoded.attachments)) <= _MESSAGE_BYTES:
            self._messages[id(message)] = (message, encoded)
            if len(self._messages) > _MESSAGES:
                self._messages.popitem(last=False)
        return walk(state, encoded, position, self.dialect)

    def _encoded_tools(self, tools: tuple[ToolSpec, ...]) -> bytes:
        known = self._tools.get(id(tools))
        if known is not None and known[0] is tools:
            return known[1]
        encoded = encode_tools(tools)
        self._tools[id(tools)] = (tools, encoded)
        if len(self._tools) > _TOOL_SETS:
            self._tools.popitem(last=False)
        return encoded


def _accumulated(events: list[StreamEvent], asked: str | None) -> LLMResponse:
    accumulator = Accumulator()
    for event in events:
        accumulator.add(event)
    return accumulator.response(asked)


def _not_json(body: bytes) -> str:
    begins = excerpt(body[:2000].decode("utf-8", "replace")) or "nothing"
    return (
        "the answer is not JSON; check the base address and any proxy in between. It begins: "
        f"{begins}"
    )
