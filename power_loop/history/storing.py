"""A whole session into a store at once: all of it, or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from msgspec import Struct

from power_loop.driver.shield import to_the_end
from power_loop.errors import SessionError, StoreError
from power_loop.events import Stamped
from power_loop.log import logger
from power_loop.runtime.artifacts.base import ArtifactStore
from power_loop.runtime.stores.base import CancelRequested, Steer, Store

__all__ = ["Fill", "store_new"]


class Fill(Struct, frozen=True):
    """The large outputs of a session to be made: those of another one, and texts by handle."""

    artifacts: ArtifactStore
    source: str = ""
    texts: Mapping[str, str] = {}

    async def into(self, session_id: str) -> None:
        """Keeps them for a session.

        Raises:
            StoreError: they could not be kept, or not all of them.
        """
        if self.source:
            await self.artifacts.copy_artifacts(self.source, session_id)
        for handle, text in self.texts.items():
            await self.artifacts.put_artifact(session_id, handle, text)


async def store_new(
    store: Store,
    session_id: str,
    stamped: Sequence[Stamped],
    metadata: Mapping[str, str],
    at: float,
    inbox: Sequence[Steer | CancelRequested] = (),
    fill: Fill | None = None,
) -> None:
    """Makes a session of these records, and of what waits in its inbox.

    `fill` keeps its large outputs, before any record can tell of them.

    Raises:
        StoreError: it could not be stored; nothing is left of it.
    """
    await to_the_end(partial(_store, store, session_id, stamped, metadata, at, inbox, fill))


async def _store(
    store: Store,
    session_id: str,
    stamped: Sequence[Stamped],
    metadata: Mapping[str, str],
    at: float,
    inbox: Sequence[Steer | CancelRequested],
    fill: Fill | None,
) -> None:
    await store.create(session_id, metadata=metadata, at=at)
    try:
        if fill is not None:
            await fill.into(session_id)
        lease = await store.claim(session_id, steal="never")
        try:
            for item in inbox:
                await store.post(session_id, item)
            await store.append(lease, 0, stamped)
        finally:
            await store.release(lease)
    except Exception:
        await _discard(store, session_id, fill)
        raise


async def _discard(store: Store, session_id: str, fill: Fill | None) -> None:
    try:
        if fill is not None:
            await fill.artifacts.delete_artifacts(session_id)
        if (await store.info(session_id)).seq == 0:
            await store.delete(session_id)
    except (StoreError, SessionError) as error:
        logger.warning("the empty session %r stays behind: %s", session_id, error)
