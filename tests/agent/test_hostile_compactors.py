"""Whatever a strategy of somebody else does, the run goes on and the log can be read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from llm_client.types import Part, Text, Thinking, Transcript
from power_loop import AgentConfig, AgentLoop
from power_loop.events import CompactionRejected, Stamped, ViewChanged
from power_loop.runtime.asking import Ask
from power_loop.runtime.compaction.base import CompactionPlan, ContextSize
from tests.agent.support import check_log, events_of, opened_store
from tests.agent.test_compaction import chatting, talk

pytestmark = pytest.mark.anyio

Strategy = Callable[[Transcript, ContextSize, Ask], Awaitable[CompactionPlan | None]]
Plan = Callable[[Transcript], Any]


class Foreign:
    """A strategy that a test has written."""

    name = "foreign"

    def __init__(self, work: Strategy) -> None:
        self._work = work

    def limit(self, window: int | None, reserved_output: int) -> int | None:
        """Three quarters of the window."""
        return None if window is None else window * 3 // 4

    async def compact(self, view: Transcript, size: ContextSize, ask: Ask) -> CompactionPlan | None:
        """What the test wants."""
        return await self._work(view, size, ask)


def with_strategy(work: Strategy) -> AgentConfig:
    """A small window, and one strategy."""
    return AgentConfig(context_window=1200, max_output_tokens=100, compactors=[Foreign(work)])


def _shorter(view: Transcript, *parts: Any, by: Any = "foreign") -> CompactionPlan:
    replaced: Mapping[str, tuple[Part, ...]] = {view[-3].id: parts}
    return CompactionPlan(by=by, replaced=replaced)


def _cut(view: Transcript, note: Any, **stamp: Any) -> CompactionPlan:
    kept = (view[0].id,)
    return CompactionPlan(by="foreign", cut=view[-1].id, kept=kept, note=note, stamp=stamp)


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (lambda view: "shorten it", "'str' object has no attribute"),
        (lambda view: _cut(view, 7), "Expected `str`, got `int`"),
        (lambda view: _cut(view, "short", engine=5), "Expected `str`, got `int`"),
        (lambda view: _cut(view, "short", engine="\ud800"), "no log can hold it"),
        (lambda view: _cut(view, "short", engine="\0"), "what no provider takes"),
        (lambda view: _cut(view, "sho\0rt"), "what no provider takes"),
        (lambda view: _shorter(view, Text("\ud800")), "no log can hold it"),
        (lambda view: _shorter(view, Text("\0")), "what no provider takes"),
        (lambda view: _shorter(view, "short"), "no log can hold it"),
        (lambda view: _shorter(view, Thinking("hm")), "parts that its role does not"),
        (lambda view: _shorter(view, Text("s"), by="\ud800"), "no log can hold it"),
    ],
)
async def test_a_plan_that_no_log_could_hold_is_not_carried_out(
    plan: Plan, told: str, tmp_path: Path
) -> None:
    """What is stored of it would be all that is ever read of its session again."""

    async def work(view: Transcript, size: ContextSize, ask: Ask) -> Any:
        return plan(view)

    seen: list[Stamped] = []
    async with opened_store("sqlite", tmp_path) as store:
        async with AgentLoop(chatting(), store=store, config=with_strategy(work)) as loop:
            loop.events.subscribe(seen.append)
            session = await talk(loop, 7)
            log = await check_log(loop, session)
        async with AgentLoop(chatting(), store=store) as other:
            assert (await other.send("And now?", session)).status == "completed"
    assert {r.by for r in log if isinstance(r, ViewChanged)} == {"trim"}
    rejected = events_of(CompactionRejected, seen)
    assert {event.by for event in rejected} == {"foreign"}
    assert all(told in event.reason for event in rejected)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_strategy_that_cancels_itself_has_failed_and_nothing_else() -> None:
    """On asyncio, whoever awaits a cancelled future raises what looks like a cancellation."""

    async def work(view: Transcript, size: ContextSize, ask: Ask) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    seen: list[Stamped] = []
    async with AgentLoop(chatting(), config=with_strategy(work)) as loop:
        loop.events.subscribe(seen.append)
        session = await talk(loop, 7)
        log = await check_log(loop, session)
    assert {record.by for record in log if isinstance(record, ViewChanged)} == {"trim"}
    assert "nobody had cancelled it" in events_of(CompactionRejected, seen)[0].reason
