"""Cancellation in the caller's hands: from any thread, in a tree, and with a reason.

Nothing here blocks or takes a lock. Each step is one atomic operation on a dict: whoever cancels
says so first and then empties the dict of listeners, whoever listens enters it first and then looks
whether it is too late. So every listener is told, once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from threading import get_ident
from typing import Any, Protocol, runtime_checkable
from weakref import ref

import anyio
from anyio.lowlevel import current_token
from sniffio import current_async_library

from power_loop.errors import CancelledByToken, UsageError
from power_loop.log import logger

__all__ = ["INTERVAL", "CancelSource", "CancellationToken"]

INTERVAL = 0.05
"""Seconds between two looks at what cannot call back, while somebody listens."""

_SAID = "reason"


@runtime_checkable
class _Event(Protocol):
    def is_set(self) -> bool: ...


class CancellationToken:
    """Says that work is not wanted any more, and why. Safe to use from any thread.

    `CancellationToken()` is cancelled by whoever holds it; `child()` and `any_of` follow others;
    `from_any` wraps what says it in its own way. It keeps no child alive that nobody else keeps.

    Attributes:
        never: whether nothing can cancel it: it was made of None.
    """

    __slots__ = ("_node", "never")

    def __init__(self) -> None:
        self.never = False
        self._node = _Node()

    @classmethod
    def from_any(cls, source: CancelSource) -> CancellationToken:
        """A token that follows `source`; one that is a token already is that token.

        Of None comes a token that is never cancelled. An event (of threading, asyncio, anyio or
        trio) counts when it is set, a function when it returns True: it may be called from any
        thread, must be quick, and if it raises, or returns no bool, that counts as False and is
        logged once. Events and functions cannot call back: they are looked at whenever somebody
        asks, and every 50 ms while somebody listens. To cancel the token leaves its source alone.

        Raises:
            UsageError: it is none of these.
        """
        if isinstance(source, CancellationToken):
            return source
        token = cls()
        if source is None:
            token.never = True
        else:
            token._node = _Node(source=_Source(source))
        return token

    @classmethod
    def any_of(cls, *tokens: CancellationToken) -> CancellationToken:
        """A token that is cancelled as soon as one of `tokens` is; or by itself, not touching them.

        Raises:
            UsageError: one is no token.
        """
        for each in tokens:
            if not isinstance(each, CancellationToken):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers need not be checked
                raise UsageError(f"any_of takes tokens, not {each!r}: make one with from_any")
        token = cls()
        above = tuple([each._node for each in tokens if not each.never])  # noqa: SLF001  its own kind
        token._node = _Node(above)
        return token

    def child(self) -> CancellationToken:
        """A token that is cancelled with this one; to cancel it leaves this one alone."""
        return CancellationToken.any_of(self)

    # ── saying it ─────────────────────────────────────────────────────────────────────────────────

    def cancel(self, reason: str = "cancelled") -> None:
        """Cancels it and all its children; the first reason stays.

        Listeners are called here, in this thread, before it returns.

        Raises:
            UsageError: it can never be cancelled, or the reason is no text.
        """
        if self.never:
            raise UsageError("this token was made of None: make a CancellationToken() to cancel it")
        if not isinstance(reason, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers need not be checked
            raise UsageError(f"the reason of a cancellation is a text, not {reason!r}")
        self._node.cancel(reason)

    # ── hearing it ────────────────────────────────────────────────────────────────────────────────

    @property
    def cancelled(self) -> bool:
        """Whether it has been cancelled."""
        return self.reason is not None

    @property
    def reason(self) -> str | None:
        """Why it has been cancelled; None while it has not."""
        return self._node.reason()

    @property
    def polled(self) -> bool:
        """Whether it follows something that cannot call back, so that somebody must look."""
        return any(node.source is not None for node in self._node.lineage())

    def raise_if_cancelled(self) -> None:
        """Does nothing while it has not been cancelled.

        Raises:
            CancelledByToken: it has been, for `error.reason`.
        """
        reason = self.reason
        if reason is not None:
            raise CancelledByToken(reason)

    def on_cancel(self, listener: Callable[[str], object]) -> Callable[[], object]:
        """Has `listener` called once with the reason, in the thread that cancels; at once, if that
        has happened. Returns what ends that. What a listener raises is logged.

        A source that cannot call back is heard of only while somebody looks: see `wait`.
        """
        key, listeners = object(), self._node.listeners
        listeners[key] = listener
        reason = self.reason
        if reason is not None and listeners.pop(key, None) is not None:
            _tell(listener, reason)
        return partial(listeners.pop, key, None)

    async def wait(self) -> str:
        """Waits until it is cancelled; returns the reason. In asyncio or trio."""
        waiter = _Waiter()
        forget = self.on_cancel(waiter.wake)
        try:
            while (reason := self.reason) is None:
                if not self.polled:
                    await waiter.event.wait()
                    continue
                with anyio.move_on_after(INTERVAL):
                    await waiter.event.wait()
            return reason
        finally:
            forget()

    def __repr__(self) -> str:
        said = self._node.said.get(_SAID)
        state = "never" if self.never else "not cancelled" if said is None else f"cancelled: {said}"
        return f"<CancellationToken, {state}>"


CancelSource = CancellationToken | _Event | Callable[[], bool] | None
"""What `CancellationToken.from_any` takes."""


class _Node:
    """What a token knows, what it follows, and who follows it."""

    __slots__ = ("__weakref__", "above", "children", "listeners", "said", "source")

    def __init__(self, above: tuple[_Node, ...] = (), source: _Source | None = None) -> None:
        self.above = above
        self.source = source
        self.said: dict[str, str] = {}
        self.listeners: dict[object, Callable[[str], object]] = {}
        self.children: dict[object, ref[_Node]] = {}
        for node in above:
            key, children = object(), node.children
            # A parent keeps no child alive, and forgets one that is gone.
            children[key] = ref(self, partial(_forget, children, key))
        self.reason()

    def cancel(self, reason: str) -> None:
        # No recursion: a tree may be deeper than Python's stack.
        due = [self]
        while due:
            node = due.pop()
            said = node.said.setdefault(_SAID, reason)
            for listener in _emptied(node.listeners):
                _tell(listener, said)
            due += [child for each in _emptied(node.children) if (child := each()) is not None]

    def reason(self) -> str | None:
        for node in self.lineage():
            said = node.said.get(_SAID)
            if said is None and node.source is not None:
                said = node.source.look()
            if said is not None:
                self.cancel(said)
                return self.said[_SAID]
        return None

    def lineage(self) -> Iterator[_Node]:
        """It, and all that it follows, each once."""
        yield self
        seen: set[_Node] = {self}
        due = list(self.above)
        while due:
            node = due.pop()
            if node not in seen:
                seen.add(node)
                yield node
                due += node.above


class _Source:
    """An event or a function, asked whether it says to cancel."""

    __slots__ = ("_ask", "_failed", "_said")

    def __init__(self, source: object) -> None:
        if isinstance(source, type) or inspect.iscoroutinefunction(source):
            raise UsageError(f"cancel takes an event or a function of bool, not {source!r}")
        if isinstance(source, _Event):
            self._ask: Callable[[], object] = source.is_set
            self._said = "the event was set"
        elif callable(source):
            self._ask = source
            self._said = "the caller's function said so"
        else:
            raise UsageError(
                "cancel takes a CancellationToken, an event, a function that returns True to "
                f"cancel, or None, not a value of type {type(source).__name__}"
            )
        self._failed = False

    def look(self) -> str | None:
        """Why to cancel; None if not."""
        try:
            answer = _checked_bool(self._ask())
        except Exception:  # noqa: BLE001  foreign code, which must not end a run by its failing
            if not self._failed:
                self._failed = True
                logger.warning(
                    "%r cannot say whether to cancel; that counts as no", self._ask, exc_info=True
                )
            return None
        return self._said if answer else None


class _Waiter:
    """An event of the event loop it was made in, to be set from any thread."""

    __slots__ = ("_loop", "_on_trio", "_thread", "event")

    def __init__(self) -> None:
        self.event = anyio.Event()
        self._loop: Any = current_token().native_token
        self._on_trio = current_async_library() == "trio"
        self._thread = get_ident()

    def wake(self, _: str) -> None:
        if get_ident() == self._thread:
            self.event.set()
        elif self._on_trio:
            self._loop.run_sync_soon(self.event.set)
        else:
            self._loop.call_soon_threadsafe(self.event.set)


def _emptied(entries: dict[object, Any]) -> Iterator[Any]:
    """The values of a dict, each taken out by nobody else."""
    while entries:
        try:
            yield entries.popitem()[1]
        except KeyError:  # another thread took the last one
            return


def _checked_bool(answer: object) -> bool:
    if not isinstance(answer, bool):
        raise TypeError(f"it must return a bool, not {type(answer).__name__}")
    return answer


def _forget(children: dict[object, Any], key: object, _: object) -> None:
    children.pop(key, None)


def _tell(listener: Callable[[str], object], reason: str) -> None:
    try:
        listener(reason)
    except Exception:  # noqa: BLE001  foreign code, which must not keep others from hearing
        logger.exception("a listener of a cancellation failed: %r", listener)
