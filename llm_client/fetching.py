"""Fetches what an address holds when the address comes from somebody else.

Such an address may lead into one's own network, straight, by way of a redirect, or by a name that
stands for an address there. So each hop is looked at anew, names are judged by the addresses they
stand for, and those very addresses are connected to. No key is ever sent along.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urljoin, urlsplit

from msgspec import Struct

from llm_client._endpoint import OURS, make_safe, plain_body
from llm_client.errors import CallerError, ConfigError, LLMError, ProviderError
from llm_client.transport.base import SafeHeaders, WireRequest, checked_base_url, origin_of
from llm_client.transport.deadlines import Deadlines
from llm_client.transport.httpx_transport import HttpxTransport

__all__ = ["DownloadFailed", "FetchRefused", "Fetched", "WebFetcher", "is_public"]

LIMIT = 32 * 1024 * 1024
"""Bytes of what is fetched, if nothing else is said."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({408, 425, 429})


class FetchRefused(CallerError):
    """An address that is not fetched: it is malformed, not encrypted, or lies in a network that
    strangers may not lead into."""


class DownloadFailed(ProviderError):
    """The server does not give what its address should hold; `retryable` by its status."""


class Fetched(Struct, frozen=True):
    """What an address holds. `url` is the last one, after all redirects; `media_type` is what the
    server says, in lower case and without parameters."""

    url: str
    media_type: str
    data: bytes


def is_public(address: str) -> bool:
    """True if the IP address `address` lies in the open internet.

    Those that stand for an IPv4 address (mapped, translated, tunnelled) are judged by it.
    """
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, IPv6Address):
        if ip.scope_id is not None or ip in _OWN_NAT64:
            return False
        ip = _inner(ip) or ip
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


_NAT64 = IPv6Network("64:ff9b::/96")
_OWN_NAT64 = IPv6Network("64:ff9b:1::/48")


def _inner(ip: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that `ip` stands for."""
    if ip.teredo is not None:
        return ip.teredo[1]
    if ip in _NAT64 or int(ip) >> 32 == 0:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour


class WebFetcher:
    """Fetches addresses that are not trusted, with GET, directly and without any key.

    Args:
        may_reach: whether an IP address may be connected to; by default only `is_public` ones.
        https_only: refuse what is not encrypted.
        limit: bytes of what is fetched.
        redirects: how many are followed.
        deadlines: how long each stage may take; `total` is that of one hop.
        ssl_context: how servers are verified; by default against the usual certificates.
    """

    def __init__(
        self,
        *,
        may_reach: Callable[[str], bool] = is_public,
        https_only: bool = True,
        limit: int = LIMIT,
        redirects: int = 5,
        deadlines: Deadlines | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._https_only = https_only
        self._limit = limit
        self._redirects = redirects
        self._deadlines = deadlines or Deadlines.within(120)
        # By way of a proxy, nobody here would see what a name stands for.
        self._transport = HttpxTransport(ssl_context=ssl_context, guard=partial(_guard, may_reach))

    async def get(self, url: str) -> Fetched:
        """What `url` holds.

        Raises:
            FetchRefused: the address, or one that it leads to, is not fetched.
            DownloadFailed: the server answers with an error, or leads on for ever.
            MalformedResponse: it sends too much, or something unreadable.
            TransportError: it cannot be reached.
        """
        for _ in range(self._redirects + 1):
            try:
                found = await self._hop(self._checked(url))
            except LLMError as error:
                make_safe(error, ())
                raise
            if isinstance(found, Fetched):
                return found
            url = found
        raise DownloadFailed(f"{origin_of(url)} leads on and on; more than {self._redirects} times")

    async def _hop(self, url: str) -> Fetched | str:
        """What `url` holds, or where it leads to."""
        request = WireRequest(url, SafeHeaders(OURS), (), self._deadlines, "GET")
        async with self._transport.send(request) as response:
            status, headers = response.status, response.headers
            if status in _REDIRECTS and headers.get("location"):
                return urljoin(url, headers["location"])
            if status != 200:
                passing = status in _PASSING or status >= 500
                raise DownloadFailed(
                    f"{origin_of(url)} does not give the file: it answers with an error",
                    status=status,
                    retryable=passing,
                )
            media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
            return Fetched(url, media_type, await plain_body(response, self._limit))

    def _checked(self, url: str) -> str:
        """`url` without its last part, which is for readers only.

        Raises:
            FetchRefused: it cannot or may not be fetched.
        """
        url = url.partition("#")[0]
        try:
            checked_base_url(url)
            scheme = urlsplit(url).scheme
        except (ConfigError, ValueError):
            raise FetchRefused(
                f"{origin_of(url)!r} is no address to fetch: it needs http(s) and a host, and "
                "neither a name and password nor unusual characters"
            ) from None
        if scheme != "https" and self._https_only:
            raise FetchRefused(f"{origin_of(url)} is not encrypted; only https is fetched")
        return url

    async def aclose(self) -> None:
        """Closes all connections. Idempotent."""
        await self._transport.aclose()


def _guard(may_reach: Callable[[str], bool], host: str, addresses: Sequence[str]) -> None:
    """Refuses a host if any of its addresses may not be reached: some of a name's addresses being
    good is a usual disguise."""
    if not addresses or not all(may_reach(address) for address in addresses):
        raise FetchRefused(
            f"{host!r} is, or stands for, an address that may not be reached from here; only "
            "public ones are fetched from"
        )
