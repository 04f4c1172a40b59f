"""Typed answers of runs that are resumed, streamed, or have no event loop."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from power_loop import AgentLoop, Hooks
from power_loop.hooks import ROUND_START, Break, RoundStart
from tests.agent.scripted import Scripted, says


class City(BaseModel):
    """A city."""

    name: str
    people: int


BERN = City(name="Bern", people=1)
BERN_JSON = '{"name": "Bern", "people": 1}'


@pytest.mark.anyio
async def test_a_resumed_run_can_have_an_output_type() -> None:
    """The task goes on, and so does what its answer must be."""
    hooks = Hooks()
    stops = [Break("not now")]

    def stop(context: RoundStart) -> Break | None:
        return stops.pop() if stops else None

    hooks.on(ROUND_START, stop)
    llm = Scripted(says("Bern"), says(BERN_JSON))
    async with AgentLoop(llm, hooks=hooks) as loop:
        first = await loop.send("Which city?", output_type=City)
        assert first.status == "stopped"
        second = await loop.resume(first.session_id, output_type=City)
        assert second.output == BERN
        assert llm.requests[0].output_schema is not None


@pytest.mark.anyio
async def test_a_resumed_run_that_is_streamed_can_have_an_output_type() -> None:
    """As `stream` and `send` have it."""
    hooks = Hooks()
    stops = [Break("not now")]

    def stop(context: RoundStart) -> Break | None:
        return stops.pop() if stops else None

    hooks.on(ROUND_START, stop)
    async with AgentLoop(Scripted(says(BERN_JSON)), hooks=hooks) as loop:
        first = await loop.send("Which city?")
        async with loop.stream_resume(first.session_id, output_type=City) as run:
            assert (await run.result()).output == BERN


def test_a_program_without_an_event_loop_has_it_too() -> None:
    """`sync()` and `send_sync`."""
    hooks = Hooks()
    stops = [Break("not now")]

    def stop(context: RoundStart) -> Break | None:
        return stops.pop() if stops else None

    hooks.on(ROUND_START, stop)
    loop = AgentLoop(Scripted(says(BERN_JSON)), hooks=hooks)
    with loop.sync() as s:
        first = s.send("Which city?")
        assert s.resume(first.session_id, output_type=City).output == BERN
    once = AgentLoop(Scripted(says("[1, 2]"))).send_sync("hi", output_type=list[int])
    assert once.output == [1, 2]
