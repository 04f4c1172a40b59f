"""Figure 10, first part: many sessions at once through one loop, on SQLite and on PostgreSQL.

No message is lost, doubled or out of order, no run interleaves, and nobody hears of a lock.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import anyio

from llm_client.types import LLMRequest
from power_loop import AgentLoop, tool
from power_loop.errors import PowerLoopError
from power_loop.session.records import RunOpened, ToolStarted
from tests.agent.scripted import Reply, Scripted, calls, says
from tests.agent.stores import records_of
from tests.figures.result import FigureResult
from tests.session.checker import violations
from tests.stores.places import KINDS, DurableStore, new_place, open_place

_TURNS = 5
_AT_ONCE = 256
_LOOK_SECONDS = 0.005


def run(full: bool) -> FigureResult:
    """10,000 sessions of five messages each on both stores; small: 200."""
    sessions = 10_000 if full else 200
    failures, told = list[str](), list[str]()
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            wrong, words = anyio.run(_on, new_place(kind, Path(folder)), sessions)
        failures += [f"{kind}: {each}" for each in wrong]
        told.append(f"{kind}: {words}")
    cases = sessions * _TURNS * len(KINDS)
    return FigureResult(cases, tuple(failures), "; ".join(told))


@tool
def count(n: int) -> str:
    """Counts."""
    return f"counted to {n}"


def _answer(request: LLMRequest) -> Reply:
    last = request.messages[-1]
    if last.role == "user" and last.text == "message 2":
        return calls(("call", "count", {"n": 3}))
    return says(f"answer to {last.text}")


async def _on(place: str, sessions: int) -> tuple[list[str], str]:
    llm = Scripted(by=_answer)
    failures: list[str] = []
    lags: list[float] = []
    began = time.perf_counter()
    async with open_place(place) as store:
        async with AgentLoop(llm, tools=[count], store=store) as loop:
            limit = anyio.Semaphore(_AT_ONCE)

            async def talk(session: str) -> None:
                async with limit:
                    try:
                        await _talk(loop, session, failures)
                    except PowerLoopError as error:
                        failures.append(f"{session}: {error!r}")

            async with anyio.create_task_group() as watching:
                watching.start_soon(_watch, lags)
                async with anyio.create_task_group() as tasks:
                    for n in range(sessions):
                        tasks.start_soon(talk, f"s{n}")
                watching.cancel_scope.cancel()
        seconds = time.perf_counter() - began
        failures += [f"an illegal request: {fault}" for fault in llm.illegal]
        failures += await _judge(store, sessions)
    words = (
        f"{sessions} sessions x {_TURNS} turns, {sessions * _TURNS / seconds:.0f} turns/s, "
        f"{_AT_ONCE} at once, largest lag of the event loop {max(lags) * 1000:.0f} ms"
    )
    return failures, words


async def _talk(loop: AgentLoop, session: str, failures: list[str]) -> None:
    await loop.store.create(session)
    for n in range(_TURNS):
        result = await loop.send(f"message {n}", session)
        if result.status != "completed":
            failures.append(f"{session}: message {n} ended {result.status}")


async def _watch(lags: list[float]) -> None:
    """How much later than asked the event loop comes back."""
    while True:
        before = time.perf_counter()
        await anyio.sleep(_LOOK_SECONDS)
        lags.append(time.perf_counter() - before - _LOOK_SECONDS)


async def _judge(store: DurableStore, sessions: int) -> list[str]:
    found: list[str] = []
    records = 0
    expected = [f"message {n}" for n in range(_TURNS)]
    for n in range(sessions):
        log = records_of(await store.read(f"s{n}"))
        records += len(log)
        found += [f"s{n}: {each}" for each in violations(log, closed=True)]
        inputs = [m.text for r in log if isinstance(r, RunOpened) for m in r.input]
        if inputs != expected:
            found.append(f"s{n}: its messages are {inputs}")
        if sum(isinstance(r, ToolStarted) for r in log) != 1:
            found.append(f"s{n}: its tool did not run once")
    if await store.check() != records:
        found.append("the store holds other records than those of its sessions")
    return found
