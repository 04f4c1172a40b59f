"""llm_client, over each of its transports."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from types import MappingProxyType

from benchmarks.clients import conversation
from benchmarks.clients.figures import PROTOCOLS
from benchmarks.clients.startup import Start
from benchmarks.clients.work import ASK, OpenPart, parts_of
from benchmarks.wire import WHOLE
from llm_client.http_service import HttpLLMService
from llm_client.protocols import codec_for
from llm_client.stream import TextDelta
from llm_client.transport.aiohttp_transport import AiohttpTransport
from llm_client.transport.base import Transport, WireRequest
from llm_client.transport.httpx_transport import HttpxTransport
from llm_client.types import LLMRequest, Message, Transcript

__all__ = ["AIOHTTP", "HTTPX"]

_CODECS = MappingProxyType(
    {"chat": "openai_chat", "responses": "openai_responses", "messages": "anthropic_messages"}
)
_TRANSPORTS: Mapping[str, Callable[[], Transport]] = MappingProxyType(
    {"httpx": HttpxTransport, "aiohttp": AiohttpTransport}
)

_PROVIDERS = MappingProxyType(
    {"chat": "openai", "responses": "openai-responses", "messages": "anthropic"}
)
_NAMES = "LLMProviderConfig, LLMRequest, Message, create_llm_service_from_config"
_STARTS = MappingProxyType(
    {
        "httpx": (f"from llm_client import {_NAMES}", ""),
        "aiohttp": (f"from llm_client import AiohttpTransport, {_NAMES}", "AiohttpTransport()"),
    }
)
_ASK = """
async def ask(url):
    config = LLMProviderConfig(provider="PROVIDER", base_url=url, api_key="key", model="text")
    service = create_llm_service_from_config(config, transport=TRANSPORT)
    answer = await service.complete(LLMRequest([Message.user("Hello")]))
    await service.aclose()
    return answer.text
"""


def _start(protocol: str, transport: str) -> Start:
    imports, made = _STARTS[transport]
    asks = _ASK.replace("PROVIDER", _PROVIDERS[protocol]).replace("TRANSPORT", made or "None")
    return Start(imports, asks)


def _service(protocol: str, transport: Transport, url: str, model: str) -> HttpLLMService:
    return HttpLLMService(
        codec_for(_CODECS[protocol], PROTOCOLS[protocol]),
        transport,
        base_url=url,
        model=model,
        headers={"authorization": "Bearer benchmark-key"},
    )


class _Client:
    """See `Client`."""

    def __init__(self, service: HttpLLMService) -> None:
        self._service = service

    async def ask(self) -> str:
        return (await self._service.complete(LLMRequest([Message.user(ASK)]))).text

    async def read(self) -> str:
        async with self._service.stream(LLMRequest([Message.user(ASK)])) as events:
            pieces = [event.text async for event in events if isinstance(event, TextDelta)]
        return "".join(pieces)


class _Answer:
    """A `WireResponse` that is there at once."""

    status = 200

    def __init__(self, body: bytes) -> None:
        self.headers = {"content-type": "application/json"}
        self._pieces = iter((body,))

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        for piece in self._pieces:
            return piece
        raise StopAsyncIteration


class _Answering:
    """A `Transport` that keeps what it is given and answers by itself."""

    def __init__(self, protocol: str) -> None:
        self._answer = WHOLE[protocol]()
        self.body = b""

    @asynccontextmanager
    async def send(self, request: WireRequest) -> AsyncGenerator[_Answer]:
        self.body = b"".join(request.body)
        yield _Answer(self._answer)

    async def aclose(self) -> None:
        """Nothing is open."""


class _Sender:
    """See `Sender`."""

    def __init__(self, protocol: str) -> None:
        self._transport = _Answering(protocol)
        self._service = _service(protocol, self._transport, "http://127.0.0.1/v1", "text")
        self._keys = itertools.count()

    def begin(self, turns: int, *, keyed: bool) -> None:
        self._key = f"conversation {next(self._keys)}" if keyed else None
        self._turns = 0
        self._messages: list[Message] = []
        self.grow(turns)

    def grow(self, turns: int) -> None:
        for _ in range(turns):
            self._messages += conversation.ours(self._turns)
            self._turns += 1

    async def send(self) -> bytes:
        await self._service.complete(LLMRequest(Transcript(self._messages), cache_key=self._key))
        return self._transport.body


@asynccontextmanager
async def _opened(
    url: str, model: str, *, protocol: str, transport: str
) -> AsyncGenerator[_Client]:
    service = _service(protocol, _TRANSPORTS[transport](), url, model)
    yield _Client(service)
    await service.aclose()


def _parts(transport: str) -> Mapping[str, OpenPart]:
    found: dict[str, OpenPart] = {}
    for protocol in PROTOCOLS:
        opened = partial(_opened, protocol=protocol, transport=transport)
        start = _start(protocol, transport)
        found |= parts_of(protocol, opened, partial(_Sender, protocol), start)
    return MappingProxyType(found)


HTTPX = _parts("httpx")
AIOHTTP = _parts("aiohttp")
