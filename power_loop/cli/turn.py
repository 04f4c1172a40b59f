"""One run, from the wait for its session to the last event on the screen."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from llm_client.local import LocalLLMService
from llm_client.service import LLMService
from power_loop.agent.result import RunResult
from power_loop.agent.sessions import WaitOrFail
from power_loop.agent.stream import RunStream
from power_loop.cli.display import Display
from power_loop.errors import SessionBusy

__all__ = ["Opener", "show_run", "warm_up", "when_free"]

Opener = Callable[[WaitOrFail], AbstractAsyncContextManager[RunStream[None]]]


async def warm_up(service: LLMService) -> None:
    """Fetches and starts a local model before anything else moves on the screen.

    Raises:
        LLMError: it cannot be fetched or started; says what to do.
    """
    if isinstance(service, LocalLLMService):
        await service.start()


@asynccontextmanager
async def when_free(open: Opener) -> AsyncGenerator[RunStream[None]]:
    """The run that `open` gives; says so if its session must be waited for."""
    async with AsyncExitStack() as stack:
        try:
            run = await stack.enter_async_context(open("fail"))
        except SessionBusy as busy:
            print(
                f"(session {busy.session_id} is busy: {busy.owner} is running it. "
                "Waiting until it is free; Ctrl-C gives up)",
                file=sys.stderr,
            )
            run = await stack.enter_async_context(open("wait"))
        yield run


async def show_run(open: Opener, display: Display, *, announce: bool) -> RunResult[None]:
    """Shows the run that `open` gives, to its end; says first which session it is in."""
    try:
        async with when_free(open) as run:
            if announce:
                print(f"session {run.session_id}", file=sys.stderr)
            async for stamped in run:
                display.show(stamped)
            return await run.result()
    finally:
        display.close()
