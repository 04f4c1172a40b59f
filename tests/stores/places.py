"""Where a durable store can be, for tests that hold for all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from power_loop.runtime.stores.postgres import PostgresStore
from power_loop.runtime.stores.sqlite import SQLiteStore
from tests.postgres_server import new_schema, shared_server

__all__ = ["KINDS", "DurableStore", "Kind", "new_place", "open_place"]

Kind = Literal["sqlite", "postgres"]
KINDS: tuple[Kind, ...] = ("sqlite", "postgres")

DurableStore = SQLiteStore | PostgresStore


def new_place(kind: Kind, directory: Path) -> str:
    """A place with nothing in it, as text that another process understands."""
    if kind == "sqlite":
        return str(directory / "sessions.db")
    return f"{shared_server().url()}#{new_schema()}"


def open_place(place: str, **options: Any) -> DurableStore:
    """A handle on what is there. Losing power is no matter of tests."""
    if place.startswith("postgresql:"):
        url, _, schema = place.partition("#")
        return PostgresStore(url, schema=schema, **options)
    return SQLiteStore(place, durability="normal", **options)
