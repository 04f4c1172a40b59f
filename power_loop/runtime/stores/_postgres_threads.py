"""The store's three threads: one writes, and commits for everybody at once; one reads; one listens.

A batch goes to the server as one pipeline: everything queued is one transaction, one round trip and
one commit, and the client never holds a lock between two statements of its own. When the connection
is lost, the batch is made again on a new one for as long as the store has patience; each function
of the schema can tell whether the lost call had landed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from math import inf
from threading import Event
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from power_loop.errors import PowerLoopError, StoreError, StoreUnavailable
from power_loop.log import logger
from power_loop.runtime.stores._postgres_errors import is_lost, translate
from power_loop.runtime.stores._postgres_open import Settings, connect, pauses
from power_loop.runtime.stores._postgres_schema import ensure
from power_loop.runtime.stores._postgres_work import Me, Transaction, Write
from power_loop.runtime.stores._postgres_writes import RenewAll, uncertain
from power_loop.runtime.stores.lease import this_process
from power_loop.runtime.stores.waiting import Home, Waiters, Watchers
from power_loop.runtime.stores.workers import Work, Worker, signals_of

if TYPE_CHECKING or find_spec("psycopg") is not None:
    from psycopg import Connection, Cursor
    from psycopg import Error as DriverError
    from psycopg.pq import TransactionStatus
    from psycopg.rows import TupleRow

__all__ = ["Read", "Reader", "Writer"]

T = TypeVar("T")

_RENEWALS = 3
"""Renewals of a lease within its time to live."""


class PostgresWorker(Worker):
    """A worker with a connection of its own, made again when it was lost."""

    def __init__(self, settings: Settings, name: str, reached: Event) -> None:
        """`reached` is set once any worker of the store has reached the server."""
        self.settings = settings
        self._reached = reached
        self._connection: Connection[TupleRow] | None = None
        super().__init__(name, settings.place)

    def _connect(self) -> Connection[TupleRow]:
        if self._connection is None:
            connection = connect(self.settings)
            try:
                self._prepare(connection)
            except DriverError as error:
                connection.close()
                raise self._typed(error) from error
            except BaseException:
                connection.close()
                raise
            self._connection = connection
            self._reached.set()
        return self._connection

    def _prepare(self, connection: Connection[TupleRow]) -> None:
        """Looks whether the tables are there that the thread works on, and may make them."""
        ensure(connection, self.settings)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _recover(self) -> None:
        """Leaves no transaction open, and no connection that may be in disorder."""
        connection = self._connection
        if connection is None:
            return
        try:
            if connection.closed or connection.broken:
                self._close()
            elif connection.info.transaction_status != TransactionStatus.IDLE:
                connection.rollback()
        except DriverError:
            self._close()

    def _patiently(self, act: Callable[[Connection[TupleRow]], T], lost: Callable[[], None]) -> T:
        """What `act` gives, tried again while the server is away; `lost` is told each time.

        A server that was never reached is not waited for: its address may be wrong.

        Raises:
            StoreError: it stayed away, or could not be reached in the first place.
            psycopg.Error: anything else.
        """
        left = pauses(self.settings.patience)
        while True:
            try:
                return act(self._connect())
            except (StoreUnavailable, DriverError) as error:
                self._recover()
                if not self._reached.is_set() or not is_lost(error.__cause__ or error):
                    raise
                lost()
                pause = next(left, None)
                if pause is None:
                    raise self._typed(error) from error
            sleep(pause)

    def _typed(self, error: Exception) -> PowerLoopError:
        """The error to raise where somebody waits."""
        if isinstance(error, PowerLoopError):
            return error
        typed = translate(error, self.settings.place, self.settings.patience)
        typed.__cause__ = error
        return typed


class Writer(PostgresWorker):
    """Commits everything queued in one transaction, and renews the leases of this store."""

    def __init__(
        self, settings: Settings, waiters: Waiters, watchers: Watchers, reached: Event
    ) -> None:
        self._waiters = waiters
        self._watchers = watchers
        super().__init__(settings, "power_loop store writer", reached)

    def reset(self) -> None:
        super().reset()
        owner = this_process()
        text = msgspec.json.encode(owner).decode()
        self.me = Me(owner, os.urandom(12).hex(), text, self.settings.place)
        self._held: dict[int, float] = {}
        self._renewal = inf

    def _patience(self) -> float | None:
        return max(0.0, self._renewal - monotonic()) if self._held else None

    def _serve(self, works: Sequence[Work[Any]]) -> Iterable[Home]:
        ready: list[Write[Any]] = []
        for work in works:
            assert isinstance(work, Write)
            ready.append(work)
        renewal = RenewAll() if self._held and monotonic() >= self._renewal else None
        if renewal is not None:
            ready.append(renewal)
        signals: list[Home] = []
        while ready:
            again, woken = self._attempt(ready)
            signals += woken
            ready = again
        if renewal is not None:
            self._renewed(renewal)
        return [*signals_of(works), *signals]

    def _attempt(self, works: Sequence[Write[Any]]) -> tuple[list[Write[Any]], Iterable[Home]]:
        """One transaction; if it cannot be had because of one of them, one for each.

        Returns those that are to be asked again, and whom to wake.
        """
        asked = [work for work in works if self._is_askable(work)]
        if not asked:
            return [], ()
        try:
            answers = self._patiently(lambda cx: self._ask(cx, asked), lambda: self._lost(asked))
        except (StoreError, DriverError) as error:
            if len(asked) > 1 and isinstance(error, DriverError):
                return self._one_by_one(asked)
            for work in asked:  # an error for each, as raising changes it
                if work.error is None:
                    work.error = type(typed := self._typed(error))(*typed.args)
                    work.error.__cause__ = error
            return [], ()
        return self._settle(asked, answers)

    def _is_askable(self, work: Write[Any]) -> bool:
        try:
            work.call(self.me)
        except PowerLoopError as error:
            work.error = error
            return False
        return True

    def _ask(
        self, connection: Connection[TupleRow], works: Sequence[Write[Any]]
    ) -> Sequence[Sequence[TupleRow] | None]:
        cursors: list[Cursor[TupleRow] | None] = []
        with connection.pipeline():
            connection.execute("BEGIN")
            for work in works:
                if work.error is not None:
                    cursors.append(None)
                    continue
                call = work.call(self.me)
                cursors.append(connection.execute(self.settings.sql(call.sql), call.arguments))
            connection.execute("COMMIT")
        return [None if cursor is None else cursor.fetchall() for cursor in cursors]

    def _lost(self, works: Sequence[Write[Any]]) -> None:
        for work in works:
            work.again = True
            if not work.repeatable and work.error is None:
                work.error = uncertain(self.settings.place)

    def _one_by_one(self, works: Sequence[Write[Any]]) -> tuple[list[Write[Any]], Iterable[Home]]:
        again: list[Write[Any]] = []
        signals: list[Home] = []
        for work in works:
            more, woken = self._attempt([work])
            again += more
            signals += woken
        return again, signals

    def _settle(
        self, works: Sequence[Write[Any]], answers: Sequence[Sequence[TupleRow] | None]
    ) -> tuple[list[Write[Any]], Iterable[Home]]:
        tx = Transaction(self.me)
        again: list[Write[Any]] = []
        for work, rows in zip(works, answers, strict=True):
            if rows is None:
                continue
            try:
                if work.settle(rows, tx):
                    again.append(work)
            except PowerLoopError as error:
                work.error = error
        if tx.held:
            self._held |= tx.held
            self._schedule(monotonic())
        for fence in tx.released:
            self._held.pop(fence, None)
        signals: list[Home] = []
        for session in tx.posted:
            signals += self._watchers.of(session)
        for session, seq in tx.grown.items():
            signals += self._waiters.below(session, seq)
        for session in tx.gone:
            signals += self._waiters.below(session, None)
        return again, signals

    def _schedule(self, now: float) -> None:
        self._renewal = min(self._renewal, now + min(self._held.values()) / _RENEWALS)

    def _renewed(self, renewal: RenewAll) -> None:
        if renewal.error is None:
            self._held = renewal.result
        else:
            logger.warning("leases could not be renewed, trying again: %s", renewal.error)
        self._renewal = inf
        if self._held:
            self._schedule(monotonic())

    def _retire(self) -> None:
        if not self._held:
            return
        try:
            self._connect().execute(
                self.settings.sql("DELETE FROM @leases WHERE holder = %s"), (self.me.holder,)
            )
        except (StoreError, DriverError) as error:
            self._recover()
            logger.warning("leases were not given back, they will expire: %s", error)
        self._held.clear()


class Read(Work[T]):
    """A question to the database. Its function gets a cursor whose rows are in binary form."""

    __slots__ = ("ask",)

    def __init__(self, ask: Callable[[Cursor[TupleRow]], T]) -> None:
        super().__init__()
        self.ask = ask


class Reader(PostgresWorker):
    """Answers questions, one after the other."""

    def __init__(self, settings: Settings, reached: Event) -> None:
        super().__init__(settings, "power_loop store reader", reached)

    def _patience(self) -> float | None:
        return None

    def _serve(self, works: Sequence[Work[Any]]) -> Iterable[Home]:
        for work in works:
            assert isinstance(work, Read)
            try:
                work.result = self._patiently(
                    lambda cx, ask=work.ask: ask(cx.cursor(binary=True)), lambda: None
                )
            except Exception as error:  # noqa: BLE001 - the top handler of this thread
                self._recover()
                work.error = self._typed(error)
        return signals_of(works)
