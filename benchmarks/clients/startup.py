"""What a cold start costs: a new interpreter that imports, and one that also gets an answer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

from msgspec import Struct

from benchmarks.clients.figures import ClientSize
from benchmarks.measuring import Repeat
from benchmarks.scenarios import ANSWER, Sample, WrongResult
from benchmarks.startup import best_start

__all__ = ["Start", "cold"]


class Start(Struct, frozen=True):
    """A program in two parts.

    Attributes:
        imports: imports what the rest needs.
        asks: defines `async def ask(url)`, which gives the answer of the model at `url`.
    """

    imports: str
    asks: str


@asynccontextmanager
async def cold(url: str, size: ClientSize, start: Start) -> AsyncGenerator[Repeat]:
    """The starts of one client, against the model at `url`."""
    asked = f"import asyncio\nassert asyncio.run(ask({url!r})) == {ANSWER!r}"
    program = f"{start.imports}\n{start.asks}\n{asked}"

    async def repeat() -> Mapping[str, Sample]:
        return {
            "start.import": best_start(start.imports, size.starts),
            "start.answer": best_start(program, size.starts),
            "start.modules": _modules(program),
        }

    yield repeat


def _modules(program: str) -> Sample:
    counted = f"{program}\nimport sys\nprint(len(sys.modules))"
    done = subprocess.run([sys.executable, "-c", counted], stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise WrongResult(f"{program!r} failed with status {done.returncode}")
    return Sample(int(done.stdout))
