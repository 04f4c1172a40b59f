"""The default transport: httpx's engine, one connection a shard, a deadline for every phase.

httpx is a client on top of an engine, httpcore. This drives the engine's connections directly:

- The client layer costs more than the exchange itself, and its pool looks at every connection for
  every request. Here a free connection is the top of a stack.
- The pool can lose connections to cancellation (httpcore issue 1093). Here there is none to lose.
- One read timeout cannot tell a slow first byte from a silence later on. See `line`.
"""

from __future__ import annotations

import ssl
from collections import deque
from contextlib import AbstractAsyncContextManager
from importlib.util import find_spec
from types import TracebackType

import anyio
import httpcore

from llm_client.errors import CallerError, ConfigError, ConnectionLost
from llm_client.transport.base import WireRequest, WireResponse, origin_of
from llm_client.transport.deadlines import Stopwatch
from llm_client.transport.httpx_connection import Connection, Heads, Response
from llm_client.transport.line import Dialer, Guard
from llm_client.transport.places import Places

__all__ = ["HttpxTransport"]

STALE_WITHIN = 5.0
"""Seconds after sending in which the loss of a reused connection means that it had been dead
already. A server that dies later may have done, and billed, the work."""

KNOWN_URLS = 256


class HttpxTransport:
    """Carries exchanges over HTTP/1.1, on asyncio and on trio.

    Args:
        max_connections: exchanges in flight at once; further ones wait (`Deadlines.pool`).
        keepalive: seconds for which an idle connection is kept for reuse.
        ssl_context: how servers are verified; by default against certifi's bundle and the system's.
        proxy: address of a proxy for all exchanges: http://, https:// or socks5://.
        guard: may refuse the addresses that a host's name stands for; sees those of a proxy if
            there is one.

    Raises:
        ConfigError: max_connections is below 1, or the proxy's kind is not supported.
    """

    def __init__(
        self,
        *,
        max_connections: int = 1000,
        keepalive: float = 30.0,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        guard: Guard | None = None,
    ) -> None:
        self._guard = guard
        self._places = Places(max_connections)
        self._keepalive = keepalive
        self._ssl_context = ssl_context
        self._proxy = None if proxy is None else _checked_proxy(proxy)
        self._idle: dict[str, deque[Connection]] = {}
        self._busy: set[Connection] = set()
        self._urls: dict[str, httpcore.URL] = {}
        self._heads = Heads()
        self._closed = False

    def __repr__(self) -> str:
        return f"HttpxTransport({self.in_flight} in flight, {self.idle_connections} idle)"

    @property
    def in_flight(self) -> int:
        """Exchanges that hold a place."""
        return self._places.taken

    @property
    def idle_connections(self) -> int:
        """Connections kept open for reuse."""
        return sum(map(len, self._idle.values()))

    def send(self, request: WireRequest) -> AbstractAsyncContextManager[WireResponse]:
        """See `Transport.send`."""
        return _Exchange(self, self._places, request)

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        self._closed = True
        connections = [*self._busy, *(each for stack in self._idle.values() for each in stack)]
        self._idle.clear()
        for connection in connections:
            await connection.aclose()

    async def open(self, request: WireRequest, watch: Stopwatch) -> Response:
        """The answer to `request`, its head read.

        A reused connection that turns out to have died while it was idle is replaced, once.
        """
        if self._closed:
            raise CallerError("the transport has been closed; create a new service")
        origin = origin_of(request.url)
        connection = await self._take_idle(origin)
        if connection is not None:
            try:
                return await self._ask(connection, request, watch)
            except ConnectionLost:
                waited = anyio.current_time() - watch.since
                if watch.answered or waited > STALE_WITHIN or self._closed:
                    raise
        return await self._ask(self._connect(origin, request, watch), request, watch)

    async def settle(self, response: Response) -> None:
        """Keeps the connection of `response` if the answer was read to its end, else closes it."""
        connection = response.connection
        kept = False
        try:
            with anyio.CancelScope(shield=True):
                kept = await response.finish()
        finally:
            self._busy.discard(connection)
            if kept and not self._closed:
                self._idle.setdefault(connection.origin, deque()).append(connection)
            else:
                await connection.aclose()
        await self._close_expired(self._idle.get(connection.origin))

    async def _ask(
        self, connection: Connection, request: WireRequest, watch: Stopwatch
    ) -> Response:
        self._busy.add(connection)
        try:
            return await connection.ask(self._url(request.url), request, watch)
        except BaseException:
            self._busy.discard(connection)
            raise

    def _url(self, url: str) -> httpcore.URL:
        known = self._urls.get(url)
        if known is None:
            if len(self._urls) >= KNOWN_URLS:
                self._urls.clear()
            known = self._urls[url] = httpcore.URL(url)
        return known

    async def _take_idle(self, origin: str) -> Connection | None:
        stack = self._idle.get(origin)
        while stack:
            connection = stack.pop()
            if connection.is_ready():
                return connection
            await connection.aclose()
        return None

    async def _close_expired(self, stack: deque[Connection] | None) -> None:
        """Closes what has been idle for too long; that lies at the bottom."""
        while stack and len(stack) > 1 and not stack[0].is_ready():
            await stack.popleft().aclose()

    def _connect(self, origin: str, request: WireRequest, watch: Stopwatch) -> Connection:
        if self._ssl_context is None and origin.startswith("https"):
            # Reading the certificates takes 10 ms and more: not before they are needed.
            self._ssl_context = httpcore.default_ssl_context()
        dialer = Dialer(origin, watch, self._guard)
        http = (
            httpcore.AsyncHTTPConnection(
                self._url(request.url).origin,
                ssl_context=self._ssl_context,
                keepalive_expiry=self._keepalive,
                network_backend=dialer,
            )
            if self._proxy is None
            else _proxied(self._proxy, self._ssl_context, self._keepalive, dialer)
        )
        return Connection(http, dialer, origin, self._heads)


class _Exchange:
    """The block around one exchange."""

    __slots__ = ("_places", "_request", "_response", "_transport")

    def __init__(self, transport: HttpxTransport, places: Places, request: WireRequest) -> None:
        self._transport = transport
        self._places = places
        self._request = request
        self._response: Response | None = None

    async def __aenter__(self) -> Response:
        request = self._request
        watch = Stopwatch(request.deadlines, anyio.current_time())
        await self._places.take(watch, origin_of(request.url))
        try:
            self._response = await self._transport.open(request, watch)
        except BaseException:
            self._places.give_back()
            raise
        return self._response

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self._response is not None:
                await self._transport.settle(self._response)
        finally:
            self._places.give_back()


def _checked_proxy(proxy: str) -> str:
    scheme = proxy.partition("://")[0].lower()
    if scheme not in ("http", "https", "socks5", "socks5h"):
        raise ConfigError(f"proxy scheme {scheme!r} is not supported: use http, https or socks5")
    if scheme.startswith("socks") and find_spec("socksio") is None:
        raise ConfigError("a SOCKS proxy needs the package socksio: pip install socksio")
    return proxy


def _proxied(
    proxy: str, ssl_context: ssl.SSLContext | None, keepalive: float, dialer: Dialer
) -> httpcore.AsyncConnectionPool:
    url = httpcore.URL(proxy)
    make = httpcore.AsyncSOCKSProxy if url.scheme.startswith(b"socks") else httpcore.AsyncHTTPProxy
    return make(
        proxy_url=url,
        ssl_context=ssl_context,
        max_connections=1,
        keepalive_expiry=keepalive,
        network_backend=dialer,
    )
