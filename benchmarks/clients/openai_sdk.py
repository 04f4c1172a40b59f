"""OpenAI's SDK, used as its documentation says: a client with its defaults, plain dicts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from types import MappingProxyType
from typing import Any

import httpx2
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from benchmarks.clients.sdk import PlainSender, Say
from benchmarks.clients.startup import Start
from benchmarks.clients.work import ASK, OpenPart, parts_of

__all__ = ["PARTS"]

_ASK: list[Any] = [{"role": "user", "content": ASK}]


class _Chat:
    """See `Client`; Chat Completions."""

    def __init__(self, client: AsyncOpenAI, model: str) -> None:
        self._create = client.chat.completions.create
        self._model = model

    async def ask(self) -> str:
        return await self.say(_ASK)

    async def say(self, messages: list[Any]) -> str:
        answer = await self._create(model=self._model, messages=messages)
        return answer.choices[0].message.content or ""

    async def read(self) -> str:
        chunks = await self._create(model=self._model, messages=_ASK, stream=True)
        pieces = [choice.delta.content or "" async for chunk in chunks for choice in chunk.choices]
        return "".join(pieces)


class _Responses:
    """See `Client`; Responses."""

    def __init__(self, client: AsyncOpenAI, model: str) -> None:
        self._create = client.responses.create
        self._model = model

    async def ask(self) -> str:
        return await self.say(_ASK)

    async def say(self, messages: list[Any]) -> str:
        answer = await self._create(model=self._model, input=messages, store=False)
        return answer.output_text

    async def read(self) -> str:
        events = await self._create(model=self._model, input=_ASK, store=False, stream=True)
        pieces = [
            event.delta async for event in events if event.type == "response.output_text.delta"
        ]
        return "".join(pieces)


_CLIENTS = MappingProxyType({"chat": _Chat, "responses": _Responses})
_IMPORT = "from openai import AsyncOpenAI"
_STARTS = MappingProxyType(
    {
        "chat": """
async def ask(url):
    async with AsyncOpenAI(base_url=url, api_key="key") as client:
        messages = [{"role": "user", "content": "Hello"}]
        answer = await client.chat.completions.create(model="text", messages=messages)
        return answer.choices[0].message.content
""",
        "responses": """
async def ask(url):
    async with AsyncOpenAI(base_url=url, api_key="key") as client:
        return (await client.responses.create(model="text", input="Hello")).output_text
""",
    }
)


@asynccontextmanager
async def _opened(url: str, model: str, *, protocol: str) -> AsyncGenerator[_Chat | _Responses]:
    async with AsyncOpenAI(api_key="benchmark-key", base_url=url) as client:
        yield _CLIENTS[protocol](client, model)


def _say(transport: httpx2.MockTransport, *, protocol: str) -> Say:
    http = DefaultAsyncHttpxClient(transport=transport)
    client = AsyncOpenAI(api_key="key", base_url="http://127.0.0.1/v1", http_client=http)
    return _CLIENTS[protocol](client, "text").say


def _parts() -> Mapping[str, OpenPart]:
    found: dict[str, OpenPart] = {}
    for protocol, asks in _STARTS.items():
        opened = partial(_opened, protocol=protocol)
        sender = partial(PlainSender, protocol, partial(_say, protocol=protocol))
        found |= parts_of(protocol, opened, sender, Start(_IMPORT, asks))
    return MappingProxyType(found)


PARTS = _parts()
