"""Figure 11: after a storm of cancellations the pool is as it was; the next request goes out."""

from __future__ import annotations

import random
import time

import anyio
import anyio.lowlevel

from llm_client.errors import LLMError
from llm_client.transport.base import SafeHeaders, WireRequest, read_whole
from llm_client.transport.deadlines import Deadlines
from llm_client.transport.httpx_transport import HttpxTransport
from tests.figures.result import FigureResult
from tests.loopback import STALL, Answer, LoopbackServer, Received, answer, serving, sse

_SLOTS = 10
_BACKENDS = ("asyncio", "trio")
_AT_ONCE_SECONDS = 1.0
_QUICK = Deadlines(pool=_AT_ONCE_SECONDS, connect=_AT_ONCE_SECONDS, first_byte=_AT_ONCE_SECONDS)


def run(full: bool) -> FigureResult:
    """Cancels requests that wait for a place, connect, send, wait for an answer, or read it."""
    storm = 5000 if full else 200
    failures: list[str] = []
    slowest = 0.0
    for backend in _BACKENDS:
        wrong, seconds = anyio.run(_storm, storm // len(_BACKENDS), backend=backend)
        failures += [f"{backend}: {each}" for each in wrong]
        slowest = max(slowest, seconds)
    return FigureResult(
        storm,
        tuple(failures),
        f"cancelled against {_SLOTS} places on {' and '.join(_BACKENDS)}; "
        f"the next request took {slowest * 1000:.0f} ms",
    )


def _script(received: Received) -> Answer:
    """What a request meets is written in its body."""
    match received.body:
        case b"silence":
            return [STALL]
        case b"stall":
            return sse(b"a", STALL)
        case _:
            return answer(200, b"ok")


async def _storm(count: int) -> tuple[list[str], float]:
    """Waves of 50 requests, cancelled after a growing number of turns of the event loop."""
    chance = random.Random(count)
    failures: list[str] = []
    async with serving(_script) as server:
        transport = HttpxTransport(max_connections=_SLOTS)
        for wave in range(0, count, 50):
            async with anyio.create_task_group() as group:
                for _ in range(min(50, count - wave)):
                    group.start_soon(_ask, transport, server, chance.choice(_BODIES))
                for _ in range(chance.randrange(60)):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            if transport.in_flight:
                failures.append(f"{transport.in_flight} places leaked by request {wave + 50}")
                break
        began = time.perf_counter()
        try:
            async with anyio.create_task_group() as group:
                for _ in range(_SLOTS):
                    group.start_soon(_ask, transport, server, b"next")
        except* LLMError as errors:
            failures += [f"the next request failed: {each!r}" for each in errors.exceptions]
        seconds = time.perf_counter() - began
        if seconds > _AT_ONCE_SECONDS:
            failures.append(f"the next request took {seconds:.2f} s")
        await transport.aclose()
        with anyio.move_on_after(5) as scope:
            await server.until_open(0)
        if scope.cancelled_caught:
            failures.append(f"{server.open} connections are still open")
    return failures, seconds


_BODIES = (b"silence", b"stall", b"quick")


async def _ask(transport: HttpxTransport, server: LoopbackServer, body: bytes) -> None:
    request = WireRequest(
        f"{server.url}/v1",
        SafeHeaders({}),
        [body],
        _QUICK if body == b"next" else Deadlines(),
    )
    async with transport.send(request) as response:
        await read_whole(response, 1000)
