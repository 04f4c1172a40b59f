"""A look into the inbox that is cheap enough for an event loop's own thread."""

from __future__ import annotations

import sqlite3
from sqlite3 import Connection
from threading import Lock

from power_loop.runtime.stores._sqlite_open import Settings, connect

__all__ = ["Peek"]


class Peek:
    """A connection for one small question that is asked from the event loop's own thread.

    Whether a session's inbox is empty is one look into an index that was written a moment ago:
    about 5 µs, and no writer makes it wait. Handing the question to the reader would cost 30.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets its connection, without touching it: for a forked child."""
        self._lock = Lock()
        self._connection: Connection | None = None

    def open(self, settings: Settings) -> None:
        """Opens the connection."""
        connection = connect(settings)
        connection.execute("PRAGMA busy_timeout = 0")
        connection.execute("PRAGMA query_only = ON")
        with self._lock:
            self._connection = connection

    def close(self) -> None:
        """Closes the connection."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def has_items(self, session: str) -> bool:
        """Whether something waits in a session's inbox; True when that is not known."""
        with self._lock:
            if self._connection is None:
                return True
            try:
                row = self._connection.execute(
                    "SELECT 1 FROM inbox WHERE sid = (SELECT sid FROM sessions WHERE id = ?)",
                    (session,),
                ).fetchone()
            except sqlite3.Error:
                return True
            return row is not None
