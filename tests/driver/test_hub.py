"""Readers: bounded, never blocking, and honest about what they left out."""

from __future__ import annotations

from typing import Any, Literal

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_client.types import Usage
from power_loop.driver.hub import Hub, Overflow, Reader
from power_loop.events import (
    DeltasDropped,
    Event,
    RoundEnded,
    RoundStarted,
    Stamped,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolProgress,
    is_record,
)
from power_loop.session.outcome import Completed
from power_loop.session.records import ModelAsked, RunClosed
from tests.agent.stores import at_once

pytestmark = pytest.mark.anyio


def stamped(event: Event, seq: int = 1, n: int = 0, session: str = "s") -> Stamped:
    return Stamped(session, seq, n, session, 0, 0.0, "r", 1, event)


def taken(reader: Reader, count: int) -> list[Stamped]:
    """The next `count` events, which must be there already."""
    return [at_once(reader.__anext__()) for _ in range(count)]


def drain(reader: Reader) -> list[Stamped]:
    """Everything that is left of a closed reader."""
    found: list[Stamped] = []
    while True:
        try:
            found.append(at_once(reader.__anext__()))
        except StopAsyncIteration:
            return found


def test_a_reader_needs_room_for_one() -> None:
    """A limit of nothing could never be kept."""
    with pytest.raises(ValueError, match="at least 1"):
        Reader(limit=0)


def test_types_filter_and_say_whether_deltas_are_wanted() -> None:
    """Whoever wants no deltas does not make the model stream."""
    reader = Reader(types=[RunClosed])
    assert not reader.wants_deltas()
    reader.push(stamped(RoundStarted(1)))
    reader.push(stamped(RunClosed("r", Completed("x")), 2))
    assert [s.seq for s in taken(reader, 1)] == [2]
    assert Reader().wants_deltas()
    assert Reader(types=[ToolCallDelta]).wants_deltas()


def test_dropping_counts_and_says_where() -> None:
    """Behind the last one that was taken, before the next that is."""
    reader = Reader(overflow="drop", limit=2)
    for n in range(1, 6):
        reader.push(stamped(TextDelta("a", str(n)), 1, n))
    reader.push(stamped(ModelAsked("b", 2, "m"), 2))
    first, second, gap, record = taken(reader, 4)
    assert [first.n, second.n] == [1, 2]
    assert (gap.event, gap.seq, gap.n) == (DeltasDropped(3), 1, 5)
    assert is_record(record.event)


@pytest.mark.parametrize("closed", [False, True])
def test_what_was_dropped_at_the_very_end_is_told_as_well(closed: bool) -> None:
    """Also to a reader that wants no records, so that nothing comes after it."""
    reader = Reader(overflow="drop", limit=1, types=[TextDelta])
    for n in range(1, 4):
        reader.push(stamped(TextDelta("a", str(n)), 1, n))
    if closed:
        reader.close()
    assert [s.event for s in taken(reader, 2)] == [TextDelta("a", "1"), DeltasDropped(2)]
    reader.close()
    assert drain(reader) == []


def test_merging_loses_no_text_when_the_speaker_changes() -> None:
    """From thinking to text, from one attempt to the next, across a record."""
    reader = Reader(overflow="merge", limit=4)
    n = 0
    for attempt in ("a", "b"):
        for kind in (ThinkingDelta, TextDelta):
            for letter in "xyz":
                n += 1
                reader.push(stamped(kind(attempt, letter), 1, n))
        reader.push(stamped(ModelAsked(attempt + "+", 1, "m"), 2))
    reader.close()
    seen = [s.event for s in drain(reader)]
    for attempt in ("a", "b"):
        for kind in (ThinkingDelta, TextDelta):
            mine = [e.text for e in seen if isinstance(e, kind) and e.attempt == attempt]
            assert "".join(mine) == "xyz"
    assert DeltasDropped not in {type(e) for e in seen}
    assert sum(not is_record(e) for e in seen) <= 8


def test_merged_arguments_are_joined_call_by_call() -> None:
    """Pieces of one call's arguments, with its name."""
    reader = Reader(overflow="merge", limit=1)
    for n, (call, piece) in enumerate([("x", "{"), ("x", '"a"'), ("y", "{"), ("y", "}")], 1):
        reader.push(stamped(ToolCallDelta("a", 0 if call == "x" else 1, call, "f", piece), 1, n))
    reader.close()
    events = [s.event for s in drain(reader)]
    assert [(e.call_id, e.arguments) for e in events if isinstance(e, ToolCallDelta)] == [
        ("x", '{"a"'),
        ("y", "{}"),
    ]


EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(TextDelta, st.sampled_from("ab"), st.sampled_from(["x", "yy"])),
    st.builds(ThinkingDelta, st.sampled_from("ab"), st.sampled_from(["t"])),
    st.builds(ToolCallDelta, st.just("a"), st.integers(0, 1), st.sampled_from("cd"), st.just("f")),
    st.builds(RoundStarted, st.integers(1, 3)),
    st.builds(RoundEnded, st.integers(1, 3), st.just(Usage())),
    st.builds(ToolProgress, st.just("c"), st.just("m")),
    st.builds(ModelAsked, st.sampled_from("abc"), st.integers(1, 3), st.just("m")),
)
ACTION = st.one_of(EVENTS, st.just("read"))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(ACTION, max_size=60),
    st.sampled_from(["merge", "drop", "wait"]),
    st.integers(1, 4),
)
def test_whatever_comes_records_stay_in_order_and_what_is_missing_is_counted(
    actions: list[Any], overflow: Overflow, limit: int
) -> None:
    """Read at any time, closed at any time."""
    reader = Reader(overflow=overflow, limit=limit)
    pushed: list[Stamped] = []
    seen: list[Stamped] = []
    seq, n = 0, 0
    for action in actions:
        if action == "read":
            if pushed and reader._items:
                seen += taken(reader, 1)
            continue
        seq, n = (seq + 1, 0) if is_record(action) else (seq, n + 1)
        pushed.append(stamped(action, seq, n))
        reader.push(pushed[-1])
        if overflow != "wait":
            waiting = sum(not is_record(s.event) for s in reader._items)
            gaps = sum(isinstance(s.event, DeltasDropped) for s in reader._items)
            assert waiting - gaps <= (2 * limit if overflow == "merge" else limit)
    reader.close()
    seen += drain(reader)
    assert [s for s in seen if is_record(s.event)] == [s for s in pushed if is_record(s.event)]
    assert seen == sorted(seen, key=lambda s: (s.seq, s.n))
    dropped = sum(s.event.count for s in seen if isinstance(s.event, DeltasDropped))
    for kind in (TextDelta, ThinkingDelta):
        told = sum(len(s.event.text) for s in seen if isinstance(s.event, kind))
        meant = sum(len(s.event.text) for s in pushed if isinstance(s.event, kind))
        assert told <= meant
        # A run waits between deltas for whoever asked for it, so those are never left out.
        assert told == meant or (dropped and overflow != "wait")


async def test_a_reader_wakes_everybody_who_waits_for_it_or_for_its_events() -> None:
    """Two who read, two who wait for it to catch up."""
    reader = Reader(overflow="wait", limit=1)
    got: list[int] = []
    free: list[int] = []

    async def read() -> None:
        got.append((await reader.__anext__()).n)

    async def wait() -> None:
        await reader.drained()
        free.append(1)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            tasks.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            reader.push(stamped(TextDelta("a", "x"), 1, 1))
            reader.push(stamped(TextDelta("a", "x"), 1, 2))
        assert sorted(got) == [1, 2]
        async with anyio.create_task_group() as tasks:
            reader.push(stamped(TextDelta("a", "x"), 1, 3))
            tasks.start_soon(wait)
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            assert free == []
            await reader.__anext__()
        assert free == [1, 1]


@pytest.mark.parametrize("how", ["close", "read"])
async def test_whoever_waits_for_a_reader_is_let_go_when_it_leaves_m02(
    how: Literal["close", "read"],
) -> None:
    """A run never waits for somebody who is gone (M02)."""
    reader = Reader(overflow="wait", limit=1)
    reader.push(stamped(TextDelta("a", "x"), 1, 1))
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader.drained)
            await anyio.wait_all_tasks_blocked()
            assert reader.behind
            if how == "close":
                reader.close()
            else:
                await reader.__anext__()
    assert not reader.behind
    reader.close()
    waiting = len(reader)
    reader.push(stamped(TextDelta("a", "x"), 1, 2))
    assert len(reader) == waiting


def test_a_hub_knows_whether_anybody_reads() -> None:
    """Nobody pays for events that reach nobody."""
    hub = Hub()
    assert not hub.read_by_anyone("s")
    own, everywhere = Reader(), Reader(types=[RunClosed])
    hub.attach(own, "s")
    assert (hub.read_by_anyone("s"), hub.read_by_anyone("t")) == (True, False)
    assert (hub.wants_deltas("s"), hub.wants_deltas("t")) == (True, False)
    hub.attach(everywhere)
    assert hub.read_by_anyone("t")
    assert not hub.wants_deltas("t")
    hub.detach(own, "s")
    hub.detach(own, "s")
    hub.detach(everywhere)
    assert not hub.read_by_anyone("s")
    stop = hub.attach_inline(lambda _: None, None)
    assert hub.wants_deltas("anything")
    stop()
    stop()
    assert not hub.read_by_anyone("s")
    with pytest.raises(StopAsyncIteration):
        at_once(own.__anext__())
