"""How long a run may take to end, and whose word ends it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import current_token
from sniffio import current_async_library

from power_loop.driver.reporting import Home
from power_loop.runtime.cancellation import CancellationToken

__all__ = ["Patience", "listen"]


class Patience:
    """How long somebody waits for what goes on; it may change while they wait.

    A limit holds until something is said to end. What is said before it has begun counts from then.
    """

    __slots__ = ("_clock", "_deadline", "_early", "_ends", "_waiting")

    def __init__(self) -> None:
        self._clock: Callable[[], float] | None = None
        self._early: float | None = None
        self._ends = False
        self._deadline = inf
        self._waiting: anyio.CancelScope | None = None

    def begin(self) -> None:
        """Has time pass from now on."""
        # Of the event loop itself: it is also asked for by callbacks, which run in no task.
        on_trio = current_async_library() == "trio"
        self._clock = anyio.current_time if on_trio else _loop_clock()
        if self._ends:
            self._set(self._early)

    def limited_to(self, seconds: float) -> None:
        """Lasts so long at most, if nothing ends before."""
        if not self._ends:
            self._set(seconds)

    def ends_in(self, seconds: float | None) -> None:
        """Ends in `seconds` from now, for another reason than a limit; never, if None."""
        self._ends = True
        self._set(seconds)

    def _set(self, seconds: float | None) -> None:
        if self._clock is None:
            self._early = seconds
            return
        self._deadline = inf if seconds is None else self._clock() + seconds
        if self._waiting is not None:
            self._waiting.deadline = self._deadline

    async def outlives(self, event: anyio.Event) -> bool:
        """Waits for `event`: True once it is set, False if the time was over before."""
        assert self._clock is not None
        while not event.is_set():
            with anyio.CancelScope(deadline=self._deadline) as self._waiting:
                await event.wait()
            # Else it has been put off at the very moment at which it was over.
            if self._clock() >= self._deadline:
                break
        return event.is_set()


def _loop_clock() -> Callable[[], float]:
    loop: Any = current_token().native_token
    clock: Callable[[], float] = loop.time
    return clock


def listen(
    token: CancellationToken | None, tasks: TaskGroup, cancel: Callable[[str], None]
) -> Callable[[], object]:
    """Has `cancel` called in this event loop once `token` is cancelled; returns what ends that.

    What it follows that cannot call back is looked at by a task of `tasks`.
    """
    if token is None or token.never:
        return _nothing
    heard = partial(_from_anywhere, Home(), cancel)
    forget = token.on_cancel(heard)
    if not token.polled:
        return forget
    looking = anyio.CancelScope()
    tasks.start_soon(_look, token, looking)
    return partial(_stop_looking, forget, looking)


def _from_anywhere(home: Home, cancel: Callable[[str], None], reason: str) -> None:
    if home.here:
        cancel(reason)
    else:
        home.call_soon(cancel, reason)


async def _look(token: CancellationToken, looking: anyio.CancelScope) -> None:
    """The listener is called by whoever sees first that the token is cancelled."""
    with looking:
        await token.wait()


def _stop_looking(forget: Callable[[], object], looking: anyio.CancelScope) -> None:
    forget()
    looking.cancel()


def _nothing() -> None:
    """There is nobody to forget."""
