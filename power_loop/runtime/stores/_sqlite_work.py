"""What the writer thread does, and the transaction that each write is part of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from sqlite3 import Connection
from typing import TypeVar

import msgspec

from power_loop.runtime.stores._sqlite_errors import damaged
from power_loop.runtime.stores.lease import Moment, Owner, has_died, has_expired
from power_loop.runtime.stores.workers import Work

__all__ = ["Transaction", "Write", "lives", "owner_of"]

T = TypeVar("T")


class Transaction:
    """One transaction of the writer, and what of it matters to others once it is committed."""

    __slots__ = (
        "connection",
        "gone",
        "grown",
        "held",
        "holder",
        "me",
        "now",
        "path",
        "posted",
        "released",
    )

    def __init__(self, connection: Connection, path: str, holder: str, me: Owner) -> None:
        self.connection = connection
        self.path = path
        self.holder = holder
        self.me = me
        self.now = Moment.now()
        self.grown: dict[str, int] = {}
        """Sessions appended to, with the number of their last record."""
        self.posted: list[str] = []
        """Sessions with new items in their inbox."""
        self.gone: list[str] = []
        """Sessions deleted."""
        self.held: dict[int, float] = {}
        """Fences of leases taken, with their time to live."""
        self.released: list[int] = []
        """Fences of leases given back."""


class Write(Work[T], ABC):
    """A change. `prepare` runs before the transaction begins, `execute` inside it."""

    __slots__ = ()

    def prepare(self) -> None:
        """Does what needs no database."""

    @abstractmethod
    def execute(self, tx: Transaction) -> T:
        """Raises a `PowerLoopError` before it has written anything, or writes all of it."""


def owner_of(tx: Transaction, text: str) -> Owner:
    """Reads the owner of a lease."""
    try:
        return msgspec.json.decode(text, type=Owner)
    except msgspec.DecodeError as error:
        raise damaged(tx.path, "the owner of a lease cannot be read") from error


def lives(tx: Transaction, owner: Owner, expires: float, uptime: float) -> bool:
    """Whether a lease still keeps others away."""
    if has_expired(Moment(expires, uptime), tx.now, owner, tx.me):
        return False
    return not has_died(owner, tx.me)
