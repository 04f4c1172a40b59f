"""One part of one side, in a process of its own: `python -m …worker SIDE PART URL SERVER SIZE`."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AbstractAsyncContextManager

from benchmarks.measuring import Repeat
from benchmarks.stores import bare, ours
from benchmarks.stores.figures import SIZES
from benchmarks.worker import serve

__all__ = ["part_of"]


def part_of(
    side: str, part: str, url: str, server: str, size: str
) -> AbstractAsyncContextManager[Repeat]:
    """A part of a side, with the model at `url` and a PostgreSQL server."""
    module = ours if side == "ours" else bare
    database, kind, *number = part.split(".")
    match kind:
        case "append":
            return module.append(database, int(number[0]), server, SIZES[size])
        case "turn":
            return module.turn(database, url, server, SIZES[size])
        case _:
            return module.open_session(database, server, SIZES[size])


if __name__ == "__main__":
    asyncio.run(serve(part_of(*sys.argv[1:6])))
