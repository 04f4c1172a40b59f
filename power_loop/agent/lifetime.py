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

__all__ = ["Closes", "open_all"]


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


class Closes:
    """Base of `AgentLoop`: what is open, and how it is closed."""

    _stack: AsyncExitStack | None = None

    async def aclose(self) -> None:
        """Does what leaving the `async with` block does. To be called by the task that has entered
        it, within no cancel scope that it has entered since.

        Runs, calls in the background and subscribers have `AgentConfig.shutdown_grace` seconds each
        to end. Idempotent, and nothing is left to do at the end of the block; the loop can be
        opened again.

        Raises:
            BaseException: the caller's own cancellation, or what a lifespan raises on its way out.
        """
        stack, self._stack = self._stack, None
        if stack is None:
            return
        try:
            await stack.aclose()
        except BaseException as error:
            # A stack that is closed while an exception is handled makes one that passes two of its
            # managers its own context, and whoever follows that chain, as anyio does, never ends.
            if error.__context__ is error:
                error.__context__ = None
            raise

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()


async def _wind_down(runner: Runner, events: LoopEvents, grace: float) -> None:
    await runner.shut_down(grace)
    await events.close(grace)
