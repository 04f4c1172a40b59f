"""Cancellation, kept apart from what other people's code makes of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import anyio.lowlevel
from sniffio import current_async_library

__all__ = ["own_cancellation", "to_the_end"]

T = TypeVar("T")


async def to_the_end(function: Callable[[], Awaitable[None]]) -> None:
    """Awaits `function`; a cancellation of the caller is raised only afterwards.

    It runs in a task of its own: a shielded scope alone does not stop a native cancellation.

    Raises:
        Exception: whatever `function` raises, as it is.
    """
    errors: list[Exception] = []

    async def run() -> None:
        with anyio.CancelScope(shield=True):
            try:
                await function()
            except Exception as error:  # noqa: BLE001  raised again, out of the group
                errors.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
    if errors:
        raise errors[0]


async def own_cancellation(foreign: Awaitable[T]) -> T:
    """Awaits a tool, a handler or a model; a cancellation of its own making is an error of it.

    On asyncio, whoever awaits a cancelled future or task raises `CancelledError` although nobody
    has cancelled the run.

    Raises:
        RuntimeError: it raised `CancelledError`, and the run is not being cancelled.
    """
    try:
        return await foreign
    except anyio.get_cancelled_exc_class() as error:
        if current_async_library() != "asyncio":
            raise
        # Loaded by whoever runs this; imported at the top it would cost every importer 15 ms.
        from asyncio import current_task  # noqa: PLC0415

        task = current_task()
        if task is None or task.cancelling():
            raise
        await anyio.lowlevel.checkpoint_if_cancelled()
        raise RuntimeError("it raised CancelledError, but nobody had cancelled it") from error
