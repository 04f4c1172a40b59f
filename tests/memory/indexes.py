"""Where an index of vectors can be, and what to put into it, for tests that hold for all."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from llm_client.embedding import Vector
from power_loop.runtime.memory.base import MemoryScope
from power_loop.runtime.memory.vectors.base import Entry, Remembered, Space
from power_loop.runtime.memory.vectors.postgres import PostgresVectorIndex
from power_loop.runtime.memory.vectors.sqlite import SQLiteVectorIndex
from tests.postgres_server import new_schema, shared_server

__all__ = [
    "KINDS",
    "SPACE",
    "Index",
    "Kind",
    "entry",
    "memory",
    "new_place",
    "open_index",
    "vector",
]

Kind = Literal["sqlite", "postgres"]
KINDS: tuple[Kind, ...] = ("sqlite", "postgres")
SPACE = Space("model", 3)

Index = SQLiteVectorIndex | PostgresVectorIndex


def new_place(kind: Kind, directory: Path) -> str:
    """A place with nothing in it, as text that another process understands."""
    if kind == "sqlite":
        pytest.importorskip("sqlite_vec")
        return str(directory / "vectors.db")
    return f"{shared_server().url()}#{new_schema()}"


def open_index(place: str, **options: Any) -> Index:
    """A handle on what is there."""
    if place.startswith("postgresql:"):
        url, _, schema = place.partition("#")
        return PostgresVectorIndex(url, schema=schema, **options)
    return SQLiteVectorIndex(place, **options)


def vector(*numbers: float) -> Vector:
    """A vector of these."""
    return array("f", numbers)


def memory(
    id: str,
    text: str = "",
    *,
    user: str = "ann",
    agent: str = "helper",
    session: str = "s1",
    at: float = 1000.5,
) -> Remembered:
    """A memory that says its id, unless another text is given."""
    scope = MemoryScope(session=session, user=user, agent=agent)
    return Remembered(id=id, text=text or f"says {id}", scope=scope, source="user", at=at)


def entry(id: str, numbers: Sequence[float] = (1, 0, 0), **rest: Any) -> Entry:
    """A memory and its vector."""
    return memory(id, **rest), vector(*numbers)
