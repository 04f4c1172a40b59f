"""A reader that is far behind holds little in memory and still gets every record once, in order."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_client.testing import ScriptedLLM, reply
from power_loop import AgentConfig, AgentLoop, MemoryStore, SQLiteStore
from power_loop.driver.hub import RECORDS_HELD, Hub, Reader
from power_loop.events import ModelAsked, RoundStarted, Stamped, ToolProgress, is_record
from power_loop.session.records import Record

pytestmark = pytest.mark.anyio

SESSIONS = ("a", "b", "c")


def stamped(session: str, seq: int, event: Record | RoundStarted | ToolProgress) -> Stamped:
    return Stamped(session, seq, 0 if is_record(event) else 1, session, seq, 0.0, "r", 1, event)


class Log:
    """A store's records, and a hub that can read them again."""

    def __init__(self, page: int) -> None:
        self.records: dict[str, list[Stamped]] = {session: [] for session in SESSIONS}
        self.hub = Hub(self.read)
        self.page = page

    async def read(self, session: str, after: int) -> list[Stamped]:
        await anyio.lowlevel.checkpoint()
        return self.records[session][after : after + self.page]

    def append(self, session: str) -> None:
        log = self.records[session]
        log.append(stamped(session, len(log) + 1, ModelAsked(str(len(log)), 1, "m")))
        self.hub.publish(log[-1])


async def test_a_stuck_reader_holds_a_bounded_number_of_records() -> None:
    """However many come; and it reads them all when it goes on (M02)."""
    log = Log(page=500)
    reader = log.hub.reader()
    log.hub.attach(reader)
    for _ in range(RECORDS_HELD + 3_000):
        log.append("a")
        log.append("b")
    assert len(reader) <= RECORDS_HELD
    log.hub.detach(reader)
    read: dict[str, list[int]] = {"a": [], "b": []}
    with anyio.fail_after(20):
        async for each in reader:
            read[each.session].append(each.seq)
    everything = list(range(1, RECORDS_HELD + 3_001))
    assert read == {"a": everything, "b": everything}


async def test_records_that_come_while_it_catches_up_are_not_lost() -> None:
    """Another task appends during each read of the store."""
    log = Log(page=7)
    reader = log.hub.reader()
    log.hub.attach(reader)
    for _ in range(RECORDS_HELD + 50):
        log.append("a")
    seen: list[int] = []
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:

            async def more() -> None:
                for _ in range(200):
                    log.append("a")
                    await anyio.lowlevel.checkpoint()
                log.hub.detach(reader)

            async for each in reader:
                seen.append(each.seq)
                if len(seen) == RECORDS_HELD - 10:
                    tasks.start_soon(more)
    assert seen == list(range(1, RECORDS_HELD + 251))


@given(
    steps=st.lists(st.sampled_from([*SESSIONS, "read", "read", "delta"]), max_size=120),
    held=st.integers(1, 8),
    page=st.integers(1, 5),
)
@settings(max_examples=150, deadline=None)
def test_each_record_comes_once_and_in_order(steps: list[str], held: int, page: int) -> None:
    """For any mixture of appends, deltas and reads, however little may be held."""

    async def world() -> None:
        log = Log(page)
        reader = Reader(overflow="drop", limit=2, fetch=log.read, held=held)
        log.hub.attach(reader)
        seen: dict[str, list[int]] = {session: [] for session in SESSIONS}

        def take(each: Stamped) -> None:
            if is_record(each.event):
                seen[each.session].append(each.seq)

        for step in steps:
            if step == "read":
                if len(reader):
                    take(await anext(reader))
            elif step == "delta":
                log.hub.publish(stamped("a", len(log.records["a"]), RoundStarted(1)))
            else:
                log.append(step)
        log.hub.detach(reader)
        async for each in reader:
            take(each)
        assert seen == {s: [r.seq for r in records] for s, records in log.records.items()}

    anyio.run(world)


async def test_a_flood_of_progress_is_bounded_for_a_reader_that_is_waited_for() -> None:
    """A tool is not slowed by a reader, so what it floods with is dropped, and counted."""
    log = Log(page=10)
    reader = log.hub.reader(overflow="wait", limit=10)
    log.hub.attach(reader)
    for _ in range(1_000):
        log.hub.publish(stamped("a", 0, ToolProgress("c", "working")))
    assert len(reader) <= 10


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_hung_subscriber_hurts_no_run(kind: str, tmp_path: object) -> None:
    """It is stuck in its first event; runs go on, and closing the loop does not wait for ever."""
    store = MemoryStore() if kind == "memory" else SQLiteStore(f"{tmp_path}/s.db")
    heard: list[Stamped] = []

    async def stuck(each: Stamped) -> None:
        heard.append(each)
        await anyio.sleep_forever()

    with anyio.fail_after(30):
        llm, config = ScriptedLLM(*[reply("ok")] * 20), AgentConfig(shutdown_grace=0.05)
        async with AgentLoop(llm, store=store, config=config) as loop:
            loop.events.subscribe(stuck)
            session = (await loop.send("hi")).session_id
            for _ in range(19):
                assert (await loop.send("again", session)).status == "completed"
        await store.aclose()
    assert len(heard) == 1
