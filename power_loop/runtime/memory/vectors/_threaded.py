"""What both indexes have in common: a thread that has the connection, from the first call on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar

import anyio

from power_loop.errors import StoreUnavailable
from power_loop.runtime.stores.forks import survive_forks
from power_loop.runtime.stores.workers import Work, Worker

__all__ = ["Job", "ThreadedIndex"]

C = TypeVar("C")
T = TypeVar("T")


class Job(Work[T]):
    """Something to be done with the connection; it may be done twice, where that can be lost."""

    __slots__ = ("act",)

    def __init__(self, act: Callable[[Any], T]) -> None:
        super().__init__()
        self.act = act


class ThreadedIndex(Generic[C]):
    """An index, as far as it is opened and closed."""

    def __init__(self, thread: Worker, place: str) -> None:
        """`thread` does jobs; `place` says where the index is, in errors."""
        self._thread = thread
        self._place = place
        self._closed = False
        survive_forks(thread.freeze, thread.thaw, thread.reset)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        with anyio.CancelScope(shield=True):
            await self.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._place!r})"

    async def aclose(self) -> None:
        """See `VectorIndex.aclose`. Cancelled, it does so all the same, only without being waited
        for."""
        if self._closed:
            return
        self._closed = True
        ended = self._thread.stop()
        if ended is not None:
            await ended.event.wait()
            self._thread.join()

    async def _do(self, act: Callable[[C], T]) -> T:
        if self._closed:
            raise StoreUnavailable(f"the index at {self._place} is closed")
        return await self._thread.done(Job(act))
