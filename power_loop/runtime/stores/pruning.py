"""Retention: sessions that nobody has touched for long are deleted."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, nextafter

from msgspec import Struct
from msgspec.structs import replace

from power_loop.errors import SessionBusy, SessionNotFound
from power_loop.runtime.stores.base import EVERY_SESSION, SessionInfo, SessionQuery, Store

__all__ = ["Pruned", "all_sessions", "prune"]

_PAGE = 200


class Pruned(Struct, frozen=True):
    """What was deleted: how many sessions in all, and which at the top of each tree.

    `busy` were due as well, but somebody was running them, or one below them.
    """

    deleted: int
    sessions: tuple[str, ...]
    busy: tuple[str, ...]


async def prune(
    store: Store,
    before: float,
    *,
    query: SessionQuery = EVERY_SESSION,
    preview: bool = False,
) -> Pruned:
    """Deletes the sessions that `query` finds and that have not changed since `before`.

    A session goes with all below it, so it goes only if none of that is younger. Of those that
    `query` finds, ephemeral ones that have completed go in any case.

    Args:
        store: where they are.
        before: seconds since the epoch.
        query: only these, and only at the top of their trees; all if left out.
        preview: deletes nothing, and says what would be.

    Raises:
        StoreError: the store failed; what had been deleted by then is gone.
    """
    doomed: list[str] = []
    if query.lifecycle in (None, "ephemeral") and query.status in (None, "completed"):
        served = replace(query, lifecycle="ephemeral", status="completed")
        doomed += [info.id for info in await all_sessions(store, served)]
    doomed += [
        info.id
        for info in await all_sessions(store, query, before)
        if info.parent is None and await _has_aged(store, info.id, before)
    ]
    deleted = 0
    gone: list[str] = []
    busy: list[str] = []
    for session in dict.fromkeys(doomed):
        try:
            deleted += 0 if preview else await store.delete(session)
        except SessionBusy:
            busy.append(session)
        except SessionNotFound:  # somebody else deletes, too
            continue
        else:
            gone.append(session)
    return Pruned(deleted, tuple(gone), tuple(busy))


async def _has_aged(store: Store, session: str, before: float) -> bool:
    """Whether nothing below a session is younger."""
    for info in await all_sessions(store, SessionQuery(parent=session)):
        if info.updated >= before or not await _has_aged(store, info.id, before):
            return False
    return True


async def all_sessions(
    store: Store, query: SessionQuery, before: float | None = None
) -> Sequence[SessionInfo]:
    """All that `query` finds, also those that share one moment at the border of two pages."""
    found: dict[str, SessionInfo] = {}
    limit = _PAGE
    while True:
        page = await store.list(query, limit=limit, before=before)
        known = len(found)
        found.update((info.id, info) for info in page)
        if len(page) < limit:
            return [*found.values()]
        # More may be to come of the very moment at which the page ends.
        before = nextafter(page[-1].updated, inf)
        limit = limit * 2 if len(found) == known else limit
