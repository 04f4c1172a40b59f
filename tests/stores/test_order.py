"""The order of a log is its numbers, whatever the clocks say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from llm_client.types import Message
from power_loop.events import Stamped
from power_loop.runtime.stores.base import Store
from power_loop.runtime.stores.memory import MemoryStore
from power_loop.runtime.stores.sqlite import SQLiteStore
from power_loop.session.machine import Session
from power_loop.session.outcome import Completed
from power_loop.session.records import (
    MessageAppended,
    ModelAsked,
    ModelEnded,
    Record,
    RunClosed,
    RunOpened,
)
from tests.agent.stores import at_once, records_of
from tests.stores.support import stamped

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """This is about order; the event loop does not matter."""
    return "asyncio"


def _turn(n: int) -> list[Record]:
    run, attempt, question = f"run{n}", f"attempt{n}", Message.user(f"question {n}")
    return [
        RunOpened(run, (question,)),
        ModelAsked(attempt, 1, "m"),
        ModelEnded(attempt, "ok"),
        MessageAppended(Message.assistant(f"answer {n}"), attempt),
        RunClosed(run, Completed(f"answer {n}")),
    ]


_WANTED = [f"{who} {n}" for n in range(3) for who in ("question", "answer")]


async def _written(store: Store, session: str, times: Sequence[float]) -> None:
    await store.create(session)
    lease = await store.claim(session)
    seq = 0
    for n in range(3):
        events = _turn(n)
        records = [
            replace(stamped(session, seq + i, event), at=times[(seq + i) % len(times)])
            for i, event in enumerate(events, 1)
        ]
        seq = (await store.append(lease, seq, records)).seq
    await store.release(lease)


async def _assert_in_order(store: Store, session: str, times: Sequence[float]) -> None:
    log: list[Stamped] = [*await store.read(session)]
    tree: list[Stamped] = [*await store.read_tree(session)]
    assert [each.seq for each in log] == [each.tree_seq for each in tree] == [*range(1, 16)]
    assert [each.at for each in log] == [times[n % len(times)] for n in range(1, 16)]
    view = Session(session, records_of(log)).view
    assert [message.text for message in view] == _WANTED


_TIMES = pytest.mark.parametrize(
    "times",
    [[1000.0], [1000.0 - n for n in range(16)], [1e9, 0.0, 2e9, -5.0]],
    ids=["stood-still", "ran-backwards", "jumped-about"],
)


@_TIMES
async def test_no_clock_puts_a_stored_conversation_in_another_order(
    times: list[float], tmp_path: Path
) -> None:
    """Written by one program and read by another, with equal and with skewed times (D11)."""
    path = tmp_path / "s.db"
    writer = SQLiteStore(path)
    await _written(writer, "s", times)
    await writer.aclose()
    reader = SQLiteStore(path)
    await _assert_in_order(reader, "s", times)
    await reader.aclose()


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=16))
def test_no_times_change_the_order_in_memory_d11(times: list[float]) -> None:
    """Whatever is written into the records (D11)."""
    store = MemoryStore()
    at_once(_written(store, "s", times))
    at_once(_assert_in_order(store, "s", times))
