"""Every verb of the loop, on both stores."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from llm_client.types import StopReason, Text, ToolSpec
from power_loop import (
    AgentConfig,
    AgentLoop,
    Hooks,
    MemoryStore,
    Result,
    ToolContext,
    approve,
    deny,
    tool,
)
from power_loop.errors import NothingToResume, SessionNotFound, SessionPendingError
from power_loop.hooks import TOOL_BEFORE, Suspend, ToolBefore
from power_loop.runtime.stores.base import InboxItem, Store
from power_loop.session.outcome import Cancelled, Completed, PendingTools, RoundLimit
from power_loop.session.records import ModelEnded, RunClosed, RunOpened, ToolSettled, ToolStarted
from tests.agent.scripted import Gate, Scripted, calls, hangs, says
from tests.agent.support import EVERY_STORE, check_log, log_of, opened_store

pytestmark = pytest.mark.anyio


@pytest.fixture(params=EVERY_STORE)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Store]:
    async with opened_store(request.param, tmp_path) as store:
        yield store


@tool
async def double(n: int) -> int:
    """Doubles a number."""
    return 2 * n


async def test_send_answers_and_a_second_message_goes_on_in_the_same_session(store: Store) -> None:
    """The result says where the session is; its history is what the model sees next."""
    llm = Scripted(says("hello"), says("you said hi"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, store=store) as loop:
            first = await loop.send("hi")
            second = await loop.send("what did I say?", first.session_id)
            assert (first.status, first.final_text, first.rounds) == ("completed", "hello", 1)
            assert first.outcome == Completed("hello")
            assert first.output is None
            assert second.session_id == first.session_id
            assert second.run_id != first.run_id
            assert [m.text for m in llm.requests[1].messages] == ["hi", "hello", "what did I say?"]
            assert second.usage.input_tokens == 10
            await check_log(loop, first.session_id)
    assert llm.illegal == []


async def test_tools_run_and_their_results_come_back_in_call_order(store: Store) -> None:
    """Three calls of one answer; the slowest is first."""
    order: list[int] = []
    gate = anyio.Event()

    @tool
    async def work(n: int) -> str:
        """Works."""
        if n == 1:
            await gate.wait()
        order.append(n)
        if {2, 3} <= set(order):
            gate.set()
        return f"did {n}"

    wanted = [(f"c{n}", "work", {"n": n}) for n in (1, 2, 3)]
    llm = Scripted(calls(*wanted), says("all done"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[work], store=store) as loop:
            result = await loop.send("work")
            assert result.status == "completed"
            assert result.rounds == 2
            assert order[-1] == 1
            told = [m.parts[0] for m in llm.requests[1].messages[2:]]
            assert [getattr(part, "text", "") for part in told] == ["did 1", "did 2", "did 3"]
            await check_log(loop, result.session_id)


async def test_the_round_limit_gives_the_model_a_last_word_and_resume_more_rounds(
    store: Store,
) -> None:
    """SPEC 2.18: one more answer without tools; resuming counts afresh."""

    def model(request: Any) -> Any:
        if not request.tools:
            return says("half of it is done")
        if len(llm.requests) > 4:
            return says("now all is done")
        return calls(("c", "double", {"n": 1}))

    llm = Scripted(by=model)
    with anyio.fail_after(10):
        async with AgentLoop(
            llm, tools=[double], store=store, config=AgentConfig(max_rounds=2)
        ) as loop:
            result = await loop.send("double for ever")
            assert result.status == "round_limit"
            assert result.outcome == RoundLimit(2, "half of it is done")
            assert result.final_text == "[round_limit] half of it is done"
            assert result.resumable
            more = await loop.resume(result.session_id)
            assert (more.status, more.final_text) == ("completed", "now all is done")
            await check_log(loop, result.session_id)


async def test_settings_of_one_call_hold_for_that_call_only(store: Store) -> None:
    """Model, tools, rounds and deps can be set for each message."""
    seen: list[object] = []

    @tool
    async def who(context: ToolContext[object]) -> str:
        """Says who."""
        seen.append(context.deps)
        return "them"

    llm = Scripted(calls(("c", "who", {})), says("them"), says("plain"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[double], store=store) as loop:
            result = await loop.send("who?", model="other", tools=[who], max_rounds=5, deps="me")
            await loop.send("and now?", result.session_id)
            first, _, third = llm.requests
            assert (first.model, [t.name for t in first.tools]) == ("other", ["who"])
            assert (third.model, [t.name for t in third.tools]) == (None, ["double"])
            assert seen == ["me"]
            opened = [r for r in await log_of(loop, result.session_id) if isinstance(r, RunOpened)]
            assert [r.limits["rounds"] for r in opened] == [5, 24]


async def test_cancel_ends_the_run_and_keeps_what_had_arrived(store: Store) -> None:
    """The caller of send gets a result; the part of the answer that came is in the log."""
    gate = Gate()
    llm = Scripted(hangs(gate, "It was a dark and"), says("go on"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, store=store) as loop:
            await store.create("s")
            results: list[Any] = []

            async def run() -> None:
                async with loop.stream("tell a story", "s") as stream:
                    results.append(await stream.result())

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run)
                await gate.reached.wait()
                assert await loop.cancel("s", "enough")
            (result,) = results
            assert (result.status, result.outcome) == ("cancelled", Cancelled("enough"))
            (ended,) = [r for r in await check_log(loop, "s") if isinstance(r, ModelEnded)]
            assert (ended.status, ended.partial) == ("cancelled", "It was a dark and")
            assert llm.under_way == 0
            assert (await loop.send("again", "s")).status == "completed"
    assert llm.illegal == []


async def test_cancel_of_what_does_not_run_says_so(store: Store) -> None:
    """Nothing is left behind that would cancel a later run."""
    llm = Scripted(says("a"), says("b"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, store=store) as loop:
            result = await loop.send("hi")
            assert not await loop.cancel(result.session_id)
            assert (await loop.send("hi again", result.session_id)).status == "completed"
            with pytest.raises(SessionNotFound):
                await loop.cancel("nobody")


async def test_a_timeout_cancels_the_run_and_says_so(store: Store) -> None:
    """A result, not an exception; the session stays usable."""
    gate = Gate()
    llm = Scripted(by=lambda r: hangs(gate) if r.messages[-1].text == "hi" else says("fine"))
    await store.create("s")
    with anyio.fail_after(10):
        async with AgentLoop(llm, store=store) as loop:
            result = await loop.send("hi", "s", timeout=0.05)
            assert result.status == "cancelled"
            assert result.outcome == Cancelled("it took longer than 0.05 s")
            assert (await loop.send("again", "s")).status == "completed"
            await check_log(loop, "s")


async def test_steering_enters_after_the_results_and_before_the_next_round(store: Store) -> None:
    """Never between a call and its result, never twice for one dedupe key."""
    gate = Gate()

    @tool
    async def wait() -> str:
        """Waits."""
        await gate.wait()
        return "waited"

    llm = Scripted(calls(("c", "wait", {})), says("as you like"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[wait], store=store) as loop:
            await store.create("s")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(loop.send, "wait", "s")
                await gate.reached.wait()
                posted = await loop.steer("s", "be quick", dedupe_key="k")
                again = await loop.steer("s", "be quick", dedupe_key="k")
                assert posted.running
                assert (again.duplicate, again.id) == (True, posted.id)
                gate.opened.set()
            roles = [m.role for m in llm.requests[1].messages]
            assert roles == ["user", "assistant", "tool", "user"]
            assert llm.requests[1].messages[-1].text == "be quick"
            assert await store.inbox("s") == ()
            await check_log(loop, "s")


async def test_steering_that_comes_with_the_last_answer_is_answered_too(store: Store) -> None:
    """A run does not complete while a message waits for it."""
    gate = Gate()
    llm = Scripted(says("the answer", gate=gate), says("the second answer"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, store=store) as loop:
            await store.create("s")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(loop.send, "hi", "s")
                await gate.reached.wait()
                await loop.steer("s", "one more thing")
                gate.opened.set()
            texts = [m.text for m in await loop.get_messages("s")]
            assert texts == ["hi", "the answer", "one more thing", "the second answer"]
            assert len([r for r in await check_log(loop, "s") if isinstance(r, RunClosed)]) == 1


async def test_steering_waits_for_the_next_run_where_none_is_running(store: Store) -> None:
    """It is kept and delivered once."""
    llm = Scripted(says("a"), says("b"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, store=store) as loop:
            await store.create("s")
            posted = await loop.steer("s", "by the way")
            assert not posted.running
            await loop.send("hi", "s")
            assert [m.text for m in llm.requests[0].messages] == ["hi", "by the way"]
            await loop.send("more", "s")
            assert [m.text for m in await loop.get_messages("s")].count("by the way") == 1


async def test_a_suspended_call_waits_for_its_approval_and_runs_once_approved(store: Store) -> None:
    """Its siblings have run by then; new input is refused until then."""
    ran: list[int] = []

    @tool
    async def act(n: int) -> str:
        """Acts."""
        ran.append(n)
        return f"acted {n}"

    hooks = Hooks()

    @hooks.on(TOOL_BEFORE)
    def ask(context: ToolBefore[Any]) -> Suspend | None:
        return Suspend("dangerous") if '"n":2' in context.arguments else None

    llm = Scripted(calls(("a", "act", {"n": 1}), ("b", "act", {"n": 2})), says("done"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[act], hooks=hooks, store=store) as loop:
            result = await loop.send("act")
            assert result.status == "awaiting_approval"
            assert ran == [1]
            (pending,) = await loop.get_pending(result.session_id)
            assert (pending.call_id, pending.state) == ("b", "waiting")
            assert pending.token
            with pytest.raises(SessionPendingError) as refused:
                await loop.send("hello?", result.session_id)
            assert refused.value.open == ("b",)
            assert (await loop.resume(result.session_id)).status == "awaiting_approval"
            after = await loop.resume(result.session_id, answers=[approve(pending.token)])
            assert (after.status, ran) == ("completed", [1, 2])
            assert await loop.get_pending(result.session_id) == ()
            await check_log(loop, result.session_id)


async def test_a_denied_call_does_not_run_and_the_model_is_told(store: Store) -> None:
    """Denial is a settlement like any other."""
    hooks = Hooks()
    hooks.on(TOOL_BEFORE, lambda _: Suspend())
    llm = Scripted(calls(("a", "double", {"n": 2})), says("a pity"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[double], hooks=hooks, store=store) as loop:
            result = await loop.send("double")
            (pending,) = await loop.get_pending(result.session_id)
            after = await loop.resume(result.session_id, answers=[deny(pending.token)])
            assert after.status == "completed"
            assert "did not allow" in str(llm.requests[1].messages[-1].parts)
            log = await check_log(loop, result.session_id)
            assert not any(isinstance(record, ToolStarted) for record in log)


@pytest.mark.parametrize("kind", ["approval", "external"])
async def test_steering_does_not_keep_a_run_from_suspending(store: Store, kind: str) -> None:
    """It waits for the results, however they come; the run must not spin meanwhile."""
    hooks = Hooks()
    spec = ToolSpec("ask_user", "Asks.", {"type": "object", "properties": {}})
    if kind == "approval":
        hooks.on(TOOL_BEFORE, lambda _: Suspend())
    tools = [double] if kind == "approval" else [spec]
    wanted = "double" if kind == "approval" else "ask_user"
    gate = Gate()
    first = replace(calls(("a", wanted, {"n": 2})), gate=gate)
    llm = Scripted(first, says("done"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=tools, hooks=hooks, store=store) as loop:
            await store.create("s")
            results: list[Any] = []

            async def send() -> None:
                results.append(await loop.send("double", "s"))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send)
                await gate.reached.wait()
                await loop.steer("s", "hurry")
                gate.opened.set()
            assert results[0].status in ("awaiting_approval", "pending_tools")
            (pending,) = await loop.get_pending("s")
            if kind == "approval":
                after = await loop.resume("s", answers=[approve(pending.token)])
            else:
                after = await loop.resume("s", decisions={"a": Result("4")})
            assert after.status == "completed"
            assert [m.role for m in llm.requests[1].messages][-2:] == ["tool", "user"]
            assert llm.requests[1].messages[-1].text == "hurry"
            await check_log(loop, "s")


async def test_a_wish_to_cancel_reaches_a_run_that_is_about_to_suspend(store: Store) -> None:
    """Also when it comes through the store, as from another process."""
    gate = Gate()

    @tool
    async def wait() -> str:
        """Waits."""
        await gate.wait()
        return "waited"

    hooks = Hooks()
    hooks.on(TOOL_BEFORE, lambda context: Suspend() if context.name == "double" else None)
    llm = Scripted(calls(("a", "double", {"n": 2}), ("b", "wait", {})))
    with anyio.fail_after(10):
        async with (
            AgentLoop(llm, tools=[double, wait], hooks=hooks, store=store) as loop,
            AgentLoop(Scripted(), store=store) as other,
        ):
            await store.create("s")
            results: list[Any] = []

            async def send() -> None:
                results.append(await loop.send("double", "s"))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send)
                await gate.reached.wait()
                assert await other.cancel("s", "from afar")
                gate.opened.set()
            assert results[0].outcome == Cancelled("from afar")
            assert await loop.get_pending("s") == ()
            await check_log(loop, "s")


async def test_calls_the_caller_runs_itself_take_their_results_on_resume(store: Store) -> None:
    """A bare spec is offered to the model, and its calls are left to the program."""
    spec = ToolSpec("ask_user", "Asks the user.", {"type": "object", "properties": {}})
    llm = Scripted(calls(("a", "ask_user", {})), says("blue it is"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[spec], store=store) as loop:
            result = await loop.send("which colour?")
            assert (result.status, result.outcome) == ("pending_tools", PendingTools(("a",)))
            after = await loop.resume(result.session_id, decisions={"a": Result("blue")})
            assert (after.status, after.final_text) == ("completed", "blue it is")
            await check_log(loop, result.session_id)


async def test_abort_pending_gives_calls_up_and_opens_the_session_again(store: Store) -> None:
    """The model is told later that the calls had no effect."""
    spec = ToolSpec("ask_user", "Asks the user.", {"type": "object", "properties": {}})
    llm = Scripted(calls(("a", "ask_user", {}), ("b", "ask_user", {})), says("never mind"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[spec], store=store) as loop:
            result = await loop.send("which colour?")
            assert await loop.abort_pending(result.session_id, "the user has left") == 2
            assert await loop.abort_pending(result.session_id) == 0
            assert await loop.get_pending(result.session_id) == ()
            settled = [
                r for r in await check_log(loop, result.session_id) if isinstance(r, ToolSettled)
            ]
            assert [r.how for r in settled] == ["not_run", "not_run"]
            assert (await loop.send("forget it", result.session_id)).status == "completed"
            assert "the user has left" in str(list(llm.requests[1].messages))
    assert llm.illegal == []


async def test_what_abort_pending_publishes_is_what_the_store_holds(store: Store) -> None:
    """Records reach subscribers with the very places they have in the store."""
    spec = ToolSpec("ask_user", "Asks.", {"type": "object", "properties": {}})
    llm = Scripted(calls(("a", "ask_user", {})))
    seen: list[Any] = []
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[spec], store=store) as loop:
            loop.events.subscribe(seen.append, inline=True)
            result = await loop.send("hi")
            await loop.abort_pending(result.session_id)
            records = [stamped for stamped in seen if stamped.n == 0]
            assert records == list(await store.read(result.session_id))


async def test_resume_refuses_what_has_ended_for_good(store: Store) -> None:
    """And a session that has never run."""
    llm = Scripted(says("done"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, store=store) as loop:
            result = await loop.send("hi")
            with pytest.raises(NothingToResume, match="send the next message"):
                await loop.resume(result.session_id)
            await store.create("new")
            with pytest.raises(NothingToResume, match="has had no run"):
                await loop.resume("new")
            # Nothing of that has locked the sessions.
            llm_again = Scripted(says("a"), says("b"))
            async with AgentLoop(llm_again, store=store) as other:
                await other.send("x", result.session_id, on_busy="fail")
                await other.send("x", "new", on_busy="fail")


async def test_get_messages_shows_what_the_model_sees(store: Store) -> None:
    """Input of several parts stays in order."""
    llm = Scripted(says("nice"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, store=store) as loop:
            result = await loop.send(["look:", Text(" at this")])
            messages = await loop.get_messages(result.session_id)
            assert [(m.role, m.text) for m in messages] == [
                ("user", "look: at this"),
                ("assistant", "nice"),
            ]
            everything = await loop.get_messages(result.session_id, include_compacted=True)
            assert tuple(everything) == tuple(messages)


async def test_close_session_deletes_and_everything_else_then_refuses(store: Store) -> None:
    """An unknown id is a typed error from every verb, and nothing comes into being by it."""
    llm = Scripted(says("hi"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, store=store) as loop:
            session = (await loop.send("hi")).session_id
            assert await loop.close_session(session) == 1
            for verb in (
                loop.send("x", session),
                loop.resume(session),
                loop.cancel(session),
                loop.steer(session, "x"),
                loop.get_messages(session),
                loop.get_messages(session, include_compacted=True),
                loop.get_pending(session),
                loop.abort_pending(session),
                loop.close_session(session),
            ):
                with pytest.raises(SessionNotFound) as missing:
                    await verb
                assert missing.value.session_id == session
            assert await store.list() in ([], ())


async def test_a_truncated_answer_never_runs_its_last_call_a03(store: Store) -> None:
    """Cut arguments go back to the model as an error (A03)."""
    cut = calls(("a", "double", '{"n": 1'), stop_reason=StopReason.LENGTH)
    llm = Scripted(cut, says("I shall be brief"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[double], store=store) as loop:
            result = await loop.send("double")
            log = await check_log(loop, result.session_id)
            assert not any(isinstance(record, ToolStarted) for record in log)
            assert result.status == "completed"


class _AnswersLate(MemoryStore):
    """A store that cannot know without waiting what is in an inbox, and waits when it is told."""

    immediate = False

    def __init__(self) -> None:
        super().__init__()
        self.waits = False
        self.gate = Gate()

    def inbox_hint(self, session: str) -> bool:
        return True

    async def inbox(self, session: str) -> Sequence[InboxItem]:
        if self.waits:
            await self.gate.wait()
        return await super().inbox(session)


async def test_a_cancel_that_was_accepted_while_a_run_looked_into_its_inbox_holds() -> None:
    """A run that would wait for an approval looks there last; it has its answer, and has not heard
    it yet, when somebody cancels: no ending is under way, so the wish is accepted and kept.
    """
    store = _AnswersLate()
    hooks = Hooks()

    def suspend(_: ToolBefore) -> Suspend:
        store.waits = True
        return Suspend()

    hooks.on(TOOL_BEFORE, suspend)

    @tool
    def work() -> str:
        """Works."""
        return "worked"

    results: list[str] = []
    with anyio.fail_after(10):
        async with AgentLoop(
            Scripted(calls(("a", "work", {}))), tools=[work], store=store, hooks=hooks
        ) as loop:
            await store.create("s")

            async def send() -> None:
                results.append((await loop.send("go", "s")).status)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send)
                await store.gate.reached.wait()
                store.gate.opened.set()
                assert await loop.cancel("s")
    assert results == ["cancelled"]
