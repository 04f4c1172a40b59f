"""Every history over a small alphabet, to a depth: what is accepted must be right.

Histories that lead to the same state go on alike, so states are visited once and the histories that
lead there are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from llm_client.types import Message, Text
from power_loop.session.closing import closing
from power_loop.session.machine import LEGAL, IllegalRecord, Phase, Session
from power_loop.session.outcome import (
    AwaitingApproval,
    Completed,
    Crashed,
    PendingTools,
    RoundLimit,
    WaitingForInput,
)
from power_loop.session.records import (
    CallAnswered,
    Decided,
    Forked,
    MessageAppended,
    ModelAsked,
    ModelConfigured,
    ModelEnded,
    Recalled,
    Record,
    Rewound,
    RunClosed,
    RunOpened,
    ToolSettled,
    ViewChanged,
)
from power_loop.session.view import COMPACT_NOTE
from tests.session.checker import transcript_violations, violations
from tests.session.samples import (
    CALLING,
    CANCELLED,
    answer,
    asked,
    calls,
    ended,
    opened,
    settled,
    started,
    user,
    waits,
)
from tests.telling import Tell

CALLS = ("c1", "c2")


def alphabet(s: Session, n: int) -> Iterator[Record]:
    """Records to try as the n-th one: legal, illegal, and such that only a rule can tell."""
    run = s.run or "none"
    yield opened(f"r{n}", f"u{n}")
    yield RunOpened(f"r{n}", resumes=s.last_run)
    yield MessageAppended(user(f"u{n}"))
    yield MessageAppended(answer(f"a{n}"), s.last_attempt)
    yield MessageAppended(calls(f"a{n}", *CALLS), s.last_attempt)
    yield asked(f"t{n}", s.round + 1)
    yield ModelAsked(f"t{n}", s.round, "m", purpose="memory")
    attempt = s.asked.attempt if s.asked else "t0"
    yield ended(attempt)
    yield ModelEnded(attempt, "failed")
    yield Recalled((user(f"m{n}"),))
    if s.messages:
        note = Message("user", (Text("n"),), id=f"n{n}", name=COMPACT_NOTE)
        yield ViewChanged(s.messages[-1].id, note)
        yield ViewChanged(s.messages[-1].id, note, kept=(s.messages[0].id,), by="summary")
        yield Rewound(1, 1)
        yield Rewound(1, len(s.messages) - 1, (s.messages[-1],))
    yield ModelConfigured(system="x" if s.configured.system is None else None)
    yield Forked("source", n)
    yield Decided("approval", "guard", "void")
    waiting = tuple([call.token for call in s.open_calls.values() if call.state == "waiting"])
    yield RunClosed(run, CANCELLED)
    yield RunClosed(run, Crashed())
    yield RunClosed(run, Completed("x"))
    yield RunClosed(run, RoundLimit(1))
    yield RunClosed(run, AwaitingApproval(waiting))
    yield RunClosed(run, WaitingForInput(waiting))
    yield RunClosed(run, PendingTools(tuple(s.open_calls)))
    for id in tuple(s.open_calls) or CALLS:
        yield from _about(s, id, n)


def _about(s: Session, id: str, n: int) -> Iterator[Record]:
    call = s.open_calls.get(id)
    attempt = call.attempt if call else 0
    yield started(id, attempt + 1)
    yield settled(id, "finished")
    yield settled(id, "interrupted")
    yield settled(id, "unknown")
    yield settled(id, "not_run")
    yield settled(id, "denied")
    token = call.token if call else f"token-{id}"
    yield waits(id, "approval", f"k{n}{id}")
    yield waits(id, "input", f"k{n}{id}")
    yield CallAnswered(id, token, "approve")
    yield CallAnswered(id, token, "deny")
    yield CallAnswered(id, token, "expired")


def key(s: Session) -> tuple[object, ...]:
    """All of a state that bears on what is legal next; ids only where they can still be met."""
    return (
        s.run is None,
        s.last_run is None,
        s.last_outcome is not None and (s.last_outcome.resumable, type(s.last_outcome)),
        tuple([(c.call.id, c.state, c.attempt, c.kind) for c in s.open_calls.values()]),
        tuple(s.batch),
        s.knows("c1"),
        s.tail,
        s.asked is None or s.asked.purpose,
        (s.last_attempt is None, s.last_attempt_ok),
        s.round,
        bool(s.recalled),
        s.configured.system,
        tuple([(m.role, m.name) for m in s.messages]),
    )


Layer = dict[tuple[object, ...], tuple[tuple[Record, ...], int]]


def explore(start: tuple[Record, ...], depth: int) -> tuple[int, int, Counter[str]]:
    """Histories, states and transitions by record, all of whose states have passed `judge`."""
    layer: Layer = {(): (start, 1)}
    seen: set[tuple[object, ...]] = set()
    histories, moves = 0, Counter[str]()
    for n in range(depth + 1):
        following: Layer = {}
        for log, count in layer.values():
            session = Session("s", log)
            histories += count
            seen.add(key(session))
            judge(session, log)
            if n == depth:
                continue
            for record in alphabet(session, len(log)):
                if not takes(session, record):
                    continue
                moves[type(record).__name__] += count
                after = Session("s", (*log, record))
                place = key(after)
                kept, ways = following.get(place, ((*log, record), 0))
                following[place] = (kept, ways + count)
        layer = following
    return histories, len(seen), moves


def takes(session: Session, record: Record) -> bool:
    """Whether a record is legal now."""
    try:
        session.check(record)
    except IllegalRecord:
        return False
    assert type(record) in LEGAL[session.phase]
    return True


def judge(session: Session, log: tuple[Record, ...]) -> None:
    """The invariants of a state, and of every way out of it."""
    assert violations(log) == [], log
    if session.phase is not Phase.TOOLS and session.phase is not Phase.SUSPENDED:
        assert transcript_violations(session.view, stored=True) == [], log
    if session.run is None:
        return
    for finished in ({}, {id: Message.tool(id, "late") for id in CALLS}):
        ending = closing(session, CANCELLED, finished, "partial")
        after = Session("s", (*log, *ending))
        session.check(*ending)
        assert after.phase is Phase.IDLE
        assert not after.open_calls
        assert violations((*log, *ending), closed=True) == [], ending
        assert transcript_violations(after.view, stored=True) == []
        if not finished:
            invented = [r for r in ending if isinstance(r, ToolSettled) and r.how == "finished"]
            # Only what a person had answered can be a result that no tool has just given.
            states = [session.open_calls[r.message.id.removesuffix(".result")] for r in invented]
            assert all(call.state == "answered" and call.begun for call in states)
    crash = RunClosed(session.run, Crashed())
    successor = RunOpened("successor", resumes=session.run)
    session.check(crash, successor)
    after = Session("s", (*log, crash, successor))
    assert violations((*log, crash, successor)) == []
    assert after.phase is session.phase


@pytest.mark.parametrize(
    ("start", "depth", "at_least"),
    [((), 7, 85_000), (CALLING, 8, 1_900_000)],
    ids=["from nothing", "from two calls"],
)
def test_no_history_leads_to_an_illegal_or_untrue_ending(
    start: tuple[Record, ...], depth: int, at_least: int, tell: Tell
) -> None:
    """All of them, not a sample; a count that shrinks means that something is tried no more."""
    histories, states, moves = explore(start, depth)
    line = f"depth {depth} after {len(start)}: {histories} histories, {states} states"
    tell(line)
    assert histories >= at_least
    expected = {record.__name__ for records in LEGAL.values() for record in records}
    assert set(moves) == expected


def test_the_exploration_reaches_every_phase_and_asks_the_model() -> None:
    """The alphabet would otherwise prove nothing."""
    _, _, moves = explore((), 5)
    assert moves[ModelAsked.__name__] > 0
    assert moves["CallAnswered"] + moves["CallWaiting"] > 0
