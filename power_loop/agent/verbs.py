"""The verbs that do not run the model: they look at sessions, say something to them, end them."""

from __future__ import annotations

from collections.abc import Sequence

from llm_client.types import Message, new_id
from power_loop.agent.intake import Input, to_message
from power_loop.agent.opening import PendingCall, abandonment, pending_calls
from power_loop.agent.time_verbs import TimeVerbs
from power_loop.runtime.stores.base import CancelRequested, Posted, Steer
from power_loop.session.text import repaired_text
from power_loop.session.view import full_history

__all__ = ["SessionVerbs"]


class SessionVerbs(TimeVerbs):
    """Base of `AgentLoop`."""

    async def abort_pending(self, session_id: str, reason: str = "given up") -> int:
        """Gives up all open calls of a session, truthfully; returns how many there were.

        Raises:
            SessionNotFound, SessionBusy: nothing was changed.
        """
        async with self._runner.owned(session_id, "fail") as owned:
            count = len(owned.session.open_calls)
            records = abandonment(owned.session, new_id(), repaired_text(reason))
            if records:
                await self._runner.append(owned, records)
            return count

    async def cancel(self, session_id: str, reason: str = "cancelled") -> bool:
        """Has the session's run end `cancelled`; False if none runs, or it has just ended.

        A run of this loop is cancelled at once, one of another process at its next round.

        Raises:
            SessionNotFound: there is none of that id.
        """
        here = await self._runner.cancel(session_id, reason)
        if here is not None:
            return here
        info = await self.store.info(session_id)
        if info.status != "running":
            return False
        return (await self.store.post(session_id, CancelRequested(repaired_text(reason)))).running

    async def steer(
        self, session_id: str, input: Input, *, dedupe_key: str | None = None
    ) -> Posted:
        """Says something to a session while it runs, from any process.

        It is stored at once and enters at the next round, never between a call and its result. If
        nothing is running it waits for the next run. A `dedupe_key` that was used before posts
        nothing.

        Raises:
            InvalidInput, CallerError, SessionNotFound: nothing was stored.
        """
        message = self._runner.checked(to_message(input, new_id()))
        return await self.store.post(session_id, Steer(message), dedupe_key=dedupe_key)

    # ── looking ───────────────────────────────────────────────────────────────────────────────────

    async def get_messages(
        self, session_id: str, *, include_compacted: bool = False
    ) -> Sequence[Message]:
        """The session's messages as the model sees them, or all that there ever were.

        Raises:
            SessionNotFound: there is none of that id.
        """
        if not include_compacted:
            return tuple((await self._runner.sessions.snapshot(session_id)).view)
        records = await self.store.read(session_id)
        return full_history([stamped.event for stamped in records])

    async def get_pending(self, session_id: str) -> tuple[PendingCall, ...]:
        """The session's open calls.

        Raises:
            SessionNotFound: there is none of that id.
        """
        return pending_calls(await self._runner.sessions.snapshot(session_id))

    async def close_session(self, session_id: str, *, cascade: bool = True) -> int:
        """Deletes a session and, with `cascade`, those of its sub-agents; returns how many.

        Raises:
            SessionNotFound, SessionBusy: nothing was deleted.
        """
        count = await self.store.delete(session_id, cascade=cascade)
        self._runner.sessions.forget(session_id)
        return count
