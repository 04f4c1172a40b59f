"""Events: one union, two kinds, and an envelope that orders them."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from power_loop import events
from power_loop.events import (
    RECORD_TYPES,
    Stamped,
    TextDelta,
    ToolEmitted,
    ToolProgress,
    decode_event,
    encode_event,
    is_record,
)
from power_loop.session.machine import LEGAL
from tests.session.wire_samples import RECORDS, TRANSIENTS


def test_the_durable_events_are_the_records_that_the_session_knows() -> None:
    """No event is durable that a session could not fold, and none is left out."""
    known = {record for records in LEGAL.values() for record in records}
    assert set(RECORD_TYPES) == known
    assert all(is_record(record) for record in RECORDS.values())
    assert not any(is_record(event) for event in TRANSIENTS.values())


def test_every_event_type_is_public() -> None:
    """A reader that filters by type must be able to name it."""
    transient = {type(event).__name__ for event in TRANSIENTS.values()}
    assert transient <= set(events.__all__)


def test_events_are_values() -> None:
    """Frozen: many readers get the same one."""
    for value in (*RECORDS.values(), *TRANSIENTS.values()):
        assert value.__struct_config__.frozen
    assert Stamped.__struct_config__.frozen


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(
    TEXT,
    st.integers(0, 2**40),
    st.floats(0, 4e9),
    st.builds(TextDelta, TEXT, TEXT)
    | st.builds(ToolProgress, TEXT, TEXT, st.none() | st.floats(0, 1), JSON)
    | st.builds(ToolEmitted, TEXT, TEXT, JSON),
)
def test_any_text_number_and_tool_data_survives(
    session: str, seq: int, at: float, event: TextDelta | ToolProgress
) -> None:
    """Losslessly, down to the last bit of a time, on one line."""
    stamped = Stamped(session, seq, 1, session, 0, at, "r", 1, event)
    line = encode_event(stamped)
    assert b"\n" not in line
    assert decode_event(line) == stamped


@pytest.mark.parametrize("line", ["", "{}", "null", '{"session":"s"}', '{"event":{}}', "\x00"])
def test_what_is_no_event_is_refused(line: str) -> None:
    """With the one error that is documented."""
    with pytest.raises(msgspec.DecodeError):
        decode_event(line)


def test_a_line_that_was_cut_anywhere_is_refused() -> None:
    """A torn log line is never half an event."""
    line = encode_event(Stamped("s", 1, 0, "s", 1, 0.5, "r", 1, RECORDS["view_changed"]))
    for end in range(len(line)):
        with pytest.raises(msgspec.DecodeError):
            decode_event(line[:end])
