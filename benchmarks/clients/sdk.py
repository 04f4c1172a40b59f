"""What the SDKs have in common: one HTTP library, and requests of plain dicts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx2

from benchmarks.clients.conversation import PLAIN
from benchmarks.wire import WHOLE

__all__ = ["PlainSender", "Say"]

Say = Callable[[list[Any]], Awaitable[str]]
"""Asks a model, with these messages."""


class PlainSender:
    """See `Sender`. An SDK keeps nothing of what it has sent, so `keyed` changes nothing.

    `make` gives what asks over a transport, which keeps what it is given and answers by itself.
    """

    def __init__(self, protocol: str, make: Callable[[httpx2.MockTransport], Say]) -> None:
        self._turn = PLAIN[protocol]
        self._answer = WHOLE[protocol]()
        self._body = b""
        self._say = make(httpx2.MockTransport(self._take))

    def _take(self, request: httpx2.Request) -> httpx2.Response:
        self._body = request.content
        head = {"content-type": "application/json"}
        return httpx2.Response(200, headers=head, content=self._answer)

    def begin(self, turns: int, *, keyed: bool) -> None:
        self._turns = 0
        self._messages: list[Any] = []
        self.grow(turns)

    def grow(self, turns: int) -> None:
        for _ in range(turns):
            self._messages += self._turn(self._turns)
            self._turns += 1

    async def send(self) -> bytes:
        await self._say(self._messages)
        return self._body
