"""The verbs that do not run the model: they look at sessions, say something to them, end them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import get_args

from llm_client.types import Message, new_id
from power_loop import agent
from power_loop.agent.below import check_not_below
from power_loop.agent.deleting import delete
from power_loop.agent.intake import Input, to_message
from power_loop.agent.opening import PendingCall, pending_calls, works_below
from power_loop.agent.options import check_one_of
from power_loop.agent.time_verbs import TimeVerbs
from power_loop.errors import SessionNotFound
from power_loop.runtime.stores.base import CancelRequested, Posted, Steer, SteerMode
from power_loop.session.text import repaired_text
from power_loop.session.view import full_history

__all__ = ["SessionVerbs"]


class SessionVerbs(TimeVerbs):
    """Base of `AgentLoop`."""

    async def abort_pending(self, session_id: str, reason: str = "given up") -> int:
        """Gives up all open calls of a session, and of those below it; returns how many it had.

        The model is told the truth about each: that it never began; that it was stopped midway; or,
        if its process died while it ran, that its outcome is unknown.

        Raises:
            UsageError: it is below another session, of which the call is to be given up.
            SessionNotFound, SessionBusy: nothing was changed.
        """
        await check_not_below(self.store, session_id)
        return await agent.children.give_up(self._runner, session_id, repaired_text(reason))

    async def cancel(self, session_id: str, reason: str = "cancelled") -> bool:
        """Has the session's run end `cancelled`; False if none runs, or it has just ended.

        At once, wherever it runs: also in the middle of a model call of another process.

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
        self,
        session_id: str,
        input: Input,
        *,
        mode: SteerMode = "next_round",
        dedupe_key: str | None = None,
    ) -> Posted:
        """Says something to a session while it runs, from any process.

        It is stored at once and delivered exactly once, never between a call and its result.
        `posted.running` says whether somebody runs the session; if not, it waits for the next run.

        Args:
            session_id: the session.
            input: text, an image, a file, several parts in order, or a user's message.
            mode: when it enters. `next_round`: when the run next asks the model. `when_idle`: when
                it has its answer and would end; it then goes on with this message, with another
                set of rounds. A run that ends otherwise leaves it for the next one, also to be
                heard at that one's end. `interrupt`: at once. The model call under way is closed;
                the text that had arrived stays, as a message with `meta={"interrupted": "true"}`.
                Calls of tools that run are stopped and told as interrupted, finished ones keep
                their results, and all others are told as not run, also those that wait for
                approval. Where nothing is running there is nothing to stop: it is as `next_round`.
            dedupe_key: if it was used before in the session, nothing is posted.

        Raises:
            InvalidInput, CallerError, UsageError, SessionNotFound: nothing was stored.
        """
        check_one_of("mode", mode, get_args(SteerMode))
        message = self._runner.checked(to_message(input, new_id()))
        return await self.store.post(session_id, Steer(message, mode), dedupe_key=dedupe_key)

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
        """The session's open calls, and after them those of the sessions below that they wait for.

        Raises:
            SessionNotFound: there is none of that id.
        """
        session = await self._runner.sessions.snapshot(session_id)
        found = [*pending_calls(session)]
        for call in session.open_calls.values():
            if call.state == "waiting" and works_below(session, call):
                with suppress(SessionNotFound):  # it was to be made when the process died
                    found += await self.get_pending(call.token)
        return tuple(found)

    async def close_session(self, session_id: str) -> int:
        """Deletes a session with those of its sub-agents that are not detached; returns how many.

        What is kept of large outputs goes along.

        Raises:
            SessionNotFound, SessionBusy: nothing was deleted.
        """
        count = await delete(self.store, self._runner.artifacts, session_id)
        self._runner.sessions.forget(session_id)
        return count
