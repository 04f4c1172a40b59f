"""A message for a session that somebody may be running: a run of its own, or a word into theirs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import anyio

from llm_client.types import Message
from power_loop.agent.sessions import Owned
from power_loop.errors import FollowUpQueued, SessionBusy
from power_loop.runtime.stores.base import Posted, Steer, Store

__all__ = ["own_or_steer"]

_RETRY_SECONDS = 0.05
"""A session that is held, but not by a run, is free in a moment."""


@asynccontextmanager
async def own_or_steer(
    store: Store,
    claim: Callable[[], AbstractAsyncContextManager[Owned]],
    session_id: str,
    message: Message,
) -> AsyncGenerator[tuple[Owned, tuple[str, ...]]]:
    """The session, and the inbox items that `message` is in by now, if nobody runs it.

    The message is posted only while a run is open. If that has ended by the time the message is
    stored, the session is claimed after all: whoever gets it first delivers the message.

    Raises:
        FollowUpQueued: a run is going on, and the message is in its inbox.
    """
    posted: Posted | None = None
    async with AsyncExitStack() as stack:
        while True:
            try:
                owned = await stack.enter_async_context(claim())
                break
            except SessionBusy:
                pass
            info = await store.info(session_id)
            if info.status != "running":
                with anyio.move_on_after(_RETRY_SECONDS):
                    await store.wait(session_id, info.seq)
                continue
            if posted is None:
                posted = await store.post(session_id, Steer(message))
                if not posted.running:
                    continue
            raise FollowUpQueued(session_id, posted.id)
        if posted is None:
            yield owned, ()
            return
        waiting = [item.id for item in await store.inbox(session_id)]
        if posted.id not in waiting or owned.session.open_calls:
            # Somebody has delivered it meanwhile, or it waits for the results of open calls.
            raise FollowUpQueued(session_id, posted.id)
        yield owned, (posted.id,)
