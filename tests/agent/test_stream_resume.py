"""Reading a resumed run while it goes on."""

from __future__ import annotations

import anyio
import pytest

from power_loop import AgentLoop, tool
from power_loop.errors import NothingToResume, SessionBusy, SessionNotFound
from power_loop.events import Stamped, TextDelta, is_record
from power_loop.session.records import MessageAppended, RunClosed, RunOpened
from tests.agent.scripted import Gate, Scripted, calls, hangs, says
from tests.agent.stepping import tasks_alive
from tests.agent.support import check_log, events_of

pytestmark = pytest.mark.anyio


@tool
async def double(n: int) -> str:
    """Doubles."""
    return str(2 * n)


async def _interrupted(loop: AgentLoop[None], session: str) -> None:
    """Leaves a run that was cancelled in the middle of an answer."""
    await loop.store.create(session)
    async with loop.stream("tell me", session) as run:
        async for stamped in run:
            if isinstance(stamped.event, TextDelta):
                run.cancel("enough")


async def test_a_resumed_run_is_read_from_its_opening_to_its_close() -> None:
    """Records and deltas of the new run, none of the old one, and its result."""
    llm = Scripted(hangs(Gate(), "Once"), calls(("c", "double", {"n": 2})), says("It is 4."))
    with anyio.fail_after(10):
        async with AgentLoop[None](llm, tools=[double]) as loop:
            await _interrupted(loop, "s")
            before = len(await loop.store.read("s"))
            async with loop.stream_resume("s") as run:
                seen = [stamped async for stamped in run]
                result = await run.result()
            assert (result.status, result.final_text) == ("completed", "It is 4.")
            assert {stamped.run for stamped in seen} == {run.run_id}
            records = [stamped for stamped in seen if is_record(stamped.event)]
            assert records == list(await loop.store.read("s", before))
            assert isinstance(records[0].event, RunOpened)
            assert records[0].event.resumes is not None
            assert isinstance(seen[-1].event, RunClosed)
            assert "".join(e.text for e in events_of(TextDelta, seen)) == "It is 4."
            await check_log(loop, "s")


async def test_what_is_said_to_a_resumed_run_enters_at_its_next_round() -> None:
    """`steer` reaches it, because who reads along knows that it runs."""
    llm = Scripted(hangs(Gate(), "Once"), calls(("c", "double", {"n": 2})), says("Fine."))
    with anyio.fail_after(10):
        async with AgentLoop[None](llm, tools=[double]) as loop:
            await _interrupted(loop, "s")
            async with loop.stream_resume("s") as run:
                async for stamped in run:
                    if isinstance(stamped.event, RunOpened):
                        assert (await loop.steer("s", "in German")).running
            log = await check_log(loop, "s")
    said = [r.message.text for r in log if isinstance(r, MessageAppended)]
    assert "in German" in said
    assert sum(isinstance(record, RunOpened) for record in log) == 2
    assert any(message.text == "in German" for message in llm.requests[-1].messages)


async def test_leaving_the_block_early_cancels_the_resumed_run() -> None:
    """As with `stream`; the session can be resumed once more."""
    llm = Scripted(hangs(Gate(), "Once"), hangs(Gate(), "upon"), says("a time."))
    with anyio.fail_after(10):
        async with AgentLoop[None](llm) as loop:
            await _interrupted(loop, "s")
            before = tasks_alive()
            async with loop.stream_resume("s") as run:
                async for stamped in run:
                    if isinstance(stamped.event, TextDelta):
                        break
            assert tasks_alive() == before
            assert (await run.result()).status == "cancelled"
            await check_log(loop, "s")
            assert (await loop.resume("s")).final_text == "a time."


async def test_what_cannot_be_resumed_is_said_on_entering_and_changes_nothing() -> None:
    """No such session, nothing to resume, and somebody else's turn."""
    gate = Gate()
    llm = Scripted(says("done"), says("slowly", gate=gate))
    seen: list[Stamped] = []

    async def read(session: str) -> None:
        async with loop.stream_resume(session, on_busy="fail") as run:
            seen.extend([stamped async for stamped in run])

    with anyio.fail_after(10):
        async with AgentLoop[None](llm) as loop:
            with pytest.raises(SessionNotFound):
                await read("nowhere")
            session = (await loop.send("hi")).session_id
            before = await loop.store.read(session)
            with pytest.raises(NothingToResume):
                await read(session)
            assert await loop.store.read(session) == before
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(loop.send, "more", session)
                await gate.reached.wait()
                with pytest.raises(SessionBusy):
                    await read(session)
                gate.opened.set()
    assert seen == []
