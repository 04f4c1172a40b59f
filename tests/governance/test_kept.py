"""What was there when a task began has to be there when its goal is reached."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_client.types import LLMRequest, Message
from power_loop import AgentLoop, MemoryStore
from power_loop.governance import GoalDriven, MetricSnapshot
from power_loop.governance.kept import KEPT_META, Kept, held
from power_loop.session.pins import standing_pins
from tests.agent.scripted import Reply, Scripted, says

NAMES = st.frozensets(st.text(), max_size=5)


@given(kept=NAMES, there=st.none() | NAMES, items=NAMES)
def test_what_is_missing_is_open_and_nothing_else(
    kept: frozenset[str], there: frozenset[str] | None, items: frozenset[str]
) -> None:
    """Where it is not known what is there, nothing is missing."""
    seen, lacks = held(MetricSnapshot(items=items, there=there), kept)
    missing = frozenset[str]() if there is None else kept - there
    assert lacks == bool(missing)
    assert seen.items == items | {f"{name} (gone, or not run)" for name in missing}


@given(there=NAMES)
def test_another_process_reads_what_one_has_told(there: frozenset[str]) -> None:
    """From the transcript, whatever follows there."""
    meta = Kept().meta("s", MetricSnapshot(there=there), begins=True)
    messages = [Message.user("before"), Message.user("x"), Message.user("after")]
    messages[1] = Message("user", messages[1].parts, id="m", meta=meta)
    assert Kept().of("s", messages) == there


def test_of_each_task_what_has_to_be_there_is_pinned() -> None:
    """A compaction leaves the newest of it in view, and so it is not forgotten."""
    kept, messages = Kept(), [Message.user("before")]
    for task in ("one", "two"):
        meta = kept.meta("s", MetricSnapshot(there=frozenset([task])), begins=True)
        messages.append(Message("user", messages[0].parts, meta=meta))
        messages.append(Message.assistant("after"))
    compacted = [*standing_pins(messages), Message.user("So far …")]
    assert len(compacted) == 2
    assert Kept().of("s", compacted) == {"two"}


class Shelf:
    """What is there, and what of it is open."""

    def __init__(self, there: Iterable[str] | None, items: Iterable[str]) -> None:
        self.there = None if there is None else frozenset(there)
        self.items = frozenset(items)

    def measure(self) -> MetricSnapshot:
        return MetricSnapshot(items=self.items, there=self.there)

    def is_success(self, snapshot: MetricSnapshot) -> bool:
        """Which does not look whether anything is missing."""
        return not self.items


@pytest.mark.anyio
@pytest.mark.parametrize("first", [None, ()])
async def test_what_is_kept_is_what_the_first_measurement_of_a_task_has_found(first: Any) -> None:
    """One that found nothing does not count; the next task has a first of its own."""
    shelf, store = Shelf(first, "a"), MemoryStore()
    steps = [("ab", "a"), ("a", ""), ("ab", "")]

    def reply(request: LLMRequest) -> Reply:
        shelf.there, shelf.items = map(frozenset, steps.pop(0))
        return says("Done.")

    llm = Scripted(by=reply)
    with anyio.fail_after(10):
        async with AgentLoop(llm, store=store, extensions=[GoalDriven(shelf)]) as loop:
            result = await loop.send("go")
            assert (result.status, steps) == ("goal_reached", [])
            shelf.there, shelf.items = frozenset("c"), frozenset("c")
            steps.append(("c", ""))
            result = await loop.send("go on", result.session_id)
            assert (result.status, steps) == ("goal_reached", [])
            messages = await loop.get_messages(result.session_id)
    told = [m for m in messages if m.meta is not None and KEPT_META in m.meta]
    assert len(told) == 3
    assert "1 open: b (gone, or not run)." in llm.requests[2].messages[-1].text
