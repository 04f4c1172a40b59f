"""How long a run takes to end once it is cancelled: wall time."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from types import MappingProxyType

import msgspec
from msgspec import Struct

from benchmarks.measuring import expect
from benchmarks.ours import served
from benchmarks.table import number
from power_loop import AgentLoop, CancellationToken, RunResult, SQLiteStore, Stamped, tool
from power_loop.events import TextDelta, ToolStarted

__all__ = ["TIMES", "CancelRow", "as_json", "as_table", "measure_cancelling"]

TIMES: Mapping[str, int] = MappingProxyType({"full": 300, "tiny": 3})
_STORES = ("memory", "SQLite")


class CancelRow(Struct, frozen=True, kw_only=True):
    """From `cancel` to the return of `send`, in milliseconds, wall time.

    Attributes:
        what: what was under way.
        store: where the session is kept; SQLite is durable at every step.
        middle, slow: the median, and what one in a hundred exceeds.
    """

    what: str
    store: str
    middle: float
    slow: float


@tool
async def weather(city: str, days: int) -> str:
    """Never tells the weather, and lets itself be cancelled."""
    del city, days
    await asyncio.Event().wait()
    return ""


class Case(Struct, frozen=True):
    """A model's name says what it does; `event` is awaited, `count` times, before the cancel."""

    what: str
    model: str
    event: type[TextDelta | ToolStarted]
    count: int = 1


CASES = (
    Case("a streamed model call", "stream:100000", TextDelta),
    Case("a tool that honours it", "tools:1:1", ToolStarted),
    Case("eight of them at once", "tools:1:8", ToolStarted, 8),
)


@asynccontextmanager
async def _opened(url: str, model: str, store: str) -> AsyncGenerator[AgentLoop]:
    service = served(url, model)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(service.aclose)
        kept = None
        if store == "SQLite":
            place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            kept = await stack.enter_async_context(SQLiteStore(place / "s.sqlite"))
        loop = AgentLoop(service, tools=[weather], store=kept)
        yield await stack.enter_async_context(loop)


async def _once(loop: AgentLoop, case: Case) -> float:
    """One run, cancelled once it is under way: seconds."""
    token, under_way, seen = CancellationToken(), asyncio.Event(), 0

    def look(_: Stamped) -> None:
        nonlocal seen
        seen += 1
        if seen == case.count:
            under_way.set()

    unsubscribe = loop.events.subscribe(look, types={case.event}, inline=True)
    run = asyncio.create_task(_to_its_end(partial(loop.send, "Go.", cancel=token)))
    await under_way.wait()
    # All that has begun is to have come to where it waits.
    await asyncio.sleep(0.001)
    began = time.perf_counter()
    token.cancel("measured")
    ended, status = await run
    unsubscribe()
    expect(status, "cancelled", "the status")
    return ended - began


async def _to_its_end(send: Callable[[], Awaitable[RunResult[None]]]) -> tuple[float, str]:
    result = await send()
    return time.perf_counter(), result.status


def measure_cancelling(size: str, url: str) -> list[CancelRow]:
    """Measures every case on every store, with the model at `url`.

    Raises:
        WrongResult: a run ended otherwise than `cancelled`.
    """

    async def all_of(case: Case, store: str) -> CancelRow:
        async with _opened(url, case.model, store) as loop:
            await _once(loop, case)  # the first connection is not what is measured
            taken = [await _once(loop, case) * 1e3 for _ in range(TIMES[size])]
        slow = quantiles(taken, n=100)[98]
        return CancelRow(what=case.what, store=store, middle=median(taken), slow=slow)

    return [asyncio.run(all_of(case, store)) for case in CASES for store in _STORES]


def as_table(rows: Sequence[CancelRow]) -> str:
    """A Markdown table."""
    lines = ["| cancelled | store | median | 99 of 100 |", "|---|---|---|---|"]
    lines += [
        f"| {row.what} | {row.store} | {number(row.middle)} ms | {number(row.slow)} ms |"
        for row in rows
    ]
    return "\n".join(lines)


def as_json(rows: Sequence[CancelRow]) -> bytes:
    """`{"rows": […]}`."""
    return msgspec.json.format(msgspec.json.encode({"rows": rows}))
