"""Jobs side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import anyio
from anyio.abc import TaskGroup

from power_loop.pipeline.ports import Job

__all__ = ["side_by_side"]


async def side_by_side(jobs: Sequence[Job], *, wait: bool) -> bool:
    """Runs jobs at the same time; False when one of them broke the batch off.

    The first error cancels the rest and is raised as it is, not wrapped in a group. `wait` says
    that each job is known to wait for something.
    """
    if not jobs:
        return True
    if len(jobs) == 1:
        return await jobs[0].run()
    batch = _Batch(jobs)
    async with anyio.create_task_group() as tasks:
        if wait:
            batch.spread(tasks)
        else:
            tasks.start_soon(batch.spread_later, tasks)
        await batch.begin(tasks)
    if batch.error is not None:
        raise batch.error
    return not batch.broken_off


class _Batch:
    """Jobs without a task yet, and what became of the others.

    A job that never waits needs no task: `begin` runs one after the other in the task that is there
    anyway. Only when one waits, `spread_later` comes to run, and gives a task to each that is left.
    """

    __slots__ = ("_left", "broken_off", "error")

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._left = deque(jobs)
        self.broken_off = False
        self.error: Exception | None = None

    async def begin(self, tasks: TaskGroup) -> None:
        while self._left and not tasks.cancel_scope.cancel_called:
            await self._run(self._left.popleft(), tasks)

    def spread(self, tasks: TaskGroup) -> None:
        """A task for each but the first, which is for whoever calls."""
        if self._left and not tasks.cancel_scope.cancel_called:
            first = self._left.popleft()
            for job in self._left:
                tasks.start_soon(self._run, job, tasks)
            self._left = deque([first])

    async def spread_later(self, tasks: TaskGroup) -> None:
        self.spread(tasks)
        await self.begin(tasks)

    async def _run(self, job: Job, tasks: TaskGroup) -> None:
        try:
            if await job.run():
                return
            self.broken_off = True
        except Exception as error:  # noqa: BLE001  raised again by whoever started the jobs
            self.error = self.error or error
        tasks.cancel_scope.cancel()
