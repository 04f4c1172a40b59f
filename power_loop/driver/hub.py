"""Events to readers: publishing never awaits, and no reader can hurt a run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import anyio
from msgspec.structs import replace

from power_loop.driver.catch_up import CatchUp, Fetch
from power_loop.events import (
    DeltasDropped,
    Event,
    Stamped,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolEmitted,
    ToolProgress,
    is_record,
)
from power_loop.log import logger

__all__ = ["READ_AGAIN_PAGE", "RECORDS_HELD", "Hub", "Overflow", "Reader"]

Overflow = Literal["wait", "merge", "drop"]
"""What a reader that is behind asks for: `wait` slows the run, `merge` joins text deltas, `drop`
leaves transient events out and says how many."""

DEFAULT_LIMIT = 1024
RECORDS_HELD = 10_000
"""Records that wait in memory for one reader."""
READ_AGAIN_PAGE = 500
"""Records that it then reads from the store at a time."""
_DELTAS = frozenset({TextDelta, ThinkingDelta, ToolCallDelta})
_OF_TOOLS = frozenset({ToolEmitted, ToolProgress})


class Reader:
    """One reader's place in the stream of events: an asynchronous iterator of `Stamped`.

    Records are never dropped: a reader that is more than `held` of them behind reads them from the
    store, with `fetch`, when it comes to them. At most `limit` transient events wait; beyond that,
    `overflow` rules. Iteration ends when the reader is closed and what waits has been read.
    """

    __slots__ = (
        "_catch_up",
        "_closed",
        "_drained",
        "_dropped",
        "_held",
        "_items",
        "_last_dropped",
        "_merging",
        "_records",
        "_transients",
        "_types",
        "_wake",
        "limit",
        "overflow",
    )

    def __init__(
        self,
        *,
        overflow: Overflow = "merge",
        limit: int = DEFAULT_LIMIT,
        types: Collection[type[Event]] | None = None,
        fetch: Fetch | None = None,
        held: int = RECORDS_HELD,
    ) -> None:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        self.overflow: Overflow = overflow
        self.limit = limit
        self._types = None if types is None else frozenset(types)
        self._items: deque[Stamped] = deque()
        self._records = 0
        self._held = held
        self._catch_up = None if fetch is None else CatchUp(fetch)
        self._transients = 0
        self._dropped = 0
        self._last_dropped: Stamped | None = None
        self._merging: list[str] = []
        self._closed = False
        self._wake: anyio.Event | None = None
        self._drained: anyio.Event | None = None

    def wants(self, kind: type[Event]) -> bool:
        """Whether events of this type are for this reader."""
        return self._types is None or kind in self._types

    def wants_deltas(self) -> bool:
        """Whether it reads an answer while it is being written."""
        return self._types is None or not _DELTAS.isdisjoint(self._types)

    def __len__(self) -> int:
        """Events held in memory."""
        return len(self._items)

    @property
    def behind(self) -> bool:
        """Whether a run should wait for this reader."""
        return self.overflow == "wait" and self._transients >= self.limit and not self._closed

    def push(self, stamped: Stamped) -> None:
        """Takes an event in, at once."""
        if self._closed or not self.wants(type(stamped.event)):
            return
        if self._passes_over(stamped):
            pass
        elif is_record(stamped.event):
            self._admit(stamped)
            self._records += 1
        elif self._transients < self.limit or self._waited_for(stamped):
            self._admit(stamped)
            self._transients += 1
        elif self.overflow != "merge" or not self._merge(stamped):
            self._drop(stamped)
        if self._wake is not None:
            self._wake.set()
            self._wake = None

    def _passes_over(self, stamped: Stamped) -> bool:
        """Leaves an event out of memory, if too many records wait there already."""
        catch_up = self._catch_up
        if catch_up is None:
            return False
        if not catch_up.covers(stamped.session) and (
            self._records < self._held or not is_record(stamped.event)
        ):
            return False
        if is_record(stamped.event):
            catch_up.pass_over(stamped)
        else:
            self._drop(stamped)
        return True

    def _waited_for(self, stamped: Stamped) -> bool:
        """Whether the run waits for this reader. A tool does not: it may say what it likes."""
        return self.overflow == "wait" and type(stamped.event) not in _OF_TOOLS

    def _drop(self, stamped: Stamped) -> None:
        self._dropped += 1
        self._last_dropped = stamped

    def _admit(self, stamped: Stamped) -> None:
        self._settle_merge()
        if self._dropped:
            self._items.append(self._announcement())
        self._items.append(stamped)

    def _announcement(self) -> Stamped:
        assert self._last_dropped is not None
        event = DeltasDropped(self._dropped)
        self._dropped = 0
        return replace(self._last_dropped, event=event)

    def _merge(self, stamped: Stamped) -> bool:
        """Joins a delta to the last event that waits, or begins a new one that others can join."""
        piece = _joint(stamped.event)
        if piece is None:
            return False
        last = _joint(self._items[-1].event) if self._items and not self._dropped else None
        if last is not None and last[0] == piece[0]:
            if not self._merging:
                self._merging.append(last[1])
            self._merging.append(piece[1])
            return True
        if self._transients >= 2 * self.limit:
            return False
        self._admit(stamped)
        self._transients += 1
        return True

    def _settle_merge(self) -> None:
        if self._merging:
            last = self._items.pop()
            self._items.append(replace(last, event=_joined(last.event, "".join(self._merging))))
            self._merging = []

    async def drained(self) -> None:
        """Returns once the reader is no longer behind."""
        while self.behind:
            # Several runs may wait for one reader.
            if self._drained is None:
                self._drained = anyio.Event()
            await self._drained.wait()

    def close(self) -> None:
        """Ends the iteration after what waits. Idempotent."""
        self._closed = True
        for event in (self._wake, self._drained):
            if event is not None:
                event.set()

    def __aiter__(self) -> Reader:
        return self

    async def __anext__(self) -> Stamped:
        while not self._items:
            if self._dropped:
                return self._announcement()
            if self._catch_up:
                await self._read_on(self._catch_up)
                continue
            if self._closed:
                raise StopAsyncIteration
            if self._wake is None:
                self._wake = anyio.Event()
            await self._wake.wait()
        if len(self._items) == 1:
            self._settle_merge()
        stamped = self._items.popleft()
        if is_record(stamped.event):
            self._records -= 1
        elif type(stamped.event) is not DeltasDropped:
            self._transients -= 1
            if self._drained is not None and not self.behind:
                self._drained.set()
                self._drained = None
        return stamped

    async def _read_on(self, catch_up: CatchUp) -> None:
        page = await catch_up.page()
        wanted = [stamped for stamped in page if self.wants(type(stamped.event))]
        # What came meanwhile of other sessions stands behind.
        self._items.extendleft(reversed(wanted))
        self._records += len(wanted)


def _joint(event: Event) -> tuple[tuple[object, ...], str] | None:
    """What a delta belongs to, and its text; None for what cannot be joined."""
    match event:
        case TextDelta() | ThinkingDelta():
            return (type(event), event.attempt), event.text
        case ToolCallDelta():
            return (ToolCallDelta, event.attempt, event.call_id), event.arguments
        case _:
            return None


def _joined(event: Event, text: str) -> Event:
    match event:
        case TextDelta() | ThinkingDelta():
            return replace(event, text=text)
        case ToolCallDelta():
            return replace(event, arguments=text)
        case _:
            raise TypeError(f"{event!r} cannot be joined")


class Hub:
    """Who reads what. One for each loop; sessions share it.

    `fetch` is where readers that are far behind read records from again.
    """

    def __init__(self, fetch: Fetch | None = None) -> None:
        self._fetch = fetch
        self._everywhere: list[Reader] = []
        self._by_session: dict[str, list[Reader]] = {}
        self._above: dict[str, str] = {}
        self._inline: list[tuple[Callable[[Stamped], Any], frozenset[type[Event]] | None]] = []

    def reader(
        self,
        *,
        overflow: Overflow = "merge",
        limit: int = DEFAULT_LIMIT,
        types: Collection[type[Event]] | None = None,
    ) -> Reader:
        """A new reader, to be attached."""
        return Reader(overflow=overflow, limit=limit, types=types, fetch=self._fetch)

    def attach(self, reader: Reader, session: str | None = None) -> None:
        """Adds a reader, of one session or of all."""
        if session is None:
            self._everywhere.append(reader)
        else:
            self._by_session.setdefault(session, []).append(reader)

    def detach(self, reader: Reader, session: str | None = None) -> None:
        """Removes a reader; what waits in it stays readable. Idempotent."""
        readers = self._everywhere if session is None else self._by_session.get(session, [])
        if reader in readers:
            readers.remove(reader)
        if session is not None and not readers:
            self._by_session.pop(session, None)
        reader.close()

    @contextmanager
    def below(self, session: str, parent: str) -> Generator[None]:
        """While the block lasts, those who read the session `parent` read `session` as well."""
        self._above[session] = parent
        try:
            yield
        finally:
            del self._above[session]

    def attach_inline(
        self, handler: Callable[[Stamped], Any], types: Collection[type[Event]] | None
    ) -> Callable[[], None]:
        """Has `handler` called within the run, for each event; returns what takes it off again."""
        entry = (handler, None if types is None else frozenset(types))
        self._inline.append(entry)

        def detach() -> None:
            if entry in self._inline:
                self._inline.remove(entry)

        return detach

    def readers(self, session: str) -> list[Reader]:
        """All readers of a session's events."""
        if not self._by_session:
            return self._everywhere
        own = [reader for id in self._line(session) for reader in self._by_session.get(id, ())]
        return [*self._everywhere, *own] if own else self._everywhere

    def _line(self, session: str) -> Iterator[str]:
        """A session and those above it whose readers read it too."""
        at: str | None = session
        while at is not None:
            yield at
            at = self._above.get(at)

    def read_by_anyone(self, session: str) -> bool:
        """Whether an event of this session would reach anybody."""
        if self._everywhere or self._inline or session in self._by_session:
            return True
        return bool(self._above) and any(id in self._by_session for id in self._line(session))

    def wants_deltas(self, session: str) -> bool:
        """Whether anybody reads this session's answers while they are being written."""
        if any(reader.wants_deltas() for reader in self.readers(session)):
            return True
        return any(types is None or not _DELTAS.isdisjoint(types) for _, types in self._inline)

    def publish(self, stamped: Stamped) -> None:
        """Hands an event to everybody who reads it."""
        for reader in self._everywhere:
            reader.push(stamped)
        # Not by way of `readers`: this is done for each delta.
        at = stamped.session if self._by_session else None
        while at is not None:
            for reader in self._by_session.get(at, ()):
                reader.push(stamped)
            at = self._above.get(at)
        for handler, types in tuple(self._inline):
            if types is None or type(stamped.event) in types:
                try:
                    handler(stamped)
                except Exception:  # noqa: BLE001  foreign code, which must not hurt the run
                    logger.exception("an inline event subscriber failed: %r", handler)
