"""The wire below the HTTP engine: sockets whose every wait has a deadline of ours.

The engine (httpcore) asks a network backend for connections and knows one timeout for all reads.
Doing the waiting here gives every phase its own deadline for the cost of the one cancel scope that
a read needs anyway, and tells for certain what had been sent and received when something broke.
"""

from __future__ import annotations

import select
import ssl
from collections.abc import Callable, Iterable, Sequence
from socket import SOCK_STREAM, socket
from typing import Any

import anyio
import httpcore
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from anyio.streams.tls import TLSAttribute, TLSStream

from llm_client.errors import ConnectFailed, ConnectionLost
from llm_client.transport.chunks import ChunkMerger
from llm_client.transport.deadlines import Stopwatch

__all__ = ["Dialer", "Guard", "Line"]

Guard = Callable[[str, Sequence[str]], None]
"""Is told a host and the addresses that its name stands for, before any is connected to. Raises an
`LLMError` to refuse them."""

SMALL = 64 * 1024
"""Bytes of body up to which a request's head and body leave in one write."""


class Line(httpcore.AsyncNetworkStream):
    """One connected socket. `dialer` says whose exchange it serves at the moment."""

    def __init__(self, stream: ByteStream, dialer: Dialer) -> None:
        self._stream = stream
        self._dialer = dialer
        self._head = b""
        self._expect_head = True
        self._chunks = ChunkMerger()
        self.ended = False
        """The peer has closed its side."""
        self.muted = False
        """No further byte is wanted: reading fails at once instead of waiting."""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """Bytes as they come, b"" at the end."""
        if self.muted:
            raise ConnectionLost("the rest of the answer was not wanted")
        if self._head:
            await self.write(b"")
        self._expect_head = True
        watch = self._dialer.watch
        now = anyio.current_time()
        deadline = watch.enter("first_byte", now) if watch.phase == "write" else watch.expiry(now)
        try:
            with anyio.CancelScope(deadline=deadline):
                data = await self._stream.receive(max_bytes)
                watch.answered = watch.sent
                return self._chunks.merge(data)
        except anyio.EndOfStream:
            self.ended = True
            return b""
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise self._dialer.lost(error) from error
        raise watch.timeout(anyio.current_time(), self._dialer.peer)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Sends `buffer`. A request's head waits for the first of its body: one packet, not two."""
        if self._expect_head and buffer:
            self._expect_head = False
            self._chunks = ChunkMerger()
            self._head = buffer
            return
        if self._head:
            head, self._head = self._head, b""
            if len(buffer) > SMALL:
                await self._send(head)
            else:
                buffer = head + buffer
        if buffer:
            await self._send(buffer)

    async def _send(self, buffer: bytes) -> None:
        watch = self._dialer.watch
        now = anyio.current_time()
        if buffer.startswith(b"CONNECT "):
            # A proxy is asked for a tunnel: still part of connecting, nothing of ours is sent.
            deadline = watch.expiry(now)
        else:
            deadline = watch.enter("write", now)
            watch.sent = True
        try:
            with anyio.CancelScope(deadline=deadline):
                await self._stream.send(buffer)
                return
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            # The engine then looks for an early answer, such as 413, before it gives up.
            raise httpcore.WriteError(str(error)) from error
        raise watch.timeout(anyio.current_time(), self._dialer.peer)

    async def aclose(self) -> None:
        """Closes the socket; that is done before the first suspension."""
        self.muted = True
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Line:
        """Encrypts the line, within what is left of the time for connecting."""
        watch = self._dialer.watch
        try:
            with anyio.CancelScope(deadline=watch.expiry(anyio.current_time())):
                self._stream = await TLSStream.wrap(
                    self._stream,
                    hostname=server_hostname,
                    ssl_context=ssl_context,
                    standard_compatible=False,
                    server_side=False,
                )
                return self
        except (ssl.SSLError, anyio.EndOfStream, anyio.BrokenResourceError) as error:
            await self.aclose()
            reason = f"TLS failed: {error or type(error).__name__}"
            raise self._dialer.unreachable(reason) from error
        except BaseException:
            await self.aclose()
            raise
        await self.aclose()
        raise watch.timeout(anyio.current_time(), self._dialer.peer)

    def get_extra_info(self, info: str) -> Any:
        """What the engine asks about the line."""
        if info == "ssl_object":
            return self._stream.extra(TLSAttribute.ssl_object, None)  # noqa: S610 - no database
        if info == "is_readable":
            return _is_readable(self._stream.extra(SocketAttribute.raw_socket))  # noqa: S610
        return None


class Dialer(httpcore.AsyncNetworkBackend):
    """Makes the line of one connection. `watch` belongs to the exchange in progress; `guard` may
    refuse the addresses that a host's name stands for."""

    def __init__(self, peer: str, watch: Stopwatch, guard: Guard | None = None) -> None:
        self.peer = peer
        self.watch = watch
        self._guard = guard
        self.line: Line | None = None

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> Line:
        """A connected line."""
        watch = self.watch
        try:
            with anyio.CancelScope(deadline=watch.enter("connect", anyio.current_time())):
                stream = await self._connected(host, port, local_address)
                self.line = Line(stream, self)
                return self.line
        except (OSError, UnicodeError) as error:
            raise self.unreachable(str(error.__cause__ or error)) from error
        raise watch.timeout(anyio.current_time(), self.peer)

    async def _connected(self, host: str, port: int, local_address: str | None) -> SocketStream:
        if self._guard is None:
            return await anyio.connect_tcp(host, port, local_host=local_address)
        found = await anyio.getaddrinfo(host, port, type=SOCK_STREAM)
        addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        self._guard(host, addresses)
        # To these very addresses: asked again, the name could stand for others.
        for address in addresses[:-1]:
            try:
                return await anyio.connect_tcp(address, port, local_host=local_address)
            except OSError:
                continue
        return await anyio.connect_tcp(addresses[-1], port, local_host=local_address)

    def unreachable(self, reason: str) -> ConnectFailed:
        """The error for a connection that could not be made."""
        return ConnectFailed(
            f"cannot connect to {self.peer}: {reason}; check the base URL and the network",
            sent=self.watch.sent,
        )

    def lost(self, error: Exception) -> ConnectFailed | ConnectionLost:
        """The error for a connection that broke."""
        reason = str(error) or "reset"
        if self.watch.phase == "connect":
            return self.unreachable(f"connection lost: {reason}")
        stage = "in the middle of its answer" if self.watch.answered else "before it answered"
        return ConnectionLost(f"{self.peer} closed the connection {stage} ({reason})")


def _is_readable(sock: socket) -> bool:
    """True if there is something to read on an idle line, which can only be its end."""
    if sock.fileno() < 0:
        return True
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([sock], [], [], 0)[0])
