"""Sessions that are worked on for a call of another one: whose they are, and who goes on."""

from __future__ import annotations

from power_loop.agent.sessions import Sessions
from power_loop.errors import UsageError
from power_loop.runtime.stores.base import SessionInfo, Store

__all__ = ["check_not_below", "who_goes_on"]


async def check_not_below(store: Store, session_id: str) -> None:
    """Raises UsageError: the session is worked on for a call of another one, which alone may go on
    with it: under its budget, with the tools and the prompt that were meant for it.

    Raises:
        SessionNotFound: there is none of that id.
    """
    info = await _below(store, session_id)
    if info is not None:
        raise UsageError(
            f"session {session_id!r} is worked on for a call of session {info.parent!r}, which "
            f"alone goes on with it: use session {info.root!r} instead, or make a session of its "
            f"own with fork({session_id!r})"
        )


async def who_goes_on(sessions: Sessions, store: Store, session_id: str) -> str:
    """The session, if it may go on; else the nearest one above it that may.

    One below may for as long as its call is open, and all calls above that.

    Raises:
        SessionNotFound: there is none of that id.
    """
    at = found = session_id
    while (info := await _below(store, at)) is not None and info.parent is not None:
        above = await sessions.snapshot(info.parent)
        if not any(call.token == at for call in above.open_calls.values()):
            found = above.id
        at = above.id
    return found


async def _below(store: Store, session_id: str) -> SessionInfo | None:
    """What is known of a session that is worked on for a call, None of any other.

    Its id says whose it is, so the store is not asked about most sessions; only the store knows
    whether that one is still there.
    """
    above = session_id.rpartition("/")[0]
    if not above:
        return None
    info = await store.info(session_id)
    return info if info.parent == above else None
