"""The loop's events: subscribe to them, or follow a session from a cursor."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Collection
from typing import Any

import anyio
from anyio.abc import TaskGroup

from power_loop.driver.hints import is_async
from power_loop.driver.hub import Hub, Overflow, Reader
from power_loop.errors import UsageError
from power_loop.events import Event, Stamped
from power_loop.log import logger
from power_loop.runtime.stores.base import Store

__all__ = ["EventStream", "LoopEvents"]

_READ_PAGE = 500


class EventStream:
    """An asynchronous iterator of a session's durable events. It holds nothing open."""

    def __init__(self, store: Store, session_id: str, after: int, *, follow: bool) -> None:
        self._store = store
        self._session_id = session_id
        self._cursor = after
        self._follow = follow
        self._page: deque[Stamped] = deque()

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> Stamped:
        while not self._page:
            self._page.extend(await self._store.read(self._session_id, self._cursor, _READ_PAGE))
            if not self._page:
                if not self._follow:
                    raise StopAsyncIteration
                await self._store.wait(self._session_id, self._cursor)
        stamped = self._page.popleft()
        self._cursor = stamped.seq
        return stamped

    async def aclose(self) -> None:
        """Does nothing; for those who close whatever they iterate over."""


class _Subscriber:
    """A handler, and its place in the events while the loop is open."""

    def __init__(
        self,
        handler: Callable[[Stamped], Any],
        types: Collection[type[Event]] | None,
        overflow: Overflow,
        limit: int,
        hub: Hub,
    ) -> None:
        self._handler = handler
        self._hub = hub
        self._types = types
        self._overflow: Overflow = overflow
        self._limit = limit
        self.reader = self.fresh_reader()

    def fresh_reader(self) -> Reader:
        """A new place: a closed reader cannot be used again."""
        self.reader = self._hub.reader(
            overflow=self._overflow, limit=self._limit, types=self._types
        )
        return self.reader

    async def pump(self, reader: Reader) -> None:
        """Calls the handler with what comes, until the reader is closed."""
        async for stamped in reader:
            try:
                result = self._handler(stamped)
                if inspect.isawaitable(result):
                    await result
            except Exception:  # noqa: BLE001  foreign code, which must not hurt anybody else
                logger.exception("an event subscriber failed: %r", self._handler)


class LoopEvents:
    """Events of all sessions of one loop."""

    def __init__(self, hub: Hub, store: Store) -> None:
        self._hub = hub
        self._store = store
        self._tasks: TaskGroup | None = None
        self._subscribers: list[_Subscriber] = []
        self._pumping = 0
        self._idle = anyio.Event()

    def subscribe(
        self,
        handler: Callable[[Stamped], Any],
        *,
        types: Collection[type[Event]] | None = None,
        overflow: Overflow = "merge",
        limit: int = 1024,
        inline: bool = False,
    ) -> Callable[[], None]:
        """Has `handler` called for each event, in order; returns what ends the subscription.

        The handler, synchronous or not, runs in a task of its own: a slow or failing one hurts no
        run, its errors are logged.

        Args:
            handler: a function of one `Stamped` event.
            types: the event types it is for; None for all.
            overflow: what happens when it falls behind by `limit` transient events.
            limit: transient events that may wait for it.
            inline: call it within the run instead, at once; it must be synchronous and quick.

        Raises:
            UsageError: `inline`, and the handler is asynchronous.
        """
        if inline:
            if is_async(handler):
                raise UsageError("an inline subscriber must be synchronous; leave inline out")
            return self._hub.attach_inline(handler, types)
        subscriber = _Subscriber(handler, types, overflow, limit, self._hub)
        self._subscribers.append(subscriber)
        if self._tasks is not None:
            self._launch(subscriber, self._tasks)

        def unsubscribe() -> None:
            if subscriber in self._subscribers:
                self._subscribers.remove(subscriber)
                self._hub.detach(subscriber.reader)

        return unsubscribe

    def stream(self, session_id: str, *, after: int = 0, follow: bool = False) -> EventStream:
        """The session's durable events with seq > `after`, each once, in order, without gaps.

        With `follow` it goes on with what any process appends, until whoever iterates stops.
        Iterating raises SessionNotFound if there is no such session, or no more.
        """
        return EventStream(self._store, session_id, after, follow=follow)

    def start(self, tasks: TaskGroup) -> None:
        """Begins to call subscribers, in `tasks`."""
        self._tasks = tasks
        for subscriber in self._subscribers:
            self._launch(subscriber, tasks)

    async def close(self, grace: float) -> None:
        """Lets subscribers take what waits for them, for `grace` seconds, and stops them."""
        tasks, self._tasks = self._tasks, None
        for subscriber in self._subscribers:
            self._hub.detach(subscriber.reader)
        with anyio.move_on_after(grace):
            while self._pumping:
                self._idle = anyio.Event()
                await self._idle.wait()
        if self._pumping and tasks is not None:
            logger.warning("%d event subscribers were stopped: they hang", self._pumping)
            tasks.cancel_scope.cancel()

    def _launch(self, subscriber: _Subscriber, tasks: TaskGroup) -> None:
        reader = subscriber.fresh_reader()
        self._hub.attach(reader)
        self._pumping += 1
        tasks.start_soon(self._pump, subscriber, reader)

    async def _pump(self, subscriber: _Subscriber, reader: Reader) -> None:
        try:
            await subscriber.pump(reader)
        finally:
            self._pumping -= 1
            if not self._pumping:
                self._idle.set()
