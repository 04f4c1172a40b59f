"""One connection of the httpx engine, and the answer that is read from it."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import cast

import anyio
import httpcore

from llm_client.errors import (
    ConfigError,
    LLMError,
    MalformedResponse,
)
from llm_client.transport.base import SafeHeaders, WireRequest, without_frames
from llm_client.transport.deadlines import Stopwatch
from llm_client.transport.line import Dialer

__all__ = ["Connection", "Heads", "Response"]


class Connection:
    """One connection: direct, or a proxy's pool of exactly one. Serves one exchange at a time."""

    __slots__ = ("_dialer", "_heads", "_http", "origin")

    def __init__(
        self,
        http: httpcore.AsyncHTTPConnection | httpcore.AsyncConnectionPool,
        dialer: Dialer,
        origin: str,
        heads: Heads,
    ) -> None:
        self._heads = heads
        self._http = http
        self._dialer = dialer
        self.origin = origin

    def is_ready(self) -> bool:
        """True if the connection is idle, not too old, and not closed by the peer."""
        http = self._http
        if isinstance(http, httpcore.AsyncHTTPConnection):
            return http.is_available() and not http.has_expired()
        inner = http.connections
        return len(inner) == 1 and inner[0].is_available() and not inner[0].has_expired()

    def is_free(self) -> bool:
        """True if the connection is idle; cheaper than `is_ready`, right after an exchange."""
        http = self._http
        if isinstance(http, httpcore.AsyncHTTPConnection):
            return http.is_available()
        return all(inner.is_available() for inner in http.connections)

    async def ask(self, url: httpcore.URL, request: WireRequest, watch: Stopwatch) -> Response:
        """Sends `request` and reads the head of the answer. On failure the connection is closed.

        Raises:
            LLMError: see `Transport.send`.
        """
        self._dialer.watch = watch
        line = self._dialer.line
        if line is not None:
            line.muted = False
        try:
            answer = await self._http.handle_async_request(self._encoded(url, request))
        except (LLMError, httpcore.ProtocolError, httpcore.ProxyError) as error:
            failure = self.explain(error)
        except BaseException:
            await self.aclose()
            raise
        else:
            return Response(self, answer, watch)
        await self.aclose()
        raise failure

    def _encoded(self, url: httpcore.URL, request: WireRequest) -> httpcore.Request:
        body = b"".join(request.body)
        host = url.host
        if url.port is not None:
            host = b"%b:%d" % (host, url.port)
        encoded = httpcore.Request(request.method, url, content=_Body(body))
        encoded.headers = [
            (b"host", host),
            (b"content-length", b"%d" % len(body)),
            *self._heads.wire_form(request.headers),
        ]
        return encoded

    def explain(self, error: Exception) -> LLMError:
        """The error of this package for one of the engine's, free of the engine's frames."""
        if isinstance(error, LLMError):
            return without_frames(error)
        dialer = self._dialer
        match error:
            case httpcore.RemoteProtocolError() if dialer.line is not None and dialer.line.ended:
                failure = dialer.lost(error)
            case httpcore.RemoteProtocolError():
                failure = MalformedResponse(f"{dialer.peer} does not speak HTTP: {error}")
            case httpcore.ProxyError():
                failure = dialer.unreachable(f"the proxy refused: {error}")
            case _:
                # The engine's own words quote the offending header, which may be the key.
                return ConfigError("the engine refused to send a malformed URL or header")
        failure.__cause__ = without_frames(error)
        return failure

    async def drain(self, pieces: AsyncIterator[bytes]) -> bool:
        """Discards what is at hand of an answer, without waiting; True if that was all of it.

        An engine's generators must be run to an end: one that is dropped half-way is finished by
        the event loop some time later, in a task of its own.
        """
        line = self._dialer.line
        if line is not None:
            line.muted = True
        try:
            async for _ in pieces:
                pass
        except (LLMError, httpcore.ProtocolError):
            return False
        return True

    async def aclose(self) -> None:
        """Closes the socket, before the first suspension: no cancellation gets in between."""
        line = self._dialer.line
        if line is not None:
            with anyio.CancelScope(shield=True):
                await line.aclose()


class Response:
    """An answer whose head has been read. See `WireResponse`."""

    __slots__ = ("_pieces", "_state", "_stream", "_watch", "connection", "headers", "status")

    def __init__(self, connection: Connection, answer: httpcore.Response, watch: Stopwatch) -> None:
        self.connection = connection
        self.status: int = answer.status
        self.headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in answer.headers
        }
        self._stream = answer
        self._pieces = aiter(cast("AsyncIterable[bytes]", answer.stream))
        self._watch = watch
        self._state = "new"

    def __aiter__(self) -> Response:
        return self

    async def __anext__(self) -> bytes:
        if self._state == "over":
            raise StopAsyncIteration
        self._state = "broken"
        try:
            piece = b""
            while not piece:
                piece = await self._pieces.__anext__()
        except StopAsyncIteration:
            self._state = "over"
            raise
        except (LLMError, httpcore.ProtocolError) as error:
            failure = self.connection.explain(error)
        else:
            self._state = "open"
            self._watch.phase = "idle"
            return piece
        raise failure

    async def finish(self) -> bool:
        """Lets go of the answer; True if its connection can serve another exchange."""
        if self._state in ("new", "open"):
            self._state = "over" if await self.connection.drain(self._pieces) else "broken"
        if self._state != "over":
            return False
        await self._stream.aclose()
        return self.connection.is_free()


class Heads:
    """Headers in wire form, shared by requests that send the same as the one before."""

    __slots__ = ("_known", "_wire")

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._wire: tuple[tuple[bytes, bytes], ...] = ()

    def wire_form(self, headers: SafeHeaders) -> tuple[tuple[bytes, bytes], ...]:
        if headers != self._known:
            # A copy: what is known must not change when the caller changes his.
            self._known = SafeHeaders(headers)
            self._wire = tuple([(name.encode(), value.encode()) for name, value in headers.items()])
        return self._wire


class _Body:
    """A request's body as the engine wants it: an asynchronous iterable of one piece.

    The engine would make a generator of plain bytes, and one that is cancelled half-way is finished
    by the event loop some time later.
    """

    __slots__ = ("_body",)

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body

    def __aiter__(self) -> _Body:
        return self

    async def __anext__(self) -> bytes:
        body, self._body = self._body, None
        if body is None:
            raise StopAsyncIteration
        return body
