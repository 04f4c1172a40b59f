"""A proxy in front of a PostgreSQL server that cuts connections where it is told to."""

from __future__ import annotations

import socket
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Literal, Self

from tests.postgres_server import PostgresServer

__all__ = ["PostgresProxy"]

Direction = Literal["up", "down"]


class PostgresProxy:
    """Forwards bytes through a socket of its own. To be used as a context.

    Attributes:
        cuts: how many connections it has cut.
        seen: bytes forwarded to the server and from it since `watch`.
    """

    def __init__(self, server: PostgresServer) -> None:
        self._target = str(server.directory / f".s.PGSQL.{server.port}")
        self._directory = tempfile.TemporaryDirectory(prefix="power-loop-proxy-")
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(Path(self._directory.name) / ".s.PGSQL.5432"))
        self._listening.listen(64)
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self._left: dict[Direction, int | None] = {"up": None, "down": None}
        self.seen: dict[Direction, int] = {"up": 0, "down": 0}
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

    def cut_after(self, direction: Direction, count: int) -> None:
        """Once: lets `count` more bytes through in that direction, and cuts that connection."""
        with self._lock:
            self._left[direction] = count

    def cut_all(self) -> None:
        """Cuts every connection that stands."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
            self._left = {"up": None, "down": None}
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
        pair: tuple[socket.socket, socket.socket],
    ) -> None:
        try:
            while data := source.recv(65536):
                allowed = self._allowed(direction, len(data))
                sink.sendall(data[:allowed])
                if allowed < len(data):
                    self.cuts += 1
                    break
        except OSError:
            pass
        self._cut(pair)

    def _allowed(self, direction: Direction, count: int) -> int:
        with self._lock:
            left = self._left[direction]
            allowed = count if left is None else min(count, left)
            self.seen[direction] += allowed
            if left is not None:
                self._left[direction] = left - allowed if allowed == count else None
            return allowed

    def _cut(self, pair: tuple[socket.socket, socket.socket]) -> None:
        for end in pair:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
