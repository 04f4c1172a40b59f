"""A proxy in front of a PostgreSQL server that cuts connections where it is told to, or has
something done at a moment of an exchange.
"""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal, Self

from msgspec import Struct

from tests.postgres_server import PostgresServer

__all__ = ["Moment", "PostgresProxy"]

Direction = Literal["up", "down"]
Moment = Literal["unsent", "half sent", "unanswered", "half answered", "answered"]
"""How far an exchange with the server has come."""
_Pair = tuple[socket.socket, socket.socket]


class _Freeze(Struct):
    """At `moment` of the exchange that begins with the `number`-th bytes sent, `then` is called and
    the connection cut.
    """

    number: int
    moment: Moment
    then: Callable[[], None]
    pair: _Pair | None = None
    """The connection, once it has sent them."""


class PostgresProxy:
    """Forwards bytes through a socket of its own. To be used as a context.

    Attributes:
        cuts: how many connections it has cut.
        seen: bytes forwarded to the server and from it since `watch`.
        sent: how often something was sent to the server since `watch`.
    """

    def __init__(self, server: PostgresServer) -> None:
        self._target = str(server.directory / f".s.PGSQL.{server.port}")
        self._directory = tempfile.TemporaryDirectory(prefix="power-loop-proxy-")
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(Path(self._directory.name) / ".s.PGSQL.5432"))
        self._listening.listen(64)
        self._lock = threading.Lock()
        self._pairs: list[_Pair] = []
        self._threads: list[threading.Thread] = []
        self._left: dict[Direction, int | None] = {"up": None, "down": None}
        self._freeze: _Freeze | None = None
        self.seen: dict[Direction, int] = {"up": 0, "down": 0}
        self.sent = 0
        self.cuts = 0

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut_all()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()
        self._directory.cleanup()

    @property
    def url(self) -> str:
        """How to reach the server through it."""
        return f"postgresql://postgres@/postgres?host={self._directory.name}&port=5432"

    def watch(self) -> None:
        """Counts from here on."""
        with self._lock:
            self.seen = {"up": 0, "down": 0}
            self.sent = 0

    def cut_after(self, direction: Direction, count: int) -> None:
        """Once: lets `count` more bytes through in that direction, and cuts that connection."""
        with self._lock:
            self._left[direction] = count

    def freeze_at(self, number: int, moment: Moment, then: Callable[[], None]) -> None:
        """Once: at that moment of the `number`-th exchange since `watch`, calls `then`, in a thread
        of its own, and cuts the connection when it has returned.
        """
        with self._lock:
            self._freeze = _Freeze(number, moment, then)

    def cut_all(self) -> None:
        """Cuts every connection that stands."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
            self._left, self._freeze = {"up": None, "down": None}, None
        for pair in pairs:
            self._cut(pair)

    def _start(self, target: object, *arguments: object) -> None:
        assert callable(target)
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self._target)
            except OSError:
                client.close()
                continue
            pair = (client, server)
            with self._lock:
                self._pairs.append(pair)
            self._start(self._forward, "up", client, server, pair)
            self._start(self._forward, "down", server, client, pair)

    def _forward(
        self,
        direction: Direction,
        source: socket.socket,
        sink: socket.socket,
        pair: _Pair,
    ) -> None:
        try:
            while data := source.recv(65536):
                freeze = self._frozen(direction, pair)
                allowed = self._allowed(direction, len(data))
                if freeze is not None:
                    allowed = _PART[freeze.moment](len(data))
                sink.sendall(data[:allowed])
                if freeze is not None:
                    freeze.then()
                if freeze is not None or allowed < len(data):
                    self.cuts += 1
                    break
        except OSError:
            pass
        self._cut(pair)

    def _frozen(self, direction: Direction, pair: _Pair) -> _Freeze | None:
        """What is to be done now that more bytes have come, if anything."""
        with self._lock:
            self.sent += direction == "up"
            freeze = self._freeze
            if freeze is None:
                return None
            if direction == "up" and freeze.pair is None and self.sent == freeze.number:
                freeze.pair = pair
                if freeze.moment not in ("unsent", "half sent"):
                    return None
            elif direction == "up" or freeze.pair is not pair:
                return None
            self._freeze = None
            return freeze

    def _allowed(self, direction: Direction, count: int) -> int:
        with self._lock:
            left = self._left[direction]
            allowed = count if left is None else min(count, left)
            self.seen[direction] += allowed
            if left is not None:
                self._left[direction] = left - allowed if allowed == count else None
            return allowed

    def _cut(self, pair: _Pair) -> None:
        for end in pair:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


_PART: dict[Moment, Callable[[int], int]] = {
    "unsent": lambda _: 0,
    "half sent": lambda count: count // 2,
    "unanswered": lambda _: 0,
    "half answered": lambda count: count // 2,
    "answered": lambda count: count,
}
"""How many of the bytes that come at that moment get through."""
