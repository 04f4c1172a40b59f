"""The loop's events: subscribe to them, or follow a session from a cursor."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncGenerator, Callable, Collection
from typing import Any

from anyio.abc import TaskGroup
from msgspec import Struct

from power_loop.driver.hub import Hub, Overflow, Reader
from power_loop.errors import UsageError
from power_loop.events import Event, Stamped
from power_loop.runtime.stores.base import Store

__all__ = ["LoopEvents"]

logger = logging.getLogger("power_loop")

_READ_PAGE = 500


class _Subscriber(Struct):
    handler: Callable[[Stamped], Any]
    reader: Reader


class LoopEvents:
    """Events of all sessions of one loop."""

    def __init__(self, hub: Hub, store: Store) -> None:
        self._hub = hub
        self._store = store
        self._tasks: TaskGroup | None = None
        self._waiting: list[_Subscriber] = []
        self._readers: list[Reader] = []

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
            if inspect.iscoroutinefunction(handler):
                raise UsageError("an inline subscriber must be synchronous; leave inline out")
            return self._hub.attach_inline(handler, types)
        reader = Reader(overflow=overflow, limit=limit, types=types)
        self._hub.attach(reader)
        self._readers.append(reader)
        subscriber = _Subscriber(handler, reader)
        if self._tasks is None:
            self._waiting.append(subscriber)
        else:
            self._tasks.start_soon(_pump, subscriber)
        return lambda: self._hub.detach(reader)

    async def stream(
        self, session_id: str, *, after: int = 0, follow: bool = False
    ) -> AsyncGenerator[Stamped]:
        """The session's durable events with seq > `after`, each once, in order, without gaps.

        With `follow` it goes on with what any process appends, until it is closed.

        Raises:
            SessionNotFound: there is none of that id, or it was deleted meanwhile.
        """
        cursor = after
        while True:
            page = await self._store.read(session_id, cursor, _READ_PAGE)
            for stamped in page:
                cursor = stamped.seq
                yield stamped
            if not page:
                if not follow:
                    return
                await self._store.wait(session_id, cursor)

    def start(self, tasks: TaskGroup) -> None:
        """Begins to call subscribers, in `tasks`."""
        self._tasks = tasks
        for subscriber in self._waiting:
            tasks.start_soon(_pump, subscriber)
        self._waiting.clear()

    def close(self) -> None:
        """Ends all subscriptions once what waits has been delivered."""
        for reader in self._readers:
            self._hub.detach(reader)
        self._readers.clear()


async def _pump(subscriber: _Subscriber) -> None:
    async for stamped in subscriber.reader:
        try:
            result = subscriber.handler(stamped)
            if inspect.isawaitable(result):
                await result
        except Exception:  # a subscriber is foreign code and must not hurt anybody else
            logger.exception("an event subscriber failed: %r", subscriber.handler)
