"""A service whose every attempt is written down."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Literal

import anyio
from msgspec import structs

from llm_client._block import Block
from llm_client.errors import CallerError, LLMError, may_have_been_billed
from llm_client.pricing import Price, PriceBook
from llm_client.service import LLMService
from llm_client.stream import (
    PartCompleted,
    RefusalDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStarted,
)
from llm_client.tokens import ModelTokens, TokenCounter
from llm_client.types import LLMRequest, LLMResponse, Message, Part, Text, Usage
from llm_client.usage import UsageLedger
from llm_client.wrappers._around import Around, refuse_retrying
from llm_client.wrappers._watched import Opened, Watched

__all__ = ["Metered"]

_NOTHING = Usage(0, 0)

_Status = Literal["ok", "failed", "cancelled"]


class Metered(Around):
    """An `LLMService` that writes a row into `ledger` for each request to `inner`.

    What the provider counts is taken over. Where it has not counted, because the attempt failed,
    was cancelled, or was left before its end, the input is estimated from the request and the
    output from what had arrived: whatever may have been billed is never written as 0. Nothing was
    billed if nothing was sent, or if the provider turned the request away at once.

    Estimates are made nearer by what the provider counts at other times. What waits or tries again
    belongs around it: `Retrying(Throttled(Metered(service, ledger), limiter))`.

    Args:
        inner: the service that is asked; it must not retry by itself, as its attempts could not be
            told apart.
        ledger: where the rows go.
        counter: estimates tokens; by default a `ModelTokens` for each model that is asked.
        prices: what tokens cost. A request whose price they cannot tell is refused before it is
            sent, by what their policy says.
        provider: the provider's name, for the rows and the prices.
        now: gives the time.

    `complete`, and entering a stream, also raise what `PriceBook.price` raises.

    Raises:
        ConfigError: `inner` is no service, or something in it retries.
    """

    def __init__(
        self,
        inner: LLMService,
        ledger: UsageLedger,
        counter: TokenCounter | None = None,
        *,
        prices: PriceBook | None = None,
        provider: str | None = None,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        super().__init__(inner)
        refuse_retrying(
            inner,
            "so its attempts cannot be told apart; stand inside what retries: "
            "Retrying(Throttled(Metered(service, ledger), limiter))",
        )
        self._ledger = ledger
        self._counter = counter
        self._counters: dict[str, ModelTokens] = {}
        self._prices = prices
        self._provider = provider
        self._now = now or _now

    def stream(self, request: LLMRequest) -> Opened:
        """See `LLMService.stream`."""
        return Block(self._stream(request))

    @asynccontextmanager
    async def _stream(self, request: LLMRequest) -> AsyncGenerator[AsyncIterator[StreamEvent]]:
        self._require_price(request)
        stream = _Collected(self._inner.stream(request))
        try:
            async with stream:
                yield stream
        finally:
            status = _status_of(stream)
            await self._record(request, status, stream.usage, stream.error, stream.arrived)

    async def complete(self, request: LLMRequest) -> LLMResponse:
        """See `LLMService.complete`."""
        self._require_price(request)
        status: _Status = "cancelled"
        usage, error, arrived = Usage(), None, list[Part]()
        try:
            response = await self._inner.complete(request)
            status, usage, arrived = "ok", response.usage, list(response.parts)
            if response.refusal is not None:
                arrived.append(Text(response.refusal))
        except LLMError as failure:
            status, error = "failed", failure
            raise
        finally:
            await self._record(request, status, usage, error, arrived)
        return response

    def _require_price(self, request: LLMRequest) -> None:
        if self._prices is not None:
            model = request.model or self.model
            self._prices.price(model, _NOTHING, provider=self._provider)

    async def _record(
        self,
        request: LLMRequest,
        status: _Status,
        usage: Usage,
        error: LLMError | None,
        arrived: list[Part],
    ) -> None:
        model = request.model or self.model
        counter = self._counter_for(model)
        measured = status == "ok" and None not in (usage.input_tokens, usage.output_tokens)
        if measured:
            counter.learn(request, usage)
        elif error is not None and not error.sent:
            usage, measured = _NOTHING, True
        elif error is not None and not may_have_been_billed(error):
            usage = _NOTHING
        else:
            with anyio.CancelScope(shield=True):
                await counter.load()
            usage = _estimated(counter, request, usage, arrived)
        self._ledger.add(
            model=model,
            provider=self._provider,
            status=status,
            usage=usage,
            measured=measured,
            price=self._price(model, usage),
            at=self._now(),
        )

    def _price(self, model: str, usage: Usage) -> Price | None:
        if self._prices is None or usage is _NOTHING:
            return None
        try:
            return self._prices.price(model, usage, provider=self._provider)
        except CallerError:
            # There was a price when the request was sent. The row matters more: it is unpriced.
            return None

    def _counter_for(self, model: str) -> TokenCounter:
        if self._counter is not None:
            return self._counter
        if model not in self._counters:
            self._counters[model] = ModelTokens(model, provider=self._provider)
        return self._counters[model]


class _Collected(Watched):
    """A stream, with what has arrived of its answer."""

    __slots__ = ("_pieces", "_whole")

    def __init__(self, opened: Opened) -> None:
        super().__init__(opened)
        self._pieces: list[str] = []
        self._whole: list[Part] = []

    @property
    def arrived(self) -> list[Part]:
        """What has arrived, all text in one part."""
        text = "".join(self._pieces)
        return [Text(text), *self._whole] if text else self._whole

    async def __anext__(self) -> StreamEvent:
        event = await super().__anext__()
        match event:
            case TextDelta() | ThinkingDelta() | RefusalDelta():
                self._pieces.append(event.text)
            case ToolCallStarted():
                self._pieces.append(event.name)
            case ToolCallDelta():
                self._pieces.append(event.arguments)
            case PartCompleted():
                self._whole.append(event.part)
            case _:
                pass
        return event


def _estimated(
    counter: TokenCounter, request: LLMRequest, usage: Usage, arrived: list[Part]
) -> Usage:
    sent = usage.input_tokens
    if sent is None:
        sent = max(1, counter.count_request(request).tokens)
    answer = counter.count_message(Message("assistant", tuple(arrived))) if arrived else 0
    # What was reported in the middle of an answer is what had been counted until then.
    return structs.replace(
        usage, input_tokens=sent, output_tokens=max(usage.output_tokens or 0, answer)
    )


def _status_of(stream: Watched) -> _Status:
    if stream.error is not None:
        return "failed"
    return "ok" if stream.finished else "cancelled"


def _now() -> datetime:
    return datetime.now(UTC)
