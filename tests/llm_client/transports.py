"""Both transports, and requests for them."""

from __future__ import annotations

from typing import Protocol

from msgspec import structs

from llm_client.transport.aiohttp_transport import AiohttpTransport
from llm_client.transport.base import SafeHeaders, Transport, WireRequest
from llm_client.transport.deadlines import Deadlines
from llm_client.transport.httpx_transport import HttpxTransport
from tests.loopback import LoopbackServer

CANARY = "sk-canary-7f3a9b2c5d"

PATIENT = Deadlines()

# One row per implementation and event loop it runs on.
DRIVERS = (("httpx", "asyncio"), ("httpx", "trio"), ("aiohttp", "asyncio"))


class MakeTransport(Protocol):
    """Makes a transport of the kind under test."""

    def __call__(
        self, *, max_connections: int = ..., keepalive: float = ...
    ) -> CountedTransport: ...


class CountedTransport(Transport, Protocol):
    """A transport that tells how many exchanges hold a place."""

    @property
    def in_flight(self) -> int: ...


TRANSPORTS: dict[str, MakeTransport] = {"httpx": HttpxTransport, "aiohttp": AiohttpTransport}


def request_to(
    server: LoopbackServer, *, body: bytes = b'{"q":1}', pieces: int = 1, **deadlines: float
) -> WireRequest:
    """A request to `server` that carries the canary key."""
    size = -(-len(body) // pieces)
    return WireRequest(
        f"{server.url}/v1/chat/completions",
        SafeHeaders({"authorization": f"Bearer {CANARY}", "content-type": "application/json"}),
        [body[at : at + size] for at in range(0, len(body), size)],
        structs.replace(PATIENT, **deadlines) if deadlines else PATIENT,
    )
