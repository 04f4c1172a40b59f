"""Encodes transcripts for one codec, and keeps what it has encoded.

A codec says how a message looks in wire form and how it may follow on what came before; here is
decided what of it is kept: whole conversations by the request's `cache_key`, single messages by
their identity.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar, cast, get_args

from msgspec import Struct, structs

from llm_client.codecs._blocks import Conversation, ConversationCache
from llm_client.errors import CallerError, LocalProtocolError
from llm_client.types import Audio, File, Image, LLMRequest, Message, Role, ToolSpec, Transcript

__all__ = ["KeptTools", "TranscriptEncoder", "Walked", "WireForm"]

_ROLES: tuple[Role, ...] = get_args(Role)
_MESSAGES = 4096
_MESSAGE_BYTES = 64 * 1024
_TOOL_SETS = 64


class Sized(Protocol):
    """**Protocol**: an encoded message."""

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        ...


E = TypeVar("E", bound=Sized)
S = TypeVar("S")


class WireForm(Protocol[E, S]):
    """**Protocol**: how messages look in one protocol, and which may follow on which."""

    @property
    def start(self) -> S:
        """The state before the first message. States are values: they are kept and gone back to."""
        ...

    def encode(self, message: Message) -> E:
        """`message` in wire form, whatever stands before and after it.

        Raises:
            LocalProtocolError: it holds something that a message of its role cannot hold.
            UnsupportedFeature: it holds something that the protocol has no form for.
        """
        ...

    def walk(self, state: S, encoded: E, position: int) -> tuple[S, list[bytes]]:
        """The state after the message at `position`, and the JSON values it adds to the body.

        Raises:
            LocalProtocolError: it may not stand there.
        """
        ...

    def show(self, part: Image | Audio | File) -> object:
        """An attachment in wire form.

        Raises:
            UnsupportedFeature: the protocol has no form for it.
        """
        ...

    def check_end(self, state: S) -> None:
        """Refuses a transcript that ends in `state`.

        Raises:
            LocalProtocolError: something is missing.
        """
        ...


class Walked(Struct, Generic[S]):
    """An encoded transcript.

    Attributes:
        pieces: one after the other, the messages' JSON values, comma-separated.
        state: the state after the last message.
        stable_pieces: how many of the pieces come before the transcript's tail.
        stable: the state before the tail.
    """

    pieces: list[bytes]
    state: S
    stable_pieces: int
    stable: S


class TranscriptEncoder(Generic[E, S]):
    """Keeps the `conversations` most recently used, at most `cache_bytes` in all. Not safe for
    concurrent use by several threads."""

    def __init__(
        self,
        form: WireForm[E, S],
        conversations: int = 512,
        cache_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self._form = form
        self._conversations = ConversationCache[S](
            lambda: Conversation(form.start), conversations, cache_bytes
        )
        self._messages: OrderedDict[int, tuple[Message, E]] = OrderedDict()

    @property
    def kept_conversations(self) -> int:
        """How many conversations are kept at the moment."""
        return len(self._conversations)

    def pieces(self, request: LLMRequest) -> list[bytes]:
        """Pieces that, one after the other, are the messages' JSON values, comma-separated.

        Raises:
            LocalProtocolError: the transcript is illegal for this protocol; names the rule.
            UnsupportedFeature: the protocol cannot express something in it.
        """
        return self.walked(request).pieces

    def walked(self, request: LLMRequest) -> Walked[S]:
        """As `pieces`, with the state after the last message."""
        messages = request.messages
        tail: tuple[Message, ...] = ()
        if isinstance(messages, Transcript) and messages.tail:
            messages, tail = messages.stable, messages.tail
        key = request.cache_key
        if key is None:
            conversation = Conversation(self._form.start)
            pieces = conversation.update(messages, self._step_cached)
        else:
            # Taken out meanwhile: an illegal message must not leave a half-read conversation
            # behind.
            conversation = self._conversations.take(key)
            pieces = conversation.update(messages, self._step)
            self._conversations.put(key, conversation)
        found = Walked(pieces, conversation.state, len(pieces), conversation.state)
        if tail:
            self._follow(found, tail, len(messages))
        self._form.check_end(found.state)
        self._check_newest(request.messages)
        return found

    def _follow(self, found: Walked[S], tail: Sequence[Message], position: int) -> None:
        """Adds what is said once, of which nothing is kept."""
        added: list[bytes] = []
        for at, message in enumerate(tail, position):
            found.state, values = self._step(found.state, message, at)
            added += values
        if added:
            joined = b",".join(added)
            found.pieces.append(b"," + joined if found.pieces else joined)

    def _check_newest(self, messages: Sequence[Message]) -> None:
        """Refuses what the model is asked about and cannot be shown; further back, words stand for
        it."""
        for message in reversed(messages):
            if message.role != "user":
                return
            for part in message.parts:
                if isinstance(part, Image | Audio | File):
                    # What it holds does not matter here, and may be large.
                    light = part if part.data is None else structs.replace(part, data=b"0")
                    self._form.show(light)

    def _step(self, state: S, message: Message, position: int) -> tuple[S, Sequence[bytes]]:
        return self._form.walk(state, self._encoded(message, position), position)

    def _step_cached(self, state: S, message: Message, position: int) -> tuple[S, Sequence[bytes]]:
        known = self._messages.get(id(message))
        # The entry holds the message itself, so that its id cannot have passed to another one.
        if known is not None and known[0] is message:
            return self._form.walk(state, known[1], position)
        encoded = self._encoded(message, position)
        if encoded.size <= _MESSAGE_BYTES:
            self._messages[id(message)] = (message, encoded)
            if len(self._messages) > _MESSAGES:
                self._messages.popitem(last=False)
        return self._form.walk(state, encoded, position)

    def _encoded(self, message: Message, position: int) -> E:
        given = cast("object", message)
        if not isinstance(given, Message):
            raise CallerError(
                f"messages[{position}] is of type {type(given).__name__}; make a Message, for "
                'example Message.user("Hello")'
            )
        if message.role not in _ROLES:
            raise LocalProtocolError(
                f"messages[{position}] has the role {message.role!r}, but there are only "
                f"{', '.join(_ROLES)}; what a developer says is a system message",
                rule="X2",
            )
        return self._form.encode(message)


class KeptTools:
    """Encoded tool sets, by the identity of the request's tuple."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, tuple[tuple[ToolSpec, ...], bytes]] = OrderedDict()

    def get(self, tools: tuple[ToolSpec, ...]) -> bytes | None:
        """What `put` was given for this very tuple."""
        known = self._kept.get(id(tools))
        return known[1] if known is not None and known[0] is tools else None

    def put(self, tools: tuple[ToolSpec, ...], encoded: bytes) -> bytes:
        """Keeps `encoded`, and returns it."""
        self._kept[id(tools)] = (tools, encoded)
        if len(self._kept) > _TOOL_SETS:
            self._kept.popitem(last=False)
        return encoded
