"""Waking tasks of any event loop from any thread, with one call into each loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from threading import Lock, get_ident
from typing import Protocol, cast

import anyio
from anyio.lowlevel import current_token
from sniffio import current_async_library

__all__ = ["Home", "Signal", "Waiter", "Waiters", "Watcher", "Watchers", "wake"]


class _Asyncio(Protocol):
    def call_soon_threadsafe(
        self, callback: Callable[[Sequence[Home]], None], group: Sequence[Home], /
    ) -> object: ...


class _Trio(Protocol):
    def run_sync_soon(
        self, sync_fn: Callable[[Sequence[Home]], None], group: Sequence[Home], /
    ) -> object: ...


class Home(ABC):
    """Something to be done in the event loop it was made in, for `wake` to do from any thread."""

    __slots__ = ("loop", "thread", "trio")

    def __init__(self) -> None:
        self.loop: object = current_token().native_token
        self.trio = current_async_library() == "trio"
        self.thread = get_ident()

    @abstractmethod
    def fire(self) -> None:
        """Does it. Called in its own thread."""


class Signal(Home):
    """An event of the event loop it was made in."""

    __slots__ = ("event",)

    def __init__(self) -> None:
        super().__init__()
        self.event = anyio.Event()

    def fire(self) -> None:
        self.event.set()


def wake(signals: Iterable[Home]) -> None:
    """Fires signals: those of the calling thread at once, others by one call into their loop."""
    here = get_ident()
    elsewhere: dict[object, list[Home]] = {}
    for signal in signals:
        if signal.thread == here:
            signal.fire()
        else:
            elsewhere.setdefault(signal.loop, []).append(signal)
    for loop, group in elsewhere.items():
        # A loop that has ended took the tasks that waited along.
        with suppress(RuntimeError):
            if group[0].trio:
                cast("_Trio", loop).run_sync_soon(_fire, group)
            else:
                cast("_Asyncio", loop).call_soon_threadsafe(_fire, group)


def _fire(signals: Sequence[Home]) -> None:
    for signal in signals:
        signal.fire()


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


class Watcher(Home):
    """Somebody to be told of what is posted to a session, until it is `closed`."""

    __slots__ = ("closed", "notify", "session")

    def __init__(self, session: str, notify: Callable[[], None]) -> None:
        super().__init__()
        self.session = session
        self.notify = notify
        self.closed = False

    def fire(self) -> None:
        if not self.closed:
            self.notify()


class Watchers:
    """Who is told of posts to which session. Safe to use from several threads."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets everybody."""
        self._lock = Lock()
        self._of: dict[str, tuple[Watcher, ...]] = {}

    def __bool__(self) -> bool:
        return bool(self._of)

    def add(self, session: str, notify: Callable[[], None]) -> Callable[[], None]:
        """Registers `notify` for the running event loop; returns what ends it. See `Store.watch`"""
        watcher = Watcher(session, notify)
        with self._lock:
            self._of[session] = (*self._of.get(session, ()), watcher)
        return partial(self._remove, watcher)

    def _remove(self, watcher: Watcher) -> None:
        watcher.closed = True
        session = watcher.session
        with self._lock:
            left = tuple([each for each in self._of.get(session, ()) if each is not watcher])
            if left:
                self._of[session] = left
            else:
                self._of.pop(session, None)

    def sessions(self) -> Sequence[str]:
        """The sessions that somebody watches."""
        with self._lock:
            return tuple(self._of)

    def everybody(self) -> Sequence[Watcher]:
        """Those who watch any session."""
        with self._lock:
            return [watcher for watchers in self._of.values() for watcher in watchers]

    def of(self, session: str) -> Sequence[Watcher]:
        """Those who watch a session."""
        return self._of.get(session, ())
