"""The store's two threads: one writes, and commits for everybody at once; one reads.

Work comes through a queue; whoever waits for it is woken by one call into each event loop, after
the commit. Neither thread depends on the health of an event loop, so leases are renewed whatever
the program does with its own.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from math import inf
from sqlite3 import Connection
from time import monotonic
from typing import Any, TypeVar

from power_loop.errors import InvalidInput, PowerLoopError, StoreError
from power_loop.log import logger as _log
from power_loop.runtime.stores._sqlite_errors import concerns_all, translate
from power_loop.runtime.stores._sqlite_open import Settings, connect
from power_loop.runtime.stores._sqlite_peek import Peek
from power_loop.runtime.stores._sqlite_reads import head, posted_after
from power_loop.runtime.stores._sqlite_work import Transaction, Write
from power_loop.runtime.stores._sqlite_writes import RenewAll
from power_loop.runtime.stores.lease import this_process
from power_loop.runtime.stores.waiting import Home, Waiters, Watchers
from power_loop.runtime.stores.workers import Work, Worker, signals_of

__all__ = ["Read", "Reader", "Writer"]

T = TypeVar("T")

_POLL = 0.025
"""Seconds between two looks at what other processes wrote, while somebody waits for it."""
_LINGER = 2.0
"""Seconds for which a reader goes on looking out when nobody waits any more: the next run need not
wake it."""
_RENEWALS = 3
"""Renewals of a lease within its time to live."""


class _SQLiteWorker(Worker):
    """A worker with a connection to the database."""

    def __init__(self, settings: Settings, name: str) -> None:
        self.settings = settings
        self._connection: Connection | None = None
        super().__init__(name, settings.path)

    def _connect(self) -> Connection:
        if self._connection is None:
            self._connection = connect(self.settings)
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _recover(self, error: Exception) -> None:
        """Leaves no transaction open, and no connection that may be in disorder."""
        connection = self._connection
        if connection is None:
            return
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._close()
        if concerns_all(error):
            self._close()

    def _typed(self, error: Exception) -> PowerLoopError:
        """The error to raise where somebody waits."""
        typed: PowerLoopError
        if isinstance(error, PowerLoopError):
            return error
        if isinstance(error, UnicodeEncodeError):
            typed = InvalidInput(f"an id or key is not valid Unicode text: {error}")
        else:
            typed = translate(error, self.settings.path, self.settings.busy_timeout)
        typed.__cause__ = error
        return typed


class Writer(_SQLiteWorker):
    """Commits everything queued in one transaction, and renews the leases of this store."""

    def __init__(
        self, settings: Settings, waiters: Waiters, watchers: Watchers, peek: Peek
    ) -> None:
        self._waiters = waiters
        self._watchers = watchers
        self._peek = peek
        super().__init__(settings, "power_loop store writer")

    def reset(self) -> None:
        super().reset()
        self._holder = os.urandom(12).hex()
        self._me = this_process()
        self._held: dict[int, float] = {}
        self._renewal = inf

    def _patience(self) -> float | None:
        return max(0.0, self._renewal - monotonic()) if self._held else None

    def _serve(self, works: Sequence[Work[Any]]) -> Iterable[Home]:
        ready: list[Write[Any]] = []
        for work in works:
            assert isinstance(work, Write)
            try:
                work.prepare()
            except PowerLoopError as error:
                work.error = error
            else:
                ready.append(work)
        renewal = RenewAll() if self._held and monotonic() >= self._renewal else None
        if renewal is not None:
            ready.append(renewal)
        signals = [*self._attempt(ready)] if ready else []
        if renewal is not None:
            self._renewed(renewal)
        return [*signals_of(works), *signals]

    def _attempt(self, works: Sequence[Write[Any]]) -> Iterable[Home]:
        """One transaction; if it cannot be had because of one of them, one for each."""
        try:
            connection = self._connect()
        except StoreError as error:
            for work in works:  # one for each, as raising changes it
                work.error = type(error)(*error.args)
                work.error.__cause__ = error.__cause__
            return ()
        tx = Transaction(connection, self.settings.path, self._holder, self._me)
        try:
            tx.connection.execute("BEGIN IMMEDIATE")
            for work in works:
                work.error = None
                try:
                    work.result = work.execute(tx)
                except PowerLoopError as error:
                    work.error = error
            tx.connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - the top handler of this thread
            self._recover(error)
            if len(works) > 1 and not concerns_all(error):
                return [signal for work in works for signal in self._attempt([work])]
            for work in works:
                work.error = self._typed(error)
            return ()
        return self._settle(tx)

    def _settle(self, tx: Transaction) -> Iterable[Home]:
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
        return signals

    def _schedule(self, now: float) -> None:
        self._renewal = min(self._renewal, now + min(self._held.values()) / _RENEWALS)

    def _renewed(self, renewal: RenewAll) -> None:
        if renewal.error is None:
            self._held = renewal.result
        else:
            _log.warning("leases could not be renewed, trying again: %s", renewal.error)
        self._renewal = inf
        if self._held:
            self._schedule(monotonic())

    def _connect(self) -> Connection:
        fresh = self._connection is None
        connection = super()._connect()
        if fresh:
            self._peek.open(self.settings)
        return connection

    def _close(self) -> None:
        self._peek.close()
        super()._close()

    def _retire(self) -> None:
        if not self._held:
            return
        try:
            self._connect().execute("DELETE FROM leases WHERE holder = ?", (self._holder,))
        except (StoreError, sqlite3.Error) as error:
            self._recover(error)
            _log.warning("leases were not given back, they will expire: %s", error)
        self._held.clear()


class Read(Work[T]):
    """A question to the database."""

    __slots__ = ("ask",)

    def __init__(self, ask: Callable[[Connection], T]) -> None:
        super().__init__()
        self.ask = ask


class Reader(_SQLiteWorker):
    """Answers questions; while somebody waits, it looks out for what other processes wrote."""

    def __init__(self, settings: Settings, waiters: Waiters, watchers: Watchers) -> None:
        self._waiters = waiters
        self._watchers = watchers
        super().__init__(settings, "power_loop store reader")

    def reset(self) -> None:
        super().reset()
        self._version: int | None = None
        self._newest = 0
        """The newest inbox item that watchers have been told of."""
        self._looks_out = False
        self._until = 0.0

    def look_out(self) -> None:
        """To be called when somebody has begun to watch: the thread may be waiting for work."""
        if not self._looks_out:
            self.put(Read(_nothing))

    def _patience(self) -> float | None:
        if self._wanted():
            self._until = monotonic() + _LINGER
            self._looks_out = True
        elif self._looks_out and monotonic() >= self._until:
            # Somebody may begin between a look and the wait: the flag goes first.
            self._looks_out = False
            self._looks_out = self._wanted()
        return _POLL if self._looks_out else None

    def _wanted(self) -> bool:
        return bool(self._watchers) or bool(self._waiters.sessions())

    def _connect(self) -> Connection:
        fresh = self._connection is None
        connection = super()._connect()
        if fresh:
            connection.execute("PRAGMA query_only = ON")
            self._version = None
        return connection

    def _serve(self, works: Sequence[Work[Any]]) -> Iterable[Home]:
        for work in works:
            assert isinstance(work, Read)
            try:
                work.result = work.ask(self._connect())
            except Exception as error:  # noqa: BLE001 - the top handler of this thread
                self._recover(error)
                work.error = self._typed(error)
        return [*signals_of(works), *self._news()]

    def _news(self) -> Iterable[Home]:
        """Those whose session another process has written to, posted to, or deleted."""
        if not self._wanted():
            return ()
        sessions = self._waiters.sessions()
        signals: list[Home] = []
        try:
            connection = self._connect()
            version: int = connection.execute("PRAGMA data_version").fetchone()[0]
            if version == self._version:
                return ()
            for session in sessions:
                signals += self._waiters.below(session, head(connection, session))
            for item, session in posted_after(connection, self._newest):
                self._newest = max(self._newest, item)
                signals += self._watchers.of(session)
            self._version = version
        except (StoreError, sqlite3.Error) as error:
            # They look for themselves, and are told what is wrong.
            self._recover(error)
            for session in sessions:
                signals += self._waiters.below(session, None)
        return signals


def _nothing(_: Connection) -> None:
    """Asks nothing."""
