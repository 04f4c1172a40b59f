"""An address that answers with JSON: for the small clients beside the models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from msgspec import Struct

from llm_client._endpoint import OURS, make_safe, plain_body, refusal_body
from llm_client.codecs._http_errors import request_id
from llm_client.codecs._json import is_object, loads_valid
from llm_client.errors import LLMError, MalformedResponse, excerpt
from llm_client.transport.base import (
    SafeHeaders,
    Transport,
    WireRequest,
    checked_base_url,
    origin_of,
    secrets_of,
)
from llm_client.transport.deadlines import Deadlines

__all__ = ["JsonAnswer", "JsonEndpoint", "Refused"]

T = TypeVar("T")

Refused = Callable[[int, Mapping[str, str], bytes], LLMError]
"""The error for an answer whose status is not 2xx, from its status, headers and body."""


class JsonAnswer(Struct, frozen=True):
    """What came back: an object, and the provider's id of the request."""

    value: dict[str, Any]
    request_id: str | None


class JsonEndpoint:
    """One base address, asked with one key.

    Raises:
        ConfigError: the base address or a header cannot be used.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        base_url: str,
        headers: Mapping[str, str],
        deadlines: Deadlines,
        provider: str,
        refused: Refused,
    ) -> None:
        self._address = checked_base_url(base_url).rstrip("/")
        self._transport = transport
        self._headers = SafeHeaders({**OURS, "accept": "application/json", **headers})
        self._deadlines = deadlines
        self._secrets = secrets_of(headers)
        self._refused = refused
        self.provider = provider

    def __repr__(self) -> str:
        return f"{self.provider} at {origin_of(self._address)}"

    async def ask(
        self,
        path: str,
        read: Callable[[JsonAnswer], T],
        body: Sequence[bytes] = (),
        *,
        method: str = "POST",
        content_type: str | None = None,
    ) -> T:
        """What `read` makes of the answer to `body`, sent to `path`. What it raises is made safe to
        show, as all errors are.

        Raises:
            LLMError: the request failed, or the answer is no JSON object.
        """
        sort = {} if content_type is None else {"content-type": content_type}
        headers = SafeHeaders({**self._headers, **sort})
        request = WireRequest(self._address + path, headers, body, self._deadlines, method)
        asked = None
        try:
            async with self._transport.send(request) as response:
                asked = request_id(response.headers)
                if not 200 <= response.status < 300:
                    said = await refusal_body(response, self._secrets)
                    raise self._refused(response.status, response.headers, said)
                return read(JsonAnswer(_object(await plain_body(response)), asked))
        except LLMError as error:
            error.request_id = error.request_id or asked
            error.provider = error.provider or self.provider
            make_safe(error, self._secrets)
            raise

    async def aclose(self) -> None:
        """Closes all connections. Idempotent."""
        await self._transport.aclose()


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = loads_valid(body)
    except (ValueError, RecursionError):
        value = None
    if is_object(value):
        return value
    begins = excerpt(body[:2000].decode("utf-8", "replace")) or "nothing"
    raise MalformedResponse(
        "the answer is not a JSON object; check the base address and any proxy in between. It "
        f"begins: {begins}"
    )
