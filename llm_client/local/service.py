"""The service of a local model: weights, server and tools, all on the first request.

Tools are emulated through an answer schema, because on SmolLM2 that is the more reliable way. Ten
questions about five files with list_files, read_file and grep, one thread, seconds per call:

    chat template, tool_choice "required"      0 of 10 valid calls                          2 s
    the same with a bias of 6 towards "<"      2 to 8 valid,  1 to 4 the right tool         2 s
    answer schema                              10 valid,      7 right tool, 5 arguments     0.4 s
    answer schema, file names as enumeration   10 valid,      7 right tool, 6 arguments     0.4 s
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
from msgspec import Struct

from llm_client._block import Block
from llm_client.codecs.openai_chat import OpenAIChatCodec, chat_dialect
from llm_client.emulated_tools import EmulatedTools
from llm_client.errors import CallerError
from llm_client.http_service import HttpLLMService
from llm_client.known_models import capabilities
from llm_client.local.models import LocalModel, LocalSettings
from llm_client.local.process import ServerProcess
from llm_client.local.server import PATIENCE, start_server
from llm_client.local.weights import Notify
from llm_client.multimodal import FittingMedia, media_limits
from llm_client.service import LLMService
from llm_client.stream import StreamEvent
from llm_client.transport.httpx_transport import HttpxTransport
from llm_client.types import LLMRequest, LLMResponse

__all__ = ["LocalLLMService"]

PROVIDER = "local"

_log = logging.getLogger("llm_client.local")


class _Running(Struct, frozen=True):
    process: ServerProcess
    service: LLMService


class LocalLLMService:
    """Answers requests on this machine, with a model server of its own.

    The first request fetches the weights if they are not in the cache, and starts the server; a
    server that has died is started again by the next request. Nothing outlives `aclose`, nor this
    process, however that ends. Attachments that the model cannot be shown are told in words.

    Args:
        model: the model to run.
        settings: how to run it.
        notify: hears how the weights come, in another thread; they are also logged.

    Raises (on requests):
        LocalRuntimeMissing: xllamacpp is not installed; names the extra.
        WeightsUnavailable: the weights cannot be had or kept; names the command to run.
        LocalServerFailed: the server cannot start.
    """

    def __init__(
        self, model: LocalModel, settings: LocalSettings, *, notify: Notify | None = None
    ) -> None:
        self._model = model
        self._settings = settings
        self._notify = notify
        self._lock = anyio.Lock()
        self._running: _Running | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"LocalLLMService({self._model.name!r})"

    @property
    def retries(self) -> bool:
        """False."""
        return False

    @property
    def model(self) -> str:
        """The model's name."""
        return self._model.name

    @property
    def binds_output(self) -> bool:
        """True: the server holds the model to a grammar."""
        return True

    def context_window(self, model: str | None) -> int | None:
        """What one request of this server may have, whatever it calls the model."""
        return self._settings.context or self._model.context

    @property
    def pid(self) -> int | None:
        """Process id of the server, None while there is none."""
        running = self._running
        return running.process.pid if running is not None else None

    @property
    def alive(self) -> bool:
        """True while the server runs."""
        return self._running is not None and self._running.process.alive

    def check(self, request: LLMRequest) -> None:
        """See `LLMService.check`; before the server runs, nothing is found."""
        if self._running is not None:
            self._running.service.check(request)

    def stream(
        self, request: LLMRequest
    ) -> AbstractAsyncContextManager[AsyncIterator[StreamEvent]]:
        """See `LLMService.stream`."""
        return Block(self._stream(request))

    @asynccontextmanager
    async def _stream(self, request: LLMRequest) -> AsyncGenerator[AsyncIterator[StreamEvent]]:
        service = await self._ready()
        async with service.stream(request) as events:
            yield events

    async def complete(self, request: LLMRequest) -> LLMResponse:
        """See `LLMService.complete`."""
        service = await self._ready()
        return await service.complete(request)

    async def start(self) -> None:
        """Fetches the weights and starts the server now rather than on the first request."""
        await self._ready()

    async def aclose(self) -> None:
        """Ends the server, cutting off what it is answering. Idempotent."""
        self._closed = True
        with anyio.CancelScope(shield=True):
            async with self._lock:
                await self._stop()

    async def _ready(self) -> LLMService:
        running = self._running
        if running is not None and not self._closed and running.process.alive:
            return running.service
        async with self._lock:
            if self._closed:
                raise CallerError(f"the local model {self._model.name!r} has been closed")
            running = self._running
            if running is not None and running.process.alive:
                return running.service
            if running is not None:
                _log.warning("the server of %s has died; starting it again", self._model.name)
            await self._stop()
            self._running = running = await self._start()
            return running.service

    async def _stop(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            with anyio.CancelScope(shield=True):
                await running.service.aclose()
            await running.process.stop()

    async def _start(self) -> _Running:
        settings = self._settings
        server = await start_server(self._model, settings, self._notify)
        asked = HttpLLMService(
            OpenAIChatCodec(chat_dialect(PROVIDER)),
            HttpxTransport(),
            base_url=f"{server.address}/v1",
            model=server.model,
            headers={"authorization": f"Bearer {server.key}"},
            deadlines=PATIENCE,
            provider=PROVIDER,
        )
        known = capabilities(PROVIDER, server.model)
        service: LLMService = FittingMedia(asked, media_limits(PROVIDER), known)
        if not settings.native_tools:
            service = EmulatedTools(service, settings.emulation or self._model.emulation)
        return _Running(server.process, service)
