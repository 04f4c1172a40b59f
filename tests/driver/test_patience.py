"""How long somebody waits, and that it may be put off until it is over."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from power_loop.driver.patience import Patience

pytestmark = pytest.mark.anyio


class Ending:
    """What is waited for: it comes to its end just as the time is up, and says so."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._waits = 0

    def is_set(self) -> bool:
        return self._waits > 1

    async def wait(self) -> None:
        self._waits += 1
        if self._waits > 1:
            return
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            self._patience.ends_in(None)
            raise


async def test_a_time_that_is_put_off_as_it_runs_out_is_not_over() -> None:
    """A run that has just finished is not taken for one that does not end."""
    patience = Patience()
    patience.begin()
    patience.limited_to(0.01)
    ending: Any = Ending(patience)
    with anyio.fail_after(5):
        assert await patience.outlives(ending)


async def test_a_time_that_is_over_is_over() -> None:
    """Whether it was said before it began or while it passes."""
    early = Patience()
    early.ends_in(0.01)
    early.begin()
    late = Patience()
    late.begin()
    with anyio.fail_after(5):
        assert not await early.outlives(anyio.Event())
        async with anyio.create_task_group() as tasks:

            async def end() -> None:
                late.ends_in(0)

            tasks.start_soon(end)
            assert not await late.outlives(anyio.Event())
