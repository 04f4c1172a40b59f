"""Something fails at each place where it can: the session stays legal, truthful and usable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal

import anyio
import pytest

from llm_client.errors import BadRequest
from llm_client.types import LLMRequest, Message, ToolResult
from power_loop import AgentLoop, Hooks, MemoryStore, ToolContext, result_of, tool
from power_loop.errors import SessionNotFound, StoreUnavailable
from power_loop.events import Stamped, is_record
from power_loop.hooks import POINTS, TOOL_AFTER, HookPoint
from power_loop.runtime.stores.base import Appended, CancelRequested, InboxItem, Lease, Steer
from power_loop.session.outcome import Cancelled, Completed, Crashed, Failed
from power_loop.session.records import (
    MessageAppended,
    ModelEnded,
    Record,
    RunClosed,
    RunOpened,
    ToolSettled,
)
from tests.agent.scripted import Gate, Reply, Scripted, calls, fails, hangs, says
from tests.agent.stores import SlowStore, records_of
from tests.session.checker import violations

pytestmark = pytest.mark.anyio


class Broken(Exception):
    """What the test makes happen."""


class Effects:
    """What tools did."""

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()
        self.done: set[str] = set()


@tool
async def work(context: ToolContext[Effects]) -> str:
    """Works."""
    call = f"{context.session_id}/{context.call_id}"
    context.deps.begun[call] += 1
    await anyio.lowlevel.checkpoint()
    context.deps.done.add(call)
    return "worked"


def model(request: LLMRequest) -> Reply:
    if request.messages[-1].role == "user":
        return calls(("a", "work", {}), ("b", "work", {}))
    return says("done")


def judge(log: Sequence[Record], effects: Effects, session: str = "s") -> None:
    """What must hold of a session's whole log."""
    assert violations(log, closed=True, idempotent=lambda _: False) == []
    assert all(n == 1 for n in effects.begun.values())
    for record in log:
        if isinstance(record, ToolSettled):
            (part,) = record.message.parts
            assert isinstance(part, ToolResult)
            if record.how == "finished":
                assert f"{session}/{part.call_id}" in effects.done
            if record.how == "not_run":
                assert f"{session}/{part.call_id}" not in effects.begun


class FailingStore(SlowStore):
    """The n-th call of a kind fails, before or after it has taken effect."""

    def __init__(self, what: str, fails_at: int, *, after: bool, steps: int) -> None:
        super().__init__(steps)
        self.immediate = not steps
        self.calls = 0
        self.failed = False
        self._what = what
        self._fails_at = fails_at
        self._after = after

    def _check(self, what: str, *, after: bool) -> None:
        if what != self._what or self.failed or after != self._after:
            return
        self.calls += 1
        if self.calls == self._fails_at:
            self.failed = True
            raise StoreUnavailable(f"{what} failed; mend the disk and resume")

    async def append(
        self,
        lease: Lease,
        expected_seq: int,
        records: Sequence[Stamped],
        *,
        take: Sequence[str] = (),
        final: bool = False,
        leaving: Sequence[str] | None = None,
    ) -> Appended:
        self._check("append", after=False)
        appended = await super().append(
            lease,
            expected_seq,
            records,
            take=take,
            final=final,
            leaving=leaving,
        )
        self._check("append", after=True)
        return appended

    async def claim(
        self, session: str, *, ttl: float = 30.0, steal: Literal["dead", "never"] = "dead"
    ) -> Lease:
        self._check("claim", after=False)
        return await super().claim(session, ttl=ttl, steal=steal)

    async def read(
        self, session: str, after: int = 0, limit: int | None = None
    ) -> Sequence[Stamped]:
        self._check("read", after=False)
        return await super().read(session, after, limit)

    async def inbox(self, session: str) -> Sequence[InboxItem]:
        self._check("inbox", after=False)
        return await super().inbox(session)

    async def release(self, lease: Lease) -> None:
        await super().release(lease)
        self._check("release", after=True)


async def _until_it_no_longer_fails(build: Callable[[int], FailingStore]) -> int:
    """Runs the program with the failure at each call in turn; how many places there were."""
    for fails_at in range(1, 100):
        store = build(fails_at)
        store.failed = True
        effects = Effects()
        llm = Scripted(by=model)
        await store.create("s")
        await store.create("t")
        async with AgentLoop[Effects](llm, tools=[work], store=store) as loop:
            await loop.send("earlier", "s", deps=effects)
        async with AgentLoop[Effects](llm, tools=[work], store=store) as loop:
            await loop.steer("s", "by the way")
            store.failed = False
            try:
                await loop.send("first", "s", deps=effects)
            except StoreUnavailable as error:
                result = result_of(error)
                assert result is None or isinstance(result.outcome, Failed | Completed)
            assert llm.under_way == 0
            failed, store.failed = store.failed, True
            # The lease of the broken run is not in the way, and neither is what is in memory.
            if (await loop.get_pending("s")) or (await store.info("s")).status == "running":
                await loop.resume("s", deps=effects, on_busy="fail")
            elif "first" not in [m.text for m in await loop.get_messages("s")]:
                await loop.send("first", "s", deps=effects, on_busy="fail")
            for session in "st":
                last = await loop.send("last", session, deps=effects)
                assert last.status == "completed"
            log = records_of(await store.read("s"))
        judge(log, effects)
        said = [m.text for r in log if isinstance(r, RunOpened) for m in r.input]
        said += [r.message.text for r in log if isinstance(r, MessageAppended)]
        assert (said.count("first"), said.count("by the way")) == (1, 1)
        assert llm.illegal == []
        if not failed:
            return fails_at
    raise AssertionError("it never ended")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("steps", [0, 1])
async def test_an_append_that_fails_anywhere_loses_and_doubles_nothing(
    steps: int, after: bool
) -> None:
    """Also one that fails although it has taken effect: the log decides, not the memory."""
    with anyio.fail_after(30):
        places = await _until_it_no_longer_fails(
            lambda n: FailingStore("append", n, after=after, steps=steps)
        )
    assert places > 4


@pytest.mark.parametrize("what", ["claim", "read", "inbox", "release"])
async def test_any_other_failure_of_the_store_is_raised_and_forgotten(what: str) -> None:
    """The next call finds a session that works."""
    with anyio.fail_after(30):
        places = await _until_it_no_longer_fails(
            lambda n: FailingStore(what, n, after=what == "release", steps=1)
        )
    assert places > (0 if what == "release" else 1)


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
async def test_a_hook_that_raises_at_any_point_fails_the_run_and_nothing_more(
    point: HookPoint[Any, Any], slow: bool
) -> None:
    """Raised as it is, with the result; the calls of the batch are settled truthfully."""
    hooks = Hooks()
    fired: list[int] = []

    async def fail(context: Any) -> None:
        fired.append(1)
        first = len(fired) == 1
        await anyio.lowlevel.checkpoint()
        if first:
            raise Broken

    hooks.on(point, fail, on_error="raise")
    effects = Effects()
    llm = Scripted(by=model)
    store = SlowStore() if slow else MemoryStore()
    with anyio.fail_after(10):
        async with AgentLoop[Effects](llm, tools=[work], store=store, hooks=hooks) as loop:
            await store.create("s")
            try:
                result = await loop.send("first", "s", deps=effects)
                assert not fired
                assert result.status == "completed"
            except Broken as error:
                attached = result_of(error)
                if point.name != "message.append":
                    assert attached is not None
                    ending = Completed if point.name == "session.end" else Failed
                    assert isinstance(attached.outcome, ending)
            again = await loop.send("second", "s", deps=effects)
            assert again.status == "completed"
            log = records_of(await store.read("s"))
    judge(log, effects)
    assert llm.illegal == []


async def test_a_model_that_breaks_the_protocol_fails_the_run_as_what_it_is() -> None:
    """An error that is no LLMError is raised as it is; nothing of the answer is used."""

    class Wild(Scripted):
        async def complete(self, request: LLMRequest) -> Any:
            await super().complete(request)
            raise Broken("not an LLMError")

    llm = Wild(by=lambda _: says("x"))
    with anyio.fail_after(10):
        async with AgentLoop(llm) as loop:
            with pytest.raises(Broken) as raised:
                await loop.send("hi")
            result = result_of(raised.value)
            assert result is not None
            log = records_of(await loop.store.read(result.session_id))
            assert violations(log, closed=True) == []


async def test_two_failures_at_once_raise_one_of_them_and_close_the_run() -> None:
    """A hook fails in each of two parallel calls."""
    hooks = Hooks()
    gate = Gate()
    arrived: list[str] = []

    async def fail(context: Any) -> None:
        arrived.append(context.call.id)
        if len(arrived) == 2:
            gate.opened.set()
        await gate.wait()
        raise Broken(context.call.id)

    hooks.on(TOOL_AFTER, fail, on_error="raise")
    effects = Effects()
    with anyio.fail_after(10):
        async with AgentLoop[Effects](Scripted(by=model), tools=[work], hooks=hooks) as loop:
            await loop.store.create("s")
            with pytest.raises(Broken):
                await loop.send("first", "s", deps=effects)
            log = records_of(await loop.store.read("s"))
    judge(log, effects)
    hows = [r.how for r in log if isinstance(r, ToolSettled)]
    assert hows == ["finished", "finished"]


async def test_a_run_whose_lease_was_taken_away_writes_nothing_more() -> None:
    """A stale writer is refused; the session belongs to its successor."""

    class Stealing(SlowStore):
        async def steal(self, session: str) -> None:
            log = self._logs[session]
            assert log.lease is not None
            await MemoryStore.release(self, log.lease)

    gate = Gate()
    store = Stealing()
    llm = Scripted(says("too late", gate=gate))
    errors: list[BaseException] = []
    with anyio.fail_after(10):
        async with (
            AgentLoop(llm, store=store) as old,
            AgentLoop(Scripted(says("from the successor")), store=store) as new,
        ):
            await store.create("s")

            async def send() -> None:
                try:
                    await old.send("hi", "s")
                except Exception as error:  # noqa: BLE001  looked at below
                    errors.append(error)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send)
                await gate.reached.wait()
                await store.steal("s")
                result = await new.resume("s")
                assert result.final_text == "from the successor"
                gate.opened.set()
            assert type(errors[0]).__name__ == "Fenced"
            log = records_of(await store.read("s"))
            assert violations(log, closed=True) == []
            crashed = [r for r in log if isinstance(r, RunClosed)]
            assert isinstance(crashed[0].outcome, Crashed)
            texts = [m.text for m in await old.get_messages("s")]
            assert texts == ["hi", "from the successor"]
            # What the loser had in memory is gone.
            assert (await new.steer("s", "still there?")).running is False


async def test_a_session_deleted_under_a_run_ends_it_with_a_typed_error() -> None:
    """Its store says so; nothing is written to what is made anew under the same id."""

    class Careless(MemoryStore):
        async def wipe(self, session: str) -> None:
            del self._logs[session]

    gate = Gate()
    store = Careless()
    errors: list[BaseException] = []
    with anyio.fail_after(10):
        async with AgentLoop(Scripted(says("x", gate=gate)), store=store) as loop:
            await store.create("s")

            async def send() -> None:
                try:
                    await loop.send("hi", "s")
                except Exception as error:  # noqa: BLE001  looked at below
                    errors.append(error)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send)
                await gate.reached.wait()
                await store.wipe("s")
                await store.create("s")
                gate.opened.set()
            assert type(errors[0]).__name__ in ("Fenced", "Conflict")
            assert list(await store.read("s")) == []
            with pytest.raises(SessionNotFound):
                await loop.send("hi", "t")


@pytest.mark.parametrize("item", [Steer(Message.user("wait!")), CancelRequested("stop!")])
async def test_what_is_posted_while_the_run_closes_is_not_left_behind(
    item: Steer | CancelRequested,
) -> None:
    """After the last look into the inbox, and before the close is stored."""

    class Racing(SlowStore):
        posted = False

        async def append(
            self,
            lease: Lease,
            expected_seq: int,
            records: Sequence[Stamped],
            *,
            take: Sequence[str] = (),
            final: bool = False,
            leaving: Sequence[str] | None = None,
        ) -> Appended:
            if final and not self.posted:
                self.posted = True
                assert (await self.post("s", item)).running
            return await super().append(
                lease,
                expected_seq,
                records,
                take=take,
                final=final,
                leaving=leaving,
            )

    store = Racing()
    with anyio.fail_after(10):
        async with AgentLoop(Scripted(says("one"), says("two")), store=store) as loop:
            await store.create("s")
            result = await loop.send("hi", "s")
            log = records_of(await store.read("s"))
            assert violations(log, closed=True) == []
            assert sum(isinstance(r, RunClosed) for r in log) == 1
            assert await store.inbox("s") == ()
    if isinstance(item, Steer):
        assert (result.status, result.final_text) == ("completed", "two")
    else:
        assert result.outcome == Cancelled("stop!")


async def test_no_event_is_seen_that_is_not_durable() -> None:
    """Subscribers hear of a record only once the store has it."""

    class Watched(SlowStore):
        def holds(self, stamped: Stamped) -> bool:
            return stamped in self._logs[stamped.session].records

    store = Watched(2)
    wrong: list[Stamped] = []

    def look(stamped: Stamped) -> None:
        if is_record(stamped.event) and not store.holds(stamped):
            wrong.append(stamped)

    with anyio.fail_after(10):
        async with AgentLoop[Effects](Scripted(by=model), tools=[work], store=store) as loop:
            loop.events.subscribe(look, inline=True)
            assert (await loop.send("hi", deps=Effects())).status == "completed"
    assert wrong == []


async def test_a_round_with_many_tools_costs_two_or_three_commits() -> None:
    """Group commit: eight parallel tools are not seventeen transactions."""
    running = 0
    together = anyio.Event()

    @tool
    async def meet() -> str:
        """Waits for the others."""
        nonlocal running
        running += 1
        if running == 8:
            together.set()
        await together.wait()
        return "met"

    store = SlowStore()
    eight = calls(*[(f"c{n}", "meet", "{}") for n in range(8)])
    with anyio.fail_after(10):
        async with AgentLoop(Scripted(eight, says("done")), tools=[meet], store=store) as loop:
            session = (await loop.send("hi")).session_id
            log = [type(r).__name__ for r in records_of(await store.read(session))]
    assert (log.count("ToolStarted"), log.count("ToolSettled")) == (8, 8)
    # Opened and asked; the answer and the starts; most results; the last one and asked; the end.
    assert store.appends <= 6


async def test_the_partial_answer_of_a_cancelled_or_failed_run_is_told_once() -> None:
    """The next run's record does not hold the text of this one."""
    gate = Gate()
    llm = Scripted(
        hangs(gate, "first part"),
        fails(BadRequest("bad", status=400), "second part"),
        says("x"),
        hangs(Gate(), "never seen"),
    )
    with anyio.fail_after(10):
        async with AgentLoop(llm) as loop:
            await loop.store.create("s")
            async with loop.stream("hi", "s") as run:
                await gate.reached.wait()
            assert isinstance((await run.result()).outcome, Cancelled)
            with pytest.raises(BadRequest):
                async with loop.stream("hi", "s") as run:
                    await run.result()
            async with loop.stream("hi", "s") as run:
                await run.result()
            # Not streamed: nothing of it can have arrived.
            with anyio.move_on_after(0.02):
                await loop.send("hi", "s")
            log = records_of(await loop.store.read("s"))
            partials = [r.partial for r in log if isinstance(r, ModelEnded)]
    assert partials == ["first part", "second part", "", ""]
