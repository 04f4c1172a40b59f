"""News of what any process has changed, by the server's own notifications.

A listener lives as long as its connection. When that ends, everybody who waits is woken: they look
for themselves, and whoever still has to wait starts a new one. So nothing that was told while
nobody listened can be missed.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from importlib.util import find_spec
from threading import Lock, Thread
from typing import TYPE_CHECKING

from power_loop.errors import PowerLoopError
from power_loop.runtime.stores._postgres_errors import translate
from power_loop.runtime.stores._postgres_open import Settings, listen
from power_loop.runtime.stores.waiting import Signal, Waiters, wake

if TYPE_CHECKING or find_spec("psycopg") is not None:
    from psycopg import Connection
    from psycopg import Error as DriverError
    from psycopg.rows import TupleRow

__all__ = ["Listener"]


class Listener:
    """A thread that listens while anybody has asked for it."""

    def __init__(self, settings: Settings, waiters: Waiters) -> None:
        self._settings = settings
        self._waiters = waiters
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
        with self._lock:
            ear = self._current
            if ear is None or ear.ended:
                ear = self._current = _Ear(self._settings, self._waiters)
                ear.start()
            signal = ear.attend()
        if signal is not None:
            await signal.event.wait()
        if not ear.begun:
            assert ear.error is not None
            raise type(ear.error)(*ear.error.args)

    def stop(self) -> None:
        """Ends the thread and waits for that; `listen` starts another one."""
        with self._lock:
            ear, self._current = self._current, None
        if ear is not None:
            ear.stop()


class _Ear:
    """One connection that listens, in a thread of its own.

    Attributes:
        begun: it has heard, or hears.
        error: why it could not begin, or hears no more.
        ended: it hears nothing any more.
    """

    def __init__(self, settings: Settings, waiters: Waiters) -> None:
        self.begun = False
        self.error: PowerLoopError | None = None
        self.ended = False
        self._settings = settings
        self._waiters = waiters
        self._lock = Lock()
        self._ready = False
        self._attending: list[Signal] = []
        self._wake_in, self._wake_out = socket.socketpair()
        self._thread = Thread(target=self._run, name="power_loop store listener", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def attend(self) -> Signal | None:
        """A signal for when it listens, or has failed to; None if that is settled."""
        with self._lock:
            if self._ready:
                return None
            signal = Signal()
            self._attending.append(signal)
            return signal

    def stop(self) -> None:
        """Ends it, and waits for that."""
        with self._lock:
            if not self.ended:
                self._wake_in.send(b"x")
        self._thread.join()

    def _run(self) -> None:
        connection: Connection[TupleRow] | None = None
        try:
            connection = listen(self._settings)
            self.begun = True
            self._settle()
            self._hear(connection)
        except PowerLoopError as error:
            self.error = error
        except (DriverError, OSError) as error:
            self.error = translate(error, self._settings.place, self._settings.patience)
        finally:
            if connection is not None:
                connection.close()
            with self._lock:
                self.ended = True
                self._wake_in.close()
                self._wake_out.close()
            self._settle()
            for session in self._waiters.sessions():
                wake(self._waiters.below(session, None))

    def _settle(self) -> None:
        with self._lock:
            self._ready = True
            attending, self._attending = self._attending, []
        wake(attending)

    def _hear(self, connection: Connection[TupleRow]) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(connection.fileno(), selectors.EVENT_READ)
            selector.register(self._wake_out, selectors.EVENT_READ)
            while True:
                if any(key.fileobj is self._wake_out for key, _ in selector.select()):
                    return
                connection.pgconn.consume_input()
                signals: list[Signal] = []
                while (news := connection.pgconn.notifies()) is not None:
                    signals += self._understood(news.extra.decode())
                wake(signals)

    def _understood(self, news: str) -> Iterable[Signal]:
        kind, topic, seq = news[:1], *news[1:].partition(":")[::2]
        if kind == "i":
            return ()
        return [
            signal
            for session in self._waiters.sessions()
            if topic_of(session) == topic
            for signal in self._waiters.below(session, int(seq) if kind == "r" else None)
        ]


@lru_cache(maxsize=4096)
def topic_of(session: str) -> str:
    """What a session is called in notifications; the function `topic` of the schema."""
    return sha256(session.encode()).hexdigest()[:32]
