"""Calls that go on when their run does not wait for them any more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from llm_client.types import Message, Text, ToolResult
from power_loop.driver.detached import Detached
from power_loop.log import logger
from power_loop.runtime.stores.base import Steer, Store
from power_loop.session.records import ToolStarted
from power_loop.session.text import repaired_result

__all__ = ["LAST_MOMENT", "Background"]

LAST_MOMENT = 1.0
"""Seconds to clean up for what has been stopped at the end of its grace."""


class Background:
    """The calls of one loop that have been left to go on, and where it is told what came of them.

    A call whose tool says `on_cancel="background"` has a task of its own from its beginning, so
    that its run can leave it. What comes of it then is posted to its session, once: the model hears
    of it at its next round, of this run or of a later one.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._detached = Detached()
        self._left: dict[ToolStarted, Callable[[], None]] = {}
        self._none_left: anyio.Event | None = None

    def start(self, work: Callable[[], Awaitable[None]]) -> None:
        """Runs something in a task of its own; it must raise nothing but its cancellation."""
        self._detached.start(work)

    def left(self, started: ToolStarted, stop: Callable[[], None]) -> None:
        """A run does not wait for this call any more; `stop` stops it."""
        self._left[started] = stop

    async def tell(self, session_id: str, started: ToolStarted, result: ToolResult) -> None:
        """Posts what came of a call that was left. A store that fails is logged: the call was."""
        # Of its attempt: a call may have been made again by somebody who could not wait for it.
        key = f"{started.idempotency_key}#{started.attempt}"
        try:
            with anyio.CancelScope(shield=True):
                item = Steer(_told(started, result))
                await self._store.post(session_id, item, dedupe_key=key)
        except Exception:  # noqa: BLE001  nobody waits here who could be told
            logger.exception("what came of call %r could not be told", started.call_id)
        finally:
            self._left.pop(started, None)
            if not self._left and self._none_left is not None:
                self._none_left.set()

    async def close(self, grace: float) -> None:
        """Waits for what goes on, for `grace` seconds, then stops it; that is told as well."""
        if await self._over(grace):
            return
        for stop in list(self._left.values()):
            stop()
        if not await self._over(LAST_MOMENT):
            names = ", ".join([f"{s.name} ({s.call_id})" for s in self._left])
            logger.warning("calls in the background ignore that they were stopped: %s", names)

    async def _over(self, seconds: float) -> bool:
        with anyio.move_on_after(seconds):
            while self._left:
                self._none_left = anyio.Event()
                await self._none_left.wait()
        return not self._left


def _told(started: ToolStarted, result: ToolResult) -> Message:
    what = "has failed" if result.is_error else "has ended"
    text = (
        f"[background] The call {started.call_id} of {started.name}, which had been left to go on "
        f"in the background, {what}:"
    )
    return Message("user", (Text(text), *repaired_result(result).content))
