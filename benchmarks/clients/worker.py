"""One side of one part, in a process of its own: `python -m …worker SIDE PART URL SIZE`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType

from benchmarks.clients.figures import PROTOCOLS, SDK, SIZES
from benchmarks.clients.work import OpenPart
from benchmarks.measuring import Repeat
from benchmarks.worker import serve

__all__ = ["is_installed", "missing_sdks", "part_of"]

_SIDES = MappingProxyType(
    {
        "httpx": "benchmarks.clients.ours:HTTPX",
        "aiohttp": "benchmarks.clients.ours:AIOHTTP",
        "openai": "benchmarks.clients.openai_sdk:PARTS",
        "anthropic": "benchmarks.clients.anthropic_sdk:PARTS",
    }
)
"""Where each client's parts are. An SDK is loaded by its own side only."""


def is_installed(part: str) -> bool:
    """True if the SDK that a part is compared with is there."""
    return find_spec(_sdk_of(part)) is not None


def missing_sdks() -> list[str]:
    """The SDKs that are not there."""
    return sorted(sdk for sdk in set(PROTOCOLS.values()) if find_spec(sdk) is None)


def part_of(side: str, part: str, url: str, size: str) -> AbstractAsyncContextManager[Repeat]:
    """A part of a side, of a size of `SIZES`, against the model at `url`."""
    place = _SIDES[_sdk_of(part) if side == SDK else side]
    module, _, name = place.partition(":")
    parts: Mapping[str, OpenPart] = getattr(import_module(module), name)
    return parts[part](url, SIZES[size])


def _sdk_of(part: str) -> str:
    return PROTOCOLS[part.partition(".")[0]]


if __name__ == "__main__":
    asyncio.run(serve(part_of(*sys.argv[1:5])))
