"""VectorMemory: what was said comes up again where it is about the same thing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from itertools import islice
from typing import Self, get_args

import anyio
from msgspec import Struct

from llm_client.codecs._json import mend
from llm_client.embedding.base import Embedder
from llm_client.types import Message
from power_loop.errors import InvalidInput, UsageError
from power_loop.runtime.asking import Ask
from power_loop.runtime.memory.base import MemoryScope, MemorySnapshot, RecallQuery
from power_loop.runtime.memory.tagging import tag_as_memory
from power_loop.runtime.memory.vectors.base import (
    Found,
    Remembered,
    ScopeField,
    Space,
    VectorIndex,
    Whose,
)
from power_loop.runtime.memory.vectors.chunking import is_worth_keeping, pieces, words_of

__all__ = ["VectorMemory", "VectorPolicy"]

_BYTES_PER_TOKEN = 4
"""A rough measure, to return no more than is wanted; the loop counts exactly."""

_SPARE = 4
"""How many times more are looked at than may come up: the nearest are often in the view already."""

_WHO = {"user": "the user said", "agent": "the agent said"}


class VectorPolicy(Struct, frozen=True, kw_only=True):
    """How much is kept, and how much comes up.

    Attributes:
        piece: characters of one memory, at most; a longer text becomes several.
        pieces: memories that one text makes, at most. Of what a run said, the rest is not kept.
        shortest: bytes that a text must have to be kept: "thanks!" says nothing later.
        most: memories that come up for a run, at most.
        floor: the cosine that a memory must have to come up; None takes that of the embedder.

    Raises:
        UsageError: a number is less than 1.
    """

    piece: int = 1000
    pieces: int = 8
    shortest: int = 12
    most: int = 8
    floor: float | None = None

    def __post_init__(self) -> None:
        for name in ("piece", "pieces", "shortest", "most"):
            if getattr(self, name) < 1:
                raise UsageError(f"VectorPolicy({name}=…) is a number from 1")


class VectorMemory:
    """A `MemoryProvider` that finds by meaning.

    It keeps what the user said in a run, and the model's last text, once the run has completed; but
    no lone question, and nothing of what tools gave. The same words of the same owner are kept
    once. What comes up for a run is nearest to what was said last, and is not in the model's view
    already. Where nobody has said who the user is, a memory of users keeps nothing and brings
    nothing up, so that what strangers say never meets.

    Args:
        index: where memories are kept; closed together with the memory.
        embedder: makes their vectors; closed together with the memory.
        scope: to whom a memory belongs: "user", "agent", "session", or several of them, as in
            `("user", "agent")` for what a user has told one of several agents.
        policy: how much is kept, and how much comes up.
        now: gives the time, in seconds since 1970.

    Raises:
        UsageError: the scope is none.
    """

    def __init__(
        self,
        index: VectorIndex,
        embedder: Embedder,
        *,
        scope: ScopeField | tuple[ScopeField, ...] = "user",
        policy: VectorPolicy | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._fields = (scope,) if isinstance(scope, str) else scope
        if not self._fields or not set(self._fields) <= set(get_args(ScopeField)):
            raise UsageError(f"a scope is of 'user', 'agent' and 'session', not {scope!r}")
        self._policy = policy or VectorPolicy()
        self._index = index
        self._embedder = embedder
        self._now = now

    def __repr__(self) -> str:
        return f"VectorMemory({self._index!r}, {self._embedder!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        with anyio.CancelScope(shield=True):
            await self.aclose()

    async def recall(self, query: RecallQuery) -> Sequence[Message]:
        """See `MemoryProvider.recall`.

        Raises:
            LLMError: the embedder failed.
            StoreError: the index cannot be used, or is of another embedder.
        """
        whose, policy = self._owner(query.scope), self._policy
        asked = next(pieces(_clean(query.text), policy.piece), None)
        if whose is None or asked is None:
            return ()
        vectors = await self._embedder.embed([asked], kind="query")
        found = await self._index.search(self._space(), vectors[0], _SPARE * policy.most, whose)
        fitting = islice(_fitting(query, self._worthy(found)), policy.most)
        return [tag_as_memory(_told(memory), "vectors") for memory in fitting]

    async def remember(self, snapshot: MemorySnapshot, ask: Ask | None = None) -> None:
        """See `MemoryProvider.remember`; raises as `recall` does."""
        owner, policy = self._owner(snapshot.scope), self._policy
        if owner is None or snapshot.status != "completed":
            return
        kept = [
            (source, piece)
            for source, text in words_of(snapshot)
            if is_worth_keeping(text, policy.shortest)
            for piece in islice(pieces(_clean(text), policy.piece), policy.pieces)
        ]
        await self._keep(kept, snapshot.scope, owner)

    async def add(self, text: str, scope: MemoryScope) -> int:
        """Keeps `text`; returns how many memories that made: none if it is known.

        Raises:
            InvalidInput: it is empty, or too long.
            UsageError: `scope` does not name whom the memory belongs to.
            LLMError, StoreError: as for `recall`.
        """
        owner, policy = self._owner(scope), self._policy
        if owner is None:
            raise UsageError(
                f"nobody has said who the {' and the '.join(self._fields)} is, so nothing is "
                "remembered; name it in the scope, or choose another scope for the memory"
            )
        cut = list(islice(pieces(_clean(text), policy.piece), policy.pieces + 1))
        if not 1 <= len(cut) <= policy.pieces:
            raise InvalidInput(
                f"a text to be remembered has 1 to {policy.pieces} pieces of {policy.piece} "
                f"characters, not {len(text)} characters; add it in parts"
            )
        return await self._keep([("added", piece) for piece in cut], scope, owner)

    async def forget(
        self, *, user: str | None = None, agent: str | None = None, session: str | None = None
    ) -> int:
        """Forgets all that belongs to whoever is named; returns how many memories that were.

        Raises:
            UsageError: nobody is named.
            StoreError: the index cannot be used.
        """
        return await self._index.delete(_named(user, agent, session))

    async def export(
        self, *, user: str | None = None, agent: str | None = None, session: str | None = None
    ) -> Sequence[Remembered]:
        """All that belongs to whoever is named, the oldest first.

        Raises:
            UsageError: nobody is named.
            StoreError: the index cannot be used.
        """
        whose = _named(user, agent, session)
        every: list[Remembered] = []
        while page := await self._index.export(whose, after=every[-1].id if every else ""):
            every += page
        return sorted(every, key=lambda memory: memory.at)

    async def aclose(self) -> None:
        """Closes the index and the embedder. Idempotent."""
        await self._index.aclose()
        await self._embedder.aclose()

    def _space(self) -> Space:
        return Space(self._embedder.model, self._embedder.dimensions)

    def _owner(self, scope: MemoryScope) -> Whose | None:
        """Whose memories these are; None where nobody said it: they would be everybody's."""
        said = {"user": scope.user, "agent": scope.agent, "session": scope.session}
        if not all(said[name] for name in self._fields):
            return None
        return Whose(**{name: said[name] for name in self._fields})

    async def _keep(self, said: Sequence[tuple[str, str]], scope: MemoryScope, owner: Whose) -> int:
        at = self._now()
        made: dict[str, Remembered] = {}
        for source, text in said:
            id = _id(owner, text)
            made.setdefault(id, Remembered(id=id, text=text, scope=scope, source=source, at=at))
        if not made:
            return 0
        memories = list(made.values())
        texts = [memory.text for memory in memories]
        vectors = await self._embedder.embed(texts, kind="document")
        return await self._index.add(self._space(), list(zip(memories, vectors, strict=True)))

    def _worthy(self, found: Sequence[Found]) -> Sequence[Remembered]:
        given = self._policy.floor
        floor = self._embedder.floor if given is None else given
        return [one.memory for one in found if one.similarity >= floor]


def _clean(text: str) -> str:
    """`text` as any index can keep it."""
    return mend(text).replace("\0", " ")


def _id(owner: Whose, text: str) -> str:
    words = " ".join(text.lower().split())
    parts = [f"{name}={value}" for name, value in owner.named().items()]
    return sha256("\0".join([*parts, words]).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _named(user: str | None, agent: str | None, session: str | None) -> Whose:
    whose = Whose(user=user, agent=agent, session=session)
    if not whose.named():
        raise UsageError("name a user, an agent or a session")
    return whose


def _fitting(query: RecallQuery, memories: Iterable[Remembered]) -> Iterable[Remembered]:
    """Those that are not in the view already, as many as fit."""
    seen = [message.text for message in query.messages]
    left = query.tokens * _BYTES_PER_TOKEN
    for memory in memories:
        if any(memory.text in text for text in seen):
            continue
        left -= len(_told(memory).encode())
        if left < 0:
            return
        yield memory


def _told(memory: Remembered) -> str:
    day = datetime.fromtimestamp(memory.at, UTC).date().isoformat()
    return f"{day}, {_WHO.get(memory.source, 'noted')}: {memory.text}"
