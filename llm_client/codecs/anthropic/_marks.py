"""Breakpoints of the provider's prompt cache on encoded blocks.

A breakpoint stands at the end of its block, where nothing that a model or a user wrote can stand,
so that the bytes of a block tell whether it is one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

__all__ = ["Lifetime", "cached", "in_order", "lifetime"]

Lifetime = Literal["5m", "1h"]

_SHORT = b',"cache_control":{"type":"ephemeral","ttl":"5m"}}'
_LONG = b',"cache_control":{"type":"ephemeral","ttl":"1h"}}'


def lifetime(block: bytes) -> Lifetime | None:
    """How long is kept what ends with `block`; None if it is no breakpoint."""
    if block.endswith(_SHORT):
        return "5m"
    return "1h" if block.endswith(_LONG) else None


def cached(block: bytes, ttl: Lifetime) -> bytes:
    """`block` as a breakpoint; one that it is already stays as it is."""
    if lifetime(block) is not None:
        return block
    return block[:-1] + (_SHORT if ttl == "5m" else _LONG)


def in_order(blocks: Iterable[bytes], *, short: bool) -> tuple[bytes, ...]:
    """`blocks` without a breakpoint of an hour behind one of five minutes, which is refused: it is
    made one of five minutes. With `short` there was one of those before."""
    found: list[bytes] = []
    for block in blocks:
        ttl = lifetime(block)
        short = short or ttl == "5m"
        found.append(block.removesuffix(_LONG) + _SHORT if short and ttl == "1h" else block)
    return tuple(found)
