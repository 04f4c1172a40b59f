"""Putting to somebody what a call waits for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import inf

import anyio

from power_loop.driver.committer import Committer
from power_loop.driver.shield import own_cancellation
from power_loop.driver.stopwatch import Stopwatch
from power_loop.events import ResponderFailed
from power_loop.log import logger
from power_loop.pipeline.plan import Answer
from power_loop.session.records import CallWaiting
from power_loop.session.text import repaired_strings

__all__ = ["People", "Respond"]

Respond = Callable[[CallWaiting], Awaitable[Answer | None]]


class People:
    """Asks on behalf of one run; does not wait for an answer that would come too late.

    What goes wrong with it leaves the call open, and readers are told.
    """

    def __init__(
        self,
        respond: Respond | None,
        committer: Committer,
        stopwatch: Stopwatch,
        wall_clock: Callable[[], float],
        interrupted: Callable[[], bool],
    ) -> None:
        self._respond = respond
        self._committer = committer
        self._stopwatch = stopwatch
        self._wall_clock = wall_clock
        self._interrupted = interrupted
        self._asking: set[anyio.CancelScope] = set()

    def interrupt(self) -> None:
        """Waits no longer: the run has been interrupted."""
        for scope in self._asking:
            scope.cancel()

    async def respond(self, waiting: CallWaiting) -> Answer | None:
        """Puts to somebody what a call waits for, once that is durable; None if it stays open."""
        assert self._respond is not None
        await self._committer.barrier()
        if self._interrupted():
            return None
        left = inf if waiting.expires is None else waiting.expires - self._wall_clock()
        with self._stopwatch.paused(), anyio.move_on_after(left) as scope:
            self._asking.add(scope)
            try:
                return await own_cancellation(self._respond(waiting))
            except Exception as error:  # noqa: BLE001  foreign code; readers are told
                self._failed(waiting, error)
            finally:
                self._asking.discard(scope)
        return None

    def _failed(self, waiting: CallWaiting, error: Exception) -> None:
        kind = type(error).__name__
        logger.warning(
            "what call %r waits for stays open: %s: %s",
            waiting.call_id,
            kind,
            error,
            exc_info=True,
        )
        failed = ResponderFailed(waiting.call_id, waiting.token, kind, str(error)[:500])
        self._committer.emit(repaired_strings(failed))
