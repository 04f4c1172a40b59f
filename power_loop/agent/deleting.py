"""Deleting a session with all that is kept for it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from power_loop.errors import StoreError
from power_loop.log import logger
from power_loop.runtime.artifacts.base import ArtifactStore
from power_loop.runtime.stores.base import SessionQuery, Store
from power_loop.runtime.stores.pruning import all_sessions

__all__ = ["delete"]


async def delete(store: Store, artifacts: ArtifactStore | None, session_id: str) -> int:
    """Deletes a session and those bound to it, and their large outputs, wherever these are.

    Outputs outside of the store go last: what fails there leaves nothing that a session needs.

    Raises:
        SessionNotFound, SessionBusy: nothing was deleted.
    """
    elsewhere = None if _same(store, artifacts) else artifacts
    doomed: list[str] = []
    if elsewhere is not None:
        async with aclosing(_bound(store, session_id)) as bound:
            doomed = [each async for each in bound]
    count = await store.delete(session_id)
    for each in doomed:
        assert elsewhere is not None
        try:
            await elsewhere.delete_artifacts(each)
        except StoreError as error:
            logger.warning("large outputs of session %r stay behind: %s", each, error)
    return count


def _same(store: object, artifacts: object) -> bool:
    return store is artifacts


async def _bound(store: Store, session_id: str) -> AsyncGenerator[str]:
    """The session and those that go along when it is deleted."""
    yield session_id
    for info in await all_sessions(store, SessionQuery(parent=session_id)):
        if info.lifecycle != "detached":
            async with aclosing(_bound(store, info.id)) as below:
                async for each in below:
                    yield each
