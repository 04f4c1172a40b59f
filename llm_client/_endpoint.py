"""Where a service sends its requests, and how what comes back becomes a typed error."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import Any, cast
from urllib.parse import parse_qsl

import anyio
from msgspec import Struct, field, structs

from llm_client.codec import Codec
from llm_client.errors import CallerError, LLMError, MalformedResponse, TransportError
from llm_client.transport.base import (
    SHORTEST_SECRET,
    SafeHeaders,
    Transport,
    WireRequest,
    WireResponse,
    chain_of,
    checked_base_url,
    origin_of,
    read_whole,
    secrets_of,
    without_frames,
)
from llm_client.transport.deadlines import Deadlines
from llm_client.types import LLMRequest

__all__ = [
    "BODY_LIMIT",
    "OURS",
    "Endpoint",
    "RequestDefaults",
    "inflater",
    "make_safe",
    "plain_body",
    "refusal_body",
]

BODY_LIMIT = 64 * 1024 * 1024
ERROR_BODY_LIMIT = 64 * 1024
ERROR_BODY_SECONDS = 5.0

# Compression gains nothing on answers that come in small pieces, and makes proxies hold them back.
OURS = MappingProxyType({"accept-encoding": "identity", "user-agent": "power-loop"})


class RequestDefaults(Struct, frozen=True, kw_only=True):
    """What a service fills in where a request leaves it open; see `LLMRequest` for the fields."""

    max_output_tokens: int | None = None
    temperature: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Endpoint:
    """One model at one address."""

    def __init__(
        self,
        codec: Codec,
        transport: Transport,
        *,
        base_url: str,
        model: str,
        headers: Mapping[str, str],
        deadlines: Deadlines,
        defaults: RequestDefaults,
        provider: str,
    ) -> None:
        address, _, query = checked_base_url(base_url).partition("?")
        self.codec = codec
        self.transport = transport
        self.model = model
        self.provider = provider
        self._address = address.rstrip("/")
        self._query = query
        self._headers = SafeHeaders({**OURS, **headers})
        self._merged: dict[bool, tuple[Mapping[str, str], SafeHeaders]] = {}
        self._deadlines = deadlines
        self._defaults = defaults
        self._secrets = secrets_of({**dict(parse_qsl(query)), **headers})

    def __repr__(self) -> str:
        who = f"{self.provider} at " if self.provider else ""
        return f"{who}{origin_of(self._address)}, model {self.model!r}"

    def exchange(
        self, request: LLMRequest, *, stream: bool
    ) -> AbstractAsyncContextManager[WireResponse]:
        """The exchange that asks `request`, not begun yet.

        Raises:
            CallerError: the request cannot be expressed in this protocol.
        """
        encoded = self.codec.encode(self._completed(request), stream=stream)
        merged = self._merged.get(stream)
        if merged is None or merged[0] is not encoded.headers:
            both = SafeHeaders({**encoded.headers, **self._headers})
            merged = self._merged[stream] = (encoded.headers, both)
        return self.transport.send(
            WireRequest(self._url(encoded.path), merged[1], encoded.body, self._deadlines)
        )

    def _url(self, path: str) -> str:
        if not self._query:
            return self._address + path
        joint = "&" if "?" in path else "?"
        return f"{self._address}{path}{joint}{self._query}"

    def check(self, request: LLMRequest) -> None:
        """Encodes `request` for nothing.

        Raises:
            CallerError: it cannot be expressed in this protocol.
        """
        self.codec.encode(self._completed(request), stream=False)

    def _completed(self, request: LLMRequest) -> LLMRequest:
        given = cast("object", request)
        if not isinstance(given, LLMRequest):
            raise CallerError(
                f"the request is of type {type(given).__name__}; make an LLMRequest, for example "
                'LLMRequest([Message.user("Hello")])'
            )
        usual = self._defaults
        changes: dict[str, Any] = {}
        if request.model is None:
            changes["model"] = self.model
        if request.max_output_tokens is None and usual.max_output_tokens is not None:
            changes["max_output_tokens"] = usual.max_output_tokens
        if request.temperature is None and usual.temperature is not None:
            changes["temperature"] = usual.temperature
        if usual.extra:
            changes["extra"] = {**usual.extra, **request.extra}
        return structs.replace(request, **changes) if changes else request

    async def refusal(self, response: WireResponse) -> LLMError:
        """The error that `response`, whose status is not 2xx, stands for.

        The status is told even if the body is endless, compressed or never comes.
        """
        body = await refusal_body(response, self._secrets)
        return self.codec.error(response.status, response.headers, body)

    def explain(self, error: LLMError, asked: str | None, *, after_output: bool = False) -> None:
        """Completes `error` with what is known here, and makes it safe to show."""
        error.after_output = error.after_output or after_output
        error.request_id = error.request_id or asked
        error.provider = error.provider or self.provider or None
        make_safe(error, self._secrets)


async def refusal_body(response: WireResponse, secrets: Sequence[str]) -> bytes:
    """As much of an error's body as comes soon and can be read, without `secrets`."""
    body = b""
    try:
        with anyio.move_on_after(ERROR_BODY_SECONDS):
            async for piece in response:
                body += piece
                if len(body) > ERROR_BODY_LIMIT:
                    break
        inflate = inflater(response.headers)
        if inflate is not None:
            body = inflate(body)
    except (TransportError, MalformedResponse):
        pass
    return _hidden(body, secrets)


async def plain_body(response: WireResponse, limit: int = BODY_LIMIT) -> bytes:
    """The body of a good answer, without its compression.

    Raises:
        MalformedResponse: it is larger than `limit`, or its compression cannot be taken off.
    """
    body = await read_whole(response, limit)
    if len(body) <= limit:
        inflate = inflater(response.headers)
        plain = body if inflate is None else inflate(body)
        if len(plain) <= limit:
            return plain
    raise MalformedResponse(
        f"the answer is larger than {limit} bytes; it was given up", retryable=False
    )


def make_safe(error: LLMError, secrets: Sequence[str]) -> None:
    """Makes `error` fit for logs and crash reports.

    Some gateways quote the whole request, so the key is taken out of all that they say, wherever
    `error` and what led to it keep it; and the frames below hold requests and answers whole.
    """
    without_frames(error)
    for link in chain_of(error):
        link.args = tuple([_hidden(value, secrets) for value in link.args])
        vars(link).update({name: _hidden(value, secrets) for name, value in vars(link).items()})
        if isinstance(link, UnicodeDecodeError):
            link.object = _hidden(link.object, secrets)


def _hidden(value: Any, secrets: Sequence[str]) -> Any:
    """`value` without `secrets`, if it is text, bytes, or a list such as an error's notes."""
    match value:
        case str():
            for secret in secrets:
                value = _without(value, secret)
        case bytes():
            for secret in secrets:
                value = value.replace(secret.encode(), b"***")
        case list():
            return [_hidden(item, secrets) for item in cast("list[Any]", value)]
        case _:
            pass
    return value


def _without(text: str, secret: str) -> str:
    text = text.replace(secret, "***")
    if "…" in text:
        # An excerpt may have been cut in the middle of it.
        for length in range(len(secret) - 1, SHORTEST_SECRET - 1, -1):
            text = text.replace(f"{secret[:length]}…", "***…")
    return text


class _Inflate:
    """Takes compression off, piece by piece."""

    __slots__ = ("_state",)

    def __init__(self) -> None:
        # gzip or zlib, whichever it turns out to be
        self._state = zlib.decompressobj(wbits=47)

    def __call__(self, data: bytes) -> bytes:
        try:
            plain = self._state.decompress(data, BODY_LIMIT)
        except zlib.error as error:
            raise MalformedResponse(f"the answer's compression is damaged: {error}") from error
        if self._state.unconsumed_tail:
            raise MalformedResponse("the answer grows too large when decompressed", retryable=False)
        return plain


def inflater(headers: Mapping[str, str]) -> _Inflate | None:
    """What takes the compression off an answer with `headers`, None if there is none.

    Raises:
        MalformedResponse: it is of a kind that nobody asked for and that is not understood.
    """
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        return None
    if encoding in ("gzip", "x-gzip", "deflate"):
        return _Inflate()
    raise MalformedResponse(
        f"the answer is compressed with {encoding!r}, although none was asked for; "
        "check any proxy in between",
        retryable=False,
    )
