"""A run to iterate over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic

import anyio
from typing_extensions import TypeVar

from power_loop.agent.result import RunResult
from power_loop.driver.hub import Reader
from power_loop.driver.run import Run
from power_loop.events import Stamped

__all__ = ["RunStream"]

OutputT = TypeVar("OutputT", default=None)


class RunStream(Generic[OutputT]):
    """The events of one run, and its result.

    Iterating ends with the run; an error that ended the run is raised then. Leaving the block
    before that cancels the run.

    Attributes:
        session_id: the session the run belongs to.
        run_id: the run's id.
    """

    def __init__(
        self, run: Run, session_id: str, reader: Reader, finish: Callable[[], RunResult[OutputT]]
    ) -> None:
        self.session_id = session_id
        self.run_id = run.run_id
        self._run = run
        self._reader = reader
        self._finish = finish
        self._over = anyio.Event()

    def cancel(self, reason: str = "cancelled") -> None:
        """Has the run end `cancelled`."""
        self._run.cancel(reason)

    async def result(self) -> RunResult[OutputT]:
        """Waits for the run and gives its result. Events not read by then are passed over.

        Raises:
            Exception: what ended the run, if it ended with an error.
        """
        self._reader.close()
        await self._over.wait()
        return self._finish()

    def __aiter__(self) -> RunStream[OutputT]:
        return self

    async def __anext__(self) -> Stamped:
        try:
            return await self._reader.__anext__()
        except StopAsyncIteration:
            await self._over.wait()
            if self._run.error is not None:
                self._finish()
            raise

    def end(self) -> None:
        """Called once the run has closed."""
        self._reader.close()
        self._over.set()
