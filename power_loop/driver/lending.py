"""A model call that other people's code may make, for as long as it is at work."""

from __future__ import annotations

import anyio

from llm_client.types import LLMRequest, LLMResponse
from power_loop.driver.reporting import CancelReason
from power_loop.errors import UsageError
from power_loop.pipeline.ports import AskAside

__all__ = ["Lent"]

_OVER = "the compactor or memory that was given ask() is not at work any more"


class Lent:
    """An `ask` that is lent to a compactor or a memory, and taken back with `end`.

    Whoever it is lent to may keep it, or use it in tasks of its own that go on; neither may come
    between the run and its own calls.
    """

    def __init__(self, ask: AskAside, cancelled: CancelReason) -> None:
        self._ask = ask
        self._cancelled = cancelled
        self._over = False
        self._under_way: anyio.CancelScope | None = None
        self._free = anyio.Event()

    async def __call__(self, request: LLMRequest, *, within: float) -> LLMResponse:
        """See `power_loop.runtime.asking.Ask`.

        Raises:
            UsageError: another call is under way, or what this was lent for is over.
        """
        if self._over:
            raise UsageError(_OVER)
        if self._under_way is not None:
            raise UsageError("ask() makes one call at a time: await it before the next")
        self._free = anyio.Event()
        try:
            with anyio.CancelScope() as self._under_way:
                if self._cancelled.text is not None:
                    # The run is being cancelled: whoever this is lent to hears of it in a moment.
                    await anyio.sleep_forever()
                return await self._ask(request, within=within)
        finally:
            self._under_way = None
            self._free.set()
        raise UsageError(_OVER)

    async def end(self) -> None:
        """Takes it back. A call that nobody has waited for to its end is stopped first."""
        self._over = True
        if self._under_way is not None:
            self._under_way.cancel()
            with anyio.CancelScope(shield=True):
                await self._free.wait()
