"""A fork: another session with the same past, which goes on for itself."""

from __future__ import annotations

from typing import Any

import pytest

from llm_client.testing import call, reply
from llm_client.types import StopReason, Text, ToolCall, ToolResult
from power_loop import AgentLoop, MemoryStore, deny, tool
from power_loop.errors import SessionBusy, SessionNotFound, SessionPendingError, UsageError
from power_loop.session.records import (
    Forked,
    MessageAppended,
    RunOpened,
    ToolSettled,
    ToolStarted,
)
from tests.agent.scripted import Scripted, calls, says
from tests.history.loops import CONFIG, careful, log_of, look, loop_on, pay, talk, texts
from tests.session.checker import violations

pytestmark = pytest.mark.anyio


def seq_of(log: list[Any], kind: type[Any], number: int = 1) -> int:
    """The number of the n-th record of this type."""
    found = [seq for seq, record in enumerate(log, 1) if isinstance(record, kind)]
    return found[number - 1]


async def test_a_fork_has_the_same_past_and_a_future_of_its_own() -> None:
    """The source is only read; the fork says where it came from."""
    store = MemoryStore()
    session = await talk(store)
    before = await store.read(session)
    async with loop_on(store, reply("Gladly."), hooks=careful()) as loop:
        fork = await loop.fork(session, metadata={"why": "a test"})
        assert await texts(loop, fork) == await texts(loop, session)
        assert (await loop.send("Once more?", fork)).final_text == "Gladly."
        assert (await loop.replay(fork)).identical
    assert await store.read(session) == before
    log = await log_of(store, fork)
    assert log[: len(before)] == [each.event for each in before]
    assert log[len(before)] == Forked(session, len(before))
    assert violations(log, closed=True) == []
    info = await store.info(fork)
    assert (info.metadata, info.parent, info.root) == ({"why": "a test"}, None, fork)
    assert info.title == (await store.info(session)).title


async def test_every_record_can_be_forked_at_and_gone_on_from() -> None:
    """Wherever the copy ends, it is a legal session that a caller can carry on."""
    store = MemoryStore()
    session = await talk(store)
    total = len(await store.read(session))
    for at in range(1, total + 1):
        async with AgentLoop(
            Scripted(by=lambda _: says("done")),
            tools=[look, pay],
            store=store,
            hooks=careful(),
            config=CONFIG,
        ) as loop:
            fork = await loop.fork(session, at)
            assert len(await loop.store.read(fork)) == at + 1
            pending = await loop.get_pending(fork)
            answers = [deny(c.token) for c in pending if c.token]
            if pending or (await store.info(fork)).status == "forked":
                await loop.resume(fork, answers=answers)
                if await loop.get_pending(fork):
                    await loop.abort_pending(fork)
            done = await loop.send("And now?", fork)
            assert done.status == "completed"
            replayed = await loop.replay(fork)
            assert replayed.identical, (at, str(replayed.divergence))
        assert violations(await log_of(store, fork), closed=True) == []


async def test_a_call_that_had_begun_is_in_doubt_in_the_fork_and_keeps_its_key() -> None:
    """Whoever runs it again must be able to tell that it may have run before."""
    keys: list[str] = []

    @tool(idempotent=True)
    async def put() -> str:
        """Puts."""
        return "put"

    store = MemoryStore()
    llm = Scripted(calls(("c1", "put", {})), says("done"), says("done again"))
    async with AgentLoop(llm, tools=[put], store=store) as loop:
        session = (await loop.send("go")).session_id
        log = await log_of(store, session)
        fork = await loop.fork(session, seq_of(log, ToolStarted))
        (pending,) = await loop.get_pending(fork)
        assert (pending.state, pending.attempt) == ("in_doubt", 1)
        assert (await store.info(fork)).status == "forked"
        with pytest.raises(SessionPendingError):
            await loop.send("no", fork)
        await loop.resume(fork)
        starts = [r for r in await log_of(store, fork) if isinstance(r, ToolStarted)]
        assert [r.attempt for r in starts] == [1, 2]
        keys = [r.idempotency_key for r in starts]
        assert (await loop.replay(fork)).identical
    assert keys == [f"{session}/c1"] * 2


async def test_messages_of_a_fork_can_have_other_contents() -> None:
    """A text stands where the old one stood; calls and results stay what they are."""
    store = MemoryStore()
    session = await talk(store)
    log = await log_of(store, session)
    opened = next(r for r in log if isinstance(r, RunOpened))
    answer = next(r.message for r in log if isinstance(r, MessageAppended) and r.attempt)
    settled = next(r.message for r in log if isinstance(r, ToolSettled))
    overrides: dict[str, Any] = {
        opened.input[0].id: "Look at b.",
        answer.id: "I will.",
        settled.id: [ToolResult("c1", (Text("full"),))],
    }
    async with loop_on(store, hooks=careful()) as loop:
        fork = await loop.fork(session, overrides=overrides)
        view = await loop.get_messages(fork)
        diff = await loop.diff(session, fork)
    assert view[0].text == "Look at b."
    assert view[1].parts == (Text("I will."), *answer.tool_calls)
    assert view[2].parts == (ToolResult("c1", (Text("full"),)),)
    assert await log_of(store, session) == log
    assert diff.common == 0
    assert diff.at is not None
    assert diff.at.path == "RunOpened.input[0].parts[0].text"
    assert len(diff.only_in_first) == len(diff.only_in_second) == 3


async def test_what_does_not_fit_is_refused_and_nothing_is_stored() -> None:
    """No such record, no such message, other calls, text that nobody can store."""
    store = MemoryStore()
    session = await talk(store)
    log = await log_of(store, session)
    answer = next(r.message for r in log if isinstance(r, MessageAppended) and r.attempt)
    wrong: list[tuple[int | None, dict[str, Any], str]] = [
        (0, {}, "records 1 to"),
        (len(log) + 1, {}, "no record"),
        (None, {"nope": "x"}, "no message 'nope'"),
        (1, {answer.id: "x"}, "no message"),
        (None, {answer.id: [Text("x")]}, "does not keep its calls"),
        (None, {answer.id: [*answer.parts, ToolCall("c7", "look", "{}")]}, "does not keep"),
        (None, {answer.id: "half \ud800"}, "surrogate"),
        (None, {answer.id: []}, "must be a text"),
        (None, {answer.id: [3]}, "must be a text"),
    ]
    async with loop_on(store) as loop:
        for at, overrides, why in wrong:
            with pytest.raises(UsageError, match=why):
                await loop.fork(session, at, overrides=overrides)
        with pytest.raises(SessionNotFound):
            await loop.fork("nobody")
    assert [info.id for info in await store.list()] == [session]


async def test_a_fork_cannot_bring_back_a_call_that_was_refused_at_once() -> None:
    """A call that was cut off settles in the step that brings it; no copy may end in between."""
    store = MemoryStore()
    llm = Scripted(calls(("c1", "look", {"place": "a"}), stop_reason=StopReason.LENGTH), says("ok"))
    async with AgentLoop(llm, store=store) as loop:
        session = (await loop.send("go")).session_id
        log = await log_of(store, session)
        at = seq_of(log, MessageAppended)
        with pytest.raises(UsageError, match=f"take record {at - 1} or {at + 1}"):
            await loop.fork(session, at)
        assert await loop.get_pending(await loop.fork(session, at + 1)) == ()
        assert await loop.get_pending(await loop.fork(session, at - 1)) == ()


async def test_a_session_that_runs_can_be_forked_meanwhile() -> None:
    """It is only read; what had been stored by then is copied."""
    store = MemoryStore()
    forks: list[str] = []

    @tool
    async def fork_me() -> str:
        """Forks the session that it runs in."""
        forks.append(await loop.fork(session))
        with pytest.raises(SessionBusy):
            await loop.rewind(session, at=1)
        return "done"

    async with loop_on(
        store, reply("", call("fork_me", {})), reply("ok"), tools=(fork_me,)
    ) as loop:
        session = "s"
        await store.create(session)
        assert (await loop.send("go", session)).status == "completed"
        (pending,) = await loop.get_pending(forks[0])
        assert pending.state == "in_doubt"


async def test_a_fork_of_a_fork_replays_under_all_its_names() -> None:
    """Each part did what it did under the name it had then."""
    store = MemoryStore()
    session = await talk(store)
    async with loop_on(store, reply("one"), reply("two"), hooks=careful()) as loop:
        fork = await loop.fork(session)
        await loop.send("1", fork)
        again = await loop.fork(fork)
        await loop.send("2", again)
        assert (await loop.replay(again)).identical
        assert violations(await log_of(store, again), closed=True) == []
