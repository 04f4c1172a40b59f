"""The work that every client does, and the checks of what came out."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Protocol

from benchmarks.clients.conversation import MESSAGES
from benchmarks.clients.figures import ClientSize
from benchmarks.clients.startup import Start, cold
from benchmarks.measuring import Repeat, Watch, expect
from benchmarks.scenarios import ANSWER, PIECE, Sample

__all__ = ["ASK", "Client", "OpenPart", "Sender", "parts_of"]

ASK = "What is the weather in Rome?"

_DAY = re.compile(rb"on day (\d+)\?")


class Client(Protocol):
    """**Protocol**: one client, with a model behind it."""

    async def ask(self) -> str:
        """The answer to one short question."""
        ...

    async def read(self) -> str:
        """The text of one streamed answer."""
        ...


class Sender(Protocol):
    """**Protocol**: one client with a transport that answers by itself, and one conversation."""

    def grow(self, turns: int) -> None:
        """Adds turns to the conversation."""
        ...

    def begin(self, turns: int, *, keyed: bool) -> None:
        """Puts another conversation in its place, whose messages are new."""
        ...

    async def send(self) -> bytes:
        """Sends the conversation; gives the body as the transport was given it."""
        ...


OpenPart = Callable[[str, ClientSize], AbstractAsyncContextManager[Repeat]]
"""Opens one part of one client, against the model at a base URL."""

OpenClient = Callable[[str, str], AbstractAsyncContextManager[Client]]
"""Opens a client, of the model of that name at a base URL."""


def parts_of(
    protocol: str, opened: OpenClient, sender: Callable[[], Sender], start: Start
) -> Mapping[str, OpenPart]:
    """All parts of one client for one protocol.

    The base URL of Messages is the server's own; that of the others ends in /v1.
    """

    def base(url: str) -> str:
        return url.removesuffix("/v1") if protocol == "messages" else url

    return {
        f"{protocol}.requests": lambda url, size: _requests(partial(opened, base(url)), size),
        f"{protocol}.stream": lambda url, size: _streamed(partial(opened, base(url)), size),
        f"{protocol}.encode": lambda _url, size: _encoded(sender(), size),
        f"{protocol}.start": lambda url, size: cold(base(url), size, start),
    }


@asynccontextmanager
async def _requests(
    opened: Callable[[str], AbstractAsyncContextManager[Client]], size: ClientSize
) -> AsyncGenerator[Repeat]:
    """Requests at each number under way at a time."""
    async with opened("text") as client:

        async def several(count: int) -> list[str]:
            return [await client.ask() for _ in range(count)]

        async def at_once(together: int, count: int) -> Sample:
            watch = Watch()
            each = [several(count // together) for _ in range(together)]
            answers = await asyncio.gather(*each)
            sample = watch.sample(count, 1e6)
            expect({text for texts in answers for text in texts}, {ANSWER}, "the answers")
            return sample

        async def repeat() -> Mapping[str, Sample]:
            return {
                f"requests{together}": await at_once(together, count)
                for together, count in size.requests.items()
            }

        yield repeat


@asynccontextmanager
async def _streamed(
    opened: Callable[[str], AbstractAsyncContextManager[Client]], size: ClientSize
) -> AsyncGenerator[Repeat]:
    """One streamed answer."""
    async with opened(f"stream:{size.chunks}") as client:

        async def repeat() -> Mapping[str, Sample]:
            watch = Watch()
            text = await client.read()
            sample = watch.sample(size.chunks, 1e6)
            expect(text, PIECE * size.chunks, "the text")
            return {"stream": sample}

        yield repeat


@asynccontextmanager
async def _encoded(sender: Sender, size: ClientSize) -> AsyncGenerator[Repeat]:
    """What each message of a long conversation costs from the call to the transport: the difference
    from a conversation of one turn, which the rest of a request does not enter."""

    async def first(turns: int) -> float:
        passed = 0.0
        for _ in range(size.sends):
            sender.begin(turns, keyed=False)
            passed += await _sent(sender, turns)
        return passed

    async def again(turns: int, *, keyed: bool) -> float:
        sender.begin(turns, keyed=keyed)
        await _sent(sender, turns)
        passed = 0.0
        for more in range(size.sends):
            sender.grow(1)
            passed += await _sent(sender, turns + more + 1)
        return passed

    async def repeat() -> Mapping[str, Sample]:
        messages = (size.turns - 1) * MESSAGES * size.sends
        return {
            "encode.first": Sample((await first(size.turns) - await first(1)) / messages),
            **{
                name: Sample(
                    (await again(size.turns, keyed=keyed) - await again(1, keyed=keyed)) / messages
                )
                for name, keyed in (("encode.again", False), ("encode.keyed", True))
            },
        }

    yield repeat


async def _sent(sender: Sender, turns: int) -> float:
    """Microseconds of CPU that one sending takes."""
    watch = Watch()
    body = await sender.send()
    passed = watch.sample(1, 1e6).value
    expect(_DAY.findall(body), [b"%d" % day for day in range(turns)], "the turns in the body")
    return passed
