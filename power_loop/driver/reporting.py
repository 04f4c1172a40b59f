"""What comes to a run from other threads, and why it is to end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import get_ident
from typing import Any

from anyio.lowlevel import current_token
from sniffio import current_async_library

from power_loop.events import ToolEmitted, ToolProgress, Transient

__all__ = ["CancelReason", "Home", "Reporter"]


class CancelReason:
    """Why a run is being cancelled; called, it says so: None while it is not."""

    __slots__ = ("text",)

    def __init__(self) -> None:
        self.text: str | None = None

    def __call__(self) -> str | None:
        return self.text


class Home:
    """The thread and the event loop of a run. To be made there."""

    __slots__ = ("_loop", "_on_trio", "_thread")

    def __init__(self) -> None:
        self._thread = get_ident()
        self._loop: Any = current_token().native_token
        self._on_trio = current_async_library() == "trio"

    @property
    def here(self) -> bool:
        """Whether the calling thread is that of the run."""
        return get_ident() == self._thread

    def call_soon(self, callback: Callable[[Any], object], value: object) -> None:
        """Calls `callback(value)` in the run's event loop, from another thread."""
        with suppress(RuntimeError):  # the event loop has ended
            if self._on_trio:
                self._loop.run_sync_soon(callback, value)
            else:
                self._loop.call_soon_threadsafe(callback, value)


class Reporter:
    """Takes what one call says of itself, from any thread, until the call is over.

    A thread that is left behind may report later: nobody listens then.
    """

    __slots__ = ("_call_id", "_emit", "_home", "closed")

    def __init__(self, call_id: str, emit: Callable[[Transient], None], home: Home) -> None:
        self.closed = False
        self._call_id = call_id
        self._emit = emit
        self._home = home

    def progress(self, message: str, fraction: float | None, data: Any) -> None:
        """How far the work is."""
        self._tell(ToolProgress(self._call_id, message, fraction, data))

    def announce(self, name: str, data: Any) -> None:
        """An event of the tool's own."""
        self._tell(ToolEmitted(self._call_id, name, data))

    def _tell(self, event: Transient) -> None:
        if self.closed:
            return
        if self._home.here:
            self._emit(event)
        else:
            self._home.call_soon(self._late, event)

    def _late(self, event: Transient) -> None:
        if not self.closed:
            self._emit(event)
