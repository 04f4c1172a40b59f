"""What is said to a model and what it answers, in one vendor-neutral form.

Every value is frozen and serialises losslessly with msgspec. A message carries an id of its own, so
that history can be addressed, cached and stored without comparing contents. Nothing here does I/O.
What is at its default is left out when written. The parts of a message are in `parts`.

    LLMRequest ── messages: Sequence[Message] ── parts: tuple[Part, ...]
    LLMResponse ── parts, stop_reason, usage
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from itertools import chain
from typing import Any, Literal, cast, get_args, overload

import msgspec
from msgspec import Struct, field

from llm_client.errors import CallerError
from llm_client.parts import (
    Audio,
    CachePoint,
    Citation,
    File,
    Image,
    Opaque,
    Part,
    Seal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    is_compaction,
)

__all__ = [
    "Audio",
    "CachePoint",
    "Citation",
    "File",
    "Image",
    "LLMRequest",
    "LLMResponse",
    "Message",
    "NamedTool",
    "Opaque",
    "OutputSchema",
    "Part",
    "Role",
    "Seal",
    "StopReason",
    "Text",
    "Thinking",
    "ToolCall",
    "ToolChoice",
    "ToolResult",
    "ToolSpec",
    "Transcript",
    "Usage",
    "is_compaction",
    "new_id",
    "with_tail_of",
]


def new_id(prefix: str = "") -> str:
    """A random identifier: `prefix` and 96 bits in hexadecimal."""
    return prefix + os.urandom(12).hex()


Role = Literal["system", "user", "assistant", "tool"]


class Message(Struct, frozen=True, omit_defaults=True, gc=False):
    """One entry of a transcript."""

    role: Role
    """Who speaks. Results of tools are messages of the role "tool"."""
    parts: tuple[Part, ...]
    """What is said, in order. Which parts a role may hold is refused by name where it is sent."""
    id: str = field(default_factory=new_id)
    """Unique within its session and never reused."""
    name: str | None = None
    """Who of several users or assistants speaks; sent where the protocol has a word for it."""
    meta: dict[str, str] | None = None
    """The application's own notes; never sent."""

    @classmethod
    def user(cls, text: str, *parts: Part) -> Message:
        """A user message of `text`, followed by `parts` (images, files)."""
        return cls("user", (Text(text), *parts))

    @classmethod
    def assistant(cls, text: str, *parts: Part) -> Message:
        """An assistant message of `text` and `parts` (tool calls, for one)."""
        return cls("assistant", (Text(text), *parts) if text else parts)

    @classmethod
    def tool(cls, call_id: str, text: str, *, is_error: bool = False) -> Message:
        """The result of the call `call_id`."""
        return cls("tool", (ToolResult(call_id, (Text(text),), is_error),))

    @property
    def text(self) -> str:
        """All text parts, joined."""
        return "".join([part.text for part in self.parts if isinstance(part, Text)])

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls of an assistant message, in order."""
        return tuple([part for part in self.parts if isinstance(part, ToolCall)])


class Transcript(Sequence[Message]):
    """An O(1) snapshot of an append-only list of messages: the list itself, a start and a stop.

    The list may grow afterwards but must never change below `stop`. Two snapshots of the same list
    with the same start therefore share a prefix, which lets an encoder reuse what it has encoded
    without comparing messages one by one.

    A `tail` follows the list for this request only, as what a memory brings up does. An encoder
    keeps nothing of it, and a prompt cache is asked to keep what stands before it.
    """

    __slots__ = ("backing", "start", "stop", "tail")

    def __init__(
        self,
        backing: list[Message],
        start: int = 0,
        stop: int | None = None,
        tail: tuple[Message, ...] = (),
    ) -> None:
        self.backing = backing
        self.start = start
        self.stop = len(backing) if stop is None else stop
        self.tail = tail

    @property
    def stable(self) -> Transcript:
        """The same without its tail."""
        return Transcript(self.backing, self.start, self.stop)

    def __len__(self) -> int:
        return self.stop - self.start + len(self.tail)

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> Transcript | list[Message]: ...
    def __getitem__(self, index: int | slice) -> Message | Transcript | list[Message]:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return self._part(start, max(start, stop))
            return [self[i] for i in range(start, stop, step)]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(f"message {index} of a transcript of {len(self)}")
        position = self.start + index
        return self.backing[position] if position < self.stop else self.tail[position - self.stop]

    def _part(self, start: int, stop: int) -> Transcript:
        listed = self.stop - self.start
        tail = self.tail[max(0, start - listed) : max(0, stop - listed)]
        first = self.start + min(start, listed)
        return Transcript(self.backing, first, self.start + min(stop, listed), tail)

    def __iter__(self) -> Iterator[Message]:
        return chain(self.backing[self.start : self.stop], self.tail)

    def __repr__(self) -> str:
        return f"Transcript({len(self)} messages)"


def with_tail_of(transcript: Sequence[Message], messages: list[Message]) -> Sequence[Message]:
    """`messages`, which stand for those of `transcript` one by one, with as long a tail."""
    if not isinstance(transcript, Transcript) or not transcript.tail:
        return messages
    listed = len(transcript) - len(transcript.tail)
    return Transcript(messages[:listed], tail=tuple(messages[listed:]))


# ── requests ──────────────────────────────────────────────────────────────────────────────────────


class ToolSpec(Struct, frozen=True):
    """A tool as the model sees it."""

    name: str
    """Letters, digits, underscores and hyphens, at most 64 of them: what every provider takes."""
    description: str
    """What it does and when to use it, for the model to read."""
    parameters: dict[str, Any]
    """A JSON Schema of type object."""
    strict: bool | None = None
    """True asks the provider to let no arguments through that break the schema, where it can; None
    leaves it at the provider's own habit."""


class NamedTool(Struct, frozen=True):
    """A tool choice: the model must call exactly this tool."""

    name: str


ChoiceWord = Literal["auto", "none", "required"]
ToolChoice = ChoiceWord | NamedTool
_CHOICE_WORDS: tuple[ChoiceWord, ...] = get_args(ChoiceWord)


class OutputSchema(Struct, frozen=True):
    """The answer must be JSON that satisfies `schema`. `strict` asks the provider to enforce it."""

    name: str
    schema: dict[str, Any]
    strict: bool = True
    description: str | None = None


class LLMRequest(Struct, frozen=True):
    """One question to a model.

    `system` is the system prompt (kept out of `messages`). `model` None means the service's own.
    `tool_choice` says whether the model may ("auto"), must not ("none") or must ("required") call
    one of the `tools`, or names the one that it must call. `parallel_tool_calls` False keeps it to
    one call at a time. `output_schema` makes the answer JSON; `complete_as` sets it for a type.
    `max_output_tokens`, `temperature`, `top_p`, `seed` and `stop` are sent only when set.
    `server_tools` are tools that the provider itself runs, each in the provider's own form.
    `reasoning_effort` is a word such as "low", "medium", "high", or "none"; `thinking_tokens`
    bounds the reasoning in tokens, where a provider counts it so. `cache` asks the provider to keep
    the prompt for that long, where it must be asked. `compact_at` is how many tokens a prompt may
    have before the provider itself makes a summary of it; what it then answers begins with a part
    for which `is_compaction` holds, and all before that part is of no more use to it. `cache_key`
    names the conversation: an encoder may keep what it has encoded under it. `extra` is merged into
    the body last, for parameters that only one vendor has.

    Raises:
        CallerError: `tool_choice`, `tools` or `stop` is of no type that it can have.
    """

    messages: Sequence[Message]
    system: str | None = None
    model: str | None = None
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    output_schema: OutputSchema | None = None
    server_tools: tuple[dict[str, Any], ...] = ()
    reasoning_effort: str | None = None
    thinking_tokens: int | None = None
    cache: Literal["5m", "1h"] | None = None
    compact_at: int | None = None
    cache_key: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        # What no type checker has seen: a text is a sequence of stop sequences too, and a list of
        # tools could change under the encoder that keeps them by identity.
        choice = cast("object", self.tool_choice)
        if choice not in _CHOICE_WORDS and not isinstance(choice, NamedTool):
            known = ", ".join(map(repr, _CHOICE_WORDS))
            raise CallerError(f"tool_choice is {choice!r}, not {known} or NamedTool(name)")
        for name, value in (("tools", self.tools), ("stop", self.stop)):
            if type(cast("object", value)) is not tuple:
                raise CallerError(
                    f"{name} is of type {type(value).__name__}; make it a tuple, even of one"
                )


# ── responses ─────────────────────────────────────────────────────────────────────────────────────


class StopReason(Enum):
    """Why a model stopped. The provider's own word is kept beside it as `raw_finish`."""

    END = "end"
    """It was done."""
    TOOL_CALLS = "tool_calls"
    """It wants tools run."""
    LENGTH = "length"
    """The output limit cut it off; its last part may be incomplete."""
    STOP_SEQUENCE = "stop_sequence"
    """It wrote one of the request's stop sequences."""
    CONTENT_FILTER = "content_filter"
    """The provider's filter withheld the rest."""
    REFUSAL = "refusal"
    """It declined."""
    PAUSE = "pause"
    """The provider paused a long turn; send the transcript back to go on."""
    OTHER = "other"
    """A word this client does not know; see `raw_finish`."""


class Usage(Struct, frozen=True, omit_defaults=True, gc=False):
    """Tokens of one call. None means that the provider did not say, which is not the same as 0.

    `input_tokens` includes `cached_tokens` (read from a prompt cache) and `cache_write_tokens`;
    `output_tokens` includes `reasoning_tokens`. `audio_tokens` counts both directions.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None

    @property
    def total_tokens(self) -> int:
        """Input and output together; what is unknown counts as 0."""
        return (self.input_tokens or 0) + (self.output_tokens or 0)

    @property
    def cache_hit_rate(self) -> float | None:
        """Which share of the input was read from a prompt cache, 0 to 1; None if that is not known,
        or there was no input."""
        if self.cached_tokens is None or not self.input_tokens:
            return None
        return self.cached_tokens / self.input_tokens

    def __add__(self, other: Usage) -> Usage:
        """Sums field by field; a field is None only if both are."""
        return Usage(
            _plus(self.input_tokens, other.input_tokens),
            _plus(self.output_tokens, other.output_tokens),
            _plus(self.cached_tokens, other.cached_tokens),
            _plus(self.cache_write_tokens, other.cache_write_tokens),
            _plus(self.reasoning_tokens, other.reasoning_tokens),
            _plus(self.audio_tokens, other.audio_tokens),
        )


def _plus(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else a + b


class LLMResponse(Struct, frozen=True):
    """One answer, whole."""

    parts: tuple[Part, ...]
    """What was answered, in order."""
    stop_reason: StopReason
    raw_finish: str | None = None
    """The provider's own word for why it stopped."""
    usage: Usage = Usage()
    refusal: str | None = None
    """What the model said on declining, where the provider keeps it apart from the text."""
    model: str | None = None
    """The model that answered, by the provider's name; it may be more exact than the one asked."""
    response_id: str | None = None
    """The provider's name for this answer."""
    request_id: str | None = None
    """The provider's name for the exchange, to be given to its support."""

    @property
    def text(self) -> str:
        """All text parts, joined."""
        return "".join([part.text for part in self.parts if isinstance(part, Text)])

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls asked for, in order."""
        return tuple([part for part in self.parts if isinstance(part, ToolCall)])

    @property
    def truncated(self) -> bool:
        """True when the answer was cut off, so that a tool call in it may be incomplete."""
        return self.stop_reason in (StopReason.LENGTH, StopReason.CONTENT_FILTER)

    def replace(self, **changes: Any) -> LLMResponse:
        """A copy with `changes`."""
        return msgspec.structs.replace(self, **changes)
