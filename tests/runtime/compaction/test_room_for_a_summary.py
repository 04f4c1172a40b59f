"""What must stay comes before what had been summarised."""

from __future__ import annotations

import pytest

from llm_client.tokens import ModelTokens
from llm_client.types import LLMRequest, Message, Text, Transcript
from power_loop.events import Transient, ViewChanged
from power_loop.runtime.compaction.keeper import Keeper
from power_loop.runtime.compaction.rendering import framed
from power_loop.session.view import COMPACT_NOTE
from tests.runtime.compaction.worlds import asked_of

WINDOW = 1000


def _words(name: str, many: int) -> str:
    return " ".join([name, *(f"w{number}" for number in range(many))])


def _view(task: int, note: str) -> list[Message]:
    said = [
        Message("user", (Text(_words("task", task)),), id="t"),
        Message("user", (Text(note),), id="n", name=COMPACT_NOTE, meta={"strategy": "summary"}),
    ]
    for number in range(8):
        said.append(Message("assistant", (Text(_words("a", 20)),), id=f"a{number}"))
        said.append(Message("user", (Text(_words("u", 20)),), id=f"u{number}"))
    said.append(Message("assistant", (Text(_words("last", 5)),), id="al"))
    return [*said, Message("user", (Text("and?"),), id="ul")]


async def _compacted(view: list[Message]) -> ViewChanged | None:
    counter = ModelTokens("m")
    told: list[Transient] = []
    keeper = Keeper([], counters=lambda _: counter, window_of=lambda _: WINDOW, output=100)
    whole, asked = Transcript(view), asked_of(("t",), told.append)
    return await keeper.compact(LLMRequest(whole), whole, asked, overflow=False)


@pytest.mark.anyio
async def test_a_summary_stays_where_there_is_room_and_never_costs_a_compaction() -> None:
    """A note without one could be made smaller: so can the same note with one."""
    stayed = left = 0
    for task in range(100, 600, 5):
        for long in (40, 80, 120):
            summary = _words("sum", long)
            with_it = await _compacted(_view(task, framed(summary)))
            without = await _compacted(_view(task, summary))
            assert without is None or with_it is not None, (task, long)
            if with_it is not None and with_it.note is not None:
                assert with_it.after <= WINDOW - 100
                there = with_it.note.text.startswith("<summary>\nsum")
                stayed, left = stayed + there, left + (not there)
    assert stayed > 100
    assert left > 10
