"""Opening a long session reads what the model sees, and not what has left its view."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from power_loop import AgentLoop
from power_loop.events import Stamped
from power_loop.runtime.stores.base import Store
from power_loop.session.records import Record
from tests.agent.scripted import Scripted, says
from tests.session.test_snapshot import cut, turn
from tests.stores.places import KINDS, DurableStore, Kind, new_place, open_place

pytestmark = pytest.mark.anyio


class Counting:
    """Counts the records that are read from a store."""

    def __init__(self, store: DurableStore) -> None:
        self._store = store
        self.read_records = 0

    async def read(
        self, session: str, after: int = 0, limit: int | None = None
    ) -> Sequence[Stamped]:
        records = await self._store.read(session, after, limit)
        self.read_records += len(records)
        return records

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def _append(store: Store, records: Sequence[Record]) -> None:
    lease = await store.claim("s")
    line = [
        Stamped("s", lease.seq + n, 0, "s", 0, 1.0, "r", 1, record)
        for n, record in enumerate(records, 1)
    ]
    await store.append(lease, lease.seq, line, final=True)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_long_session_is_opened_by_what_the_model_sees(kind: Kind, tmp_path: Path) -> None:
    """10,000 messages, of which a compaction has left three: the first turn reads all, and keeps a
    snapshot; after that another program reads a few records, and does the same as without.
    """
    place = new_place(kind, tmp_path)
    counts: list[int] = []
    views: list[list[str]] = []
    with anyio.fail_after(60):
        async with open_place(place) as store:
            await store.create("s")
            await _append(store, [r for n in range(5_000) for r in turn(n)])
            await _append(store, [cut(4_999)])
        for n in range(3):
            async with open_place(place) as store:
                counting: Any = Counting(store)
                async with AgentLoop(Scripted(says(f"{n}")), store=counting) as loop:
                    run = (await loop.send(f"go {n}", "s")).run_id
                    counts.append(counting.read_records)
                    views.append([message.text for message in await loop.get_messages("s")])
                    if n == 2:
                        again = await loop.replay("s", run=run)
                        assert (again.divergence, again.runs) == (None, 1)
    assert counts[0] == 25_001
    assert counts[1] < 10
    assert counts[2] < 20
    assert views[2] == [
        *["earlier: …", "question 4999", "answer 4999"],
        *[text for n in range(3) for text in (f"go {n}", f"{n}")],
    ]
