"""The transport of the extra `fast`: aiohttp, asyncio only, a third of the CPU of the default.

Making one needs aiohttp; importing this module does not.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from importlib.util import find_spec
from types import SimpleNamespace, TracebackType
from typing import TYPE_CHECKING, cast

import anyio

from llm_client.errors import (
    CallerError,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    LLMError,
    MalformedResponse,
)
from llm_client.transport.base import WireRequest, WireResponse, origin_of
from llm_client.transport.deadlines import Stopwatch
from llm_client.transport.places import Places

# Whoever lists or reads the package's names must not need every extra.
_INSTALLED = find_spec("aiohttp") is not None
if TYPE_CHECKING or _INSTALLED:
    import aiohttp

__all__ = ["AiohttpTransport"]

STALE_WITHIN = 5.0
"""As for the default transport: a reused connection lost within this time had been dead already."""

PIECE = 64 * 1024
"""A larger body is handed over in pieces of this size, so that a peer that does not read shows."""


class AiohttpTransport:
    """Carries exchanges over HTTP/1.1 with aiohttp, on asyncio only.

    Args:
        max_connections: exchanges in flight at once; further ones wait (`Deadlines.pool`).
        keepalive: seconds for which an idle connection is kept for reuse.
        ssl_context: how servers are verified; by default against the system's certificates.
        proxy: address of an http proxy for all exchanges.

    Raises:
        ConfigError: max_connections is below 1, or aiohttp is not installed.
    """

    def __init__(
        self,
        *,
        max_connections: int = 1000,
        keepalive: float = 30.0,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
    ) -> None:
        if not _INSTALLED:
            raise ConfigError(
                "AiohttpTransport needs the extra 'fast': pip install 'power-loop[fast]'"
            )
        self._places = Places(max_connections)
        self._keepalive = keepalive
        self._ssl: ssl.SSLContext | bool = True if ssl_context is None else ssl_context
        self._proxy = proxy
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"AiohttpTransport({self.in_flight} in flight)"

    @property
    def in_flight(self) -> int:
        """Exchanges that hold a place."""
        return self._places.taken

    def send(self, request: WireRequest) -> AbstractAsyncContextManager[WireResponse]:
        """See `Transport.send`."""
        return _Exchange(self, self._places, request)

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        if self._closed:
            raise CallerError("the transport has been closed; create a new service")
        if self._session is None:
            trace = aiohttp.TraceConfig()
            trace.on_connection_create_start.append(_connecting)
            trace.on_connection_create_end.append(_writing)
            trace.on_connection_reuseconn.append(_reusing)
            self._session = aiohttp.ClientSession(
                # Places bound the number of connections; a second bound could only disagree.
                connector=aiohttp.TCPConnector(
                    limit=0, keepalive_timeout=self._keepalive, ssl=self._ssl
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("accept", "accept-encoding", "user-agent"),
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                trace_configs=[trace],
            )
        return self._session

    async def open(self, request: WireRequest, watch: Stopwatch) -> _Response:
        """The answer to `request`, its head read; a reused connection that was dead is replaced."""
        attempt = _Attempt(watch)
        try:
            return await self._ask(request, attempt)
        except ConnectionLost:
            waited = anyio.current_time() - watch.since
            if not attempt.reused or waited > STALE_WITHIN or self._closed:
                raise
        return await self._ask(request, _Attempt(watch))

    async def _ask(self, request: WireRequest, attempt: _Attempt) -> _Response:
        watch = attempt.watch
        peer = origin_of(request.url)
        session = self._open_session()
        size = sum(map(len, request.body))
        try:
            with anyio.CancelScope() as attempt.scope:
                answer = await session.request(
                    request.method,
                    request.url,
                    data=b"".join(request.body) if size <= PIECE else attempt.pieces(request),
                    headers=request.headers | {"content-length": str(size)},
                    allow_redirects=False,
                    proxy=self._proxy,
                    trace_request_ctx=attempt,
                )
                return _Response(answer, watch, peer)
        except (aiohttp.ClientError, OSError) as error:
            failure = _explained(error, watch, peer)
        else:
            failure = watch.timeout(anyio.current_time(), peer)
        raise failure


class _Attempt:
    """What the library's trace reports about one request on its way out."""

    __slots__ = ("reused", "scope", "watch")

    def __init__(self, watch: Stopwatch) -> None:
        self.watch = watch
        self.reused = False
        self.scope: anyio.CancelScope | None = None

    def enter_connect(self) -> None:
        self._move(self.watch.enter("connect", anyio.current_time()))

    def enter_write(self) -> None:
        # A small body goes to the system in one go: what is waited for then is the answer.
        self.watch.sent = True
        self._move(self.watch.enter("first_byte", anyio.current_time()))

    def _move(self, deadline: float) -> None:
        if self.scope is not None:
            self.scope.deadline = deadline

    async def pieces(self, request: WireRequest) -> AsyncGenerator[bytes]:
        """A large body, bit by bit; the write deadline lasts until the last bit has been taken."""
        body = memoryview(b"".join(request.body))
        for at in range(0, len(body), PIECE):
            self._move(self.watch.enter("write", anyio.current_time()))
            yield bytes(body[at : at + PIECE])
        self._move(self.watch.enter("first_byte", anyio.current_time()))


def _attempt(context: SimpleNamespace) -> _Attempt:
    return cast("_Attempt", context.trace_request_ctx)


async def _connecting(
    _session: aiohttp.ClientSession,
    context: SimpleNamespace,
    _params: aiohttp.TraceConnectionCreateStartParams,
) -> None:
    _attempt(context).enter_connect()


async def _writing(
    _session: aiohttp.ClientSession,
    context: SimpleNamespace,
    _params: aiohttp.TraceConnectionCreateEndParams,
) -> None:
    _attempt(context).enter_write()


async def _reusing(
    _session: aiohttp.ClientSession,
    context: SimpleNamespace,
    _params: aiohttp.TraceConnectionReuseconnParams,
) -> None:
    attempt = _attempt(context)
    attempt.reused = True
    attempt.enter_write()


class _Response:
    """An answer whose head has been read. See `WireResponse`."""

    __slots__ = ("_answer", "_peer", "_watch", "headers", "status")

    def __init__(self, answer: aiohttp.ClientResponse, watch: Stopwatch, peer: str) -> None:
        self._answer = answer
        self._watch = watch
        self._peer = peer
        self.status = answer.status
        self.headers = {name.lower(): value for name, value in answer.headers.items()}
        watch.answered = True

    def __aiter__(self) -> _Response:
        return self

    async def __anext__(self) -> bytes:
        watch = self._watch
        try:
            with anyio.CancelScope(deadline=watch.expiry(anyio.current_time())):
                piece = await self._answer.content.readany()
                if not piece:
                    raise StopAsyncIteration
                watch.phase = "idle"
                return piece
        except (aiohttp.ClientError, OSError) as error:
            failure = _explained(error, watch, self._peer)
        else:
            failure = watch.timeout(anyio.current_time(), self._peer)
        raise failure

    def close(self) -> None:
        """Lets go of the answer; its connection is kept only if it was read to its end."""
        if self._answer.content.at_eof():
            self._answer.release()
        else:
            self._answer.close()


class _Exchange:
    """The block around one exchange."""

    __slots__ = ("_places", "_request", "_response", "_transport")

    def __init__(self, transport: AiohttpTransport, places: Places, request: WireRequest) -> None:
        self._transport = transport
        self._places = places
        self._request = request
        self._response: _Response | None = None

    async def __aenter__(self) -> _Response:
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
                self._response.close()
        finally:
            self._places.give_back()


def _explained(error: Exception, watch: Stopwatch, peer: str) -> LLMError:
    """The error of this package for one of the library's, which is not kept: it shows headers."""
    match error:
        case aiohttp.InvalidURL():
            return ConfigError(f"the URL of {peer} is not valid")
        case aiohttp.ClientHttpProxyError():
            reason = f"the proxy refused: {error.status}"
            return ConnectFailed(f"cannot connect to {peer}: {reason}", sent=watch.sent)
        case aiohttp.ClientResponseError():
            return MalformedResponse(f"{peer} does not speak HTTP: {error.message}")
        case _ if not watch.sent or isinstance(error, aiohttp.ClientConnectorError):
            return ConnectFailed(
                f"cannot connect to {peer}: {error}; check the base URL and the network",
                sent=watch.sent,
            )
        case _:
            stage = "in the middle of its answer" if watch.answered else "before it answered"
            return ConnectionLost(f"{peer} closed the connection {stage} ({str(error) or 'reset'})")
