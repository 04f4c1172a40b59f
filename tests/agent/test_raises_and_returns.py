"""What raises and what returns, and in which state the session is then."""

from __future__ import annotations

import asyncio
from typing import Any, get_args

import anyio
import pytest

from llm_client.errors import (
    AuthenticationFailed,
    BadRequest,
    ConfigError,
    IncompleteStream,
    LLMError,
    Overloaded,
    RateLimited,
)
from llm_client.retry import RetryPolicy
from llm_client.types import LLMRequest
from power_loop import AgentConfig, AgentLoop, Hooks, MemoryStore, ToolRegistry, result_of, tool
from power_loop.errors import (
    HookError,
    InvalidInput,
    NothingToResume,
    SessionBusy,
    SessionNotFound,
    StoreFull,
    ToolDefinitionError,
    UsageError,
)
from power_loop.events import RetryScheduled
from power_loop.hooks import (
    COMPLETE_DECIDE,
    LLM_BEFORE,
    LLM_ERROR,
    MESSAGE_APPEND,
    ROUND_START,
    Break,
    Continue,
    LlmBefore,
    LlmErrorRaised,
    Retry,
)
from power_loop.session.outcome import Cancelled, Degraded, Failed, Outcome, Stopped, status_of
from power_loop.session.records import ModelAsked, ModelEnded, RunClosed, RunOpened
from tests.agent.scripted import Gate, Reply, Scripted, calls, fails, hangs, says
from tests.agent.stores import SlowStore
from tests.agent.support import check_log, events_of, log_of

pytestmark = pytest.mark.anyio

QUICK = AgentConfig(retry=RetryPolicy(initial=0.0, jitter=0.0))


@tool
async def noop() -> str:
    """Does nothing."""
    return "nothing"


def test_the_statuses_are_spelled_exactly() -> None:
    """They are what callers compare with; older spellings do not exist."""
    assert {getattr(each.__struct_config__, "tag", "") for each in get_args(Outcome)} == {
        "completed",
        "goal_reached",
        "stopped",
        "round_limit",
        "budget_exhausted",
        "no_progress",
        "plan_failed",
        "awaiting_approval",
        "approval_denied",
        "approval_expired",
        "waiting_for_input",
        "pending_tools",
        "cancelled",
        "degraded",
        "failed",
        "crashed",
    }
    assert status_of(Cancelled()) == "cancelled"


@pytest.mark.parametrize("input", ["", "   \n", [], ["", " "], "nul \x00", "lone \ud800"])
async def test_input_that_no_model_takes_is_refused_before_anything_is_stored(input: Any) -> None:
    """Not even an empty session is left behind."""
    store = MemoryStore()
    llm = Scripted()
    with anyio.fail_after(10):
        async with AgentLoop(llm, store=store) as loop:
            with pytest.raises(InvalidInput):
                await loop.send(input)
            assert await store.list() == []
            await store.create("s")
            with pytest.raises(InvalidInput):
                await loop.steer("s", input)
            assert await store.inbox("s") == ()
    assert llm.requests == []


async def test_errors_before_the_run_has_opened_change_nothing() -> None:
    """They raise, carry no result, and leave the session free."""
    store = MemoryStore()
    llm = Scripted(says("fine"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, store=store) as loop:
            await store.create("s")
            with pytest.raises(SessionNotFound) as missing:
                await loop.send("hi", "nobody")
            assert result_of(missing.value) is None
            with pytest.raises(NothingToResume):
                await loop.resume("s")
            with pytest.raises(ToolDefinitionError):
                await loop.send("hi", "s", tools=[noop, noop])
            with pytest.raises(UsageError, match="max_rounds"):
                await loop.send("hi", "s", max_rounds=0)
            assert await log_of(loop, "s") == []
            assert (await loop.send("hi", "s", on_busy="fail")).status == "completed"


async def test_retries_that_are_used_up_end_degraded_with_a_result() -> None:
    """Each attempt is in the log; nothing is raised; resume tries again."""
    seen: list[Any] = []
    failing = [fails(Overloaded("no capacity", status=529)) for _ in range(3)]
    llm = Scripted(*failing, says("at last"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, config=QUICK) as loop:
            loop.events.subscribe(seen.append, inline=True)
            result = await loop.send("hi")
            assert result.status == "degraded"
            assert isinstance(result.outcome, Degraded)
            assert result.outcome.attempts == 3
            assert "no capacity" in result.outcome.reason
            assert len(events_of(RetryScheduled, seen)) == 2
            ended = [
                r for r in await check_log(loop, result.session_id) if isinstance(r, ModelEnded)
            ]
            assert [r.status for r in ended] == ["failed"] * 3
            assert (await loop.resume(result.session_id)).final_text == "at last"


async def test_an_error_that_retrying_does_not_mend_is_raised_with_the_result() -> None:
    """The run is closed `failed`, and the session takes the next message."""
    llm = Scripted(fails(AuthenticationFailed("no such key", status=401)), says("fine"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, config=QUICK) as loop:
            with pytest.raises(AuthenticationFailed) as refused:
                await loop.send("hi")
            result = result_of(refused.value)
            assert result is not None
            assert result.status == "failed"
            assert result.outcome == Failed("AuthenticationFailed", str(refused.value))
            assert len(llm.requests) == 1
            assert (await loop.send("again", result.session_id)).status == "completed"
            await check_log(loop, result.session_id)


async def test_a_hook_may_mend_a_failed_call_once() -> None:
    """llm.error fires when all attempts are used up; Retry counts once a round."""
    fired: list[int] = []
    hooks = Hooks()

    @hooks.on(LLM_ERROR)
    async def again(context: LlmErrorRaised[Any]) -> Retry:
        fired.append(context.attempts)
        return Retry()

    llm = Scripted(*[fails(RateLimited("slow down", status=429)) for _ in range(6)])
    with anyio.fail_after(10):
        async with AgentLoop(llm, config=QUICK, hooks=hooks) as loop:
            result = await loop.send("hi")
            assert (result.status, fired) == ("degraded", [3, 3])
            assert len(llm.requests) == 6


async def test_breaks_of_hooks_return_a_result() -> None:
    """`stopped`, with the reason; the session can be resumed."""
    hooks = Hooks()
    hooks.on(ROUND_START, lambda _: Break("not today"), name="no")
    llm = Scripted(says("fine"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, hooks=hooks) as loop:
            result = await loop.send("hi")
            assert result.outcome == Stopped("not today")
            assert llm.requests == []
            hooks.remove("no")
            assert (await loop.resume(result.session_id)).status == "completed"
            await check_log(loop, result.session_id, does_the_same=False)


@pytest.mark.parametrize("slow", [False, True])
async def test_what_a_hook_raises_is_raised_as_it_is(slow: bool) -> None:
    """No group around it, the run closed as failed, the result attached."""
    hooks = Hooks()

    class Mine(Exception):
        pass

    async def broken(context: LlmBefore[Any]) -> None:
        await anyio.lowlevel.checkpoint()
        raise Mine("oh")

    hooks.on(LLM_BEFORE, broken, on_error="raise")
    llm = Scripted(says("fine"))
    with anyio.fail_after(10):
        async with AgentLoop(
            llm, hooks=hooks, store=SlowStore() if slow else MemoryStore()
        ) as loop:
            with pytest.raises(Mine) as raised:
                await loop.send("hi")
            result = result_of(raised.value)
            assert result is not None
            assert result.outcome == Failed("Mine", "oh")
            with pytest.raises(Mine):
                async with loop.stream("hi", result.session_id) as run:
                    async for _ in run:
                        pass
            await check_log(loop, result.session_id)


async def test_a_hook_that_breaks_its_contract_fails_the_run_with_a_usage_error() -> None:
    """The point and what is legal there are named."""
    hooks = Hooks()
    hooks.on(COMPLETE_DECIDE, lambda _: Break())  # pyright: ignore[reportArgumentType, reportCallIssue]
    llm = Scripted(says("fine"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, hooks=hooks) as loop:
            with pytest.raises(HookError, match=r"complete\.decide.*Continue") as raised:
                await loop.send("hi")
            result = result_of(raised.value)
            assert result is not None
            assert result.status == "failed"
            await check_log(loop, result.session_id)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_stream_that_is_cut_is_tried_again_and_its_text_retracted(streamed: bool) -> None:
    """The voided attempt keeps its text for the record; the answer does not contain it (X12)."""
    llm = Scripted(fails(IncompleteStream("cut"), "The answer is 4"), says("It is 42."))
    with anyio.fail_after(10):
        async with AgentLoop(llm, config=QUICK) as loop:
            if streamed:
                async with loop.stream("hi") as run:
                    seen = [stamped async for stamped in run]
                    result = await run.result()
                assert "The answer is 4" in "".join(
                    event.text for event in _deltas(seen, "TextDelta")
                )
            else:
                result = await loop.send("hi")
            assert result.final_text == "It is 42."
            ended = [
                r for r in await check_log(loop, result.session_id) if isinstance(r, ModelEnded)
            ]
            assert [r.status for r in ended] == ["failed", "ok"]
            assert ended[0].partial == ("The answer is 4" if streamed else "")
            texts = [m.text for m in await loop.get_messages(result.session_id)]
            assert texts == ["hi", "It is 42."]


def _deltas(seen: list[Any], name: str) -> list[Any]:
    return [stamped.event for stamped in seen if type(stamped.event).__name__ == name]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("slow", [False, True])
async def test_native_cancellation_comes_out_and_the_session_is_legal(slow: bool) -> None:
    """`asyncio.timeout` around send works as anywhere else."""
    gate = Gate()
    llm = Scripted(hangs(gate), says("fine"))
    store = SlowStore() if slow else MemoryStore()
    async with AgentLoop(llm, store=store) as loop:
        await store.create("s")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await loop.send("hi", "s")
        log = await check_log(loop, "s")
        assert isinstance(log[-1], RunClosed)
        assert isinstance(log[-1].outcome, Cancelled)
        assert (await loop.send("again", "s")).status == "completed"


async def test_a_store_that_fails_poisons_the_run_and_nothing_else() -> None:
    """The error is the store's own; what was acknowledged is there; the session goes on later
    (D04).
    """

    class Full(SlowStore):
        full = False

        async def append(self, *args: Any, **kwargs: Any) -> Any:
            if self.full:
                raise StoreFull("no space is left; free some and resume")
            return await super().append(*args, **kwargs)

    store = Full()

    @tool
    async def fill() -> str:
        """Fills the disk."""
        store.full = True
        return "filled"

    def model(request: LLMRequest) -> Reply:
        if request.messages[-1].role == "user":
            return calls(("a", "fill", {}))
        return says("it goes on")

    llm = Scripted(by=model)
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[fill], store=store) as loop:
            await store.create("s")
            with pytest.raises(StoreFull):
                await loop.send("hi", "s")
            assert len(llm.requests) == 1
            store.full = False
            result = await loop.resume("s")
            assert result.status == "completed"
            log = await check_log(loop, "s")
            assert [type(r).__name__ for r in log].count("RunOpened") == 2


async def test_a_service_that_retries_by_itself_is_refused() -> None:
    """Two retry layers multiply (X03)."""

    class Retrying(Scripted):
        retries = True

    with pytest.raises(UsageError, match="retries by itself"):
        AgentLoop(Retrying())


@pytest.mark.parametrize("llm", [5, None, [], Scripted])
async def test_what_is_no_service_is_refused(llm: Any) -> None:
    """Before it is asked for anything."""
    with pytest.raises(ConfigError, match="AgentLoop takes a model service"):
        AgentLoop(llm)


async def test_a_loop_is_used_inside_its_block_only() -> None:
    """Before and after, the error says what to do."""
    llm = Scripted(says("fine"))
    loop = AgentLoop(llm)
    with pytest.raises(UsageError, match="async with"):
        await loop.send("hi")
    with pytest.raises(UsageError, match="async with"):
        await loop.resume("s")
    with pytest.raises(UsageError, match="async with"):
        async with loop.stream("hi"):
            pass
    async with loop:
        with pytest.raises(UsageError, match="open already"):
            async with loop:
                pass
        session = (await loop.send("hi")).session_id
    with pytest.raises(UsageError, match="async with"):
        await loop.send("hi", session)
    assert llm.closed == 0


async def test_a_message_that_waits_for_a_busy_session_is_refused_when_the_loop_closes() -> None:
    """No run slips in while everything else winds down."""
    gate = Gate()
    llm = Scripted(hangs(gate), says("too late"))
    store = MemoryStore()
    errors: list[BaseException] = []
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            async with AgentLoop(llm, store=store) as loop:
                await store.create("s")

                async def second() -> None:
                    try:
                        await loop.send("second", "s")
                    except UsageError as error:
                        errors.append(error)

                tasks.start_soon(loop.send, "first", "s")
                await gate.reached.wait()
                tasks.start_soon(second)
                await anyio.wait_all_tasks_blocked()
            assert len(llm.requests) == 1
        assert "closed" in str(errors[0])
        async with AgentLoop(Scripted(says("fine")), store=store) as loop:
            assert (await loop.send("third", "s", on_busy="fail")).status == "completed"
            await check_log(loop, "s")


async def test_a_run_that_is_cancelled_before_it_has_opened_gives_a_result_all_the_same() -> None:
    """Nothing is stored of it."""
    hooks = Hooks()
    gate = Gate()

    async def slow(context: Any) -> None:
        await gate.wait()

    hooks.on(MESSAGE_APPEND, slow)
    llm = Scripted(says("fine"))
    store = MemoryStore()
    with anyio.fail_after(10):
        async with AgentLoop(llm, hooks=hooks, store=store) as loop:
            await store.create("s")
            results: list[Any] = []

            async def send() -> None:
                results.append(await loop.send("hi", "s"))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send)
                await gate.reached.wait()
                assert await loop.cancel("s", "early")
            (result,) = results
            assert (result.outcome, result.final_text, result.rounds) == (
                Cancelled("early"),
                "",
                0,
            )
            assert await log_of(loop, "s") == []
            gate.opened.set()
            assert (await loop.send("hi", "s")).status == "completed"


async def test_cancel_that_comes_while_the_run_closes_does_not_claim_to_have_cancelled() -> None:
    """Accepted means cancelled; too late means False."""
    closing = anyio.Event()
    go = anyio.Event()

    class Closing(SlowStore):
        async def append(self, *args: Any, **kwargs: Any) -> Any:
            if kwargs.get("final"):
                closing.set()
                await go.wait()
            return await super().append(*args, **kwargs)

    store = Closing()
    llm = Scripted(says("fine"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, store=store) as loop:
            await store.create("s")
            outcomes: list[Any] = []

            async def send() -> None:
                outcomes.append((await loop.send("hi", "s")).status)

            async def cancel() -> None:
                outcomes.append(await loop.cancel("s"))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send)
                await closing.wait()
                tasks.start_soon(cancel)
                await anyio.wait_all_tasks_blocked()
                go.set()
            assert sorted(map(str, outcomes)) == ["False", "completed"]


async def test_continue_of_a_hook_goes_on_and_the_next_end_counts() -> None:
    """complete.decide may keep the run going, within the rounds that it grants."""
    hooks = Hooks()
    counts: list[int] = []

    def decide(context: Any) -> Continue | None:
        counts.append(context.fire_count)
        return Continue("go deeper", 2) if context.fire_count < 3 else None

    hooks.on(COMPLETE_DECIDE, decide)
    llm = Scripted(says("a"), says("b"), says("c"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, hooks=hooks) as loop:
            result = await loop.send("dig")
            assert (result.status, result.final_text, counts) == ("completed", "c", [1, 2, 3])
            await check_log(loop, result.session_id)


async def test_an_error_carries_its_own_result_when_it_ends_two_runs() -> None:
    """The same exception object raised twice tells of the later run."""
    error: LLMError = BadRequest("bad", status=400)
    llm = Scripted(fails(error), fails(error))
    with anyio.fail_after(10):
        async with AgentLoop(llm) as loop:
            sessions: list[str] = []
            for _ in range(2):
                with pytest.raises(BadRequest) as raised:
                    await loop.send("hi")
                result = result_of(raised.value)
                assert result is not None
                sessions.append(result.session_id)
            assert sessions[0] != sessions[1]


async def test_the_loop_can_be_told_its_tools_by_a_registry_that_grows() -> None:
    """What is added later counts from the next message on."""
    registry = ToolRegistry()
    llm = Scripted(says("none"), calls(("a", "noop", {})), says("one"))
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=registry) as loop:
            session = (await loop.send("hi")).session_id
            registry.add(noop)
            await loop.send("and now?", session)
            assert [len(request.tools) for request in llm.requests] == [0, 1, 1]


async def test_what_is_recorded_of_a_run_opens_with_its_input_and_limits() -> None:
    """The record says what was asked for."""
    llm = Scripted(says("fine"))
    with anyio.fail_after(10):
        async with AgentLoop(llm) as loop:
            result = await loop.send("hi", timeout=9, max_rounds=3)
            log = await check_log(loop, result.session_id)
            opened = log[0]
            assert isinstance(opened, RunOpened)
            assert opened.limits == {"rounds": 3, "seconds": 9}
            assert isinstance(log[1], ModelAsked)
            assert log[1].model == "scripted"
            with pytest.raises(SessionBusy) as busy:
                async with loop.stream("x", result.session_id):
                    await loop.send("y", result.session_id, on_busy="fail")
            assert busy.value.session_id == result.session_id
