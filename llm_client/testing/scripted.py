"""A model that says what a script tells it to say."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from inspect import isawaitable
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.lowlevel
import msgspec
from msgspec import Struct

from llm_client._block import not_entered
from llm_client.errors import CallerError, IncompleteStream, LLMError
from llm_client.stream import (
    Accumulator,
    Finished,
    PartCompleted,
    PartSealed,
    RefusalDelta,
    ResponseStarted,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStarted,
    UsageReported,
)
from llm_client.types import (
    LLMRequest,
    LLMResponse,
    Part,
    StopReason,
    Text,
    Thinking,
    ToolCall,
    Usage,
    new_id,
)

__all__ = ["Reply", "ScriptExhausted", "ScriptedLLM", "Sleep", "call", "reply"]

Sleep = Callable[[float], Awaitable[None]]

_USAGE = Usage(input_tokens=10, output_tokens=5)


class ScriptExhausted(CallerError):
    """The script has no reply left for a request."""


class Reply(Struct, frozen=True, kw_only=True):
    """One scripted answer.

    Attributes:
        parts: what the model says, in order.
        stop_reason: why it stops; by default TOOL_CALLS if there are calls, else END.
        usage: the tokens it reports.
        refusal: the sentence with which it declines.
        delay: seconds before the first event.
        pace: seconds before each later event.
        break_after: the stream breaks after this many events; None for a whole answer.
        error: what the request fails with: at once, or after `break_after` events.
    """

    parts: tuple[Part, ...] = ()
    stop_reason: StopReason | None = None
    usage: Usage = _USAGE
    refusal: str | None = None
    delay: float = 0.0
    pace: float = 0.0
    break_after: int | None = None
    error: LLMError | None = None

    @property
    def failure(self) -> LLMError | None:
        """The error that the request ends in, None if it succeeds."""
        if self.error is not None or self.break_after is None:
            return self.error
        return IncompleteStream("the scripted stream breaks off here")

    def events(self, chunk: int | None) -> Iterator[StreamEvent]:
        """The whole answer as a stream, text cut into pieces of `chunk` characters."""
        numbers = itertools.count()
        yield ResponseStarted(None, None)
        for part in self.parts:
            yield from _part_events(part, numbers, chunk)
        if self.refusal is not None:
            yield from map(RefusalDelta, _pieces(self.refusal, chunk))
        yield UsageReported(self.usage)
        called = any(isinstance(part, ToolCall) for part in self.parts)
        usual = StopReason.TOOL_CALLS if called else StopReason.END
        stop = self.stop_reason or usual
        yield Finished(stop, stop.value)


def _part_events(part: Part, numbers: Iterator[int], chunk: int | None) -> Iterator[StreamEvent]:
    match part:
        case Text() if part.text:
            yield from map(TextDelta, _pieces(part.text, chunk))
            if part.seal is not None or part.citations:
                yield PartSealed(part.seal, part.citations)
        case Thinking(redacted=False) if part.text:
            yield from map(ThinkingDelta, _pieces(part.text, chunk))
            if part.seal is not None:
                yield PartSealed(part.seal)
        case Text(seal=None) | Thinking(seal=None):
            pass
        case ToolCall():
            index = next(numbers)
            yield ToolCallStarted(index, part.id, part.name, part.seal)
            for piece in _pieces(part.arguments, chunk):
                yield ToolCallDelta(index, piece)
        case _:
            yield PartCompleted(part)


def _pieces(text: str, size: int | None) -> list[str]:
    if size is None:
        return [text] if text else []
    return [text[at : at + size] for at in range(0, len(text), size)]


def call(name: str, arguments: Mapping[str, Any] | str | None = None, *, id: str = "") -> ToolCall:
    """A tool call. `arguments` that are a string are taken as they are, valid JSON or not."""
    text = (
        arguments if isinstance(arguments, str) else msgspec.json.encode(arguments or {}).decode()
    )
    return ToolCall(id or new_id("call_"), name, text)


def reply(text: str = "", *calls: ToolCall, thinking: str | None = None, **rest: Any) -> Reply:
    """An answer of `thinking`, then `text`, then tool `calls`; `rest` is as in `Reply`."""
    parts: list[Part] = []
    if thinking is not None:
        parts.append(Thinking(thinking))
    if text:
        parts.append(Text(text))
    return Reply(parts=(*parts, *calls), **rest)


Line = Reply | str | LLMError
"""A reply, a text to reply with, or an error to fail with."""

Cue = Line | Callable[[LLMRequest], Line | Awaitable[Line]]
"""A line, or a function that finds one for a request."""


class ScriptedLLM:
    """An `LLMService` that answers from a script: the n-th request gets the n-th line.

    Args:
        script: the lines.
        model: the model's name.
        chunk: characters in a piece of streamed text; None streams each text in one piece.
        sleep: how delays are waited for; pass `VirtualClock().sleep` to wait in no time.
        repeat: the last line serves all later requests too.

    `requests` are the requests received, `open_streams` the streams that are being read, and
    `abandoned` counts requests that were cancelled or left before their end.

    Every event is a point where a task may be switched or cancelled, as over a network.
    """

    def __init__(
        self,
        *script: Cue,
        model: str = "scripted",
        chunk: int | None = 8,
        sleep: Sleep = anyio.sleep,
        repeat: bool = False,
    ) -> None:
        self._script: Sequence[Cue] = script
        self._model = model
        self._chunk = chunk
        self._sleep = sleep
        self._repeat = repeat
        self.requests: list[LLMRequest] = []
        self.open_streams = 0
        self.abandoned = 0
        self.closed = False

    def __repr__(self) -> str:
        return f"ScriptedLLM({len(self.requests)} of {len(self._script)} lines said)"

    @property
    def retries(self) -> bool:
        """False: each request is answered, or failed, once."""
        return False

    @property
    def model(self) -> str:
        """The model's name."""
        return self._model

    @property
    def binds_output(self) -> bool:
        """True: a script says what it says."""
        return True

    @property
    def left(self) -> int:
        """Lines that nobody has asked for yet."""
        return max(0, len(self._script) - len(self.requests))

    def check(self, request: LLMRequest) -> None:
        """Does nothing: a script takes every request."""

    def stream(
        self, request: LLMRequest
    ) -> AbstractAsyncContextManager[AsyncIterator[StreamEvent]]:
        """The next line of the script, piece by piece."""
        return _ScriptedStream(self, request)

    async def complete(self, request: LLMRequest) -> LLMResponse:
        """The next line of the script, whole."""
        answer = Accumulator()
        async with _ScriptedStream(self, request, whole=True) as events:
            async for event in events:
                answer.add(event)
        return answer.response()

    async def aclose(self) -> None:
        """Notes that the service was closed."""
        self.closed = True

    async def next_reply(self, request: LLMRequest) -> tuple[Reply, int | None, Sleep]:
        """Takes the next line; how to cut it, and how to wait."""
        if self.closed:
            raise CallerError("the scripted model has been closed")
        self.requests.append(request)
        at = len(self.requests) - 1
        if self._repeat:
            at = min(at, len(self._script) - 1)
        if not 0 <= at < len(self._script):
            raise ScriptExhausted(
                f"request {len(self.requests)} has no line in a script of {len(self._script)}; "
                f"it ends with {_last_words(request)!r}"
            )
        cue = self._script[at]
        line = cue(request) if callable(cue) else cue
        if isawaitable(line):
            line = await line
        if isinstance(line, LLMError):
            line = Reply(error=line)
        elif isinstance(line, str):
            line = reply(line)
        return line, self._chunk, self._sleep


class _ScriptedStream:
    """One answer on its way."""

    def __init__(self, llm: ScriptedLLM, request: LLMRequest, *, whole: bool = False) -> None:
        self._llm = llm
        self._request = request
        self._whole = whole
        self._events: Iterator[StreamEvent] = iter(())
        self._reply = Reply()
        self._sleep: Sleep = anyio.sleep
        self._given = 0
        self._entered = False
        self._over = False

    async def __aenter__(self) -> Self:
        self._entered = True
        self._reply, chunk, self._sleep = await self._llm.next_reply(self._request)
        self._events = self._reply.events(None if self._whole else chunk)
        self._llm.open_streams += 1
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._llm.open_streams -= 1
        if not self._over:
            self._llm.abandoned += 1

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamEvent:
        if not self._entered:
            raise not_entered()
        if self._over:
            raise StopAsyncIteration
        script = self._reply
        wait = script.pace if self._given else script.delay
        await (self._sleep(wait) if wait else anyio.lowlevel.checkpoint())
        failure = script.failure
        if failure is not None and (self._whole or self._given >= (script.break_after or 0)):
            self._over = True
            failure.after_output = not self._whole and self._given > 1
            raise failure
        event = next(self._events, None)
        if event is None:
            self._over = True
            raise StopAsyncIteration
        self._given += 1
        return event


def _last_words(request: LLMRequest) -> str:
    last = request.messages[-1] if len(request.messages) else None
    return "nothing" if last is None else f"{last.role}: {last.text[:80]}"
