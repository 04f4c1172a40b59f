"""What a streamed answer is made of, and the pure fold that puts it together again.

    bytes ─► Decoder ─► StreamEvent, StreamEvent, … ─► Accumulator ─► LLMResponse

The same events always give the same response, however the bytes were cut on their way.
"""

from __future__ import annotations

from typing import assert_never

from msgspec import Struct

from llm_client.types import (
    Citation,
    LLMResponse,
    Part,
    Seal,
    StopReason,
    Text,
    Thinking,
    ToolCall,
    Usage,
)

__all__ = [
    "Accumulator",
    "AttemptVoided",
    "Finished",
    "PartCompleted",
    "PartSealed",
    "RefusalDelta",
    "ResponseStarted",
    "StreamEvent",
    "TextDelta",
    "ThinkingDelta",
    "ToolCallDelta",
    "ToolCallStarted",
    "UsageReported",
]


class ResponseStarted(Struct, frozen=True, tag="response_started"):
    """The first thing known about an answer."""

    response_id: str | None = None
    model: str | None = None


class TextDelta(Struct, frozen=True, tag="text_delta"):
    """More text."""

    text: str


class ThinkingDelta(Struct, frozen=True, tag="thinking_delta"):
    """More reasoning."""

    text: str


class RefusalDelta(Struct, frozen=True, tag="refusal_delta"):
    """More of the sentence with which the model declines."""

    text: str


class ToolCallStarted(Struct, frozen=True, tag="tool_call_started"):
    """A call begins. `index` numbers the calls of one answer from 0 in order of appearance."""

    index: int
    id: str
    name: str
    seal: Seal | None = None


class ToolCallDelta(Struct, frozen=True, tag="tool_call_delta"):
    """More JSON text of the arguments of call `index`."""

    index: int
    arguments: str


class PartSealed(Struct, frozen=True, tag="part_sealed"):
    """The text or reasoning so far is a part of its own; deltas that follow belong to another.

    Text may cite sources, and a part may have to go back to its provider under a seal.
    """

    seal: Seal | None = None
    citations: tuple[Citation, ...] = ()


class PartCompleted(Struct, frozen=True, tag="part_completed"):
    """A part that came whole: audio, an image, redacted thinking, anything opaque."""

    part: Part


class UsageReported(Struct, frozen=True, tag="usage_reported"):
    """Token counts so far; a later report replaces an earlier one."""

    usage: Usage


class Finished(Struct, frozen=True, tag="finished"):
    """The positive end of an answer. A stream without it was cut off."""

    stop_reason: StopReason
    raw_finish: str | None = None


class AttemptVoided(Struct, frozen=True, tag="attempt_voided"):
    """All that came so far is void: the answer begins anew, because an attempt has failed.

    Only a service that was asked to restart streams says so.

    Attributes:
        attempt: which one failed, from 1.
        error_type: the class of the error.
        message: what the error said.
        usage: the tokens that the void attempt had reported; they may be billed all the same.
    """

    attempt: int
    error_type: str
    message: str
    usage: Usage = Usage()


StreamEvent = (
    ResponseStarted
    | TextDelta
    | ThinkingDelta
    | RefusalDelta
    | ToolCallStarted
    | ToolCallDelta
    | PartSealed
    | PartCompleted
    | UsageReported
    | Finished
    | AttemptVoided
)


class _Call:
    __slots__ = ("arguments", "begun")

    def __init__(self, begun: ToolCallStarted) -> None:
        self.begun = begun
        self.arguments: list[str] = []


class _Run:
    """Consecutive text or thinking deltas, joined once at the end."""

    __slots__ = ("pieces", "sealed", "thinking")

    def __init__(self, *, thinking: bool) -> None:
        self.thinking = thinking
        self.pieces: list[str] = []
        self.sealed = _UNSEALED

    def part(self) -> Part | None:
        text = "".join(self.pieces)
        seal, citations = self.sealed.seal, self.sealed.citations
        if not text and seal is None:
            return None
        return Thinking(text, seal) if self.thinking else Text(text, citations, seal)


_UNSEALED = PartSealed()


class Accumulator:
    """Folds stream events into the response they describe.

    `add` each event as it comes; `response()` at any time gives what has arrived. `finished` is
    true once the stream has come to its positive end. What a void attempt gave is forgotten.
    """

    __slots__ = (
        "_by_index",
        "_items",
        "_model",
        "_refusal",
        "_response_id",
        "_run",
        "_stop",
        "_usage",
        "finished",
    )

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._items: list[_Run | _Call | Part] = []
        self._run: _Run | None = None
        self._by_index: dict[int, _Call] = {}
        self._refusal: list[str] = []
        self._usage = Usage()
        self._stop: Finished | None = None
        self._response_id: str | None = None
        self._model: str | None = None
        self.finished = False

    def add(self, event: StreamEvent) -> None:
        """Takes the next event in."""
        match event:
            case TextDelta():
                self._open(thinking=False).pieces.append(event.text)
            case ThinkingDelta():
                self._open(thinking=True).pieces.append(event.text)
            case PartSealed():
                if self._run is not None:
                    self._run.sealed, self._run = event, None
            case ToolCallStarted():
                self._run = None
                call = self._by_index[event.index] = _Call(event)
                self._items.append(call)
            case ToolCallDelta():
                self._by_index[event.index].arguments.append(event.arguments)
            case PartCompleted():
                self._run = None
                self._items.append(event.part)
            case _:
                self._note(event)

    def _note(
        self, event: RefusalDelta | UsageReported | ResponseStarted | Finished | AttemptVoided
    ) -> None:
        match event:
            case RefusalDelta():
                self._refusal.append(event.text)
            case UsageReported():
                self._usage = event.usage
            case ResponseStarted():
                self._response_id, self._model = event.response_id, event.model
            case Finished():
                self._stop = event
                self.finished = True
            case AttemptVoided():
                self._begin()
            case _:
                assert_never(event)

    def _open(self, *, thinking: bool) -> _Run:
        run = self._run
        if run is None or run.thinking is not thinking:
            run = self._run = _Run(thinking=thinking)
            self._items.append(run)
        return run

    @property
    def usage(self) -> Usage:
        """The newest token counts."""
        return self._usage

    def response(self, request_id: str | None = None) -> LLMResponse:
        """What has arrived so far; `stop_reason` is OTHER while the end is missing."""
        parts: list[Part] = []
        for item in self._items:
            match item:
                case _Run():
                    part = item.part()
                    if part is not None:
                        parts.append(part)
                case _Call(begun=begun):
                    arguments = "".join(item.arguments)
                    parts.append(ToolCall(begun.id, begun.name, arguments, begun.seal))
                case _:
                    parts.append(item)
        stop = self._stop or Finished(StopReason.OTHER)
        return LLMResponse(
            tuple(parts),
            stop.stop_reason,
            stop.raw_finish,
            self._usage,
            "".join(self._refusal) or None,
            self._model,
            self._response_id,
            request_id,
        )
