"""Other people's code, in a task that can be left."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import anyio
import pytest

from power_loop.driver.detached import Detached
from tests.agent.scripted import Gate

pytestmark = pytest.mark.anyio

NAME = ContextVar("NAME", default="nobody")


async def test_what_is_contained_gives_its_result_and_knows_its_context() -> None:
    """As if it had been awaited where it was called."""

    async def work() -> str:
        await anyio.lowlevel.checkpoint()
        return NAME.get()

    NAME.set("me")
    assert await Detached().contain(work(), "work") == "me"


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()])
async def test_what_is_contained_raises_as_it_is(error: BaseException) -> None:
    """Also what is to end the program: only where the caller waits for it."""

    async def work() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        await Detached().contain(work(), "work")
    assert raised.value is error


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("by", ["raising", "cancelling its task"])
async def test_a_cancellation_of_its_own_making_is_an_error(by: str, anyio_backend: str) -> None:
    """Nobody has cancelled the caller, so the caller must not believe so."""

    async def work() -> None:
        if by == "raising":
            raise asyncio.CancelledError
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await anyio.sleep_forever()

    with pytest.raises(RuntimeError, match="cancelled"):
        await Detached().contain(work(), "work")


async def test_a_caller_that_is_cancelled_stops_it_and_waits_for_its_cleaning_up() -> None:
    """As long as that takes no longer than a moment."""
    cleaned: list[bool] = []

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
            cleaned.append(True)

    with anyio.move_on_after(0.01) as scope:
        await Detached().contain(work(), "work")
    assert scope.cancelled_caught
    assert cleaned == [True]


async def test_what_ignores_that_it_was_stopped_is_left_and_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It goes on in its own task; nobody waits for it."""
    gate, ended = Gate(), anyio.Event()

    async def work() -> None:
        with anyio.CancelScope(shield=True):
            await gate.wait()
        ended.set()

    with anyio.fail_after(10):
        with anyio.move_on_after(0.01) as scope:
            await Detached().contain(work(), "a guest")
        assert scope.cancelled_caught
        assert not ended.is_set()
        gate.opened.set()
        await ended.wait()
    assert caplog.messages == ["a guest ignores that it was stopped, and is left to itself"]
