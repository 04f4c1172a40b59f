"""A session that is opened from a snapshot is the one that is folded from its whole log."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_client.types import Message, Text, Usage
from power_loop.session.machine import IllegalRecord, Session
from power_loop.session.outcome import Completed
from power_loop.session.records import (
    MessageAppended,
    ModelAsked,
    ModelEnded,
    Record,
    RunClosed,
    RunOpened,
    ViewChanged,
)
from power_loop.session.snapshot import is_due, restored, snapshot_of
from power_loop.session.state import Phase, State
from power_loop.session.view import COMPACT_NOTE
from tests.pipeline.chaos import World
from tests.pipeline.test_pipeline_properties import live

_COMPARED = [name for name in State.__slots__ if name not in ("ids", "former", "base_ids")]


def turn(n: int) -> list[Record]:
    """A run with a question and an answer."""
    said = Message("user", (Text(f"question {n}"),), id=f"q{n}")
    answer = Message("assistant", (Text(f"answer {n}"),), id=f"a{n}")
    return [
        RunOpened(f"r{n}", (said,)),
        ModelAsked(f"t{n}", 1, "m"),
        ModelEnded(f"t{n}", "ok", Usage(10, 1)),
        MessageAppended(answer, f"t{n}"),
        RunClosed(f"r{n}", Completed(answer.text)),
    ]


def cut(n: int) -> ViewChanged:
    """A compaction that leaves the last question and what follows it."""
    note = Message("user", (Text("earlier: …"),), id=f"note{n}", name=COMPACT_NOTE)
    return ViewChanged(f"q{n}", note)


def _ids(record: Record) -> list[str]:
    match record:
        case RunOpened():
            return [record.run, *(message.id for message in record.input)]
        case MessageAppended():
            return [record.message.id, *(call.id for call in record.message.tool_calls)]
        case ModelAsked():
            return [record.attempt]
        case _:
            return []


def _check(records: list[Record], at: int) -> None:
    """Folds to `at`, through a snapshot, to the end; compares with the fold of all."""
    whole, begun = Session("s", records), Session("s", records[:at])
    opened = restored("s", at, snapshot_of(begun))
    assert opened is not None
    for record in records[at:]:
        opened.apply(record)
    # Nobody looks at the order of a batch that is over, nor at what the run before a closed one had
    # recalled.
    over = {"order": not whole.open_calls, "recalled_before": whole.run is None}
    for name in _COMPARED:
        assert over.get(name) or getattr(opened, name) == getattr(whole, name), name
    for record in records:
        for id in _ids(record):
            assert opened.knows(id), id


@given(st.integers(0, 2**64 - 1))
@settings(max_examples=100, deadline=None)
def test_any_session_goes_on_from_a_snapshot_as_from_its_log(seed: int) -> None:
    """Random worlds with deaths, approvals, steering, compaction; at each moment between runs."""
    last, _ = live(World(Random(seed)))
    session, tried = Session("s"), 0
    for n, record in enumerate(last.log):
        if session.phase is Phase.IDLE:
            _check(last.log, n)
            tried += 1
        session.apply(record)
    assert tried > 0


def test_an_id_that_has_left_the_view_is_never_used_again() -> None:
    """Neither a message's nor an attempt's, though the snapshot holds neither."""
    records: list[Record] = [*turn(0), *turn(1), *turn(2), cut(2)]
    opened = restored("s", len(records), snapshot_of(Session("s", records)))
    assert opened is not None
    assert [message.id for message in opened.messages] == ["note2", "q2", "a2"]
    for again in (turn(0)[0], RunOpened("r9", (Message("user", (Text("x"),), id="a0"),))):
        with pytest.raises(IllegalRecord, match="was used before"):
            opened.apply(again)
    opened.apply(*turn(3))


def test_a_snapshot_is_due_only_where_it_spares_reading() -> None:
    """Not of a short log, nor where the model sees nearly all of it; again after an eighth more."""
    session = Session("s")
    for n in range(300):
        session.apply(*turn(n))
    assert not is_due(session, 0), "the model sees all of it"
    session.apply(cut(299))
    assert is_due(session, 0)
    assert not is_due(session, session.seq - 999)
    assert is_due(session, session.seq - 1_000)
    session.apply(turn(300)[0])
    assert not is_due(session, 0), "a run is open"


def test_a_damaged_snapshot_is_none() -> None:
    """Any bit of it, any cut, and one of another version."""
    body = snapshot_of(Session("s", [*turn(0), *turn(1), cut(1)]))
    assert restored("s", 11, body) is not None
    for place in range(len(body)):
        for bit in (1, 128):
            changed = bytearray(body)
            changed[place] ^= bit
            assert restored("s", 11, bytes(changed)) is None
        assert restored("s", 11, body[:place]) is None
    assert restored("s", 11, b"") is None
