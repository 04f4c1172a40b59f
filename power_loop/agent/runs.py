"""The runs of a loop that go on."""

from __future__ import annotations

import anyio

from power_loop.driver.detached import LAST_MOMENT
from power_loop.driver.run import Run
from power_loop.log import logger

__all__ = ["Runs"]


class Runs:
    """Which run has a session, and how all of them are ended."""

    def __init__(self) -> None:
        self._of: dict[str, Run] = {}
        self._none: anyio.Event | None = None

    def of(self, session_id: str) -> Run | None:
        """The run of a session; None if none goes on."""
        return self._of.get(session_id)

    def add(self, run: Run) -> None:
        """A run of a session that has none begins."""
        self._of[run.session_id] = run

    def remove(self, run: Run) -> None:
        """It has ended."""
        del self._of[run.session_id]
        if not self._of and self._none is not None:
            self._none.set()

    async def end(self, grace: float) -> None:
        """Cancels all and waits for `grace` seconds until they have closed; then what does not let
        go of its run is left behind.
        """
        for run in list(self._of.values()):
            run.cancel("the loop is closing")
        await self._wait(grace)
        for run in list(self._of.values()):
            run.give_up()
        await self._wait(LAST_MOMENT)
        if self._of:
            logger.warning("the loop closed before %s had ended", ", ".join(self._of))

    async def _wait(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            while self._of:
                self._none = anyio.Event()
                await self._none.wait()
