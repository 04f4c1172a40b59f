"""Several messages for one session: one run at a time, in this process and in others."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import pytest

from llm_client.types import ToolSpec
from power_loop import AgentLoop, MemoryStore, SQLiteStore, tool
from power_loop.errors import FollowUpQueued, SessionBusy, SessionNotFound, SessionPendingError
from power_loop.runtime.stores.base import Lease
from power_loop.session.outcome import Cancelled
from power_loop.session.records import RunClosed, RunOpened
from tests.agent.scripted import Gate, Scripted, calls, hangs, says
from tests.agent.stepping import Backend, Steps, run_stepwise
from tests.agent.stores import SlowStore
from tests.agent.support import EVERY_STORE, StoreKind, check_log
from tests.stores.places import new_place, open_place

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parent.parent.parent

SENDER = """
import sys
import anyio
from power_loop import AgentLoop, SQLiteStore
from tests.agent.scripted import Scripted, says

async def main(path, name, count):
    store = SQLiteStore(path, durability="normal")
    llm = Scripted(by=lambda _: says("yes"))
    async with AgentLoop(llm, store=store) as loop:
        for n in range(count):
            result = await loop.send(f"{name} {n}", "s")
            assert result.status == "completed", result
    assert llm.illegal == [], llm.illegal
    await store.aclose()

anyio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]))
"""


POSTER = """
import sys
import anyio
from power_loop import AgentLoop, SQLiteStore
from tests.agent.scripted import Scripted

async def main(path, verb):
    store = SQLiteStore(path)
    async with AgentLoop(Scripted(), store=store) as loop:
        if verb == "cancel":
            assert await loop.cancel("s", "from another process")
        elif verb == "interrupt":
            posted = await loop.steer("s", "from another process", mode="interrupt")
            assert posted.running
        else:
            assert (await loop.steer("s", "from another process")).running
    await store.aclose()

anyio.run(main, sys.argv[1], sys.argv[2])
"""


def _inputs(log: list[Any]) -> list[str]:
    return [m.text for r in log if isinstance(r, RunOpened) for m in r.input]


def _assert_not_interleaved(log: list[Any]) -> None:
    open_run: str | None = None
    for record in log:
        if isinstance(record, RunOpened):
            assert open_run is None
            open_run = record.run
        elif isinstance(record, RunClosed):
            assert record.run == open_run
            open_run = None


async def test_messages_for_one_session_run_one_after_the_other() -> None:
    """Twenty at once on one loop: none is lost, none interleaves, the order is first come (D09)."""
    llm = Scripted(by=lambda _: says("yes"), steps=3)
    with anyio.fail_after(20):
        async with AgentLoop(llm) as loop:
            await loop.store.create("s")
            async with anyio.create_task_group() as tasks:
                for n in range(20):
                    tasks.start_soon(loop.send, f"message {n}", "s")
            log = await check_log(loop, "s")
            assert Counter(_inputs(log)) == Counter(f"message {n}" for n in range(20))
            _assert_not_interleaved(log)
    assert llm.illegal == []


async def test_a_busy_session_is_refused_by_choice_and_named_d09() -> None:
    """`fail` fails at once and changes nothing; `wait` gets its turn (D09)."""
    gate = Gate()
    llm = Scripted(says("one", gate=gate), says("two"))
    with anyio.fail_after(10):
        async with AgentLoop(llm) as loop:
            await loop.store.create("s")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(loop.send, "one", "s")
                await gate.reached.wait()
                with pytest.raises(SessionBusy, match="'s' is busy") as busy:
                    await loop.send("no", "s", on_busy="fail")
                assert busy.value.owner
                with pytest.raises(SessionBusy):
                    await loop.abort_pending("s")
                with pytest.raises(SessionBusy):
                    await loop.close_session("s")
                tasks.start_soon(loop.send, "two", "s")
                await anyio.wait_all_tasks_blocked()
                gate.opened.set()
            assert _inputs(await check_log(loop, "s")) == ["one", "two"]


async def test_other_sessions_do_not_wait_for_a_busy_one() -> None:
    """A loop serves any number of sessions at once."""
    gate = Gate()
    llm = Scripted(hangs(gate), *[says("fine")] * 10)
    with anyio.fail_after(10):
        async with AgentLoop(llm) as loop:
            await loop.store.create("slow")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(loop.send, "x", "slow")
                await gate.reached.wait()
                for _ in range(10):
                    assert (await loop.send("hi")).status == "completed"
                await loop.cancel("slow")


@pytest.mark.parametrize("kind", EVERY_STORE)
async def test_two_loops_on_one_store_take_turns(kind: StoreKind, tmp_path: Path) -> None:
    """Each sees what the other has added; neither uses a stale history."""
    place = "" if kind == "memory" else new_place(kind, tmp_path)
    store = open_place(place) if place else MemoryStore()
    other_store = open_place(place) if place else store
    llms = [Scripted(by=lambda _: says("yes")) for _ in range(2)]
    with anyio.fail_after(30):
        async with (
            AgentLoop(llms[0], store=store) as one,
            AgentLoop(llms[1], store=other_store) as two,
        ):
            await store.create("s")

            async def several(loop: AgentLoop[Any], name: str) -> None:
                for n in range(5):
                    await loop.send(f"{name} {n}", "s")

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(several, one, "one")
                tasks.start_soon(several, two, "two")
            log = await check_log(one, "s")
            assert len(_inputs(log)) == len(set(_inputs(log))) == 10
            _assert_not_interleaved(log)
            asked = sorted(len(r.messages) for llm in llms for r in llm.requests)
            assert asked == list(range(1, 20, 2))
        await store.aclose()
        await other_store.aclose()


async def test_a_busy_session_of_another_loop_fails_or_waits_too(tmp_path: Path) -> None:
    """The lease in the file speaks for a run that this loop knows nothing of."""
    gate = Gate()
    stores = [SQLiteStore(tmp_path / "s.db") for _ in range(2)]
    llm = Scripted(says("one", gate=gate))
    with anyio.fail_after(20):
        async with (
            AgentLoop(llm, store=stores[0]) as one,
            AgentLoop(Scripted(says("two")), store=stores[1]) as two,
        ):
            await stores[0].create("s")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one.send, "one", "s")
                await gate.reached.wait()
                with pytest.raises(SessionBusy, match="process"):
                    await two.send("no", "s", on_busy="fail")
                tasks.start_soon(two.send, "two", "s")
                await anyio.wait_all_tasks_blocked()
                gate.opened.set()
            assert _inputs(await check_log(one, "s")) == ["one", "two"]
        for store in stores:
            await store.aclose()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_lease_is_given_back_even_if_its_holder_is_cancelled_meanwhile() -> None:
    """A native cancellation would pass through a mere shield; the session would stay locked."""
    giving_back, go = anyio.Event(), anyio.Event()

    class Holding(SlowStore):
        async def release(self, lease: Lease) -> None:
            giving_back.set()
            await go.wait()
            await super().release(lease)

    spec = ToolSpec("ask", "Asks.", {"type": "object", "properties": {}})
    store = Holding()
    async with AgentLoop(Scripted(calls(("a", "ask", {}))), tools=[spec], store=store) as loop:
        session = (await loop.send("hi")).session_id
        task = asyncio.ensure_future(loop.send("refused: a call is open", session))
        with anyio.fail_after(5):
            await giving_back.wait()
            task.cancel()
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.sleep(0)
            go.set()
            await asyncio.wait({task})
        assert task.cancelled()
        with pytest.raises(SessionPendingError):
            await loop.send("still refused, but not busy", session, on_busy="fail")


async def test_a_session_that_was_made_anew_elsewhere_brings_no_old_history(tmp_path: Path) -> None:
    """Deleted and created again by another program under the same id: what it said is gone."""
    stores = [SQLiteStore(tmp_path / "s.db") for _ in range(2)]
    llm = Scripted(by=lambda _: says("yes"))
    with anyio.fail_after(20):
        async with (
            AgentLoop(llm, store=stores[0]) as one,
            AgentLoop(Scripted(by=lambda _: says("yes")), store=stores[1]) as two,
        ):
            await stores[0].create("s")
            await one.send("a secret", "s")
            await two.close_session("s")
            with pytest.raises(SessionNotFound):
                await one.send("x", "s")
            await stores[1].create("s")
            await two.send("hello", "s")
            await one.send("what do you know?", "s")
            assert [m.text for m in llm.requests[-1].messages] == [
                "hello",
                "yes",
                "what do you know?",
            ]
            await check_log(one, "s")
        for store in stores:
            await store.aclose()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_two_processes_on_one_file_lose_and_interleave_nothing(tmp_path: Path) -> None:
    """Ten messages from each of two programs, and a model call for each and no more (D09)."""
    path = tmp_path / "s.db"
    store = SQLiteStore(path)
    await store.create("s")
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:

            async def program(name: str) -> None:
                done = await anyio.run_process(
                    [sys.executable, "-W", "error", "-c", SENDER, str(path), name, "10"],
                    cwd=ROOT,
                    check=False,
                    stderr=subprocess.PIPE,
                )
                assert done.returncode == 0, done.stderr.decode()

            tasks.start_soon(program, "left")
            tasks.start_soon(program, "right")
        async with AgentLoop(Scripted(), store=store) as loop:
            log = await check_log(loop, "s")
    assert Counter(_inputs(log)) == Counter(
        f"{w} {n}" for w in ("left", "right") for n in range(10)
    )
    _assert_not_interleaved(log)
    assert [type(r).__name__ for r in log].count("ModelAsked") == 20
    await store.aclose()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("verb", ["steer", "cancel"])
async def test_another_process_can_steer_and_cancel_a_run(tmp_path: Path, verb: str) -> None:
    """While a tool works; it reaches the run once."""
    path = tmp_path / "s.db"

    @tool
    async def let_others_speak() -> str:
        """Waits for another process."""
        program = [sys.executable, "-W", "error", "-c", POSTER, str(path), verb]
        done = await anyio.run_process(program, cwd=ROOT, check=False)
        return done.stderr.decode() or "they have spoken"

    store = SQLiteStore(path)
    llm = Scripted(calls(("a", "let_others_speak", {})), says("as you like"))
    with anyio.fail_after(60):
        async with AgentLoop(llm, tools=[let_others_speak], store=store) as loop:
            await store.create("s")
            result = await loop.send("go", "s")
            assert await store.inbox("s") == ()
            texts = [m.text for m in await loop.get_messages("s")]
            if verb == "steer":
                assert result.status == "completed"
                assert texts.count("from another process") == 1
            else:
                assert result.outcome == Cancelled("from another process")
                assert len(llm.requests) == 1
            await check_log(loop, "s")
        await store.aclose()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("verb", ["interrupt", "cancel"])
async def test_another_process_is_heard_in_the_middle_of_a_model_call(
    tmp_path: Path, verb: str
) -> None:
    """The stream would go on for ever: it is closed when the other process has spoken."""
    path = tmp_path / "s.db"
    gate = Gate()
    store = SQLiteStore(path)
    llm = Scripted(hangs(gate, "It was a dark and"), says("as you like"))
    program = [sys.executable, "-W", "error", "-c", POSTER, str(path), verb]
    with anyio.fail_after(60):
        async with AgentLoop(llm, store=store) as loop:
            await store.create("s")
            async with loop.stream("go", "s") as run:
                await gate.reached.wait()
                done = await anyio.run_process(program, cwd=ROOT, check=False)
                assert done.returncode == 0, done.stderr.decode()
                result = await run.result()
            assert await store.inbox("s") == ()
            texts = [m.text for m in await loop.get_messages("s")]
            if verb == "cancel":
                assert result.outcome == Cancelled("from another process")
                assert texts == ["go"]
            else:
                assert result.final_text == "as you like"
                assert texts == ["go", "It was a dark and", "from another process", "as you like"]
            assert llm.under_way == 0
            await check_log(loop, "s")
        await store.aclose()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_another_process_can_send_into_a_run_that_is_going_on(tmp_path: Path) -> None:
    """With `on_busy="steer"` the message of one server's user reaches the run of another."""
    gate = Gate()
    stores = [SQLiteStore(tmp_path / "s.db") for _ in range(2)]
    llm = Scripted(says("one", gate=gate), says("two"))
    with anyio.fail_after(20):
        async with (
            AgentLoop(llm, store=stores[0]) as one,
            AgentLoop(Scripted(), store=stores[1]) as two,
        ):
            await stores[0].create("s")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one.send, "first", "s")
                await gate.reached.wait()
                with pytest.raises(FollowUpQueued):
                    await two.send("second", "s", on_busy="steer")
                gate.opened.set()
            texts = [m.text for m in await one.get_messages("s")]
            assert texts == ["first", "one", "second", "two"]
            await check_log(one, "s")
        for store in stores:
            await store.aclose()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelling_one_of_two_who_want_a_session_never_stops_the_other(backend: Backend) -> None:
    """At each step of the first one's run, and while it waits for its turn."""
    for victim in (0, 1):
        step = 0
        while True:
            step += 1
            steps = Steps()
            told = _two_senders(backend, victim, step, steps)
            assert told[1 - victim] == "completed", f"{victim} at {step}: {told}"
            if told[victim] == "completed" and step > steps.count:
                break
        assert step > 10


def _two_senders(backend: Backend, victim: int, step: int, steps: Steps) -> list[str]:
    told = ["", ""]
    scopes: list[anyio.CancelScope] = []
    llm = Scripted(by=lambda _: says("yes"))

    async def main() -> None:
        store = SlowStore()
        await store.create("s")
        scopes.extend([anyio.CancelScope(), anyio.CancelScope()])
        with anyio.fail_after(10):
            async with AgentLoop(llm, store=store) as loop:

                async def send(number: int) -> None:
                    with scopes[number]:
                        told[number] = (await loop.send(f"{number}", "s")).status

                steps.counting = True
                async with anyio.create_task_group() as tasks:
                    for number in (0, 1):
                        tasks.start_soon(send, number)
                steps.counting = False
                assert (await loop.send("again", "s", on_busy="fail")).status == "completed"
                log = await check_log(loop, "s")
                assert str(1 - victim) in _inputs(log)

    steps.at(step, lambda: scopes[victim].cancel())
    run_stepwise(main, steps, backend)
    assert llm.illegal == []
    return told
