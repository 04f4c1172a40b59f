"""Whatever happens to a session, why it stands so can be said, with nothing decided left out."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from power_loop.history.explaining import Log, explanation_of
from power_loop.history.explanation import Explanation
from power_loop.session.machine import Session
from power_loop.session.outcome import status_of
from power_loop.session.records import (
    CallAnswered,
    CallWaiting,
    Decided,
    ModelEnded,
    Record,
    RunOpened,
)
from tests.history.support import stamped_log
from tests.pipeline.chaos import World
from tests.pipeline.test_pipeline_properties import live


def decides(record: Record) -> bool:
    """Whether a record belongs into any explanation of its run."""
    if isinstance(record, ModelEnded):
        return record.status != "ok"
    return isinstance(record, Decided | CallWaiting | CallAnswered)


def check_explained(told: Explanation, log: Sequence[Record], first: int) -> None:
    """The rule says something, the end is the session's, and what was decided since record `first`
    is there in order.
    """
    assert told.rule.strip()
    assert "unknown" not in (told.rule, told.status)
    assert told.recommended_action.strip()
    session = Session("s", log)
    if session.run is None:
        assert session.last_outcome is not None
        assert told.status == status_of(session.last_outcome)
        assert told.outcome == session.last_outcome
    else:
        assert (told.status, told.outcome) == ("running", None)
    numbers = [step.seq for step in told.steps]
    assert numbers == sorted(set(numbers))
    due = {n for n, record in enumerate(log, 1) if n >= first and decides(record)}
    assert due <= set(numbers)
    assert numbers[0] == first
    assert all(step.text.strip() and "\n" not in step.text for step in told.steps)
    for limit in told.limits:
        assert limit.left is None or limit.left >= 0
        assert (limit.used is None) <= bool(limit.note)


@given(st.integers(0, 2**64 - 1))
@settings(max_examples=60, deadline=None)
def test_every_prefix_of_every_world_has_an_explanation(seed: int) -> None:
    """Random worlds with retries, hooks, people and deaths, cut off after each of their records."""
    _, lived = live(World(Random(seed)))
    log = lived[-1].log
    stamped = stamped_log(log)
    first = 0
    for end, record in enumerate(log, 1):
        if isinstance(record, RunOpened) and record.resumes is None:
            first = end
        if not first:
            continue
        told = explanation_of("s", Log(stamped[:end]))
        check_explained(told, log[:end], first)
        assert str(told).startswith(f"# {told.status}: run ")


@given(st.integers(0, 2**64 - 1))
@settings(max_examples=60, deadline=None)
def test_each_run_of_a_world_has_an_explanation_of_its_own(seed: int) -> None:
    """It ends where the next run begins, and says that one came; as data it can be written down."""
    _, lived = live(World(Random(seed)))
    log = lived[-1].log
    places = [(n, r.run) for n, r in enumerate(log, 1) if isinstance(r, RunOpened)]
    ends = [*[n - 1 for n, _ in places[1:]], len(log)]
    for (first, run), end in zip(places, ends, strict=True):
        told = explanation_of("s", Log(stamped_log(log)), run)
        assert told.run_id == run
        check_explained(told, log[:end], first)
        assert told.resumable <= (end == len(log))
        assert msgspec.json.decode(msgspec.json.encode(told), type=Explanation) == told
