"""News of what any process has changed, by the server's own notifications.

One thread listens while somebody waits or watches. What was told while it could not listen is made
up for: whenever it listens again, everybody is woken and looks.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable, Iterable
from functools import lru_cache
from hashlib import sha256
from importlib.util import find_spec
from threading import Lock, Thread
from typing import TYPE_CHECKING

from power_loop.errors import PowerLoopError, StoreError
from power_loop.runtime.stores._postgres_errors import is_lost, translate
from power_loop.runtime.stores._postgres_open import Settings, connect, pauses
from power_loop.runtime.stores.waiting import Home, Signal, Waiters, Watchers, wake

if TYPE_CHECKING or find_spec("psycopg") is not None:
    from psycopg import Connection
    from psycopg import Error as DriverError
    from psycopg.rows import TupleRow

__all__ = ["Listener"]

_RETRY = 1.0
"""Seconds between attempts to listen again, for those who watch and have nobody to tell."""


class Listener:
    """Starts the thread that listens when it is needed; it ends by itself when it is not."""

    def __init__(self, settings: Settings, waiters: Waiters, watchers: Watchers) -> None:
        self._settings = settings
        self._waiters = waiters
        self._watchers = watchers
        self.reset()

    def reset(self) -> None:
        """Forgets the thread, without touching it: for a forked child."""
        self._lock = Lock()
        self._current: _Ear | None = None

    async def listen(self) -> None:
        """Returns once what is changed from now on will be heard.

        Raises:
            StoreError: the server cannot be reached.
        """
        attending = _Attending()
        while not self.ensure().attended_by(attending):
            pass  # it has ended in this very moment
        await attending.event.wait()
        if attending.error is not None:
            raise attending.error

    def ensure(self) -> _Ear:
        """Has a thread listen, or try to."""
        with self._lock:
            ear = self._current
            if ear is None or not ear.goes_on():
                ear = self._current = _Ear(self._settings, self._waiters, self._watchers)
                ear.start()
            return ear

    def stop(self) -> Callable[[], None]:
        """Ends the thread; returns what waits for that. `ensure` starts another one."""
        with self._lock:
            ear, self._current = self._current, None
        if ear is None:
            return _nothing
        ear.stop()
        return ear.join


def _nothing() -> None:
    """There is nothing to wait for."""


class _Attending(Signal):
    """Somebody who waits until the thread listens, or knows why it cannot."""

    __slots__ = ("error",)

    def __init__(self) -> None:
        super().__init__()
        self.error: PowerLoopError | None = None


class _Ear:
    """A thread that listens."""

    def __init__(self, settings: Settings, waiters: Waiters, watchers: Watchers) -> None:
        self._settings = settings
        self._waiters = waiters
        self._watchers = watchers
        self._lock = Lock()
        self._listening = self._stopped = self._ended = False
        self._attending: list[_Attending] = []
        self._wake_in, self._wake_out = socket.socketpair()
        self._thread = Thread(target=self._run, name="power_loop store listener", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def goes_on(self) -> bool:
        """Whether it can still be attended to."""
        with self._lock:
            return not self._ended

    def attended_by(self, attending: _Attending) -> bool:
        """Fires the signal when it listens, or has failed to. False if it has ended."""
        with self._lock:
            if self._listening:
                attending.fire()
            elif not self._ended:
                self._attending.append(attending)
            return self._listening or not self._ended

    def stop(self) -> None:
        """Has it end."""
        with self._lock:
            self._stopped = True
            if not self._ended:
                self._wake_in.send(b"x")

    def join(self) -> None:
        """Waits for its end."""
        self._thread.join()

    def _run(self) -> None:
        left = pauses(self._settings.patience)
        while True:
            error: StoreError | None = None
            try:
                with connect(self._settings) as connection:
                    connection.execute(self._settings.sql('LISTEN "@channel"'))
                    left = pauses(self._settings.patience)
                    self._settle(None)
                    self._hear(connection)
            except (StoreError, DriverError, OSError) as raised:
                error = self._typed(raised)
                pause = next(left, None) if is_lost(raised.__cause__ or raised) else None
            else:
                pause = 0.0
            with self._lock:
                self._listening = False
                if error is not None and pause is None:
                    self._tell(error)
                if self._stopped or not self._is_needed():
                    self._ended = True
                    self._tell(error)
                    self._wake_in.close()
                    self._wake_out.close()
                    break
            wake(self._everybody_waiting())
            self._rest(_RETRY if pause is None else pause)
        wake(self._everybody_waiting())

    def _is_needed(self) -> bool:
        return bool(self._attending or self._watchers or self._waiters.sessions())

    def _typed(self, error: Exception) -> StoreError:
        if isinstance(error, StoreError):
            return error
        return translate(error, self._settings.place, self._settings.patience)

    def _settle(self, error: StoreError | None) -> None:
        with self._lock:
            self._listening = error is None
            self._tell(error)
        wake([*self._everybody_waiting(), *self._watchers.everybody()])

    def _tell(self, error: StoreError | None) -> None:
        """Wakes those who wait for it to listen. To be called with the lock held."""
        attending, self._attending = self._attending, []
        for each in attending:
            if error is not None:  # one for each, as raising changes it
                each.error = type(error)(*error.args)
                each.error.__cause__ = error.__cause__
        wake(attending)

    def _everybody_waiting(self) -> Iterable[Home]:
        return [
            waiter
            for session in self._waiters.sessions()
            for waiter in self._waiters.below(session, None)
        ]

    def _rest(self, seconds: float) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_out, selectors.EVENT_READ)
            selector.select(seconds)

    def _hear(self, connection: Connection[TupleRow]) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(connection.fileno(), selectors.EVENT_READ)
            selector.register(self._wake_out, selectors.EVENT_READ)
            while True:
                if any(key.fileobj is self._wake_out for key, _ in selector.select()):
                    return
                connection.pgconn.consume_input()
                news: list[str] = []
                while (told := connection.pgconn.notifies()) is not None:
                    news.append(told.extra.decode())
                wake(self._understood(news))

    def _understood(self, news: Iterable[str]) -> Iterable[Home]:
        waited_for = {topic_of(session): session for session in self._waiters.sessions()}
        watched = {topic_of(session): session for session in self._watchers.sessions()}
        homes: list[Home] = []
        for each in news:
            kind, topic, seq = each[:1], *each[1:].partition(":")[::2]
            if kind == "i":
                homes += self._watchers.of(watched.get(topic, ""))
            else:
                session = waited_for.get(topic, "")
                homes += self._waiters.below(session, int(seq) if kind == "r" else None)
        return homes


@lru_cache(maxsize=4096)
def topic_of(session: str) -> str:
    """What a session is called in notifications; the function `topic` of the schema."""
    return sha256(session.encode()).hexdigest()[:32]
