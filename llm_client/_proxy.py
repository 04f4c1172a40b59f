"""Which proxy an environment prescribes for an address."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

__all__ = ["proxy_for"]

_OWN_MACHINE = ("localhost", "127.0.0.1", "::1")


def proxy_for(url: str, env: Mapping[str, str]) -> str | None:
    """The proxy that `env` names for `url`, by the conventions that curl and its like share.

    The own machine is never reached by way of a proxy.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if host in _OWN_MACHINE or _excepted(host, _get(env, "no_proxy")):
        return None
    proxy = _get(env, f"{parts.scheme}_proxy") or _get(env, "all_proxy")
    if not proxy:
        return None
    scheme, separator, rest = proxy.partition("://")
    if not separator:
        return f"http://{proxy}"
    return f"socks5://{rest}" if scheme.lower() == "socks" else proxy


def _get(env: Mapping[str, str], name: str) -> str:
    return (env.get(name) or env.get(name.upper()) or "").strip()


def _excepted(host: str, exceptions: str) -> bool:
    for entry in exceptions.lower().replace(",", " ").split():
        name = entry.lstrip("*.")
        if entry == "*" or (name and (host == name or host.endswith(f".{name}"))):
            return True
    return False
