"""Waking tasks of any event loop from any thread, with one call into each loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from threading import Lock, get_ident
from typing import Protocol, cast

import anyio
from anyio.lowlevel import current_token
from sniffio import current_async_library

__all__ = ["Signal", "Waiter", "Waiters", "wake"]


class _Asyncio(Protocol):
    def call_soon_threadsafe(
        self, callback: Callable[[Sequence[Signal]], None], group: Sequence[Signal], /
    ) -> object: ...


class _Trio(Protocol):
    def run_sync_soon(
        self, sync_fn: Callable[[Sequence[Signal]], None], group: Sequence[Signal], /
    ) -> object: ...


class Signal:
    """An event of the event loop it was made in, for `wake` to set from any thread."""

    __slots__ = ("event", "loop", "thread", "trio")

    def __init__(self) -> None:
        self.event = anyio.Event()
        self.loop: object = current_token().native_token
        self.trio = current_async_library() == "trio"
        self.thread = get_ident()


def wake(signals: Iterable[Signal]) -> None:
    """Sets signals: those of the calling thread at once, others by one call into their loop."""
    here = get_ident()
    elsewhere: dict[object, list[Signal]] = {}
    for signal in signals:
        if signal.thread == here:
            signal.event.set()
        else:
            elsewhere.setdefault(signal.loop, []).append(signal)
    for loop, group in elsewhere.items():
        # A loop that has ended took the tasks that waited along.
        with suppress(RuntimeError):
            if group[0].trio:
                cast("_Trio", loop).run_sync_soon(_set, group)
            else:
                cast("_Asyncio", loop).call_soon_threadsafe(_set, group)


def _set(signals: Sequence[Signal]) -> None:
    for signal in signals:
        signal.event.set()


class Waiter(Signal):
    """Somebody who waits for a session's log to grow beyond `after`."""

    __slots__ = ("after", "session")

    def __init__(self, session: str, after: int) -> None:
        super().__init__()
        self.session = session
        self.after = after


class Waiters:
    """Who waits for which session. Safe to use from several threads."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets everybody."""
        self._lock = Lock()
        self._of: dict[str, set[Waiter]] = {}

    def add(self, session: str, after: int) -> Waiter:
        """Registers the calling task; it must `remove` the waiter when it is done."""
        waiter = Waiter(session, after)
        with self._lock:
            self._of.setdefault(session, set()).add(waiter)
        return waiter

    def remove(self, waiter: Waiter) -> None:
        """Forgets a waiter."""
        with self._lock:
            waiters = self._of.get(waiter.session)
            if waiters is not None:
                waiters.discard(waiter)
                if not waiters:
                    del self._of[waiter.session]

    def sessions(self) -> Sequence[str]:
        """The sessions that somebody waits for."""
        if not self._of:
            return ()
        with self._lock:
            return tuple(self._of)

    def below(self, session: str, seq: int | None) -> Sequence[Waiter]:
        """Those who wait for a session's log to grow beyond less than `seq`; all, if None."""
        if session not in self._of:
            return ()
        with self._lock:
            waiters = self._of.get(session, ())
            return [waiter for waiter in waiters if seq is None or waiter.after < seq]
