"""**Protocol** of a transport: carries one HTTP exchange, knows nothing of models."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar, cast
from urllib.parse import urlsplit

from msgspec import Struct

from llm_client.errors import ConfigError
from llm_client.transport.deadlines import Deadlines

__all__ = [
    "SafeHeaders",
    "Transport",
    "WireRequest",
    "WireResponse",
    "chain_of",
    "checked_base_url",
    "is_secret",
    "origin_of",
    "read_whole",
    "secrets_of",
    "without_frames",
]

_E = TypeVar("_E", bound=BaseException)

SHORTEST_SECRET = 8
SECRET_WORDS = ("auth", "key", "token", "cookie", "secret")


class SafeHeaders(dict[str, str]):
    """Headers whose repr shows no value that could be a secret.

    Raises:
        ConfigError: a value that HTTP cannot carry; names the header, never shows the value.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__(headers)
        for name, value in headers.items():
            if not isinstance(cast("object", value), str):
                raise ConfigError(f"header {name!r} must be a text, is a {type(value).__name__}")
            if not name.isascii() or not value.isascii() or not f"{name}{value}".isprintable():
                raise ConfigError(
                    f"header {name!r} holds a line break or a character outside ASCII; "
                    "if it carries a key, look for a stray newline or quote in the setting"
                )

    def __repr__(self) -> str:
        shown = {name: "***" if is_secret(name) else value for name, value in self.items()}
        return f"SafeHeaders({shown})"


def is_secret(name: str) -> bool:
    """True if a header or parameter called `name` may carry a secret."""
    lower = name.lower()
    return any(word in lower for word in SECRET_WORDS)


def secrets_of(headers: Mapping[str, str]) -> tuple[str, ...]:
    """The words of `headers` that must not be shown, the longest first."""
    values = [value for name, value in headers.items() if is_secret(name)]
    words = {word for value in values for word in value.split() if len(word) >= SHORTEST_SECRET}
    return tuple(sorted(words, key=len, reverse=True))


class WireRequest(Struct, frozen=True):
    """One HTTP request. `body` is sent as its pieces joined; `headers` need no content-length."""

    url: str
    headers: SafeHeaders
    body: Sequence[bytes]
    deadlines: Deadlines = Deadlines()
    method: str = "POST"


class WireResponse(Protocol):
    """**Protocol**: an answer whose head has arrived. Iterating gives its body's bytes as they
    come, never an empty piece.

    Raises:
        ConnectionLost: the connection broke before the body's end.
        Timeout: a deadline passed.
        MalformedResponse: what came is not HTTP.
    """

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, names in lower case."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def __anext__(self) -> bytes: ...


class Transport(Protocol):
    """**Protocol**: carries exchanges, many at once. Bound to the event loop it is first used in.

    An exchange that is left early or cancelled closes its connection; its place is free again when
    the block has been left, whatever happened.
    """

    def send(self, request: WireRequest) -> AbstractAsyncContextManager[WireResponse]:
        """Sends `request`; the block holds the answer. Redirects are not followed.

        Raises:
            ConnectFailed: before anything was sent.
            ConnectionLost: afterwards, before the answer's head had arrived.
            Timeout: a deadline passed; `phase` says which.
            MalformedResponse: what came back is not HTTP.
        """
        ...

    async def aclose(self) -> None:
        """Closes all connections. Idempotent; exchanges still open are cut off."""
        ...


async def read_whole(response: WireResponse, limit: int) -> bytes:
    """The body of `response`, at most `limit` bytes and one piece more of it."""
    pieces: list[bytes] = []
    size = 0
    async for piece in response:
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            break
    return b"".join(pieces)


def origin_of(url: str) -> str:
    """Scheme, host and port of `url`, as they stand there; safe to show."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.split('/', 1)[0].split('?', 1)[0].rpartition('@')[2]}"


def checked_base_url(url: str) -> str:
    """`url` without a closing slash, if requests can be sent below it.

    Raises:
        ConfigError: it is no http(s) address; says what is wrong with it.
    """
    hint = "expected something like 'https://api.example.com/v1'"
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigError(f"the base URL holds a space or an unusual character; {hint}")
    try:
        parts = urlsplit(url)
        host = parts.hostname
        usable = host is not None and len(host.encode("idna")) > 0 and parts.port != 0
    except ValueError as error:
        raise ConfigError(f"the base URL is not valid ({error}); {hint}") from None
    if parts.scheme not in ("http", "https"):
        found = f"not {parts.scheme}://" if "://" in url else "which this one does not"
        raise ConfigError(f"the base URL must begin with http:// or https://, {found}; {hint}")
    if not usable or parts.username is not None or parts.fragment:
        raise ConfigError(
            "the base URL needs a host, a usable port if any, and neither credentials nor a '#' "
            f"part; {hint}"
        )
    return url.rstrip("/")


def without_frames(error: _E) -> _E:
    """`error` and what led to it, without their frames.

    The frames of an HTTP library hold the request's headers in local variables, which crash
    reporters collect.
    """
    for link in chain_of(error):
        link.__traceback__ = None
    return error


def chain_of(error: BaseException) -> list[BaseException]:
    """`error` and all that led to it."""
    chain: list[BaseException] = []
    left = [error]
    while left:
        link = left.pop()
        if link not in chain:
            chain.append(link)
            left += [cause for cause in (link.__cause__, link.__context__) if cause is not None]
    return chain
