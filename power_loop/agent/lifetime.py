"""What is open while a loop is, and in which order it is closed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from functools import partial

import anyio

from power_loop.agent.extensions import Extension
from power_loop.agent.feed import LoopEvents
from power_loop.agent.running import Runner
from power_loop.driver.shield import to_the_end

__all__ = ["open_all"]


async def open_all(
    extensions: Iterable[Extension],
    runner: Runner,
    events: LoopEvents,
    *,
    grace: float,
    last: Callable[[], Awaitable[None]] | None,
) -> AsyncExitStack:
    """Opens the lifespans of `extensions`, then the subscribers' tasks, then `runner`.

    Closing the stack undoes it in the opposite order and does `last` at the end, to the end,
    whatever cancels whoever closes it. Runs, then subscribers, have `grace` seconds each to finish.
    """
    async with AsyncExitStack() as stack:
        if last is not None:
            stack.push_async_callback(to_the_end, last)
        for extension in extensions:
            lifespan = extension.lifespan()
            if lifespan is not None:
                await stack.enter_async_context(lifespan)
        tasks = await stack.enter_async_context(anyio.create_task_group())
        events.start(tasks)
        runner.start()
        stack.push_async_callback(to_the_end, partial(_wind_down, runner, events, grace))
        return stack.pop_all()


async def _wind_down(runner: Runner, events: LoopEvents, grace: float) -> None:
    await runner.shut_down(grace)
    await events.close(grace)
