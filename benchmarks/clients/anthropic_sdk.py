"""Anthropic's SDK, used as its documentation says: a client with its defaults, plain dicts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from types import MappingProxyType
from typing import Any

import httpx2
from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient

from benchmarks.clients.sdk import PlainSender, Say
from benchmarks.clients.startup import Start
from benchmarks.clients.work import ASK, OpenPart, parts_of

__all__ = ["PARTS"]

_ASK: list[Any] = [{"role": "user", "content": ASK}]
_START = Start(
    "from anthropic import AsyncAnthropic",
    """
async def ask(url):
    async with AsyncAnthropic(base_url=url, api_key="key") as client:
        messages = [{"role": "user", "content": "Hello"}]
        answer = await client.messages.create(model="text", max_tokens=100, messages=messages)
        return answer.content[0].text
""",
)


class _Messages:
    """See `Client`."""

    def __init__(self, client: AsyncAnthropic, model: str) -> None:
        self._create = client.messages.create
        self._model = model

    async def ask(self) -> str:
        return await self.say(_ASK)

    async def say(self, messages: list[Any]) -> str:
        answer = await self._create(model=self._model, max_tokens=8192, messages=messages)
        return "".join([block.text for block in answer.content if block.type == "text"])

    async def read(self) -> str:
        events = await self._create(model=self._model, max_tokens=8192, messages=_ASK, stream=True)
        pieces = [
            event.delta.text
            async for event in events
            if event.type == "content_block_delta" and event.delta.type == "text_delta"
        ]
        return "".join(pieces)


@asynccontextmanager
async def _opened(url: str, model: str) -> AsyncGenerator[_Messages]:
    async with AsyncAnthropic(api_key="benchmark-key", base_url=url) as client:
        yield _Messages(client, model)


def _say(transport: httpx2.MockTransport) -> Say:
    http = DefaultAsyncHttpxClient(transport=transport)
    client = AsyncAnthropic(api_key="key", base_url="http://127.0.0.1", http_client=http)
    return _Messages(client, "text").say


PARTS: Mapping[str, OpenPart] = MappingProxyType(
    {**parts_of("messages", _opened, partial(PlainSender, "messages", _say), _START)}
)
