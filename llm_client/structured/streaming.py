"""A value that can be seen while it grows."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar, overload

from llm_client._block import not_entered
from llm_client.service import LLMService
from llm_client.stream import (
    Accumulator,
    AttemptVoided,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
)
from llm_client.structured.asking import Asking, StructuredResult, Way, asking_for
from llm_client.structured.errors import OutputError
from llm_client.structured.partial import Partial, PartialJson
from llm_client.structured.spec import WRAPPED, OutputSpec
from llm_client.types import LLMRequest
from llm_client.wrappers._watched import Watched

__all__ = ["StructuredStream", "stream_as"]

T = TypeVar("T")


@overload
def stream_as(
    service: LLMService,
    request: LLMRequest,
    output_type: type[T] | OutputSpec[T],
    *,
    way: Way | Literal["auto"] = "auto",
    reasks: int = 2,
) -> StructuredStream[T]: ...
@overload
def stream_as(
    service: LLMService,
    request: LLMRequest,
    output_type: Any,
    *,
    way: Way | Literal["auto"] = "auto",
    reasks: int = 2,
) -> StructuredStream[Any]: ...
def stream_as(
    service: LLMService,
    request: LLMRequest,
    output_type: Any,
    *,
    way: Way | Literal["auto"] = "auto",
    reasks: int = 2,
) -> StructuredStream[Any]:
    """The answer to `request` as a value of `output_type`, to be seen while it grows.

        async with stream_as(service, request, City) as answer:
            async for partial in answer:
                print(partial.value)            # {"name": "Ber"}
            city = (await answer.result()).value  # City(name="Bern", …)

    Arguments are those of `complete_as`. Re-asks, if there have to be any, are not streamed.

    Raises:
        ConfigError: there is no schema for `output_type`.
        UnsupportedFeature: the request offers tools.
    """
    return StructuredStream(service, asking_for(service, request, output_type, way, reasks))


class StructuredStream(Generic[T]):
    """An answer on its way: a block to enter, an iterator of `Partial`, and at last its `result`.

    Partial values are not validated. When an attempt is void (see `AttemptVoided`), they begin
    anew.

    Entering and iterating raise LLMError as `LLMService.stream` does.
    """

    def __init__(self, service: LLMService, asking: Asking[T]) -> None:
        self._service = service
        self._asking = asking
        self._stream: Watched | None = None
        self._entered = False
        self._result: StructuredResult[T] | OutputError | None = None
        self._begin()

    def _begin(self) -> None:
        self._fold = Accumulator()
        self._json = PartialJson(WRAPPED if self._asking.spec.wrapped else None)
        self._call: int | None = None

    async def __aenter__(self) -> Self:
        self._entered = True
        stream = Watched(self._service.stream(self._asking.request))
        await stream.__aenter__()
        self._stream = stream
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.__aexit__(kind, error, traceback)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Partial:
        if not self._entered:
            raise not_entered("stream_as(service, request, output_type)")
        while self._stream is not None:
            try:
                event = await anext(self._stream)
            except StopAsyncIteration:
                # Re-asks need no second connection.
                await self.__aexit__(None, None, None)
                break
            if self._take(event):
                return self._json.snapshot()
        raise StopAsyncIteration

    def _take(self, event: StreamEvent) -> bool:
        self._fold.add(event)
        if isinstance(event, AttemptVoided):
            self._begin()
            return False
        return self._json.feed(self._piece(event))

    def _piece(self, event: StreamEvent) -> str:
        """What `event` adds to the JSON."""
        in_tool = self._asking.way == "tool"
        match event:
            case TextDelta() if not in_tool:
                return event.text
            case ToolCallStarted() if in_tool and self._call is None:
                self._call = event.index
            case ToolCallDelta() if in_tool and event.index == self._call:
                return event.arguments
            case _:
                pass
        return ""

    async def result(self) -> StructuredResult[T]:
        """The value, once the answer is at its end; the model is asked again if it does not fit.

        Raises:
            OutputError: the model has answered, and there is no value to be had; its class says
                why.
            LLMError: the stream or a later request failed.
        """
        async for _ in self:
            pass
        if self._result is None:
            self._result = await self._outcome()
        if isinstance(self._result, OutputError):
            raise self._result
        return self._result

    async def _outcome(self) -> StructuredResult[T] | OutputError:
        try:
            result = self._asking.take(self._fold.response())
            while result is None:
                response = await self._service.complete(self._asking.request)
                result = self._asking.take(response)
        except OutputError as error:
            return error
        return result
