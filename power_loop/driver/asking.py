"""One request to the model, with its deltas to whoever reads along."""

from __future__ import annotations

from collections.abc import Callable

from llm_client.errors import IncompleteStream, LLMError
from llm_client.service import LLMService
from llm_client.stream import (
    Accumulator,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStarted,
)
from llm_client.types import LLMRequest, LLMResponse, Usage
from power_loop import events
from power_loop.driver.hub import Hub
from power_loop.driver.shield import own_cancellation
from power_loop.events import Transient
from power_loop.pipeline.ports import AttemptFailed
from power_loop.session.text import repaired_strings, repaired_text

__all__ = ["Asking"]


class Asking:
    """Makes the model calls of one run, one after the other."""

    def __init__(
        self, llm: LLMService, hub: Hub, session_id: str, emit: Callable[[Transient], None]
    ) -> None:
        self._llm = llm
        self._hub = hub
        self._session_id = session_id
        self._emit = emit
        self._arrived: Accumulator | None = None
        self._calls: dict[int, ToolCallStarted] = {}

    @property
    def partial(self) -> str:
        """Text of the answer that is on its way."""
        return "" if self._arrived is None else self._arrived.response().text

    async def ask(self, request: LLMRequest, attempt: str) -> LLMResponse | AttemptFailed:
        """Exactly one request: streamed if anybody reads deltas, whole otherwise."""
        try:
            if self._hub.wants_deltas(self._session_id):
                response = await own_cancellation(self._streamed(request, attempt))
            else:
                response = await own_cancellation(self._llm.complete(request))
        except LLMError as error:
            usage = Usage() if self._arrived is None else self._arrived.usage
            failed = AttemptFailed(error, self.partial, usage)
            self._arrived = None
            return failed
        self._arrived = None
        return response

    async def _streamed(self, request: LLMRequest, attempt: str) -> LLMResponse:
        # Kept when the run is cancelled: what had arrived is told in the closing record.
        arrived = self._arrived = Accumulator()
        slow = [r for r in self._hub.readers(self._session_id) if r.overflow == "wait"]
        self._calls.clear()
        async with self._llm.stream(request) as stream:
            async for event in stream:
                arrived.add(event)
                self._tell(event, attempt)
                for reader in slow:
                    if reader.behind:
                        await reader.drained()
        if not arrived.finished:
            raise IncompleteStream("the stream ended before the answer did; it was not used")
        return arrived.response()

    def _tell(self, event: StreamEvent, attempt: str) -> None:
        match event:
            case TextDelta():
                self._emit(events.TextDelta(attempt, repaired_text(event.text)))
            case ThinkingDelta() if event.text:
                self._emit(events.ThinkingDelta(attempt, repaired_text(event.text)))
            case ToolCallStarted():
                call = self._calls[event.index] = repaired_strings(event)
                self._emit(events.ToolCallDelta(attempt, event.index, call.id, call.name))
            case ToolCallDelta():
                call = self._calls[event.index]
                more = repaired_text(event.arguments)
                self._emit(events.ToolCallDelta(attempt, event.index, call.id, call.name, more))
            case _:
                pass
