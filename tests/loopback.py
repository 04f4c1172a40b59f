"""A real HTTP/1.1 server on 127.0.0.1 that answers by a script, and misbehaves on request.

    async with serving(sse(b"data: 1\n\n", RESET), answer(200, b"{}")) as server:
        ...  # server.url, server.requests, server.connections, await server.until_open(0)

An answer is a sequence of steps; the n-th request gets the n-th answer, and the last one serves all
requests after it. Works on asyncio and on trio.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import Enum
from typing import cast

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from anyio.streams.tls import TLSStream
from msgspec import Struct


class Fault(Enum):
    """A step that ends an answer in some unfriendly way."""

    STALL = "say nothing more, keep the connection open"
    RESET = "reset the connection (RST)"
    CLOSE = "close the connection (FIN)"
    HALF_CLOSE = "close the sending side, go on reading"


STALL, RESET, CLOSE, HALF_CLOSE = Fault.STALL, Fault.RESET, Fault.CLOSE, Fault.HALF_CLOSE


class Drip(Struct, frozen=True):
    """Send `data` in pieces of `size` bytes, `pause` seconds apart."""

    data: bytes
    size: int = 1
    pause: float = 0.0


class WaitFor(Struct, frozen=True):
    """Go on when `event` is set."""

    event: anyio.Event


Step = bytes | Drip | WaitFor | Fault
Answer = Sequence[Step]


class Received(Struct, frozen=True):
    """A request as it arrived; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


def head(status: int, headers: Mapping[str, str]) -> bytes:
    """The head of an answer."""
    lines = [
        f"HTTP/1.1 {status} Scripted",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def chunk(data: bytes) -> bytes:
    """`data` as one chunk of a chunked body; b"" is the end."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def answer(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
    """A whole answer with a known length."""
    known = {"content-type": "application/json", "content-length": str(len(body))}
    return [head(status, known | dict(headers or {})) + body]


def sse(*pieces: Step, headers: Mapping[str, str] | None = None, end: bool = True) -> Answer:
    """A streamed answer whose `pieces` of bytes are one chunk each; other steps happen in between.

    Without `end` the body's last chunk is missing and the connection stays open.
    """
    known = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}
    steps: list[Step] = [head(200, known | dict(headers or {}))]
    steps += [chunk(piece) if isinstance(piece, bytes) else piece for piece in pieces]
    return [*steps, chunk(b"")] if end else steps


class LoopbackServer:
    """The server. `connections` counts all that were ever accepted, `open` those open now."""

    def __init__(self, answers: Sequence[Answer] | Callable[[Received], Answer]) -> None:
        self._answers = answers
        self._changed = anyio.Event()
        self.requests: list[Received] = []
        self.connections = 0
        self.open = 0
        self.port = 0
        self.scheme = "http"

    @property
    def url(self) -> str:
        """The base address."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until `condition` holds; it is looked at whenever the server's counts change."""
        while not condition():
            await self._changed.wait()

    async def until_open(self, count: int) -> None:
        """Waits until exactly `count` connections are open."""
        await self.until(lambda: self.open == count)

    def _change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def handle(self, stream: ByteStream) -> None:
        """Serves one connection."""
        self.connections += 1
        self.open += 1
        self._change()
        try:
            async with stream:
                await self._serve(stream)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, ssl.SSLError):
            pass  # the client has gone, as many tests make it
        finally:
            self.open -= 1
            self._change()

    async def _serve(self, stream: ByteStream) -> None:
        pending = b""
        while True:
            request, pending = await _read_request(stream, pending)
            if request is None:
                return
            self.requests.append(request)
            self._change()
            if not await self._play(stream, self._answer_to(request)):
                return

    def _answer_to(self, request: Received) -> Answer:
        if callable(self._answers):
            return self._answers(request)
        return self._answers[min(len(self.requests), len(self._answers)) - 1]

    async def _play(self, stream: ByteStream, steps: Answer) -> bool:
        """Carries out `steps`; True if the connection may serve another request."""
        for step in steps:
            match step:
                case bytes():
                    await stream.send(step)
                case Drip():
                    for at in range(0, len(step.data), step.size):
                        await stream.send(step.data[at : at + step.size])
                        await anyio.sleep(step.pause)
                case WaitFor():
                    await step.event.wait()
                case Fault.STALL:
                    await _until_gone(stream)
                    return False
                case Fault.RESET:
                    raw = stream.extra(SocketAttribute.raw_socket)
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return False
                case Fault.HALF_CLOSE:
                    await stream.send_eof()
                    await _until_gone(stream)
                    return False
                case Fault.CLOSE:
                    return False
        return True


async def _until_gone(stream: ByteStream) -> None:
    try:
        while True:
            await stream.receive()
    except anyio.EndOfStream:
        pass


async def _read_request(stream: ByteStream, pending: bytes) -> tuple[Received | None, bytes]:
    data = pending
    try:
        while b"\r\n\r\n" not in data:
            data += await stream.receive()
        top, _, body = data.partition(b"\r\n\r\n")
        first, *lines = top.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = {
            name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
        }
        length = int(headers.get("content-length", "0"))
        while len(body) < length:
            body += await stream.receive()
    except anyio.EndOfStream:
        return None, b""
    return Received(method, target, headers, body[:length]), body[length:]


@asynccontextmanager
async def serving(
    *answers: Answer | Callable[[Received], Answer],
    deaf: bool = False,
    tls: ssl.SSLContext | None = None,
) -> AsyncGenerator[LoopbackServer]:
    """Runs a server for the length of the block.

    `answers` is the script, or one function from request to answer. A `deaf` server can be
    connected to, but does not read, nor write.
    """
    script = answers[0] if len(answers) == 1 and callable(answers[0]) else answers
    server = LoopbackServer(cast("Sequence[Answer]", script))

    async def handle(stream: SocketStream) -> None:
        if tls is None:
            await server.handle(stream)
            return
        try:
            wrapped = await TLSStream.wrap(stream, ssl_context=tls, standard_compatible=False)
        except (ssl.SSLError, anyio.EndOfStream, anyio.BrokenResourceError):
            await stream.aclose()
        except BaseException:
            await anyio.aclose_forcefully(stream)
            raise
        else:
            await server.handle(wrapped)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    if deaf:
        # Small enough for a test to fill.
        listener.extra(SocketAttribute.raw_socket).setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVBUF, 4096
        )
    server.port = listener.extra(SocketAttribute.local_port)
    server.scheme = "http" if tls is None else "https"
    async with listener, anyio.create_task_group() as group:
        if not deaf:
            # Nobody accepts for a deaf one: the system takes connections, and fills its buffers.
            group.start_soon(listener.serve, handle)
        yield server
        group.cancel_scope.cancel()
