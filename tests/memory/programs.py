"""Small programs that use an index of vectors, for tests with several processes.

python -m tests.memory.programs VERB ARGUMENTS…
"""

from __future__ import annotations

import os
import sys

import anyio

from tests.memory.indexes import SPACE, entry, open_index
from tests.stores.support import Program

__all__ = ["BATCH", "VectorProgram"]

BATCH = 20


class VectorProgram(Program):
    """A verb of this module in a process of its own."""

    module = "tests.memory.programs"


def _print(line: object) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def write(place: str, user: str) -> None:
    """Adds batch after batch and prints the number of each when it is acknowledged."""
    index = open_index(place)
    batch = 0
    while True:
        batch += 1
        await index.add(SPACE, [entry(f"{user} {batch} {n}", user=user) for n in range(BATCH)])
        _print(batch)


async def many(place: str, user: str, batches: str) -> None:
    """Adds batches as soon as it is told to, and the same one that all others add."""
    index = open_index(place)
    _print("ready")
    sys.stdin.readline()
    for batch in range(int(batches)):
        await index.add(SPACE, [entry(f"{user} {batch} {n}", user=user) for n in range(BATCH)])
        await index.add(SPACE, [entry(f"all {batch}", user="all")])
    await index.aclose()


def fork(place: str) -> None:
    """Adds before a fork, in the child, and in the parent; prints what is there in the end."""
    index = open_index(place)

    async def add(id: str) -> None:
        await index.add(SPACE, [entry(id)])

    async def finish() -> None:
        await add("parent")
        _print(" ".join(one.id for one in await index.export()))
        await index.aclose()

    anyio.run(add, "before")
    child = os.fork()
    if child == 0:
        anyio.run(add, "child")
        os._exit(0)
    _print(os.waitpid(child, 0)[1])
    anyio.run(finish)


if __name__ == "__main__":
    verb, *arguments = sys.argv[1:]
    match verb:
        case "write":
            anyio.run(write, arguments[0], arguments[1])
        case "many":
            anyio.run(many, arguments[0], arguments[1], arguments[2])
        case _:
            fork(*arguments)
