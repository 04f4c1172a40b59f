"""Figure 11, in every protocol: streams cancelled wherever they are leave the pool whole."""

from __future__ import annotations

import random

import anyio
import anyio.lowlevel

from llm_client.errors import LLMError
from llm_client.http_service import HttpLLMService
from llm_client.transport.deadlines import Deadlines
from llm_client.transport.httpx_transport import HttpxTransport
from llm_client.types import LLMRequest, Message
from tests.figures.result import FigureResult
from tests.loopback import STALL, Answer, LoopbackServer, Received, serving, sse
from tests.wire_protocols import PROTOCOLS, WireProtocol

_SLOTS = 10
_BACKENDS = ("asyncio", "trio")
_WAVE = 50
_QUICK = Deadlines(pool=2.0, connect=2.0, first_byte=2.0)
_KINDS = ("silence", "stall", "whole")
_REQUEST = LLMRequest([Message.user("hello")], model="m", max_output_tokens=100)


def run(full: bool) -> FigureResult:
    """Cancels streams that wait for a place, connect, wait for an answer, or are in the middle."""
    each = 450 if full else 50
    failures: list[str] = []
    for protocol in PROTOCOLS:
        for backend in _BACKENDS:
            failures += [
                f"{protocol.name} on {backend}: {wrong}"
                for wrong in anyio.run(_storm, protocol, each, backend=backend)
            ]
    cases = each * len(PROTOCOLS) * len(_BACKENDS)
    return FigureResult(
        cases,
        tuple(failures),
        f"{cases} streams of {len(PROTOCOLS)} protocols cancelled; the next is answered whole",
    )


async def _storm(protocol: WireProtocol, count: int) -> list[str]:
    chance = random.Random(count)
    failures: list[str] = []
    stream = next(s for s in protocol.built() if protocol.positive_end(s) is not None)

    def script(received: Received) -> Answer:
        match received.headers["x-kind"]:
            case "silence":
                return [STALL]
            case "stall":
                return sse(stream[: len(stream) // 2], STALL)
            case _:
                return sse(stream)

    async with serving(script) as server:
        transport = HttpxTransport(max_connections=_SLOTS)
        for wave in range(0, count, _WAVE):
            async with anyio.create_task_group() as group:
                for _ in range(min(_WAVE, count - wave)):
                    kind = chance.choice(_KINDS)
                    group.start_soon(_read, protocol, transport, server, kind, failures)
                for _ in range(chance.randrange(90)):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            if transport.in_flight:
                failures.append(f"{transport.in_flight} places leaked by stream {wave + _WAVE}")
        async with anyio.create_task_group() as group:
            for _ in range(_SLOTS):
                group.start_soon(_read, protocol, transport, server, "whole", failures)
        await transport.aclose()
        with anyio.move_on_after(5) as scope:
            await server.until_open(0)
        if scope.cancelled_caught:
            failures.append(f"{server.open} connections are still open")
    return failures


async def _read(
    protocol: WireProtocol,
    transport: HttpxTransport,
    server: LoopbackServer,
    kind: str,
    failures: list[str],
) -> None:
    service = HttpLLMService(
        protocol.codec(),
        transport,
        base_url=server.url,
        model="m",
        headers={"x-kind": kind},
        deadlines=_QUICK if kind == "whole" else Deadlines(),
    )
    try:
        async with service.stream(_REQUEST) as events:
            async for _ in events:
                pass
    except LLMError as error:
        failures.append(f"a stream ({kind}) failed: {error!r}")
