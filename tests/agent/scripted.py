"""A model that answers as it is told, and judges every request it is sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
from msgspec import Struct

from llm_client.errors import LLMError
from llm_client.stream import (
    Finished,
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
)
from tests.session.checker import transcript_violations

__all__ = ["Gate", "Reply", "Scripted", "calls", "fails", "hangs", "says"]


class Gate:
    """A place where a scripted answer or a tool stops until the test lets it go on."""

    def __init__(self) -> None:
        self.reached = anyio.Event()
        self.opened = anyio.Event()

    async def wait(self) -> None:
        self.reached.set()
        await self.opened.wait()


class Reply(Struct, frozen=True):
    """One answer. After its parts `gate` is waited for, and `error` raised."""

    parts: tuple[Part, ...] = ()
    stop_reason: StopReason = StopReason.END
    usage: Usage = Usage(10, 5)
    error: LLMError | None = None
    gate: Gate | None = None
    refusal: str | None = None


def says(text: str, *, thinking: str = "", gate: Gate | None = None) -> Reply:
    """An answer of text alone."""
    parts: tuple[Part, ...] = (Text(text),)
    return Reply((Thinking(thinking), *parts) if thinking else parts, gate=gate)


def calls(
    *wanted: tuple[str, str, Mapping[str, Any] | str],
    text: str = "",
    stop_reason: StopReason = StopReason.TOOL_CALLS,
) -> Reply:
    """An answer that asks for tools: (call id, name, arguments as values or as raw text)."""
    parts: list[Part] = [Text(text)] if text else []
    for id, name, arguments in wanted:
        raw = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
        parts.append(ToolCall(id, name, raw))
    return Reply(tuple(parts), stop_reason)


def fails(error: LLMError, partial: str = "") -> Reply:
    """A call that fails, after `partial` has been streamed."""
    return Reply((Text(partial),) if partial else (), error=error)


def hangs(gate: Gate, partial: str = "") -> Reply:
    """A call that streams `partial` and then waits at `gate`; it then says no more."""
    return Reply((Text(partial),) if partial else (), gate=gate)


class Scripted:
    """An `LLMService` without a network.

    Attributes:
        requests: what it was asked, in order.
        illegal: rules that requests broke; empty as long as all is well.
        under_way: requests that are being answered.
        closed: how often it was closed.
    """

    retries = False
    binds_output = True
    model = "scripted"

    def __init__(
        self,
        *replies: Reply,
        by: Callable[[LLMRequest], Reply] | None = None,
        steps: int = 1,
        piece: int = 4,
    ) -> None:
        self.requests: list[LLMRequest] = []
        self.illegal: list[str] = []
        self.under_way = 0
        self.closed = 0
        self._replies = list(replies)
        self._by = by
        self._steps = steps
        self._piece = piece

    def _next(self, request: LLMRequest) -> Reply:
        self.requests.append(request)
        self.illegal += transcript_violations(request.messages, stored=True)
        if self._by is not None:
            return self._by(request)
        assert self._replies, "the script has no more answers"
        return self._replies.pop(0)

    async def _work(self) -> None:
        for _ in range(self._steps):
            await anyio.lowlevel.checkpoint()

    async def complete(self, request: LLMRequest) -> LLMResponse:
        """The whole answer."""
        reply = self._next(request)
        self.under_way += 1
        try:
            await self._work()
            if reply.gate is not None:
                await reply.gate.wait()
            if reply.error is not None:
                raise reply.error
            return LLMResponse(
                reply.parts,
                reply.stop_reason,
                usage=reply.usage,
                refusal=reply.refusal,
                model=self.model,
            )
        finally:
            self.under_way -= 1

    def check(self, request: LLMRequest) -> None:
        """Takes everything."""

    def stream(
        self, request: LLMRequest
    ) -> AbstractAsyncContextManager[AsyncIterator[StreamEvent]]:
        """The answer in pieces."""
        return self._streaming(self._next(request))

    @asynccontextmanager
    async def _streaming(self, reply: Reply) -> AsyncGenerator[AsyncIterator[StreamEvent]]:
        self.under_way += 1
        try:
            await self._work()
            yield _Pieces(self._events(reply), reply, self._work)
        finally:
            self.under_way -= 1

    def _events(self, reply: Reply) -> list[StreamEvent]:
        found: list[StreamEvent] = [ResponseStarted("r", self.model)]
        index = 0
        for part in reply.parts:
            match part:
                case Text():
                    found += [TextDelta(piece) for piece in _cut(part.text, self._piece)]
                case Thinking():
                    found += [ThinkingDelta(piece) for piece in _cut(part.text, self._piece)]
                case ToolCall():
                    found.append(ToolCallStarted(index, part.id, part.name))
                    found += [ToolCallDelta(index, p) for p in _cut(part.arguments, self._piece)]
                    index += 1
                case _:
                    raise AssertionError(f"cannot stream {part}")
        return found

    async def aclose(self) -> None:
        """Counts how often it is called."""
        self.closed += 1


class _Pieces:
    """The events of one answer, with a step between any two."""

    def __init__(
        self, events: Sequence[StreamEvent], reply: Reply, work: Callable[[], Any]
    ) -> None:
        self._events = list(events)
        self._reply = reply
        self._work = work
        self._ended = False

    def __aiter__(self) -> _Pieces:
        return self

    async def __anext__(self) -> StreamEvent:
        if self._events:
            event = self._events.pop(0)
            await self._work()
            return event
        if self._ended:
            raise StopAsyncIteration
        self._ended = True
        if self._reply.gate is not None:
            await self._reply.gate.wait()
        if self._reply.error is not None:
            raise self._reply.error
        self._events = [
            UsageReported(self._reply.usage),
            Finished(self._reply.stop_reason, self._reply.stop_reason.value),
        ]
        return await self.__anext__()


def _cut(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]
