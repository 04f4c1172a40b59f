"""Where synchronous tools run: worker threads, bounded, and what happens to those left behind.

Python cannot stop a thread. When a call is cancelled or times out, its thread is *abandoned*: the
loop goes on at once, the function runs to its end unheard, unless it asks `context.cancelled`. The
interpreter waits for such a thread at exit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

from power_loop.errors import ToolError, UsageError
from power_loop.tools.context import ToolContext

__all__ = ["Threads"]

T = TypeVar("T")


class _Job:
    """How far one call in a thread is. Guarded by its owner's lock."""

    __slots__ = ("given_up", "running")

    def __init__(self) -> None:
        self.running = False
        self.given_up = False


class Threads:
    """A bound on the threads of one tool, or of several that share it.

    At most `limit` calls run at once in one event loop, the rest wait. `limit` threads may also be
    left behind by cancelled calls; while that many still run, new calls are refused, so that a tool
    which hangs cannot fill the process with threads.
    """

    def __init__(self, limit: int = 32) -> None:
        """Raises UsageError unless `limit` is at least 1."""
        if limit < 1:
            raise UsageError(f"a thread limit must be at least 1, not {limit}")
        self.limit = limit
        self._lock = threading.Lock()
        self._abandoned = 0
        # A limiter belongs to one event loop, a tool may serve several.
        self._limiters: RunVar[anyio.CapacityLimiter] = RunVar("power_loop.tools.threads")

    @property
    def abandoned(self) -> int:
        """Threads of cancelled calls that still run."""
        return self._abandoned

    async def run(self, function: Callable[[], T], context: ToolContext[object]) -> T:
        """Calls `function` in a thread, with the caller's context variables.

        Raises:
            ToolError: too many threads of earlier calls hang.
        """

        def left() -> None:
            context.abandon(context.cancel_reason or "nobody waits for it any more")

        return await self.work(function, f"tool {context.tool!r}", left)

    async def work(self, function: Callable[[], T], who: str, left: Callable[[], None]) -> T:
        """The same for what is no call of a tool: `left` is called if it is left behind.

        `anyio.from_thread.check_cancelled()` raises there from then on.

        Raises:
            ToolError: too many threads of earlier calls hang; `who` names what they are of.
        """
        if self._abandoned >= self.limit:
            raise ToolError(
                f"{who} is not available: {self._abandoned} earlier calls were given up and still "
                "run"
            )
        job = _Job()

        def work() -> T | None:
            with self._lock:
                if job.given_up:
                    return None
                job.running = True
            try:
                return function()
            finally:
                with self._lock:
                    job.running = False
                    self._abandoned -= job.given_up

        returned = False
        try:
            result = await anyio.to_thread.run_sync(
                work, abandon_on_cancel=True, limiter=self._limiter()
            )
            returned = True
        finally:
            if not returned:
                self._give_up(job, left)
        return result  # pyright: ignore[reportReturnType]  # None only when nobody waits

    def _give_up(self, job: _Job, left: Callable[[], None]) -> None:
        with self._lock:
            job.given_up = True
            still_runs = job.running
            self._abandoned += still_runs
        if still_runs:
            left()

    def _limiter(self) -> anyio.CapacityLimiter:
        limiter = self._limiters.get(None)
        if limiter is None:
            limiter = anyio.CapacityLimiter(self.limit)
            self._limiters.set(limiter)
        return limiter
