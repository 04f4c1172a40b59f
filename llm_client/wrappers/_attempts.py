"""One answer out of several attempts: what `Retrying` and `Fallback` share.

What a failed attempt had said is void. As long as nobody has seen any of it, the next attempt takes
its place in silence. Once part of an answer has been handed out, the error is raised; or, if the
reader has agreed to that, an `AttemptVoided` comes in the stream before the next attempt begins.
"""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Protocol, Self

from llm_client._block import not_entered
from llm_client.errors import LLMError
from llm_client.stream import AttemptVoided, ResponseStarted, StreamEvent, UsageReported
from llm_client.types import LLMResponse
from llm_client.wrappers._watched import Opened, Watched

__all__ = ["AttemptedStream", "Attempts", "answer_of"]


class Attempts(Protocol):
    """**Protocol**: the attempts of one request.

    Attributes:
        number: which attempt is being made, from 1.
    """

    number: int

    def open(self) -> Opened:
        """The present attempt's answer, streamed."""
        ...

    async def complete(self) -> LLMResponse:
        """The present attempt's answer, whole."""
        ...

    def again(self, error: LLMError) -> bool:
        """Moves on to the next attempt, if there is to be one after `error`."""
        ...

    async def ready(self) -> None:
        """Waits until the next attempt may begin."""
        ...


async def answer_of(attempts: Attempts) -> LLMResponse:
    """The first answer, whole.

    Raises:
        LLMError: the last attempt's.
    """
    while True:
        try:
            return await attempts.complete()
        except LLMError as error:
            if not attempts.again(error):
                raise
        await attempts.ready()


class AttemptedStream:
    """The first answer, streamed.

    Args:
        attempts: who is asked, and how often.
        restart: an attempt that fails after part of its answer was handed out may be followed by
            another one, which is announced.
    """

    def __init__(self, attempts: Attempts, *, restart: bool) -> None:
        self._attempts = attempts
        self._restart = restart
        self._stream: Watched | None = None
        self._entered = False
        self._held: list[StreamEvent] = []
        self._ready: deque[StreamEvent] = deque()
        self._over = False

    async def __aenter__(self) -> Self:
        self._entered = True
        await self._open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over = True
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.__aexit__(kind, error, traceback)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamEvent:
        while not self._ready:
            if self._over:
                raise StopAsyncIteration
            if self._stream is not None:
                await self._take(self._stream)
            elif self._entered:
                await self._attempts.ready()
                await self._open()
            else:
                raise not_entered()
        return self._ready.popleft()

    async def _open(self) -> None:
        while True:
            stream = Watched(self._attempts.open())
            try:
                await stream.__aenter__()
            except LLMError as error:
                if not self._attempts.again(error):
                    self._over = True
                    raise
            else:
                self._stream = stream
                return
            await self._attempts.ready()

    async def _take(self, stream: Watched) -> None:
        try:
            event = await anext(stream)
        except StopAsyncIteration:
            self._over = True
        except LLMError as error:
            self._stream, self._over = None, True
            await stream.__aexit__(type(error), error, error.__traceback__)
            if not self._goes_on(stream, error):
                raise
            self._over = False
        else:
            if isinstance(event, AttemptVoided):
                self._held.clear()
            elif isinstance(event, ResponseStarted | UsageReported) and not stream.output:
                # Not worth an announcement should the attempt fail, so it is not handed out alone.
                self._held.append(event)
                return
            self._ready.extend((*self._held, event))
            self._held.clear()

    def _goes_on(self, stream: Watched, error: LLMError) -> bool:
        error.after_output = stream.output
        if stream.finished or (stream.output and not self._restart):
            return False
        number = self._attempts.number
        if not self._attempts.again(error):
            return False
        self._held.clear()
        if stream.output:
            kind = type(error).__name__
            self._ready.append(AttemptVoided(number, kind, str(error), stream.usage))
        return True
