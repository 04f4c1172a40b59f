"""What a cold start costs: a new interpreter that imports, and one that also builds a client."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType

from benchmarks.measuring import Open, Repeat
from benchmarks.scenarios import Sample, Size, WrongResult

__all__ = ["FLOOR", "OURS", "best_start"]

ROOT = Path(__file__).resolve().parent.parent

_STATEMENTS = MappingProxyType(
    {
        "floor": ("import httpx", "import httpx; httpx.AsyncClient()"),
        "ours": (
            "from power_loop import AgentLoop, tool",
            "from power_loop import AgentLoop, tool; AgentLoop('openai:gpt-5')",
        ),
    }
)


@asynccontextmanager
async def cold(_url: str, size: Size, *, side: str) -> AsyncGenerator[Repeat]:
    imports, builds = _STATEMENTS[side]
    starts = 5 if size.repetitions > 1 else 1

    async def repeat() -> Mapping[str, Sample]:
        return {
            "h.import": best_start(imports, starts),
            "h.client": best_start(builds, starts),
        }

    yield repeat


def best_start(statement: str, starts: int) -> Sample:
    """The best of a few starts: what else the machine does only ever adds to one.

    Raises:
        WrongResult: the statement failed.
    """
    samples = [_once(statement) for _ in range(starts)]
    return min(samples, key=lambda sample: sample.value)


def _once(statement: str) -> Sample:
    begun = time.perf_counter()
    # Waited for by hand: only so are the child's own times known.
    child = subprocess.Popen(
        [sys.executable, "-c", statement],
        cwd=ROOT,
        env={"PATH": os.environ.get("PATH", ""), "OPENAI_API_KEY": "benchmark-key"},
    )
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise WrongResult(f"{statement!r} failed with status {child.returncode}")
    return Sample((used.ru_utime + used.ru_stime) * 1e3, (time.perf_counter() - begun) * 1e3)


FLOOR: Mapping[str, Open] = MappingProxyType({"h": partial(cold, side="floor")})
OURS: Mapping[str, Open] = MappingProxyType({"h": partial(cold, side="ours")})
