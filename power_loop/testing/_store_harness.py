"""What the checks of a store are made of: handles that get closed, records, and plain demands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self

import anyio
from msgspec import Struct

from llm_client.types import Image, Message, Text, ToolCall, Usage
from power_loop.events import Stamped
from power_loop.runtime.stores.base import Appended, Lease, Steer, Store
from power_loop.session.outcome import Completed
from power_loop.session.records import (
    MessageAppended,
    ModelAsked,
    ModelEnded,
    Record,
    RunClosed,
    RunOpened,
)

__all__ = [
    "Check",
    "MakeStore",
    "Reopen",
    "StoreCheck",
    "StoreDefect",
    "Stores",
    "answer",
    "append",
    "closing",
    "demand",
    "leased",
    "opening",
    "refused",
    "stamped",
    "steer",
]

_PATIENCE = 5.0
"""Seconds for closing, also after a check has run out of time."""

MakeStore = Callable[[], Awaitable[Store]]
"""Opens a new, empty store."""

Reopen = Callable[[Store], Awaitable[Store]]
"""Opens another handle on the data of a store, as another process would have."""


class StoreDefect(AssertionError):
    """A store does not keep a promise of the protocol."""


class Stores:
    """Gives a check its stores, and closes them afterwards."""

    def __init__(self, make: MakeStore, reopen: Reopen | None) -> None:
        self._make = make
        self._reopen = reopen
        self._opened: list[Store] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with anyio.move_on_after(_PATIENCE, shield=True):
            for store in reversed(self._opened):
                await store.aclose()

    async def new(self) -> Store:
        """A new, empty store."""
        store = await self._make()
        self._opened.append(store)
        return store

    async def other(self, store: Store) -> Store:
        """Another handle on the same data."""
        assert self._reopen is not None
        other = await self._reopen(store)
        self._opened.append(other)
        return other


Check = Callable[[Stores], Awaitable[None]]


class StoreCheck(Struct, frozen=True):
    """One promise of a store, and how to see whether it is kept."""

    run: Check
    needs_reopen: bool = False
    """It needs a second handle on the same data."""

    @property
    def name(self) -> str:
        """The promise, as an identifier."""
        return getattr(self.run, "__name__", "a_check")


def demand(kept: object, promise: str) -> None:
    """Fails the check unless the promise was kept."""
    if not kept:
        raise StoreDefect(promise)


async def refused(error: type[Exception], attempt: Awaitable[object], why: str) -> None:
    """Fails the check unless the attempt raises `error`."""
    try:
        await attempt
    except error:
        return
    raise StoreDefect(f"{why} must be refused with {error.__name__}")


# ── records ───────────────────────────────────────────────────────────────────────────────────────


def stamped(session: str, seq: int, event: Record, *, root: str = "", at: float = 0.0) -> Stamped:
    """A record as a driver hands it over: with everything but its place in the tree."""
    return Stamped(session, seq, 0, root or session, 0, at or 1000.0 + seq, "run-1", 1, event)


def opening(text: str = "What is in the files?") -> RunOpened:
    """The first record of a run."""
    picture = Image(data=b"\x89PNG\x00\xff", media_type="image/png")
    return RunOpened("run-1", (Message.user(text, picture),), limits={"rounds": 8.0})


def answer(text: str = "Ein Kätzchen 🐈 \x00 \u2028") -> tuple[Record, ...]:
    """What one round leaves behind."""
    message = Message("assistant", (Text(text), ToolCall("call-1", "look", '{"n": 1e999}')))
    return (
        ModelAsked("attempt-1", 1, "a-model", 100),
        ModelEnded("attempt-1", "ok", Usage(input_tokens=7), raw_finish="stop"),
        MessageAppended(message, "attempt-1"),
    )


def closing(text: str = "Two cats.") -> RunClosed:
    """The last record of a run."""
    return RunClosed("run-1", Completed(text))


def steer(text: str = "Look again.") -> Steer:
    """An inbox item."""
    return Steer(Message.user(text))


async def append(
    store: Store,
    lease: Lease,
    after: int,
    *events: Record,
    take: Sequence[str] = (),
    final: bool = False,
    leaving: Sequence[str] | None = None,
    root: str = "",
) -> Appended:
    """Appends records after the position `after`."""
    records = [
        stamped(lease.session, after + n, event, root=root) for n, event in enumerate(events, 1)
    ]
    return await store.append(lease, after, records, take=take, final=final, leaving=leaving)


async def leased(store: Store, session: str = "s", parent: str | None = None) -> Lease:
    """Makes a session and takes its lease."""
    await store.create(session, parent=parent, at=1000.0)
    return await store.claim(session)
