"""Tasks that no group waits for, so that what does not end cannot hold what must."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from typing import Any, cast

from sniffio import current_async_library

__all__ = ["Detached"]


class Detached:
    """Starts tasks in the event loop itself, each in a copy of the caller's context.

    A task group ends when the last of its tasks has, and code that swallows its cancellation never
    does. Whoever starts a task here waits for it as long as that is right, and may then leave it.
    """

    def __init__(self) -> None:
        # An event loop holds its tasks only weakly.
        self._tasks: set[object] = set()

    def start(self, function: Callable[[], Awaitable[None]]) -> None:
        """Runs `function`, which must raise nothing but its own cancellation."""
        # Loaded by whoever runs this; imported at the top they would cost every importer.
        if current_async_library() == "trio":
            from trio.lowlevel import spawn_system_task  # noqa: PLC0415

            spawn_system_task(function, context=copy_context())
            return
        from asyncio import create_task  # noqa: PLC0415

        task = create_task(cast("Coroutine[Any, Any, None]", function()))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
