"""Sessions as a process leaves them that dies while tools run, without a process that dies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llm_client.types import Message, Text, ToolCall
from power_loop.events import Stamped
from power_loop.runtime.stores.base import Store
from power_loop.session.records import (
    MessageAppended,
    ModelAsked,
    ModelEnded,
    Record,
    RunOpened,
    ToolStarted,
)
from tests.session.samples import settled

__all__ = ["left_behind", "write"]


async def left_behind(
    store: Store,
    session: str,
    wanted: Mapping[str, str],
    *,
    begun: Sequence[str],
    finished: Sequence[str] = (),
) -> None:
    """A session whose process died while it ran the calls `begun`; `finished` had settled by then.

    `wanted` are all calls of the answer, by id, with the names of their tools.
    """
    calls = tuple([ToolCall(id, name, '{"n":1}') for id, name in wanted.items()])
    records: list[Record] = [
        RunOpened("r1", (Message("user", (Text("go"),), id="u1"),)),
        ModelAsked("t1", 1, "m"),
        ModelEnded("t1", "ok"),
        MessageAppended(Message("assistant", calls, id="a1"), "t1"),
    ]
    for id, name in wanted.items():
        if id in begun or id in finished:
            records.append(ToolStarted(id, name, '{"n":1}', f"{session}/{id}", "hash"))
    records += [settled(id) for id in finished]
    await store.create(session)
    await write(store, session, records)


async def write(store: Store, session: str, records: Sequence[Record]) -> None:
    """Appends records to a session as a run of it does, and lets go of it without closing."""
    before = (await store.info(session)).seq
    lease = await store.claim(session)
    stamped = [
        Stamped(session, before + n, 0, session, 0, 0.0, "r1", 1, record)
        for n, record in enumerate(records, 1)
    ]
    await store.append(lease, before, stamped)
    await store.release(lease)
