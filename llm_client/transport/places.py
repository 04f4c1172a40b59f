"""A bound on exchanges in flight whose bookkeeping cannot be upset by cancellation."""

from __future__ import annotations

import anyio

from llm_client.errors import ConfigError
from llm_client.transport.deadlines import Stopwatch

__all__ = ["Places"]


class Places:
    """Counts the exchanges in flight and makes those beyond `limit` wait, first come first served.

    HTTP libraries count connections, and lose count when a request is cancelled while it waits for
    one. Here a place is taken and given back in one step each, without an await in between.
    """

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ConfigError(f"max_connections must be at least 1, not {limit}")
        self._limit = limit
        self._free = anyio.Semaphore(limit, max_value=limit)

    @property
    def taken(self) -> int:
        """Exchanges in flight."""
        return self._limit - self._free.value

    async def take(self, watch: Stopwatch, peer: str) -> None:
        """Takes a place, waiting for one if need be.

        Raises:
            Timeout: none became free in time; phase pool, or total.
        """
        try:
            self._free.acquire_nowait()
        except anyio.WouldBlock:
            pass
        else:
            return
        with anyio.CancelScope(deadline=watch.enter("pool", watch.since)) as scope:
            await self._free.acquire()
        if scope.cancelled_caught:
            raise watch.timeout(anyio.current_time(), peer)

    def give_back(self) -> None:
        """Returns a place, to the longest waiting exchange if there is one."""
        self._free.release()
