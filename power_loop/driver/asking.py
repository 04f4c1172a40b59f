"""One request to the model, with its deltas to whoever reads along."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio
from msgspec import structs

import llm_client
from llm_client.errors import IncompleteStream, LLMError, Timeout, may_have_been_billed
from llm_client.service import LLMService
from llm_client.stream import (
    Accumulator,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStarted,
)
from llm_client.types import LLMRequest, LLMResponse, Message, Usage
from power_loop import events
from power_loop.driver.hub import Hub
from power_loop.driver.shield import own_cancellation
from power_loop.events import Transient
from power_loop.pipeline.ports import AttemptFailed, Interrupted
from power_loop.session.text import repaired_strings, repaired_text

if TYPE_CHECKING:
    from llm_client.tokens import ModelTokens

__all__ = ["Asking"]

ANY_MODEL = ""
"""Counted by its characters: a vocabulary takes longer to load than a run has to end."""


class Asking:
    """Makes the model calls of one run, one after the other."""

    def __init__(
        self, llm: LLMService, hub: Hub, session_id: str, emit: Callable[[Transient], None]
    ) -> None:
        self._llm = llm
        self._hub = hub
        self._session_id = session_id
        self._emit = emit
        self._request: LLMRequest | None = None
        self._arrived: Accumulator | None = None
        self._calls: dict[int, ToolCallStarted] = {}
        self._counter: ModelTokens | None = None

    @property
    def partial(self) -> str:
        """Text of the answer that is on its way."""
        return "" if self._arrived is None else self._arrived.response().text

    @property
    def spent(self) -> Usage | None:
        """What the request that is on its way may have cost by now, None if none is."""
        return None if self._request is None else self._estimated(self._request)

    def broken_off(self) -> Interrupted:
        """What there is to tell of a request that was stopped, or of none."""
        spent = self.spent
        stopped = Interrupted(self.partial, spent or Usage(0, 0), measured=spent is None)
        self._request = self._arrived = None
        return stopped

    async def ask(self, request: LLMRequest, attempt: str) -> LLMResponse | AttemptFailed:
        """Exactly one request: streamed if anybody reads deltas, whole otherwise."""
        self._request = request
        try:
            if self._hub.wants_deltas(self._session_id):
                response = await own_cancellation(self._streamed(request, attempt))
            else:
                response = await own_cancellation(self._llm.complete(request))
        except LLMError as error:
            failed = self._failed(request, error)
            self._request = self._arrived = None
            return failed
        self._request = self._arrived = None
        return response

    async def ask_aside(self, request: LLMRequest, within: float) -> LLMResponse | AttemptFailed:
        """One request that nobody reads along with, stopped after `within` seconds."""
        self._request = request
        late = Timeout(f"it took longer than {within:g} s", phase="total", seconds=within)
        answer: LLMResponse | AttemptFailed = self._failed(request, late)
        with anyio.move_on_after(within):
            try:
                answer = await own_cancellation(self._llm.complete(request))
            except LLMError as error:
                answer = self._failed(request, error)
        self._request = None
        return answer

    def _failed(self, request: LLMRequest, error: LLMError) -> AttemptFailed:
        if not may_have_been_billed(error):
            return AttemptFailed(error, self.partial, Usage(0, 0), measured=not error.sent)
        return AttemptFailed(error, self.partial, self._estimated(request))

    def _estimated(self, request: LLMRequest) -> Usage:
        arrived = self._arrived or Accumulator()
        return self.estimated(request, arrived.response())

    def estimated(self, request: LLMRequest, arrived: LLMResponse) -> Usage:
        """What an attempt may have cost that the provider did not count to its end: the prompt, and
        as much of an answer as had arrived. Not exact, but never 0 for what may be billed."""
        # One for the run, so that each message is counted once.
        counter = self._counter = self._counter or llm_client.ModelTokens(ANY_MODEL)
        reported = arrived.usage
        sent = reported.input_tokens
        if sent is None:
            sent = max(1, counter.count_request(request).tokens)
        said = counter.count_message(Message("assistant", arrived.parts)) if arrived.parts else 0
        given = max(reported.output_tokens or 0, said)
        return structs.replace(reported, input_tokens=sent, output_tokens=given)

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
