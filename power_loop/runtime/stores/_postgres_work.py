"""What the writer thread asks of the server, and what it learns of the outcome."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from power_loop.runtime.stores._postgres_errors import damaged
from power_loop.runtime.stores.lease import Owner, has_died
from power_loop.runtime.stores.workers import Work

__all__ = ["Call", "Me", "Transaction", "Write", "is_dead", "owner_of"]

T = TypeVar("T")


class Me(Struct, frozen=True):
    """Who writes: a process and one store that it has open, as leases name them."""

    owner: Owner
    holder: str
    text: str
    """The owner as JSON."""
    place: str


class Transaction:
    """One transaction of the writer, and what of it matters to others once it is committed."""

    __slots__ = ("gone", "grown", "held", "me", "posted", "released")

    def __init__(self, me: Me) -> None:
        self.me = me
        self.grown: dict[str, int] = {}
        """Sessions appended to, with the number of their last record."""
        self.posted: list[str] = []
        """Sessions posted to."""
        self.gone: list[str] = []
        """Sessions deleted."""
        self.held: dict[int, float] = {}
        """Fences of leases taken, with their time to live."""
        self.released: list[int] = []
        """Fences of leases given back."""


class Call(Struct, frozen=True):
    """A statement, with its arguments. `%b` marks one that is sent in binary form."""

    sql: str
    arguments: Sequence[Any]


class Write(Work[T], ABC):
    """A change: one function call, whose answer becomes a result or an error.

    Attributes:
        again: the call was made before, on a connection that was lost: nobody knows its outcome.
    """

    __slots__ = ("again",)

    repeatable = True
    """Whether a call that may have taken effect can be made again, to the same effect."""

    def __init__(self) -> None:
        super().__init__()
        self.again = False

    @abstractmethod
    def call(self, me: Me) -> Call:
        """What to ask. Raises `PowerLoopError` for what cannot be stored."""

    @abstractmethod
    def settle(self, rows: Sequence[Sequence[Any]], tx: Transaction) -> bool:
        """Takes the answer in, after the commit. True to be asked again at once, otherwise."""


def owner_of(text: str, me: Me) -> Owner:
    """Reads the owner of a lease."""
    try:
        return msgspec.json.decode(text, type=Owner)
    except msgspec.DecodeError as error:
        raise damaged(me.place, "the owner of a lease cannot be read") from error


def is_dead(text: str, me: Me) -> bool:
    """Whether the owner of a lease is a process of this host that runs no more."""
    return has_died(owner_of(text, me), me.owner)
