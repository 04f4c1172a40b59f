"""What must come to its end, whatever cancels whoever waits for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

__all__ = ["to_the_end"]


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
