"""A rewind: the model sees the session as it was; the log keeps what came since."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_client.testing import call, reply
from llm_client.types import Message, Text
from power_loop import MemoryStore, SQLiteStore
from power_loop.errors import SessionNotFound, SessionPendingError, UsageError
from power_loop.history.branch import rewound
from power_loop.session.machine import IllegalRecord, Session
from power_loop.session.records import ModelAsked, Record, Rewound, RunOpened, ViewChanged
from power_loop.session.view import COMPACT_NOTE
from tests.history.loops import careful, log_of, loop_on, talk, texts
from tests.history.support import stamped_log
from tests.pipeline.fakes import FakePorts
from tests.pipeline.scripts import send, text
from tests.session.checker import view_of, violations

pytestmark = pytest.mark.anyio


async def test_the_view_is_what_it_was_and_everything_else_stays(tmp_path: Any) -> None:
    """The log grows by one record; ids stay used, tokens stay counted; it survives a reopening."""
    store = SQLiteStore(tmp_path / "s.db")
    session = await talk(store)
    log = await log_of(store, session)
    at = max(seq for seq, r in enumerate(log, 1) if isinstance(r, RunOpened)) - 1
    async with loop_on(store, reply("You are not."), hooks=careful()) as loop:
        full = await texts(loop, session)
        usage = Session(session, log).usage
        await loop.rewind(session, at=at)
        assert await texts(loop, session) == full[:-2]
        assert len(await loop.get_messages(session, include_compacted=True)) == len(full)
        done = await loop.send("No thanks.", session)
        assert done.final_text == "You are not."
        assert (await loop.replay(session)).identical
    now = await log_of(store, session)
    assert now[: len(log)] == log
    assert now[len(log)] == Rewound(at, len(full) - 2)
    assert violations(now, closed=True) == []
    folded = Session(session, now)
    assert folded.usage.total_tokens > usage.total_tokens
    await store.aclose()


async def test_the_last_question_can_be_asked_again() -> None:
    """Back to where the input had come, and on by `resume`: the model answers anew."""
    store = MemoryStore()
    async with loop_on(store, reply("4"), reply("5")) as loop:
        session = (await loop.send("2+2?")).session_id
        await loop.rewind(session, at=1)
        assert await texts(loop, session) == ["user: 2+2?"]
        done = await loop.resume(session)
        assert (done.status, done.final_text) == ("completed", "5")
        assert await texts(loop, session) == ["user: 2+2?", "assistant: 5"]
        assert (await loop.replay(session)).identical
    assert violations(await log_of(store, session), closed=True) == []


async def test_where_calls_were_open_the_nearest_records_are_named() -> None:
    """A view without the results of its calls can be shown to no model."""
    store = MemoryStore()
    session = await talk(store)
    log = await log_of(store, session)
    able: list[int] = []
    past = Session(session)
    for record in log:
        past.apply(record)
        if not past.open_calls:
            able.append(past.seq)
    for at in range(1, len(log)):
        if at in able:
            continue
        before = max(seq for seq in able if seq < at)
        after = min(seq for seq in able if seq > at)
        async with loop_on(store) as loop:
            with pytest.raises(UsageError, match=f"are {before} or {after}"):
                await loop.rewind(session, at=at)
    assert await log_of(store, session) == log


async def test_what_cannot_be_rewound_is_refused_and_stays_as_it_is() -> None:
    """No such record, no such session, calls that are open."""
    store = MemoryStore()
    async with loop_on(store, reply("", call("pay", {"amount": 1})), hooks=careful()) as loop:
        session = (await loop.send("go")).session_id
        log = await log_of(store, session)
        with pytest.raises(SessionPendingError):
            await loop.rewind(session, at=1)
        with pytest.raises(SessionNotFound):
            await loop.rewind("nobody", at=1)
        await loop.abort_pending(session)
        for at in (0, -1, len(await log_of(store, session))):
            with pytest.raises(UsageError, match="can go back"):
                await loop.rewind(session, at=at)
        assert (await log_of(store, session))[: len(log)] == log
        await loop.rewind(session, at=1)


def folded(log: list[Record]) -> Session:
    """The session of a log."""
    return Session("s", log)


def compacted() -> list[Record]:
    """Two questions, and a compaction between their answers and a third."""
    io = FakePorts([text("a"), text("b"), text("c")])
    send(io, "1")
    send(io, "2")
    note = Message("user", (Text("1 was asked"),), id="note1", name=COMPACT_NOTE)
    change = ViewChanged(
        io.session.messages[-2].id, note, {io.session.messages[-1].id: (Text("."),)}
    )
    io.session.apply(change)
    io.log.append(change)
    send(io, "3")
    return io.log


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_rewinds_and_compactions_in_any_order_give_the_view_that_was(data: st.DataObject) -> None:
    """Also rewinds of rewinds, across compactions: by an opinion of its own."""
    log = compacted()
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(1, len(log) - 1))
        session = folded(log)
        change = rewound(session, stamped_log(log), at)
        session.apply(*change)
        log = [*log, *change]
        assert list(session.view) == view_of(log[:at])
        assert view_of(log) == view_of(log[:at])
    assert violations(log, closed=True) == []


def test_a_rewind_that_breaks_the_view_is_illegal() -> None:
    """The machine trusts nobody: not what an archive says, either."""
    log = compacted()
    session = folded(log)
    last = session.messages[-1]
    stranger = Message("user", (Text("x"),), id="stranger")
    for change in (
        Rewound(0, 1),
        Rewound(1, -1),
        Rewound(1, 99),
        Rewound(1, 0),
        Rewound(1, 1, (stranger,)),
        Rewound(1, len(session.messages), (last,)),
    ):
        with pytest.raises(IllegalRecord):
            session.check(change)
    session.check(Rewound(1, 1))
    assert any(isinstance(record, ModelAsked) for record in log)
