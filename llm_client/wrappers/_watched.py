"""A streamed answer, and what became of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

from llm_client.errors import IncompleteStream, LLMError
from llm_client.stream import AttemptVoided, Finished, ResponseStarted, StreamEvent, UsageReported
from llm_client.types import Usage

__all__ = ["Opened", "Watched"]

Opened = AbstractAsyncContextManager[AsyncIterator[StreamEvent]]
"""What `LLMService.stream` gives."""


class Watched:
    """The stream `opened`, whose end is looked at: one without a positive end is an error.

    Attributes:
        usage: the newest token counts.
        output: part of the answer has been handed out and is not void.
        finished: it came to its positive end.
        error: the error in which it ended.
    """

    __slots__ = ("_events", "_opened", "error", "finished", "output", "usage")

    _events: AsyncIterator[StreamEvent]

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self.usage = Usage()
        self.output = False
        self.finished = False
        self.error: LLMError | None = None

    async def __aenter__(self) -> Self:
        try:
            self._events = await self._opened.__aenter__()
        except LLMError as error:
            self.error = error
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._opened.__aexit__(kind, error, traceback)

    def __aiter__(self) -> Watched:
        return self

    async def __anext__(self) -> StreamEvent:
        try:
            event = await anext(self._events)
        except StopAsyncIteration:
            if self.finished or self.error is not None:
                raise
            self.error = IncompleteStream("the stream ended before the answer did")
            self.error.after_output = self.output
            raise self.error from None
        except LLMError as error:
            self.error = error
            raise
        match event:
            case UsageReported():
                self.usage = event.usage
            case AttemptVoided():
                self.usage, self.output = Usage(), False
            case ResponseStarted():
                pass
            case Finished():
                self.finished = True
            case _:
                self.output = True
        return event
