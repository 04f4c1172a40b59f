"""One side of one part, in a process of its own: `python -m benchmarks.worker SIDE PART URL SIZE`.

Each line on standard input asks for one repetition; its figures come back as a line of JSON.
Between repetitions it does nothing at all, so that the other side can be measured.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

import msgspec

from benchmarks import startup
from benchmarks.measuring import Open
from benchmarks.scenarios import FULL, TINY, Size

__all__ = ["SIDES", "part_of", "serve"]

SIDES = MappingProxyType({"floor": "benchmarks.floor_parts", "ours": "benchmarks.ours"})
"""Where each side's parts are. A side loads nothing of another."""


def part_of(side: str, part: str) -> Open:
    """What opens a part of a side."""
    if part == "h":
        return (startup.FLOOR if side == "floor" else startup.OURS)[part]
    parts: Mapping[str, Open] = import_module(SIDES[side]).PARTS
    return parts[part]


async def serve(side: str, part: str, url: str, size: Size) -> None:
    """Does repetitions until standard input ends. One more goes before, unmeasured."""
    async with part_of(side, part)(url, size) as repeat:
        if not part.endswith(".memory"):
            await repeat()
        print("ready", flush=True)
        for _ in sys.stdin:
            print(msgspec.json.encode(await repeat()).decode(), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], sys.argv[2], sys.argv[3], TINY if "tiny" in sys.argv else FULL))
