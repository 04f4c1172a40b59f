"""Tasks that no group waits for, so that what does not end cannot hold what must."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import anyio
from sniffio import current_async_library

from power_loop.driver.shield import own_cancellation
from power_loop.log import logger

if TYPE_CHECKING:
    from asyncio import Task

__all__ = ["LAST_MOMENT", "Detached"]

LAST_MOMENT = 1.0
"""Seconds to clean up for what has been stopped."""

T = TypeVar("T")


class Detached:
    """Starts tasks in the event loop itself, each in a copy of the caller's context.

    A task group ends when the last of its tasks has, and code that swallows its cancellation never
    does. Whoever starts a task here waits for it as long as that is right, and may then leave it.
    """

    def __init__(self) -> None:
        # An event loop holds its tasks only weakly.
        self._tasks: set[object] = set()

    def start(self, function: Callable[[], Awaitable[None]]) -> Task[None] | None:
        """Runs `function`, which must raise nothing but its own cancellation; the task, if it is
        one of asyncio's."""
        # Loaded by whoever runs this; imported at the top they would cost every importer.
        if current_async_library() == "trio":
            from trio.lowlevel import spawn_system_task  # noqa: PLC0415

            spawn_system_task(function, context=copy_context())
            return None
        from asyncio import create_task  # noqa: PLC0415

        task = create_task(cast("Coroutine[Any, Any, None]", function()))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def contain(self, foreign: Awaitable[T], what: str) -> T:
        """Awaits other people's code in a task of its own. When the caller is cancelled it is
        stopped, and left if it has not ended `LAST_MOMENT` seconds later; `what` is it for the log.

        Raises:
            RuntimeError: it raised `CancelledError`, and nobody has cancelled the caller.
            BaseException: whatever else it raises.
        """
        work = _Contained(foreign)
        task = self.start(work.run)
        if task is not None:
            task.add_done_callback(work.ended)
        try:
            await work.over.wait()
        finally:
            if not work.over.is_set():
                work.scope.cancel()
                with anyio.move_on_after(LAST_MOMENT, shield=True):
                    await work.over.wait()
                if not work.over.is_set():
                    logger.warning("%s ignores that it was stopped, and is left to itself", what)
        if work.error is not None:
            raise work.error
        return work.results[0]


class _Contained(Generic[T]):
    """Other people's code, in a task of its own."""

    def __init__(self, foreign: Awaitable[T]) -> None:
        self._foreign = foreign
        self.scope = anyio.CancelScope()
        self.over = anyio.Event()
        self.results: list[T] = []
        self.error: BaseException | None = RuntimeError("its task was cancelled")

    async def run(self) -> None:
        try:
            with self.scope:
                self.results.append(await own_cancellation(self._foreign))
                self.error = None
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # noqa: BLE001  raised again where it is awaited
            self.error = error
        finally:
            self.over.set()

    def ended(self, _: object) -> None:
        """The task has ended; it may have been cancelled before it began."""
        self.over.set()
        if isinstance(self._foreign, Coroutine):
            cast("Coroutine[Any, Any, T]", self._foreign).close()
