"""One side of one part, in a process of its own: `python -m benchmarks.worker SIDE PART URL SIZE`.

Each line on standard input asks for one repetition; its figures come back as a line of JSON.
Between repetitions it does nothing at all, so that the other side can be measured.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from types import MappingProxyType

import msgspec

from benchmarks import startup
from benchmarks.measuring import Open, Repeat
from benchmarks.scenarios import FULL, TINY

__all__ = ["SIDES", "part_of", "serve"]

SIDES = MappingProxyType(
    {
        "floor": "benchmarks.floor_parts",
        "ours": "benchmarks.ours",
        "limited": "benchmarks.limits.loops",
    }
)
"""Where each side's parts are. A side loads nothing of another."""


def part_of(side: str, part: str) -> Open:
    """What opens a part of a side."""
    if part == "h":
        return (startup.FLOOR if side == "floor" else startup.OURS)[part]
    parts: Mapping[str, Open] = import_module(SIDES[side]).PARTS
    return parts[part]


async def serve(opened: AbstractAsyncContextManager[Repeat], *, unmeasured: bool = True) -> None:
    """Does repetitions until standard input ends. One more goes before, if `unmeasured`."""
    async with opened as repeat:
        if unmeasured:
            await repeat()
        print("ready", flush=True)
        for _ in sys.stdin:
            print(msgspec.json.encode(await repeat()).decode(), flush=True)


def main(side: str, part: str, url: str, *tiny: str) -> None:
    """Serves a part of a side."""
    opened = part_of(side, part)(url, TINY if tiny else FULL)
    asyncio.run(serve(opened, unmeasured=not part.endswith(".memory")))


if __name__ == "__main__":
    main(*sys.argv[1:])
