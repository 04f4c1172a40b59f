"""A whole session into a store at once: all of it, or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from power_loop.driver.shield import to_the_end
from power_loop.errors import SessionError, StoreError
from power_loop.events import Stamped
from power_loop.log import logger
from power_loop.runtime.stores.base import CancelRequested, Steer, Store

__all__ = ["store_new"]


async def store_new(
    store: Store,
    session_id: str,
    stamped: Sequence[Stamped],
    metadata: Mapping[str, str],
    at: float,
    inbox: Sequence[Steer | CancelRequested] = (),
) -> None:
    """Makes a session of these records, and of what waits in its inbox.

    Raises:
        StoreError: it could not be stored; nothing is left of it.
    """
    await to_the_end(partial(_store, store, session_id, stamped, metadata, at, inbox))


async def _store(
    store: Store,
    session_id: str,
    stamped: Sequence[Stamped],
    metadata: Mapping[str, str],
    at: float,
    inbox: Sequence[Steer | CancelRequested],
) -> None:
    await store.create(session_id, metadata=metadata, at=at)
    try:
        lease = await store.claim(session_id, steal="never")
        try:
            for item in inbox:
                await store.post(session_id, item)
            await store.append(lease, 0, stamped)
        finally:
            await store.release(lease)
    except Exception:
        await _discard(store, session_id)
        raise


async def _discard(store: Store, session_id: str) -> None:
    try:
        if (await store.info(session_id)).seq == 0:
            await store.delete(session_id)
    except (StoreError, SessionError) as error:
        logger.warning("the empty session %r stays behind: %s", session_id, error)
