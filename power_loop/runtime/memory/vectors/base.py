"""**Protocol** VectorIndex, and what is in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

from msgspec import Struct

from llm_client.embedding.base import Vector, is_direction
from power_loop.errors import EmbedderMismatch, InvalidInput, UsageError
from power_loop.runtime.memory.base import MemoryScope

__all__ = [
    "ANYBODY",
    "Entry",
    "Found",
    "Remembered",
    "ScopeField",
    "Space",
    "VectorIndex",
    "Whose",
    "check_entries",
    "check_query",
    "require_same",
]

ScopeField = Literal["user", "agent", "session"]


class Space(Struct, frozen=True):
    """Which vectors can be compared: those of one model.

    Attributes:
        model: who makes them.
        dimensions: how many numbers each has.
    """

    model: str
    dimensions: int


class Whose(Struct, frozen=True, kw_only=True):
    """Which memories are meant: those of a user, an agent, a session, as far as it is said."""

    user: str | None = None
    agent: str | None = None
    session: str | None = None

    def named(self) -> dict[ScopeField, str]:
        """What is said of them."""
        said: dict[ScopeField, str | None] = {
            "user": self.user,
            "agent": self.agent,
            "session": self.session,
        }
        return {name: value for name, value in said.items() if value is not None}


ANYBODY = Whose()


class Remembered(Struct, frozen=True, kw_only=True):
    """One memory.

    Attributes:
        id: the same for the same words of the same owner.
        text: what was said.
        scope: to whom, by whom and where it was said.
        source: who said it: "user", "agent", or "added" if a program did.
        at: when, in seconds since 1970.
    """

    id: str
    text: str
    scope: MemoryScope
    source: str
    at: float


class Found(Struct, frozen=True):
    """A memory, and the cosine of its vector and the one that was searched for."""

    memory: Remembered
    similarity: float


Entry: TypeAlias = tuple[Remembered, Vector]
"""A memory and its vector."""


class VectorIndex(Protocol):
    """**Protocol**: keeps memories and finds the nearest. Safe for use by many tasks, event loops
    and processes at once.

    The first vectors say of which model all are, until the last is deleted. Others are refused: to
    compare them would give numbers, but no sense.

    Cancelling a call leaves it open whether it takes effect; it does so whole or not at all. All
    calls raise a `StoreError` when the index cannot be used.
    """

    async def add(self, space: Space, entries: Sequence[Entry]) -> int:
        """Keeps memories; returns how many are new. One whose id is there already is left as it is.

        Raises:
            UsageError: a vector is none of `space`, or has no direction.
            InvalidInput: a text holds what cannot be stored.
            EmbedderMismatch: the index holds vectors of another model.
        """
        ...

    async def search(
        self, space: Space, vector: Vector, k: int, whose: Whose = ANYBODY
    ) -> Sequence[Found]:
        """The `k` memories nearest to `vector`, the nearest first. Exact: none is overlooked.

        Raises:
            UsageError: the vector is none of `space`, or has no direction; `k` is below 1.
            EmbedderMismatch: the index holds vectors of another model.
        """
        ...

    async def delete(self, whose: Whose = ANYBODY, *, ids: Sequence[str] | None = None) -> int:
        """Forgets memories, of those with `ids` only if they are given; returns how many. Nothing
        of them stays."""
        ...

    async def export(
        self, whose: Whose = ANYBODY, *, after: str = "", limit: int = 1000
    ) -> Sequence[Remembered]:
        """Memories in the order of their ids, those after the id `after`."""
        ...

    async def count(self, whose: Whose = ANYBODY) -> int:
        """How many memories there are."""
        ...

    async def aclose(self) -> None:
        """Finishes what is under way and closes what is open. Idempotent."""
        ...


def check_entries(space: Space, entries: Sequence[Entry]) -> None:
    """See `VectorIndex.add`.

    Raises:
        UsageError, InvalidInput: one of them cannot be kept.
    """
    for memory, vector in entries:
        _check_vector(space, vector)
        scope = memory.scope
        for text in (memory.id, memory.text, memory.source, scope.user, scope.agent, scope.session):
            if "\0" in text or not _is_unicode(text):
                raise InvalidInput(
                    f"memory {memory.id!r} holds a NUL or half a surrogate pair; replace it"
                )


def check_query(space: Space, vector: Vector, k: int) -> None:
    """See `VectorIndex.search`.

    Raises:
        UsageError: the vector is none of `space`, or `k` is below 1.
    """
    _check_vector(space, vector)
    if k < 1:
        raise UsageError(f"k must be at least 1, is {k}")


def _check_vector(space: Space, vector: Vector) -> None:
    if vector.typecode != "f" or len(vector) != space.dimensions:
        raise UsageError(
            f"a vector of {space.model!r} is an array of {space.dimensions} 'f', not of "
            f"{len(vector)} {vector.typecode!r}"
        )
    if not is_direction(vector):
        raise UsageError("a vector must be finite and not all zeros: it has no direction otherwise")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def require_same(there: Space, given: Space, place: str) -> None:
    """Raises EmbedderMismatch: the vectors in the index cannot be compared with those given."""
    if there != given:
        raise EmbedderMismatch(
            f"{place} holds vectors of {there.model!r} with {there.dimensions} dimensions, which "
            f"cannot be compared with those of {given.model!r} with {given.dimensions}. Use that "
            "embedder, or export the memories and add them to a new index"
        )
