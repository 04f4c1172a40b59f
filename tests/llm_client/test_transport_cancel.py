"""Cancellation at every turn of the event loop, natively and twice: nothing may be left behind."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import anyio
import pytest

from llm_client.transport.base import WireRequest, read_whole
from tests.llm_client.transports import TRANSPORTS, CountedTransport, request_to
from tests.loopback import Answer, Received, answer, serving, sse

pytestmark = pytest.mark.anyio

TURNS = 24


@pytest.fixture
def anyio_backend() -> str:
    """`Task.cancel` exists on asyncio only; cancelled scopes are tested with the transports."""
    return "asyncio"


async def ask(transport: CountedTransport, request: WireRequest) -> bytes:
    """The body."""
    async with transport.send(request) as response:
        return await read_whole(response, 1000)


def script(received: Received) -> Answer:
    """A whole answer, or one in pieces."""
    return answer(200, b"whole") if received.body == b"whole" else sse(b"a", b"b", b"c")


@pytest.mark.parametrize("again", [None, 0, 1, 2], ids=["once", "twice-0", "twice-1", "twice-2"])
@pytest.mark.parametrize("kind", sorted(TRANSPORTS))
async def test_a_native_cancel_at_any_turn_leaves_no_place_and_no_connection(
    kind: str, again: int | None
) -> None:
    """`Task.cancel` after each number of turns, and a second one while the first is cleaned up.

    A shield alone does not stop a native cancellation, so the clean-up may be interrupted too.
    """
    ended = {"cancelled": 0, "answered": 0}
    with anyio.fail_after(30):
        async with serving(script) as server:
            transport = TRANSPORTS[kind](max_connections=3)
            for turns in range(TURNS):
                for body in (b"whole", b"pieces"):
                    task = asyncio.create_task(ask(transport, request_to(server, body=body)))
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    task.cancel()
                    if again is not None:
                        for _ in range(again):
                            await asyncio.sleep(0)
                        task.cancel()
                    try:
                        await task
                        ended["answered"] += 1
                    except asyncio.CancelledError:
                        ended["cancelled"] += 1
                    assert transport.in_flight == 0
            assert await ask(transport, request_to(server, body=b"whole", pool=1)) == b"whole"
            await transport.aclose()
            await server.until_open(0)
    assert min(ended.values()) >= 10, "some were in time and some were not"


@pytest.mark.parametrize("kind", sorted(TRANSPORTS))
async def test_cancelling_leaves_no_task_behind(kind: str) -> None:
    """Neither the library's own nor one of the event loop's that finishes a
    generator (fault C09).
    """
    with anyio.fail_after(10):
        async with serving(script) as server:
            transport = TRANSPORTS[kind]()
            await ask(transport, request_to(server))
            before = asyncio.all_tasks()
            for turns in range(TURNS):
                task = asyncio.create_task(ask(transport, request_to(server, body=b"pieces")))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
                left = [str(one) for one in asyncio.all_tasks() - before]
                assert [one for one in left if "loopback" not in one] == []
            await transport.aclose()
