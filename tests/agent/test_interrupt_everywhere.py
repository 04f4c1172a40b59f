"""A message that cannot wait comes before each scheduler step of a run, once per program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import anyio
import pytest

from llm_client.types import ToolResult
from power_loop import AgentLoop, MemoryStore
from power_loop.session.outcome import Completed
from power_loop.session.records import (
    MessageAppended,
    ModelEnded,
    Record,
    RunClosed,
    ToolSettled,
    ToolStarted,
)
from tests.agent.cancel_scenarios import SCENARIOS
from tests.agent.cancel_world import Scenario, World
from tests.agent.stepping import Backend, Steps, run_stepwise, tasks_alive
from tests.agent.stores import SlowStore, records_of
from tests.session.checker import violations

NAMES = ("text", "streamed", "three tools, one exclusive", "hooks everywhere", "retry with backoff")


@pytest.mark.parametrize("make", [MemoryStore, SlowStore])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("name", NAMES)
def test_wherever_it_comes_the_run_goes_on_and_hears_it_once(
    name: str, backend: Backend, make: Callable[[], MemoryStore]
) -> None:
    """The log is legal and true, nothing is left running, and the run completes."""
    scenario = next(each for each in SCENARIOS if each.name == name)
    wanted = {"cancelled", *(("interrupted", "not_run") if "tools" in name else ())}
    stopped = Counter[str]()
    for _ in range(4):  # trio decides by chance whose turn it is, so once may not meet everything
        stopped += _sweep(scenario, backend, make)
        if wanted <= stopped.keys():
            break
    assert wanted <= stopped.keys()


def _sweep(scenario: Scenario, backend: Backend, make: Callable[[], MemoryStore]) -> Counter[str]:
    stopped = Counter[str]()
    step = 0
    while True:
        step += 1
        heard, seen = _trial(scenario, backend, make(), step)
        stopped += seen
        if not heard:
            assert step > 5
            return stopped


def _trial(
    scenario: Scenario, backend: Backend, store: MemoryStore, step: int
) -> tuple[bool, Counter[str]]:
    steps = Steps()
    world = World(store, ("s",))
    seen = Counter[str]()

    async def main() -> None:
        now = anyio.Event()
        steps.at(step, now.set)
        await store.create("s")

        async def say(loop: AgentLoop[World]) -> None:
            await now.wait()
            await loop.steer("s", "steered", mode="interrupt")
            world.steered = True

        with anyio.fail_after(20):
            async with scenario.loop(world, steps=4) as loop:
                before = tasks_alive()
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(say, loop)
                    steps.counting = True
                    await scenario.drive(world, loop)
                    steps.counting = False
                    tasks.cancel_scope.cancel()
                assert tasks_alive() == before
                assert world.llm.under_way == 0
                await loop.send("and now?", "s", deps=world)
        seen.update(_judge(world, records_of(await store.read("s"))))
        assert not await store.inbox("s")

    run_stepwise(main, steps, backend)
    return steps.count >= step, seen


def _judge(world: World, log: list[Record]) -> Counter[str]:
    assert violations(log, closed=True) == []
    assert world.llm.illegal == []
    said = [r.message for r in log if isinstance(r, MessageAppended)]
    assert sum(message.text == "steered" for message in said) == int(world.steered)
    closed = [r.outcome for r in log if isinstance(r, RunClosed)]
    assert [type(outcome) for outcome in closed] == [Completed, Completed]
    hows: dict[str, str] = {}
    for record in log:
        if isinstance(record, ToolSettled):
            part = record.message.parts[0]
            assert isinstance(part, ToolResult)
            hows[part.call_id] = record.how
    started = {r.call_id for r in log if isinstance(r, ToolStarted)}
    begun = {call for what, _, call in world.effects if what == "begin"}
    done = {call for what, _, call in world.effects if what == "done"}
    assert begun <= started
    assert {call for call, how in hows.items() if how == "finished"} == done
    assert not begun & {call for call, how in hows.items() if how == "not_run"}
    ended = [r.status for r in log if isinstance(r, ModelEnded)]
    return Counter([*ended, *hows.values()])
