"""How many turns of the event loop pass between `cancel` and the end of a run.

A turn is one round of the event loop, in which all that is ready runs once. The run ends when it is
closed on record; its caller hears of it two turns later: its task is woken, and its group ends.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from power_loop import AgentLoop, CancellationToken, MemoryStore, ToolContext, tool
from power_loop.events import RunClosed
from power_loop.runtime.stores.base import Store
from tests.agent.scripted import Gate, Reply, Scripted, calls, hangs
from tests.agent.stepping import Backend, Turns, run_with_turns
from tests.agent.stores import SlowStore

BACKENDS: tuple[Backend, ...] = ("asyncio", "trio")
AT_MOST = 3


@tool
async def honours(context: ToolContext[Gate]) -> str:
    """Waits, and lets itself be cancelled."""
    await context.deps.wait()
    return "done"


@tool(on_cancel="background")
async def goes_on(context: ToolContext[Gate]) -> str:
    """Waits, and is left to."""
    await context.deps.wait()
    return "done"


class Trial:
    """One run that is cancelled where it waits, and how many turns that took."""

    def __init__(self, what: str, way: str, make: Callable[[], Store] = MemoryStore) -> None:
        self.turns = Turns()
        self.closed = self.heard = 0
        self._what, self._way, self._make = what, way, make

    async def main(self) -> None:
        """Runs it."""
        gate, token, began = Gate(), CancellationToken(), 0
        model = Scripted(self._reply(gate))
        with anyio.fail_after(10):
            async with AgentLoop[Gate](model, tools=[honours, goes_on], store=self._make()) as loop:
                loop.events.subscribe(lambda _: self._note(), types=[RunClosed], inline=True)
                await loop.store.create("s")
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._run, loop, token, gate)
                    await gate.reached.wait()
                    await anyio.wait_all_tasks_blocked()
                    began = self.turns.count
                    if self._way == "token":
                        token.cancel("enough")
                    else:
                        await loop.cancel("s", "enough")
                self.closed -= began
                self.heard -= began
                gate.opened.set()

    def _reply(self, gate: Gate) -> Reply:
        if self._what in ("streamed", "whole"):
            return hangs(gate, "a beginning")
        count, name = self._what.split()
        return calls(*[(str(n), name, "{}") for n in range(int(count))])

    async def _run(self, loop: AgentLoop[Gate], token: CancellationToken, gate: Gate) -> None:
        if self._what != "streamed":
            result = await loop.send("hi", "s", deps=gate, cancel=token)
        else:
            async with loop.stream("hi", "s", deps=gate, cancel=token) as run:
                async for _ in run:
                    pass
                result = await run.result()
        self.heard = self.turns.count
        assert result.status == "cancelled"

    def _note(self) -> None:
        self.closed = self.turns.count


@pytest.mark.parametrize("way", ["token", "verb"])
@pytest.mark.parametrize("what", ["streamed", "whole", "1 honours", "4 honours", "1 goes_on"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_run_ends_within_three_turns_of_being_cancelled(
    backend: Backend, what: str, way: str
) -> None:
    """In a model call, in tools that honour it, or leaving one behind."""
    trial = Trial(what, way)
    run_with_turns(trial.main, trial.turns, backend)
    assert 1 <= trial.closed <= AT_MOST
    # One turn for whatever is cancelled to unwind; siblings add those of the group around them.
    assert trial.closed == 1 or what == "4 honours"


@pytest.mark.parametrize("what", ["whole", "1 honours", "1 goes_on"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_who_sent_the_message_has_the_result_within_three_turns(
    backend: Backend, what: str
) -> None:
    """Including the way back through the verb. A stream takes four more: its block has a group of
    its own, and each of two siblings costs one.
    """
    trial = Trial(what, "token")
    run_with_turns(trial.main, trial.turns, backend)
    assert trial.heard <= AT_MOST


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_store_that_must_be_waited_for_adds_its_own_transaction_and_nothing_else(
    backend: Backend,
) -> None:
    """The committer is woken, and appends: here, a turn before the append and one after it."""
    trial = Trial("1 honours", "token", SlowStore)
    run_with_turns(trial.main, trial.turns, backend)
    assert trial.closed <= AT_MOST + 1
