"""The committer ends, whatever it is asked to close."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from llm_client.types import Message
from power_loop import MemoryStore, SQLiteStore, Store
from power_loop.driver.committer import Committer
from power_loop.driver.hub import Hub
from power_loop.session.machine import IllegalRecord, Session
from power_loop.session.outcome import Completed
from power_loop.session.records import RunOpened

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_run_that_cannot_be_closed_as_asked_leaves_nobody_waiting(
    kind: str, tmp_path: Path
) -> None:
    """An ending that is not legal is a failure to be raised, not a run that hangs."""
    store: Store = MemoryStore() if kind == "memory" else SQLiteStore(tmp_path / "s.db")
    await store.create("s")
    lease = await store.claim("s")
    committer = Committer(
        Session("s"), store, lease, Hub(), root="s", clock=lambda: 0.0, seconds=lambda: (0.0, 0.0)
    )
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            if not store.immediate:
                tasks.start_soon(committer.run)
            await committer.commit([RunOpened("r", (Message.user("hi"),))])
            committer.finish(Completed("never answered"), {}, "", None)
            await committer.ended()
    assert isinstance(committer.failure, IllegalRecord)
    await store.aclose()
