"""Stores for tests: one that suspends around everything it does, and a look into any of them."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, Literal, TypeVar

import anyio.lowlevel

from power_loop.events import Stamped, is_record
from power_loop.runtime.stores.base import Appended, InboxItem, Lease, SessionInfo
from power_loop.runtime.stores.memory import MemoryStore
from power_loop.session.records import Record

__all__ = ["SlowStore", "at_once", "records_of"]

T = TypeVar("T")


class SlowStore(MemoryStore):
    """A store in memory that suspends before and after everything, as a database does.

    A cancelled call may or may not have taken effect; a cancelled claim gives back what it got.
    """

    immediate = False

    def __init__(self, steps: int = 1) -> None:
        super().__init__()
        self.steps = steps
        self.appends = 0

    async def _suspend(self) -> None:
        for _ in range(self.steps):
            await anyio.lowlevel.checkpoint()

    async def claim(
        self, session: str, *, ttl: float = 30.0, steal: Literal["dead", "never"] = "dead"
    ) -> Lease:
        await self._suspend()
        lease = await super().claim(session, ttl=ttl, steal=steal)
        try:
            await self._suspend()
        except BaseException:
            at_once(super().release(lease))
            raise
        return lease

    async def release(self, lease: Lease) -> None:
        await self._suspend()
        await super().release(lease)

    async def append(
        self,
        lease: Lease,
        expected_seq: int,
        records: Sequence[Stamped],
        *,
        take: Sequence[str] = (),
        final: bool = False,
        leaving: Sequence[str] | None = None,
    ) -> Appended:
        await self._suspend()
        self.appends += 1
        appended = await super().append(
            lease,
            expected_seq,
            records,
            take=take,
            final=final,
            leaving=leaving,
        )
        await self._suspend()
        return appended

    async def put_artifact(self, session: str, handle: str, text: str) -> None:
        await self._suspend()
        await super().put_artifact(session, handle, text)
        await self._suspend()

    async def read(
        self, session: str, after: int = 0, limit: int | None = None
    ) -> Sequence[Stamped]:
        await self._suspend()
        return await super().read(session, after, limit)

    async def inbox(self, session: str) -> Sequence[InboxItem]:
        await self._suspend()
        return await super().inbox(session)

    async def info(self, session: str) -> SessionInfo:
        await self._suspend()
        return await super().info(session)


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that does not suspend."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise AssertionError("it suspended")


def records_of(stamped: Sequence[Stamped]) -> list[Record]:
    """The records of a log."""
    return [each.event for each in stamped if is_record(each.event)]
