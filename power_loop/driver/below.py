"""**Protocol** Below: the sessions below the calls of a run."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from power_loop.driver.stopwatch import Pauses
from power_loop.pipeline.ports import ChildEnded
from power_loop.session.records import ToolStarted
from power_loop.session.spent import Spent

__all__ = ["Below"]


class Below(Protocol):
    """**Protocol**: runs sessions below calls, and knows what they have used."""

    async def run(
        self, started: ToolStarted, above: Callable[[], str | None], pauses: Pauses
    ) -> ChildEnded:
        """Runs the session below a call, or carries it on. It ends with whoever waits for it, and
        for the reason that `above` then gives. While it waits for people, rates or budgets, it does
        so in a context of `pauses`.
        """
        ...

    def left(self, call_id: str) -> Spent:
        """What a session has used whose call stopped waiting before it had come to an end."""
        ...

    def unheard(self, waits: Collection[str]) -> Spent | None:
        """What all such sessions have used of which `left` was not asked, and those that wait, but
        for no call of `waits` any longer; None for nothing.
        """
        ...

    async def conclude(self, waits: Collection[str], reason: str) -> None:
        """Has all such sessions end whose call is none of `waits` any longer, which is durable by
        now: `reason` is why nobody goes on with them. What they have been told goes to those above.

        A store that fails is logged: the call was, and nobody else may go on with them.
        """
        ...
