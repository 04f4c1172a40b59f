"""A thread with a queue, for a store whose driver blocks.

Whoever asks waits for a signal in an event loop of its own choice; so one store serves several
loops, of asyncio and of trio, and what it does by itself does not depend on the health of any.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, Generic, Protocol, TypeVar

from power_loop.errors import PowerLoopError, StoreUnavailable
from power_loop.runtime.stores.waiting import Home, Signal, wake

__all__ = ["Doing", "Work", "Worker", "signals_of"]

T = TypeVar("T")

_BATCH = 512


class Work(Generic[T]):
    """Something for a thread of the store to do: afterwards it has an error or a result."""

    __slots__ = ("error", "result", "signal", "withdrawn")

    result: T

    def __init__(self) -> None:
        self.signal: Signal | None = None
        self.error: PowerLoopError | None = None
        self.withdrawn = False
        """Nobody waits any more; not to be begun."""


class _Stop(Work[None]):
    __slots__ = ("after",)

    def __init__(self, after: Worker | None) -> None:
        super().__init__()
        self.after = after


class Worker(ABC):
    """A thread with a queue and a connection of its own. It starts when there is work."""

    def __init__(self, name: str, place: str) -> None:
        """`place` says where the store is, in errors."""
        self._name = name
        self._place = place
        self.reset()

    def reset(self) -> None:
        """Forgets the thread and its queue, without touching either: for a forked child."""
        self._queue: SimpleQueue[Work[Any]] = SimpleQueue()
        self._thread: Thread | None = None
        self._gate = Lock()
        """Held while the connection is used."""
        self._start = Lock()

    def put(self, work: Work[Any]) -> None:
        """Queues work."""
        if self._thread is None:
            with self._start:
                if self._thread is None:
                    self._thread = Thread(target=self._run, name=self._name, daemon=True)
                    self._thread.start()
        self._queue.put(work)

    async def done(self, work: Work[T]) -> T:
        """Queues work and waits for its result. Cancelled, it withdraws it.

        Raises:
            PowerLoopError: what came of it instead.
        """
        signal = work.signal = Signal()
        self.put(work)
        try:
            await signal.event.wait()
        except BaseException:
            work.withdrawn = True
            raise
        if work.error is not None:
            raise work.error
        return work.result

    def stop(self, after: Worker | None = None) -> Signal | None:
        """Lets the thread finish what is queued, and end; to be called once at most.

        It closes its connection once `after`, which has been told to stop too, has closed its own.
        Returns a signal for its end; None if it never ran.
        """
        if self._thread is None:
            return None
        work = _Stop(after)
        work.signal = Signal()
        self._queue.put(work)
        return work.signal

    def join(self) -> None:
        """Waits the moment that the thread takes to go after it has signalled its end."""
        if self._thread is not None:
            self._thread.join()

    def freeze(self) -> None:
        """Waits until the connection is not in use and closes it: nothing of it may be forked."""
        self._gate.acquire()
        self._close()

    def thaw(self) -> None:
        """Undoes `freeze`; the connection is opened again when it is needed."""
        self._gate.release()

    def _run(self) -> None:
        stop: _Stop | None = None
        while stop is None:
            works, stop = self._take()
            with self._gate:
                signals = self._serve(works)
                if stop is not None:
                    self._retire()
                    if stop.after is not None:
                        stop.after.join()
                    self._close()
            wake(signals)
        late: list[Work[Any]] = []
        while not self._queue.empty():
            late.append(self._queue.get())
        for work in late:
            work.error = StoreUnavailable(f"the store at {self._place} is closed")
        wake(signals_of([*late, stop]))

    def _take(self) -> tuple[list[Work[Any]], _Stop | None]:
        """Everything queued; waits for something, but not beyond what is to be done anyway."""
        works: list[Work[Any]] = []
        try:
            work = self._queue.get(timeout=self._patience())
            while True:
                if isinstance(work, _Stop):
                    return works, work
                if not work.withdrawn:
                    works.append(work)
                if len(works) >= _BATCH:
                    return works, None
                work = self._queue.get_nowait()
        except Empty:
            return works, None

    @abstractmethod
    def _close(self) -> None:
        """Closes the connection, if one is open."""

    @abstractmethod
    def _serve(self, works: Sequence[Work[Any]]) -> Iterable[Home]:
        """Does the work; returns whom to wake."""

    @abstractmethod
    def _patience(self) -> float | None:
        """Seconds until there is something to do without being asked."""

    def _retire(self) -> None:  # noqa: B027 - a reader has none
        """Last things to do before the thread ends."""


class Doing(Protocol):
    """**Protocol**: has a thread of a store do its work, unless the store is closed."""

    async def __call__(self, worker: Worker, work: Work[T], /) -> T:
        """What comes of the work; see `Worker.done`."""
        ...


def signals_of(works: Iterable[Work[Any]]) -> list[Signal]:
    """Whom to wake now that the work is done."""
    return [work.signal for work in works if work.signal is not None]
