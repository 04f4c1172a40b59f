"""A service that asks the next one when one has failed for good."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial

import anyio.lowlevel
from msgspec import Struct
from msgspec.structs import replace

from llm_client.errors import CallerError, LLMError
from llm_client.retry import FallbackPolicy
from llm_client.service import LLMService, checked_service, context_window_of
from llm_client.stream import ResponseStarted, StreamEvent
from llm_client.types import LLMRequest, LLMResponse
from llm_client.wrappers._attempts import AttemptedStream, answer_of
from llm_client.wrappers._watched import Opened

__all__ = ["Adapt", "Fallback", "FallbackNotice"]

Adapt = Callable[[LLMRequest, LLMService], LLMRequest]
"""What a service is asked in place of a request that was meant for another one."""


class FallbackNotice(Struct, frozen=True):
    """A model has failed, and the next one will be asked.

    Attributes:
        failed: the model that failed.
        next: the model that will be asked.
        error: why the first one failed. `error.sent` says whether it may have been billed.
    """

    failed: str
    next: str
    error: LLMError


class Fallback:
    """An `LLMService` that asks others in turn, each at most once a request, until one answers.

    The first service is asked with the request as it is, then with each of the policy's `models`.
    The others are asked for their own models, and without the request's `server_tools` and `extra`:
    what belongs to one vendor means nothing to another, or something else. A service's own `extra`
    stands in its `RequestDefaults`. One that cannot put the request into wire form is passed over.

    The answer's `model`, or that of the stream's `ResponseStarted`, says who answered. The error
    that is raised is the last one, with notes on those before and on who was passed over, and why.

    An `AgentLoop` takes it if none of the services retries and streams are not restarted; but
    `AgentConfig.fallback` records each attempt, so prefer that for models of one service.

    Args:
        first: the service that is asked first, and whose `model`, `binds_output` and `check` count.
        others: the services that are asked after it, in this order. All are closed together.
        policy: after which errors the next one is asked, and for which further models.
        restart_streams: also when part of an answer had been handed out. It is taken back with an
            `AttemptVoided`; otherwise the error is raised with `after_output` set.
        on_fallback: called before the next one is asked; what it raises comes out of the request.
        adapt: makes what one of the others is asked out of the request, for services that share
            more, or less, than the usual; a CallerError that it raises passes that one over.

    Raises:
        ConfigError: one of them is no service.
    """

    def __init__(
        self,
        first: LLMService,
        *others: LLMService,
        policy: FallbackPolicy | None = None,
        restart_streams: bool = False,
        on_fallback: Callable[[FallbackNotice], None] | None = None,
        adapt: Adapt | None = None,
    ) -> None:
        given = (first, *others)
        self._services = tuple([checked_service(one, "Fallback") for one in given])
        self._adapt = adapt
        self._policy = policy or FallbackPolicy()
        self._restart = restart_streams
        self._on_fallback = on_fallback

    def __repr__(self) -> str:
        return f"Fallback({', '.join(map(repr, self._services))})"

    @property
    def retries(self) -> bool:
        """Whether one of the services retries, or streams are restarted."""
        return self._restart or any(service.retries for service in self._services)

    @property
    def model(self) -> str:
        """The model of the first service."""
        return self._services[0].model

    @property
    def binds_output(self) -> bool:
        """Whether the first service can bind an answer to a schema."""
        return self._services[0].binds_output

    def context_window(self, model: str | None) -> int | None:
        """See `KnowsWindow`; that of the first service."""
        return context_window_of(self._services[0], model)

    def check(self, request: LLMRequest) -> None:
        """See `LLMService.check`; looks at the first service only."""
        self._services[0].check(request)

    def stream(self, request: LLMRequest) -> AttemptedStream:
        """See `LLMService.stream`."""
        return _NamedStream(self._row(request), restart=self._restart)

    async def complete(self, request: LLMRequest) -> LLMResponse:
        """See `LLMService.complete`."""
        return await answer_of(self._row(request))

    async def aclose(self) -> None:
        """Closes all services, the last first."""
        async with AsyncExitStack() as stack:
            for service in self._services:
                stack.push_async_callback(service.aclose)

    def _row(self, request: LLMRequest) -> _Row:
        first, *others = self._services
        names = self._policy.models
        after = [_Candidate(first, name, partial(replace, model=name)) for name in names]
        after += [_Candidate(one, one.model, partial(self._adapted, one)) for one in others]
        return _Row(first, request, after, self._policy, self._on_fallback)

    def _adapted(self, service: LLMService, request: LLMRequest) -> LLMRequest:
        if self._adapt is not None:
            return self._adapt(request, service)
        return replace(request, model=None, server_tools=(), extra={})


class _Candidate(Struct, frozen=True):
    """Who may be asked, and with what in place of the request."""

    service: LLMService
    model: str
    adapt: Callable[[LLMRequest], LLMRequest]


class _Row:
    """The attempts of one request, each of another model."""

    def __init__(
        self,
        first: LLMService,
        request: LLMRequest,
        after: list[_Candidate],
        policy: FallbackPolicy,
        on_fallback: Callable[[FallbackNotice], None] | None,
    ) -> None:
        self._policy = policy
        self._on_fallback = on_fallback
        self._notes: list[str] = []
        self._service = first
        self._meant = self._request = request
        self._left = iter(after)
        self.number = 1

    @property
    def model(self) -> str:
        """Who is being asked."""
        return self._request.model or self._service.model

    def open(self) -> Opened:
        return self._service.stream(self._request)

    async def complete(self) -> LLMResponse:
        response = await self._service.complete(self._request)
        return response if response.model else response.replace(model=self.model)

    def again(self, error: LLMError) -> bool:
        failed, known = self.model, len(self._notes)
        if not self._policy.passes_on(error) or not self._move_on():
            for note in self._notes:
                error.add_note(note)
            return False
        told = f"before that, {failed!r} failed: {type(error).__name__}: {error}"
        self._notes.insert(known, told)
        if self._on_fallback is not None:
            self._on_fallback(FallbackNotice(failed, self.model, error))
        self.number += 1
        return True

    def _move_on(self) -> bool:
        for one in self._left:
            try:
                request = one.adapt(self._meant)
                one.service.check(request)
            except CallerError as error:
                why = f"{type(error).__name__}: {error}"
                self._notes.append(f"{one.model!r} was passed over: {why}")
                continue
            self._service, self._request = one.service, request
            return True
        return False

    async def ready(self) -> None:
        await anyio.lowlevel.checkpoint()


class _NamedStream(AttemptedStream):
    """A stream that says whose it is."""

    def __init__(self, row: _Row, *, restart: bool) -> None:
        super().__init__(row, restart=restart)
        self._row = row

    async def __anext__(self) -> StreamEvent:
        event = await super().__anext__()
        if isinstance(event, ResponseStarted) and not event.model:
            return replace(event, model=self._row.model)
        return event
