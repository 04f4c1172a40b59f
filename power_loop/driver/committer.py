"""Records to the store: in order, whole units, once.

`commit` checks a unit, applies it to the session and queues it. Whoever must not go on before it is
durable waits; the rest rides along with the next one who does. One task per run appends all that is
queued in one transaction and then publishes it. It is the only shielded task of a run, and the last
one to end: what the pipeline left open when it was torn down is closed here.

A failed append poisons the run: the session in memory is ahead of its log and must be thrown away.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import anyio
from msgspec.structs import replace

from llm_client.types import Message, Usage
from power_loop.driver.hub import Hub
from power_loop.errors import Undelivered
from power_loop.events import Stamped, Transient
from power_loop.runtime.stores.base import Appended, Lease, Store
from power_loop.session.closing import closing
from power_loop.session.machine import IllegalRecord, Session
from power_loop.session.outcome import Outcome
from power_loop.session.records import Record, RunClosed, RunOpened
from power_loop.session.spent import Spent
from power_loop.session.text import repaired_strings

__all__ = ["Committer"]

T = TypeVar("T")


class _Unit:
    """One commit on its way. `refused`: the run may not close yet."""

    __slots__ = ("closes", "done", "error", "leaving", "records", "refused", "take")

    def __init__(self, records: list[Stamped], take: Sequence[str], *, waits: bool) -> None:
        self.records = records
        self.take = take
        self.done = anyio.Event() if waits else None
        self.error: Exception | None = None
        self.closes: RunClosed | None = None
        self.leaving: Sequence[str] | None = None
        self.refused = False

    def settle(self, error: Exception | None) -> None:
        self.error = error
        if self.done is not None:
            self.done.set()


class Committer:
    """The one writer of a session, for one run.

    Attributes:
        failure: why nothing more can be written; None while all is well.
        durable_seq: how many records of the session are durable.
        released: the lease has been given back, in the transaction that closed the run.
    """

    def __init__(
        self,
        session: Session,
        store: Store,
        lease: Lease,
        hub: Hub,
        *,
        root: str,
        clock: Callable[[], float],
        seconds: Callable[[], tuple[float, float]],
    ) -> None:
        """`seconds` says how long the run has been open, and has worked, where that is recorded."""
        self.session = session
        self.failure: Exception | None = None
        self.released = False
        self.durable_seq: int = session.seq
        self._store = store
        self._lease = lease
        self._hub = hub
        self._root = root
        self._clock = clock
        self._seconds = seconds
        self._run = ""
        self._queue: list[_Unit] = []
        self._wake: anyio.Event | None = None
        self._n = 0
        self._held: list[tuple[int, Transient]] = []
        self._last: tuple[Outcome, Mapping[str, Message], str, Usage | None] | None = None
        self._last_cost = 0.0
        self._unheard: Spent | None = None
        self._last_take: Sequence[str] = ()
        self._closer: _Unit | None = None
        self._over = False
        self._abandoned = False
        self._ended: anyio.Event | None = None

    # ── for the run ───────────────────────────────────────────────────────────────────────────────

    async def commit(
        self, records: Sequence[Record], *, later: bool = False, take: Sequence[str] = ()
    ) -> None:
        """Applies `records` as one unit; returns once they are durable, or at once if `later`.

        Raises:
            IllegalRecord: they are not legal now; nothing has changed.
            StoreError: they could not be stored.
        """
        self._check()
        stamped = self._apply(records)
        if self._store.immediate and not later and not self._queue:
            error = _run_at_once(self._append(stamped, take))
            if error is not None:
                raise error
            return
        unit = _Unit(stamped, take, waits=not later and not self._store.immediate)
        self._queue.append(unit)
        if not later:
            await self._settled(unit)

    async def barrier(self) -> None:
        """Returns once everything committed so far is durable.

        Raises:
            StoreError: it could not be stored.
        """
        self._check()
        if self.durable_seq < self.session.seq:
            unit = _Unit([], (), waits=not self._store.immediate)
            self._queue.append(unit)
            await self._settled(unit)

    async def close(
        self,
        outcome: Outcome,
        *,
        leaving: Sequence[str] | None,
        take: Sequence[str] = (),
        unheard: Spent | None = None,
    ) -> bool:
        """Closes the run durably and gives the lease back.

        False when the inbox holds items beside `take` and `leaving`: the run goes on. None leaves
        any. `unheard` is what those below have used.

        Raises:
            IllegalRecord: the run cannot close like this now.
            StoreError: it could not be stored.
        """
        self._check()
        record = RunClosed(
            self.session.run or "", repaired_strings(outcome), *self._seconds(), unheard
        )
        self.session.check(record)
        unit = _Unit([], take, waits=not self._store.immediate)
        unit.closes, unit.leaving = record, leaving
        self._queue.append(unit)
        self._closer = unit
        await self._settled(unit)
        return not unit.refused

    async def ending(self) -> Outcome | None:
        """How the run ends, if that is settled. Waits for a close under way to be decided."""
        unit = self._closer
        while unit is not None and unit.done is not None and not unit.done.is_set():
            await unit.done.wait()
            unit = self._closer
        if unit is not None and unit.closes is not None and not unit.refused:
            return unit.closes.outcome
        return None if self._last is None else self._last[0]

    def abandon(self) -> None:
        """Refuses whatever comes from here on: from code that the run ends without."""
        self._abandoned = True

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure
        if self._abandoned:
            raise RuntimeError("the run has ended without this code, which ignored that")

    def emit(self, event: Transient) -> None:
        """Publishes something transient, behind the records that came before it."""
        if self._abandoned or not self._hub.read_by_anyone(self.session.id):
            return
        if self.durable_seq < self.session.seq:
            self._held.append((self.session.seq, event))
        else:
            self._n += 1
            self._hub.publish(self._stamped(event, self.durable_seq, self._n))

    async def _settled(self, unit: _Unit) -> None:
        if self._store.immediate:
            _run_at_once(self._flush())
        else:
            assert unit.done is not None
            self._wake_up()
            await unit.done.wait()
        if unit.error is not None:
            raise unit.error

    # ── the task ──────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Appends what is queued until the run is finished. To be run as a task of its own."""
        with anyio.CancelScope(shield=True):
            while True:
                if self._queue:
                    await self._flush()
                elif self._last is not None:
                    await self._close_truthfully()
                    self._over = True
                    if self._ended is not None:
                        self._ended.set()
                    return
                else:
                    self._wake = anyio.Event()
                    await self._wake.wait()

    def finish(
        self,
        outcome: Outcome,
        finished: Mapping[str, Message],
        partial: str,
        spent: Usage | None,
        *,
        cost: float = 0.0,
        unheard: Spent | None = None,
        take: Sequence[str] = (),
    ) -> None:
        """No more commits will come. What is still open is closed with `outcome`.

        `finished` are messages with results that no record holds yet, `partial` is the text of an
        answer that was on its way, `spent` what it may have cost, `cost` in US dollars, `unheard`
        what those below have used.
        """
        self._last = (outcome, finished, partial, spent)
        self._last_cost, self._unheard = cost, unheard
        self._last_take = take
        if self._store.immediate:
            _run_at_once(self._finish_at_once())
        else:
            self._wake_up()

    def _wake_up(self) -> None:
        if self._wake is not None:
            self._wake.set()
            self._wake = None

    async def ended(self) -> None:
        """Returns once nothing will be written any more."""
        if not self._over:
            self._ended = self._ended or anyio.Event()
            await self._ended.wait()

    async def _finish_at_once(self) -> None:
        if self._queue:
            await self._flush()
        await self._close_truthfully()
        self._over = True

    async def _close_truthfully(self) -> None:
        assert self._last is not None
        if self.failure is not None:
            return
        records = closing(
            self.session,
            *self._last,
            cost=self._last_cost,
            seconds=self._seconds(),
            unheard=self._unheard,
        )
        if not records:
            return
        try:
            unit = self._apply(records)
        except IllegalRecord as error:
            # A defect of ours, which must not leave anybody waiting for the end.
            self.failure = error
            return
        await self._append(unit, self._last_take, final=True)

    async def _flush(self) -> None:
        queue, self._queue = self._queue, []
        last = queue[-1]
        if len(queue) == 1:
            records, take = last.records, last.take
        else:
            records = [record for unit in queue for record in unit.records]
            take = [item for unit in queue for item in unit.take]
        if last.closes is None:
            error = await self._append(records, take) if records else self.failure
        else:
            error = await self._append_close(records, take, last, last.closes)
        for unit in queue:
            unit.settle(error)

    async def _append_close(
        self, records: list[Stamped], take: Sequence[str], unit: _Unit, record: RunClosed
    ) -> Exception | None:
        last = self._stamped(record, self.session.seq + 1, 0)
        try:
            appended = await self._store.append(
                self._lease,
                self.durable_seq,
                [*records, last],
                take=take,
                final=True,
                leaving=unit.leaving,
            )
        except Undelivered:
            unit.refused = True
            return await self._append(records, take) if records else None
        except Exception as error:  # noqa: BLE001  whatever the store raises, the run is over
            self.failure = error
            return error
        self.session.apply(record)
        self.released = True
        self._publish([*records, last], appended)
        return None

    async def _append(
        self, records: list[Stamped], take: Sequence[str], *, final: bool = False
    ) -> Exception | None:
        if self.failure is not None:
            return self.failure
        try:
            appended = await self._store.append(
                self._lease, self.durable_seq, records, take=take, final=final
            )
        except Exception as error:  # noqa: BLE001  whatever the store raises, the run is over
            self.failure = error
            return error
        self.released = final
        self._publish(records, appended)
        return None

    def _publish(self, records: Sequence[Stamped], appended: Appended) -> None:
        self.durable_seq = appended.seq
        self._n = 0
        if not self._hub.read_by_anyone(self.session.id):
            self._held.clear()
            return
        first = appended.tree_seq - len(records) + 1
        for offset, stamped in enumerate(records):
            self._hub.publish(replace(stamped, tree_seq=first + offset))
            self._n = 0
            while self._held and self._held[0][0] <= stamped.seq:
                self._n += 1
                event = self._held.pop(0)[1]
                self._hub.publish(self._stamped(event, stamped.seq, self._n))

    def _apply(self, records: Sequence[Record]) -> list[Stamped]:
        session = self.session
        seq = session.seq
        session.apply(*records)
        return [self._stamped(record, seq + i, 0) for i, record in enumerate(records, 1)]

    def _stamped(self, event: Record | Transient, seq: int, n: int) -> Stamped:
        session = self.session
        if type(event) is RunOpened or type(event) is RunClosed:
            self._run = event.run
        at = self._clock()
        return Stamped(session.id, seq, n, self._root, 0, at, self._run, session.round, event)


def _run_at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine that does not suspend."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        return ended.value
    coroutine.close()
    raise RuntimeError("a store that calls itself immediate suspended in append()")
