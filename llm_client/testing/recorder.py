"""Real exchanges, written down once and answered from the record ever after.

The record is JSON Lines, one exchange a line, in the form that `python -m llm_client.replay` reads.
Request headers are not recorded at all, and what looks like a key is removed everywhere else.
"""

from __future__ import annotations

import base64
import difflib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

import anyio.lowlevel
import msgspec
from msgspec import Struct, field

from llm_client.errors import CallerError, ConfigError, ConnectionLost, LLMError
from llm_client.transport.base import (
    Transport,
    WireRequest,
    WireResponse,
    is_secret,
    secrets_of,
)

__all__ = ["RecordedExchange", "RecordingTransport", "ReplayMismatch", "ReplayTransport"]

KEPT_HEADERS = frozenset(
    {
        "content-encoding",
        "content-type",
        "date",
        "request-id",
        "retry-after",
        "retry-after-ms",
        "x-request-id",
    }
)
DIFF_LINES = 30


class RecordedExchange(Struct, frozen=True, omit_defaults=True):
    """One line of a record. `broken` names the error in which the answer ended, if it did not end
    well; `raw_base64` holds bytes that are not text."""

    id: str
    api: str
    provider: str
    endpoint: str | None
    stream: bool
    request_body: Any
    status: int
    response_headers: dict[str, str] = field(default_factory=dict[str, str])
    raw_sse: str | None = None
    response_body: Any = None
    raw_base64: str | None = None
    fidelity: str = "raw"
    broken: str | None = None
    method: str = "POST"

    def body(self) -> bytes:
        """The answer's bytes."""
        if self.raw_base64 is not None:
            return base64.b64decode(self.raw_base64)
        if self.raw_sse is not None:
            return self.raw_sse.encode()
        if isinstance(self.response_body, str):
            return self.response_body.encode()
        return msgspec.json.encode(self.response_body)


class RecordingTransport:
    """A transport that passes everything on to `inner` and appends each exchange to `path`.

    An exchange is written when its block is left, with as much of the answer as was read; one that
    got no answer at all is not written. Writing is a short blocking append.

    Args:
        inner: the transport that does the work; closed with this one.
        path: the file; made if it is missing.
        api: the wire protocol's name in the record.
        provider: the provider's name in the record.
    """

    def __init__(
        self, inner: Transport, path: Path, *, api: str = "openai_chat", provider: str = ""
    ) -> None:
        self._inner = inner
        self._path = path
        self._api = api
        self._provider = provider
        self._count = 0

    def send(self, request: WireRequest) -> AbstractAsyncContextManager[WireResponse]:
        """See `Transport.send`."""
        return _Recorded(self, self._inner.send(request), request)

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        await self._inner.aclose()

    def write(
        self, request: WireRequest, response: WireResponse, body: bytes, broken: str | None
    ) -> None:
        """Appends one exchange."""
        self._count += 1
        secrets = secrets_of(request.headers)
        stream = "event-stream" in response.headers.get("content-type", "")
        text, encoded = _as_text(body, secrets)
        line = RecordedExchange(
            id=f"recorded-{self._count:04d}",
            api=self._api,
            provider=self._provider,
            endpoint=_endpoint(request.url),
            stream=stream,
            request_body=_as_json(_clean(b"".join(request.body), secrets)),
            status=response.status,
            response_headers={
                name: value for name, value in response.headers.items() if name in KEPT_HEADERS
            },
            raw_sse=text if stream else None,
            response_body=None if stream else text,
            raw_base64=encoded,
            broken=broken,
            method=request.method,
        )
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(line) + b"\n")


class _Recorded:
    """One exchange that is listened to."""

    def __init__(
        self,
        owner: RecordingTransport,
        exchange: AbstractAsyncContextManager[WireResponse],
        request: WireRequest,
    ) -> None:
        self._owner = owner
        self._exchange = exchange
        self._request = request
        self._response: WireResponse | None = None
        self._pieces: list[bytes] = []
        self._broken: str | None = None

    async def __aenter__(self) -> Self:
        self._response = await self._exchange.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._exchange.__aexit__(kind, error, traceback)
        finally:
            if self._response is not None:
                body = b"".join(self._pieces)
                self._owner.write(self._request, self._response, body, self._broken)

    @property
    def _heard(self) -> WireResponse:
        assert self._response is not None
        return self._response

    @property
    def status(self) -> int:
        return self._heard.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._heard.headers

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            piece = await self._heard.__anext__()
        except LLMError as error:
            self._broken = type(error).__name__
            raise
        self._pieces.append(piece)
        return piece


class ReplayMismatch(CallerError):
    """A request that is not in the record, or was answered from it already."""


class ReplayTransport:
    """A transport that answers from a record and never touches a network.

    A request is matched by method, path and body; the order of the body's keys does not matter.
    Each recorded exchange answers once, in the order of the record.

    Args:
        record: the file, or exchanges.
        split: bytes in a piece of the answer; None gives it in one piece.

    Raises:
        ConfigError: the file cannot be read, or is no record; names the line.
    """

    def __init__(
        self, record: Path | Sequence[RecordedExchange], *, split: int | None = None
    ) -> None:
        exchanges = _read(record) if isinstance(record, Path) else record
        self._all = tuple(exchanges)
        self._left = list(exchanges)
        self._split = split

    @property
    def left(self) -> int:
        """Recorded exchanges that have not been asked for."""
        return len(self._left)

    def send(self, request: WireRequest) -> AbstractAsyncContextManager[WireResponse]:
        """See `Transport.send`.

        Raises:
            ReplayMismatch: there is no such request in the record, or none left; shows the nearest.
        """
        path, body = _path(request.url), _canonical(_as_json(b"".join(request.body)))
        for at, one in enumerate(self._left):
            if (one.method, _path(one.endpoint)) == (request.method, path) and (
                _canonical(one.request_body) == body
            ):
                return _Replayed(self._left.pop(at), self._split)
        raise ReplayMismatch(self._explain(request.method, path, body))

    async def aclose(self) -> None:
        """See `Transport.aclose`."""

    def _explain(self, method: str, path: str, body: str) -> str:
        same_place = [one for one in self._all if _path(one.endpoint) == path]
        if not same_place:
            known = sorted({_path(one.endpoint) for one in self._all})
            return f"nothing recorded for {method} {path}; the record knows {', '.join(known)}"
        recorded = [_canonical(one.request_body) for one in same_place]
        if body in recorded:
            return f"this request to {path} has been answered as often as it was recorded"
        near = difflib.get_close_matches(body, recorded, n=1, cutoff=0.0)[0]
        diff = difflib.unified_diff(
            near.splitlines(), body.splitlines(), "recorded", "asked", lineterm="", n=1
        )
        lines = list(diff)
        more = [f"… {len(lines) - DIFF_LINES} more lines"] if len(lines) > DIFF_LINES else []
        shown = "\n".join([*lines[:DIFF_LINES], *more])
        return f"no recorded request to {path} is like this one; the nearest differs so:\n{shown}"


class _Replayed:
    """One recorded answer."""

    def __init__(self, exchange: RecordedExchange, split: int | None) -> None:
        self._exchange = exchange
        body = exchange.body()
        size = split or max(1, len(body))
        self._pieces = [body[at : at + size] for at in range(0, len(body), size)]
        self._at = 0
        self.status = exchange.status
        self.headers: Mapping[str, str] = exchange.response_headers

    async def __aenter__(self) -> Self:
        await anyio.lowlevel.checkpoint()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._at = len(self._pieces)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        if self._at < len(self._pieces):
            self._at += 1
            return self._pieces[self._at - 1]
        if self._exchange.broken is not None:
            raise ConnectionLost(f"the recorded answer broke off here: {self._exchange.broken}")
        raise StopAsyncIteration


# ── reading and writing ───────────────────────────────────────────────────────────────────────────


def _read(path: Path) -> list[RecordedExchange]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(f"the record {str(path)!r} cannot be read: {error.strerror}") from error
    decoder = msgspec.json.Decoder(RecordedExchange)
    exchanges: list[RecordedExchange] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                exchanges.append(decoder.decode(line))
            except msgspec.DecodeError as error:
                raise ConfigError(
                    f"line {number} of {path.name!r} is no exchange: {error}"
                ) from error
    return exchanges


def _clean(data: bytes, secrets: Sequence[str]) -> bytes:
    for secret in secrets:
        data = data.replace(secret.encode(), b"***")
    return data


def _as_text(body: bytes, secrets: Sequence[str]) -> tuple[str, str | None]:
    body = _clean(body, secrets)
    try:
        return body.decode(), None
    except UnicodeDecodeError:
        return body.decode("utf-8", "replace"), base64.b64encode(body).decode()


def _as_json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        return body.decode("utf-8", "replace")


def _canonical(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=1).decode()


def _path(url: str | None) -> str:
    return urlsplit(url or "").path


def _endpoint(url: str) -> str:
    """Path and query of `url`, without what may be a key."""
    parts = urlsplit(url)
    query = [(name, "***" if is_secret(name) else value) for name, value in parse_qsl(parts.query)]
    return f"{parts.path}?{urlencode(query)}" if query else parts.path
