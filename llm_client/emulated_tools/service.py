"""The service that puts the emulation around another one."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

from llm_client._block import Block
from llm_client.emulated_tools.emulation import Emulation, plan
from llm_client.emulated_tools.prompt import rewritten
from llm_client.emulated_tools.reader import AnswerReader
from llm_client.service import LLMService, checked_service, context_window_of
from llm_client.stream import (
    Accumulator,
    AttemptVoided,
    Finished,
    PartCompleted,
    StreamEvent,
    TextDelta,
)
from llm_client.types import LLMRequest, LLMResponse, Part, StopReason, Text

__all__ = ["EmulatedTools"]

NewReader = Callable[[], AnswerReader]


class EmulatedTools:
    """An `LLMService` that has tools although `inner` has only answers bound to a JSON Schema.

    A call is asked for as an answer of the form `{"tool": …, "arguments": …}`, one at a time. Its
    arguments, and the text of a final answer, are streamed while the JSON arrives. Requests that
    have nothing to do with tools reach `inner` unchanged.

    Args:
        inner: the service that is asked. It should enforce `LLMRequest.output_schema`; where it
            does not, an answer in another form counts as text.
        emulation: how its model is led.

    Raises:
        ConfigError: `inner` is no service.
    """

    def __init__(self, inner: LLMService, emulation: Emulation | None = None) -> None:
        self._inner = checked_service(inner, "EmulatedTools")
        self._emulation = emulation or Emulation()

    @property
    def retries(self) -> bool:
        """Whether `inner` retries."""
        return self._inner.retries

    @property
    def model(self) -> str:
        """The model of `inner`."""
        return self._inner.model

    @property
    def binds_output(self) -> bool:
        """Whether `inner` can bind an answer to a schema; tools cannot be emulated without."""
        return self._inner.binds_output

    def context_window(self, model: str | None) -> int | None:
        """See `KnowsWindow`."""
        return context_window_of(self._inner, model)

    def check(self, request: LLMRequest) -> None:
        """See `LLMService.check`."""
        self._inner.check(self._prepare(request)[0])

    def stream(
        self, request: LLMRequest
    ) -> AbstractAsyncContextManager[AsyncIterator[StreamEvent]]:
        """See `LLMService.stream`.

        Raises:
            LocalProtocolError: the tool choice asks for a tool that is not offered.
        """
        return Block(self._stream(request))

    @asynccontextmanager
    async def _stream(self, request: LLMRequest) -> AsyncGenerator[AsyncIterator[StreamEvent]]:
        asked, new_reader = self._prepare(request)
        async with self._inner.stream(asked) as events:
            yield events if new_reader is None else _Translated(events, new_reader)

    async def complete(self, request: LLMRequest) -> LLMResponse:
        """See `LLMService.complete`.

        Raises:
            LocalProtocolError: the tool choice asks for a tool that is not offered.
        """
        asked, new_reader = self._prepare(request)
        response = await self._inner.complete(asked)
        if new_reader is None:
            return response
        reader = new_reader()
        fold = Accumulator()
        for event in _events(response.parts, reader):
            fold.add(event)
        return response.replace(
            parts=fold.response().parts, stop_reason=_stop_reason(response.stop_reason, reader)
        )

    async def aclose(self) -> None:
        """Closes `inner`."""
        await self._inner.aclose()

    def _prepare(self, request: LLMRequest) -> tuple[LLMRequest, NewReader | None]:
        turn = plan(request, self._emulation)
        asked = rewritten(request, turn, self._emulation)
        if asked.output_schema is request.output_schema:
            return asked, None
        calls, text = bool(turn.tools), request.output_schema is None
        return asked, partial(AnswerReader, calls=calls, text=text)


class _Translated:
    """The events of an answer in JSON, as those of the answer it means."""

    def __init__(self, events: AsyncIterator[StreamEvent], new_reader: NewReader) -> None:
        self._events = events
        self._new_reader = new_reader
        self._reader = new_reader()
        self._ready: deque[StreamEvent] = deque()

    def __aiter__(self) -> _Translated:
        return self

    async def __anext__(self) -> StreamEvent:
        while not self._ready:
            self._take(await anext(self._events))
        return self._ready.popleft()

    def _take(self, event: StreamEvent) -> None:
        match event:
            case TextDelta():
                self._ready.extend(self._reader.feed(event.text))
            case Finished():
                self._ready.extend(self._reader.close())
                reason = _stop_reason(event.stop_reason, self._reader)
                self._ready.append(Finished(reason, event.raw_finish))
            case AttemptVoided():
                self._reader = self._new_reader()
                self._ready.append(event)
            case _:
                self._ready.append(event)


def _events(parts: tuple[Part, ...], reader: AnswerReader) -> list[StreamEvent]:
    events: list[StreamEvent] = []
    for part in parts:
        events += reader.feed(part.text) if isinstance(part, Text) else [PartCompleted(part)]
    return events + reader.close()


def _stop_reason(reason: StopReason, reader: AnswerReader) -> StopReason:
    return StopReason.TOOL_CALLS if reason is StopReason.END and reader.called else reason
