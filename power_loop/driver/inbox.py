"""The inbox of one run's session: what enters when, and what does not wait for the next round.

The store tells of each post. A short task in the run's own group then looks: a wish to cancel, or
an interrupting message, is acted on at once, wherever it was posted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio
from anyio.abc import TaskGroup
from sniffio import current_async_library, current_async_library_cvar

from llm_client.types import Message
from power_loop.log import logger
from power_loop.pipeline.ports import InboxTake
from power_loop.runtime.stores.base import CancelRequested, InboxItem, Steer, Store

__all__ = ["Inbox", "is_interrupt"]

_EMPTY = InboxTake()


def is_interrupt(item: InboxItem) -> bool:
    """Whether it is a message that stops what is being done."""
    return isinstance(item.item, Steer) and item.item.mode == "interrupt"


class Inbox:
    """What waits for one run.

    An interrupting message is a level, not an edge: the run is `interrupted` from when it is seen
    until the append that takes it.

    Attributes:
        ignored: ids of items that the run consumes unread when it closes: wishes to cancel that
            were meant for a run before it, or that it is following already.
        calm: ids of interrupting messages that were posted while nothing was under way; they enter
            at the next round.
    """

    __slots__ = (
        "_cancel",
        "_library",
        "_look_is_due",
        "_looking",
        "_news",
        "_session_id",
        "_stop",
        "_store",
        "_taken",
        "_tasks",
        "_unwatch",
        "_urgent",
        "calm",
        "ignored",
    )

    def __init__(self, store: Store, session_id: str, stop: Callable[[], None]) -> None:
        """`stop` is called whenever an interrupting message is seen; it stops what goes on."""
        self.ignored: tuple[str, ...] = ()
        self.calm: frozenset[str] = frozenset()
        self._store = store
        self._session_id = session_id
        self._stop = stop
        self._urgent: frozenset[str] = frozenset()
        self._taken: frozenset[str] = frozenset()
        self._tasks: TaskGroup | None = None
        self._cancel: Callable[[str], None] | None = None
        self._unwatch: Callable[[], None] | None = None
        self._looking: anyio.CancelScope | None = None
        self._look_is_due = False
        self._news = False
        self._library = ""

    @property
    def interrupted(self) -> bool:
        """Whether an interrupting message waits to be taken."""
        return bool(self._urgent)

    def open(self, tasks: TaskGroup, cancel: Callable[[str], None]) -> None:
        """Begins to hear of posts; looks at them in `tasks`. `cancel` ends the run."""
        self._tasks, self._cancel = tasks, cancel
        self._library = current_async_library()
        self._unwatch = self._store.watch(self._session_id, self._notified)

    def close(self) -> None:
        """Hears of nothing more."""
        if self._unwatch is not None:
            self._unwatch()
        self._news = False
        if self._looking is not None:
            self._looking.cancel()

    async def waiting(self) -> Sequence[InboxItem]:
        """Items that are meant for this run."""
        if not self._store.inbox_hint(self._session_id):
            return ()
        items = await self._store.inbox(self._session_id)
        waiting = [i for i in items if i.id not in self.ignored and i.id not in self._taken]
        urgent = [i.id for i in waiting if is_interrupt(i) and i.id not in self.calm]
        if urgent:
            self._urgent |= frozenset(urgent)
            self._stop()
        return waiting

    async def drain(self) -> InboxTake:
        """What waits, by when it may enter."""
        waiting = await self.waiting()
        if not waiting:
            return _EMPTY
        due: list[tuple[str, Message]] = []
        idle: list[tuple[str, Message]] = []
        cancel: str | None = None
        for each in waiting:
            item = each.item
            if isinstance(item, CancelRequested):
                cancel = item.reason
                self.ignored = (*self.ignored, each.id)
            else:
                (idle if item.mode == "when_idle" else due).append((each.id, item.message))
        return InboxTake(
            tuple([message for _, message in due]),
            tuple([id for id, _ in due]),
            cancel,
            tuple([message for _, message in idle]),
            tuple([id for id, _ in idle]),
        )

    def take(self, ids: Sequence[str]) -> None:
        """These are taken by an append that is being made."""
        self._taken |= frozenset(ids)
        self._urgent -= self._taken

    def _notified(self) -> None:
        self._news = True
        if not self._look_is_due:
            assert self._tasks is not None
            self._look_is_due = True
            # A callback of the event loop runs in no task, and asyncio is known by its tasks.
            token = current_async_library_cvar.set(self._library)
            try:
                self._tasks.start_soon(self._look)
            finally:
                current_async_library_cvar.reset(token)

    async def _look(self) -> None:
        with anyio.CancelScope() as self._looking:
            while self._news:
                self._news = False
                try:
                    waiting = await self.waiting()
                except Exception as error:  # noqa: BLE001  it is raised where the run needs the store
                    logger.warning("the inbox of %r cannot be read: %s", self._session_id, error)
                    break
                self._obey(waiting)
        self._looking = None
        self._look_is_due = False

    def _obey(self, waiting: Sequence[InboxItem]) -> None:
        for each in waiting:
            if isinstance(each.item, CancelRequested) and each.id not in self.ignored:
                assert self._cancel is not None
                self.ignored = (*self.ignored, each.id)
                self._cancel(each.item.reason)
