"""Calls that go on when their run does not wait for them any more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from llm_client.types import Message, Text, ToolResult
from power_loop.driver.detached import LAST_MOMENT, Detached
from power_loop.log import logger
from power_loop.runtime.stores.base import Steer, Store
from power_loop.session.records import ToolStarted
from power_loop.session.text import repaired_result

__all__ = ["Background"]

_MARK = "background"
"""In the notes of a message that tells of such a call: the key under which nobody is told twice."""


class Background:
    """The calls of one loop that have been left to go on, and where it is told what came of them.

    A call whose tool says `on_cancel="background"` has a task of its own from its beginning, so
    that its run can leave it. What comes of it then is posted to its session, once: the model hears
    of it at its next round, of this run or of a later one. Where the session is below another one
    and does not go on, the nearest above that does is told instead.

    Attributes:
        detached: starts the tasks, and contains other people's code.
    """

    def __init__(self, store: Store, who_goes_on: Callable[[str], Awaitable[str]]) -> None:
        """`who_goes_on` names the session that is to hear what one has to be told: itself, or one
        above it."""
        self._store = store
        self._who_goes_on = who_goes_on
        self.detached = Detached()
        self._left: dict[ToolStarted, Callable[[], None]] = {}
        self._none_left: anyio.Event | None = None

    def left(self, started: ToolStarted, stop: Callable[[], None]) -> None:
        """A run does not wait for this call any more; `stop` stops it."""
        self._left[started] = stop

    async def tell(self, session_id: str, started: ToolStarted, result: ToolResult) -> None:
        """Posts what came of a call that was left. A store that fails is logged: the call was."""
        # Of its attempt: a call may have been made again by somebody who could not wait for it.
        key = f"{started.idempotency_key}#{started.attempt}"
        told = _told(started, result, key)
        try:
            with anyio.CancelScope(shield=True):
                to = await self._who_goes_on(session_id)
                message = told if to == session_id else _from_below(told, session_id)
                await self._store.post(to, Steer(message), dedupe_key=key)
                # It may have come to its end meanwhile, too early to see this.
                await self.pass_on(to)
        except Exception:  # noqa: BLE001  nobody waits here who could be told
            logger.exception("what came of call %r could not be told", started.call_id)
        finally:
            self._left.pop(started, None)
            if not self._left and self._none_left is not None:
                self._none_left.set()

    async def pass_on(self, session_id: str) -> None:
        """Posts what a session was told of such calls to the one above that goes on, if it does not
        do so itself any more. However often: each is told there once.

        Raises:
            SessionError, StoreError: it could not be posted, or not all of it.
        """
        if not self._store.inbox_hint(session_id):
            return
        to = await self._who_goes_on(session_id)
        if to == session_id:
            return
        for each in await self._store.inbox(session_id):
            if isinstance(each.item, Steer) and each.item.message.meta:
                message, key = each.item.message, each.item.message.meta.get(_MARK)
                if key is not None:
                    item = Steer(_from_below(message, session_id))
                    await self._store.post(to, item, dedupe_key=key)
        await self.pass_on(to)

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


def _told(started: ToolStarted, result: ToolResult, key: str) -> Message:
    what = "has failed" if result.is_error else "has ended"
    text = (
        f"[background] The call {started.call_id} of {started.name}, which had been left to go on "
        f"in the background, {what}:"
    )
    parts = (Text(text), *repaired_result(result).content)
    return Message("user", parts, meta={_MARK: key})


def _from_below(message: Message, session_id: str) -> Message:
    origin = Text(f"[background] From the session {session_id!r} below, which does not go on:")
    return Message("user", (origin, *message.parts), meta=message.meta)
