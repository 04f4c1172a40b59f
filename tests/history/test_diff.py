"""Where two sessions part, as data and in words."""

from __future__ import annotations

import pytest

from llm_client.testing import reply
from power_loop import MemoryStore
from power_loop.errors import SessionNotFound
from power_loop.history.compare import Difference
from tests.history.loops import loop_on

pytestmark = pytest.mark.anyio


async def test_a_fork_differs_from_its_source_where_it_went_its_own_way() -> None:
    """The common past is counted; what only one of them has is listed."""
    store = MemoryStore()
    async with loop_on(store, reply("4"), reply("five"), reply("six")) as loop:
        session = (await loop.send("2+2?")).session_id
        fork = await loop.fork(session)
        same = await loop.diff(session, session)
        shorter = await loop.diff(session, fork)
        await loop.send("2+3?", session)
        await loop.send("3+3?", fork)
        found = await loop.diff(session, fork)
    assert same.identical
    assert str(same) == f"{session} and {session} are the same, 6 records"
    assert (shorter.common, shorter.at, shorter.records) == (6, None, (6, 7))
    assert not shorter.identical
    assert str(shorter) == f"6 records are the same\n{session} ends there"
    assert found.common == 6
    assert found.at is not None
    assert found.at.path == "RunOpened"
    assert [m.text for m in found.only_in_first] == ["2+3?", "five"]
    assert [m.text for m in found.only_in_second] == ["3+3?", "six"]
    assert "record 7 differs in RunOpened" in str(found)
    assert "+ assistant" in str(found)


async def test_the_first_field_that_differs_is_named_with_both_values() -> None:
    """Down to the part of the message."""
    store = MemoryStore()
    async with loop_on(store, reply("4")) as loop:
        session = (await loop.send("2+2?")).session_id
        answer = (await loop.get_messages(session))[-1]
        fork = await loop.fork(session, overrides={answer.id: "5"})
        found = await loop.diff(session, fork)
        with pytest.raises(SessionNotFound):
            await loop.diff(session, "nobody")
    assert found.at == Difference("MessageAppended.message.parts[0].text", "4", "5")
    assert 'differs in MessageAppended.message.parts[0].text: "4" ≠ "5"' in str(found)
