"""The calls of one batch, each in its turn: the order is the one that is recorded."""

from __future__ import annotations

import anyio

from power_loop.history.script import Cut, Diverged, Script, call_of
from power_loop.pipeline.ports import Job
from power_loop.session.records import Record

__all__ = ["Turns"]


class Turns:
    """Jobs that wait for their turn. `failure` is the first thing that one of them raised."""

    def __init__(self, script: Script, live: int) -> None:
        self.failure: BaseException | None = None
        self._script = script
        self._live = live
        self._parked = 0
        self._broken_off = False
        self._scope: anyio.CancelScope | None = None
        self._waiting: dict[str, tuple[anyio.Event, Record]] = {}

    async def run(self, job: Job, scope: anyio.CancelScope | None) -> None:
        """Runs one.

        If it breaks off, the others are cancelled: not at once, but when they have come as far as
        they had come then.
        """
        self._scope = scope
        goes_on = False
        try:
            goes_on = await job.run()
        except (Cut, Diverged) as error:
            self.failure = error
        except Exception as error:  # noqa: BLE001  raised again by `each`
            if not self._broken_off:
                self.failure = self.failure or error
        self._live -= 1
        self._broken_off = self._broken_off or not goes_on
        if self._is_stuck():
            self._stop()
        if scope is not None and isinstance(self.failure, Cut | Diverged):
            scope.cancel()

    async def turn(self, call_id: str, record: Record) -> None:
        """Returns once the next record that is stored is of this call, and of this kind."""
        while not self._is_turn(call_id, record):
            event = anyio.Event()
            self._waiting[call_id] = event, record
            if self._is_stuck():
                self._stop()
            await event.wait()

    async def park(self) -> None:
        """Stays until the run is stopped."""
        self._parked += 1
        if self._is_stuck():
            self._stop()
        await anyio.sleep_forever()

    def advance(self) -> None:
        """Wakes whose turn it is."""
        call_id = self._whose_turn()
        if call_id is not None:
            self._waiting.pop(call_id)[0].set()

    def _is_turn(self, call_id: str, record: Record) -> bool:
        stored = self._script.next
        return type(stored) is type(record) and call_of(stored) == call_id

    def _whose_turn(self) -> str | None:
        """Which of those that wait may go on."""
        call_id = call_of(self._script.next)
        if call_id is None or call_id not in self._waiting:
            return None
        return call_id if self._is_turn(call_id, self._waiting[call_id][1]) else None

    def _is_stuck(self) -> bool:
        if not self._live or self._parked + len(self._waiting) < self._live:
            return False
        return self._whose_turn() is None

    def _stop(self) -> None:
        """Nobody can go on: one of them has broken off, or the batch, or the run, was stopped."""
        if self._scope is not None and self._script.batch_is_interrupted():
            self._broken_off = True
        if not self._broken_off:
            records = [record for _, record in self._waiting.values()]
            self.failure = self._script.parting(records[0]) if records else Cut()
        if self._scope is None:
            assert self.failure is not None
            raise self.failure
        self._scope.cancel()
