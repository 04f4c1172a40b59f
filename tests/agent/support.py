"""What the tests of the loop share."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from power_loop import AgentLoop, MemoryStore
from power_loop.agent.toolset import AnyTool
from power_loop.events import Event, Stamped
from power_loop.runtime.stores.base import Store
from power_loop.session.records import Record, RunOpened
from tests.agent.stores import records_of
from tests.session.checker import violations
from tests.stores.places import new_place, open_place

__all__ = ["EVERY_STORE", "StoreKind", "check_log", "events_of", "log_of", "opened_store"]

T = TypeVar("T")

StoreKind = Literal["memory", "sqlite", "postgres"]
EVERY_STORE: tuple[StoreKind, ...] = ("memory", "sqlite", "postgres")


@asynccontextmanager
async def opened_store(kind: StoreKind, folder: Path) -> AsyncGenerator[Store]:
    """A store of this kind, closed afterwards."""
    store = MemoryStore() if kind == "memory" else open_place(new_place(kind, folder))
    try:
        yield store
    finally:
        await store.aclose()


async def log_of(loop: AgentLoop[Any], session: str) -> list[Record]:
    """All records of a session."""
    return records_of(await loop.store.read(session))


async def check_log(
    loop: AgentLoop[Any],
    session: str,
    *,
    deps: Any = None,
    tools: Iterable[AnyTool] | None = None,
    output_type: type[Any] | None = None,
    does_the_same: bool = True,
    only_last: bool = False,
) -> list[Record]:
    """All records of a session, found legal, with every run closed; replayed, it does the same.

    Unless the loop has changed since, or what it did depends on what no record holds. `only_last`:
    the runs before the last one were not made by a loop, so they are not replayed.
    """
    log = await log_of(loop, session)
    assert violations(log, closed=True) == []
    if does_the_same:
        run = [record.run for record in log if isinstance(record, RunOpened)][-1]
        again = await loop.replay(
            session,
            run=run if only_last else None,
            deps=deps,
            tools=tools,
            output_type=output_type,
        )
        assert again.divergence is None, str(again.divergence)
    return log


def events_of(kind: type[T], seen: list[Stamped]) -> list[T]:
    """Those of `seen` that are of this type."""
    found: list[T] = []
    for stamped in seen:
        event: Event = stamped.event
        if isinstance(event, kind):
            found.append(event)
    return found
