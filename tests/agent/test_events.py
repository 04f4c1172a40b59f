"""Following a session, and subscribing to a loop."""

from __future__ import annotations

import gc
import logging
import random
import subprocess
import sys
import threading
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest

from power_loop import AgentConfig, AgentLoop, ToolContext, tool
from power_loop.errors import SessionNotFound, UsageError
from power_loop.events import RoundStarted, Stamped, decode_event, is_record
from power_loop.session.records import RunClosed, RunOpened
from tests.agent.scripted import Scripted, calls, says
from tests.agent.stepping import tasks_alive
from tests.agent.support import EVERY_STORE, StoreKind, opened_store
from tests.stores.places import KINDS, Kind, new_place, open_place

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parent.parent.parent

FOLLOWER = """
import sys
import anyio
from power_loop import AgentLoop
from power_loop.events import encode_event
from power_loop.session.records import RunClosed
from tests.agent.scripted import Scripted
from tests.stores.places import open_place

async def main(place, runs):
    store = open_place(place)
    async with AgentLoop(Scripted(), store=store) as loop:
        print("ready", flush=True)
        async for stamped in loop.events.stream("s", follow=True):
            print(encode_event(stamped).decode(), flush=True)
            runs -= isinstance(stamped.event, RunClosed)
            if not runs:
                break
    await store.aclose()

anyio.run(main, sys.argv[1], int(sys.argv[2]))
"""


@tool
async def noop() -> str:
    """Does nothing."""
    return "nothing"


def _model(request: Any) -> Any:
    return calls(("a", "noop", {})) if request.messages[-1].role == "user" else says("done")


@pytest.mark.parametrize("kind", EVERY_STORE)
async def test_a_stream_of_events_replays_what_the_store_holds(
    kind: StoreKind, tmp_path: Path
) -> None:
    """From any cursor, each record once, in order."""
    with anyio.fail_after(20):
        async with (
            opened_store(kind, tmp_path) as store,
            AgentLoop(Scripted(by=_model), tools=[noop], store=store) as loop,
        ):
            session = (await loop.send("hi")).session_id
            everything = [stamped async for stamped in loop.events.stream(session)]
            assert [stamped.seq for stamped in everything] == list(range(1, len(everything) + 1))
            assert everything == list(await store.read(session))
            for after in range(len(everything) + 1):
                rest = [s async for s in loop.events.stream(session, after=after)]
                assert rest == everything[after:]
            with pytest.raises(SessionNotFound):
                await loop.events.stream("nobody").__anext__()


@pytest.mark.parametrize("kind", EVERY_STORE)
async def test_followers_that_disconnect_at_random_miss_and_repeat_nothing(
    kind: StoreKind, tmp_path: Path
) -> None:
    """Hundreds of disconnects while the session goes on, by reading too little or by time (M02)."""
    rng = random.Random(7)
    disconnects = 0
    with anyio.fail_after(30):
        async with (
            opened_store(kind, tmp_path) as store,
            AgentLoop(Scripted(by=_model), tools=[noop], store=store) as loop,
        ):
            await store.create("s")
            over = anyio.Event()
            followed: list[list[Stamped]] = [[] for _ in range(10)]

            async def follow(mine: list[Stamped]) -> None:
                nonlocal disconnects
                while not (over.is_set() and mine and mine[-1].seq == last[0]):
                    after = mine[-1].seq if mine else 0
                    left = rng.randint(1, 4)
                    with anyio.move_on_after(rng.choice([0.001, 0.01, 1])):
                        async for stamped in loop.events.stream("s", after=after, follow=True):
                            mine.append(stamped)
                            left -= 1
                            if not left:
                                break
                    disconnects += 1

            last = [0]
            async with anyio.create_task_group() as tasks:
                for mine in followed:
                    tasks.start_soon(follow, mine)
                for n in range(20):
                    await loop.send(f"message {n}", "s")
                last[0] = (await store.info("s")).seq
                over.set()
            log = list(await store.read("s"))
            assert all(mine == log for mine in followed)
            assert disconnects >= 500


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("kind", KINDS)
async def test_another_process_follows_without_gap_or_repeat(kind: Kind, tmp_path: Path) -> None:
    """It sees each record as the store holds it, as it comes."""
    place = new_place(kind, tmp_path)
    store = open_place(place)
    await store.create("s")
    with anyio.fail_after(60):
        async with (
            AgentLoop(Scripted(by=_model), tools=[noop], store=store) as loop,
            await anyio.open_process(
                [sys.executable, "-W", "error", "-c", FOLLOWER, place, "10"],
                cwd=ROOT,
                stderr=subprocess.PIPE,
            ) as follower,
        ):
            assert follower.stdout is not None
            text = await follower.stdout.receive()
            for n in range(10):
                await loop.send(f"message {n}", "s")
            async for piece in follower.stdout:
                text += piece
            assert follower.stderr is not None
            assert await follower.wait() == 0
        loop_view = [stamped async for stamped in loop.events.stream("s")]
    ready, *lines = text.splitlines()
    assert ready == b"ready"
    assert [decode_event(line) for line in lines] == loop_view
    await store.aclose()


async def test_a_follower_of_a_deleted_session_is_told() -> None:
    """It does not wait for ever."""
    with anyio.fail_after(10):
        async with AgentLoop(Scripted(says("hi"))) as loop:
            session = (await loop.send("hi")).session_id

            async def follow() -> None:
                with pytest.raises(SessionNotFound):
                    async for _ in loop.events.stream(session, follow=True):
                        pass

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(follow)
                await anyio.wait_all_tasks_blocked()
                await loop.close_session(session)


async def test_breaking_out_of_an_event_stream_leaves_nothing_behind() -> None:
    """No generator is left to be finalised, also for those who close it."""
    with anyio.fail_after(10):
        async with AgentLoop(Scripted(says("hi"))) as loop:
            session = (await loop.send("hi")).session_id
            read: list[int] = []
            async for stamped in loop.events.stream(session, follow=True):
                read.append(stamped.seq)
                break
            async with aclosing(loop.events.stream(session, follow=True)) as stream:
                async for stamped in stream:
                    read.append(stamped.seq)
                    break
            # What is left unfinished is told here, as a warning, which is an error in these tests.
            gc.collect()
            assert read == [1, 1]


async def test_subscribers_get_what_they_asked_for_in_order() -> None:
    """By type, asynchronous or not, until they unsubscribe."""
    opened: list[Stamped] = []
    everything: list[Stamped] = []

    async def on_opened(stamped: Stamped) -> None:
        await anyio.lowlevel.checkpoint()
        opened.append(stamped)

    with anyio.fail_after(10):
        async with AgentLoop(Scripted(by=_model), tools=[noop]) as loop:
            stop = loop.events.subscribe(on_opened, types=[RunOpened])
            loop.events.subscribe(everything.append)
            sessions = [(await loop.send("hi")).session_id for _ in range(3)]
            await anyio.wait_all_tasks_blocked()
            stop()
            stop()
            await loop.send("hi")
        assert [s.session for s in opened] == sessions
        assert all(isinstance(s.event, RunOpened) for s in opened)
        for session in sessions:
            mine = [s for s in everything if s.session == session]
            assert any(isinstance(s.event, RoundStarted) for s in mine)
            records = [s for s in mine if is_record(s.event)]
            assert records == list(await loop.store.read(session))


async def test_closing_the_loop_delivers_what_waits() -> None:
    """A subscriber that is a little behind loses nothing."""
    seen: list[Stamped] = []

    async def late(stamped: Stamped) -> None:
        await anyio.lowlevel.checkpoint()
        seen.append(stamped)

    with anyio.fail_after(10):
        async with AgentLoop(Scripted(says("x" * 100))) as loop:
            loop.events.subscribe(late)
            await loop.send("hi")
    assert isinstance(seen[-1].event, RunClosed)


async def test_subscribers_that_fail_or_hang_hurt_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The run goes on, the others hear everything, and the loop closes."""
    seen: list[Stamped] = []

    async def hang(stamped: Stamped) -> None:
        await anyio.sleep_forever()

    def fail(stamped: Stamped) -> None:
        raise ValueError("subscriber")

    with anyio.fail_after(10), caplog.at_level(logging.WARNING, "power_loop"):
        async with AgentLoop(
            Scripted(by=_model), tools=[noop], config=AgentConfig(shutdown_grace=0.05)
        ) as loop:
            before = tasks_alive()
            loop.events.subscribe(hang)
            loop.events.subscribe(fail)
            loop.events.subscribe(fail, inline=True)
            loop.events.subscribe(seen.append)
            for _ in range(3):
                assert (await loop.send("hi")).status == "completed"
            await anyio.wait_all_tasks_blocked()
            assert sum(isinstance(s.event, RunClosed) for s in seen) == 3
            inside = tasks_alive()
        assert tasks_alive() < inside
        assert tasks_alive() <= before
    assert "subscriber failed" in caplog.text
    assert "stopped: they hang" in caplog.text


async def test_a_subscriber_survives_a_loop_that_is_opened_again() -> None:
    """As an extension's does."""
    seen: list[str] = []
    loop = AgentLoop(Scripted(says("a"), says("b")))
    loop.events.subscribe(lambda stamped: seen.append(stamped.session), types=[RunClosed])
    with anyio.fail_after(10):
        for _ in range(2):
            async with loop:
                await loop.send("hi")
    assert len(seen) == 2


async def test_an_inline_subscriber_is_called_within_the_run() -> None:
    """It has heard of an event before the run goes on; asynchronous ones are refused."""
    heard: list[str] = []

    @tool
    async def look() -> int:
        """Looks."""
        return len(heard)

    class Handler:
        async def __call__(self, stamped: Stamped) -> None: ...

    async def wrong(stamped: Stamped) -> None: ...

    llm = Scripted(calls(("a", "look", {})), says("ok"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[look]) as loop:
            stop = loop.events.subscribe(
                lambda stamped: heard.append(type(stamped.event).__name__), inline=True
            )
            session = (await loop.send("hi")).session_id
            assert heard[0] == "RunOpened"
            assert heard[-1] == "RunClosed"
            stop()
            count = len(heard)
            await loop.abort_pending(session)
            assert len(heard) == count
            for handler in (wrong, Handler()):
                with pytest.raises(UsageError, match="inline"):
                    loop.events.subscribe(handler, inline=True)


async def test_transient_events_of_a_call_that_is_over_are_not_published() -> None:
    """A thread that was left behind reports to nobody, least of all into the next run."""
    release, reported = threading.Event(), threading.Event()

    @tool(timeout=0.05)
    def stubborn(context: ToolContext[Any]) -> str:
        """Does not stop."""
        release.wait(10)
        context.progress("still here")
        reported.set()
        return "late"

    llm = Scripted(calls(("a", "stubborn", {})), says("moving on"), says("and again"))
    seen: list[Any] = []
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[stubborn]) as loop:
            loop.events.subscribe(seen.append, inline=True)
            session = (await loop.send("hi")).session_id
            release.set()
            await anyio.to_thread.run_sync(reported.wait, 10)
            await loop.send("again", session)
    assert "ToolProgress" not in [type(s.event).__name__ for s in seen]
