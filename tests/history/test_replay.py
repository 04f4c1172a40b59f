"""A stored session replays to the byte, and what has changed since is found at its field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from llm_client.errors import ServerError
from llm_client.retry import FallbackPolicy, RetryPolicy
from llm_client.testing import call, reply
from llm_client.types import Message
from power_loop import AgentConfig, AgentLoop, Hooks, MemoryStore, ToolContext, approve, tool
from power_loop.errors import UsageError
from power_loop.events import Stamped
from power_loop.history.replay import Replayed
from power_loop.hooks import (
    LLM_BEFORE,
    SESSION_START,
    TOOL_BEFORE,
    TOOL_ERROR,
    LlmBefore,
    Retry,
    SessionStart,
    Suspend,
    ToolBefore,
)
from power_loop.runtime.stores.base import Appended, Lease
from power_loop.session.outcome import AwaitingApproval, Cancelled
from power_loop.session.records import ModelEnded, RunClosed
from power_loop.testing import ReplayDiverged, replay_session
from tests.agent.scripted import Gate, Scripted, fails
from tests.agent.stores import SlowStore
from tests.history.loops import CONFIG, careful, look, loop_on, pay, talk

pytestmark = pytest.mark.anyio


async def again(loop: AgentLoop[Any], session: str) -> tuple[str, object, object]:
    """Where a replay diverges: the path, and what is stored and replayed there."""
    done = await loop.replay(session)
    assert done.divergence is not None
    assert not done.identical
    return done.divergence.path, done.divergence.expected, done.divergence.actual


async def test_a_session_replays_to_the_byte_without_model_tools_or_store() -> None:
    """Through a failed attempt, two tools, an approval and a second message."""
    store = MemoryStore()
    session = await talk(store)
    before = await store.read(session)
    seen: list[str] = []
    done = await loop_on(store, hooks=careful()).replay(session, deps=seen)
    assert done == Replayed(session, 3, 3, len(before))
    assert done.identical
    assert await store.read(session) == before
    assert seen == []


async def test_one_run_is_replayed_by_its_id_and_an_unknown_one_refused() -> None:
    """The runs before it are only folded."""
    store = MemoryStore()
    session = await talk(store)
    loop = loop_on(store, hooks=careful())
    last = (await store.read(session))[-1].run
    done = await loop.replay(session, run=last)
    assert done.identical
    assert done.runs == 1
    with pytest.raises(UsageError, match="no run 'nope'"):
        await loop.replay(session, run="nope")


@tool(name="look")
async def other_look(place: int) -> str:
    """Looks somewhere."""
    return str(place)


MUTATIONS: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "another system prompt": (
        lambda: {"config": replace(CONFIG, system_prompt="Be quick.")},
        "ModelConfigured.system",
    ),
    "another temperature": (
        lambda: {"config": replace(CONFIG, temperature=0.5)},
        "ModelConfigured.temperature",
    ),
    "another schema of a tool": (
        lambda: {"tools": (other_look, pay)},
        "ModelConfigured.tools[0].parameters.properties.place.type",
    ),
    "a tool is gone": (lambda: {"tools": (look,)}, "ModelConfigured.tools[1]"),
    "no second attempt": (
        lambda: {"config": replace(CONFIG, retry=RetryPolicy(max_attempts=1))},
        "ModelAsked",
    ),
    "no approval": (lambda: {"hooks": marked()}, "Decided"),
    "another reason": (lambda: {"hooks": marked("it is dear")}, "Decided.reason"),
    "another request": (lambda: {"hooks": marked("it costs", 0.75)}, "ModelAsked.request"),
    "other arguments": (lambda: {"hooks": rewriting()}, "ToolStarted.arguments"),
    "a message more": (lambda: {"hooks": welcoming()}, "ModelAsked"),
}


def marked(reason: str | None = None, temperature: float = 0.25) -> Hooks:
    """`careful`, for another reason or with another mark."""
    hooks = Hooks()
    hooks.on(
        TOOL_BEFORE,
        lambda c: Suspend(reason) if reason is not None and c.name == "pay" else None,
        name="leave",
    )

    @hooks.on(LLM_BEFORE)
    def _(context: LlmBefore[Any]) -> LlmBefore[Any]:
        return replace(context, request=replace(context.request, temperature=temperature))

    return hooks


def rewriting() -> Hooks:
    """`careful`, and what is looked at is something else."""
    hooks = careful()

    @hooks.on(TOOL_BEFORE)
    def _(context: ToolBefore[Any]) -> ToolBefore[Any]:
        return replace(context, arguments=context.arguments.replace('"a"', '"b"'))

    return hooks


def welcoming() -> Hooks:
    """`careful`, and something is said at the start."""
    hooks = careful()

    @hooks.on(SESSION_START)
    def _(context: SessionStart[Any]) -> SessionStart[Any]:
        return replace(context, append=(Message.user("Pay attention."),))

    return hooks


@pytest.mark.parametrize("name", MUTATIONS)
async def test_what_has_changed_is_found_at_its_field(name: str) -> None:
    """A changed program does not do what is stored; the first field that differs is named."""
    store = MemoryStore()
    session = await talk(store)
    changes, path = MUTATIONS[name]
    options: dict[str, Any] = {"hooks": careful(), **changes()}
    found, expected, actual = await again(loop_on(store, **options), session)
    assert found == path
    assert expected != actual


async def test_a_divergence_tells_where_and_what() -> None:
    """In words, with both values."""
    store = MemoryStore()
    session = await talk(store)
    loop = loop_on(store, hooks=careful(), config=replace(CONFIG, system_prompt="Be quick."))
    done = await loop.replay(session)
    told = (
        'record 2 differs in ModelConfigured.system: "Be kind." ≠ "Be quick." (stored ≠ replayed)'
    )
    assert str(done.divergence) == told
    with pytest.raises(ReplayDiverged, match="differs in ModelConfigured") as raised:
        await replay_session(loop, session)
    assert isinstance(raised.value, AssertionError)
    assert raised.value.divergence == done.divergence


async def test_replay_session_passes_what_does_the_same() -> None:
    """And says how much that was."""
    store = MemoryStore()
    session = await talk(store)
    done = await replay_session(loop_on(store, hooks=careful()), session)
    assert done.identical


async def test_a_prompt_that_changes_between_runs_is_recorded_and_replayed() -> None:
    """Each run is compared with what was in force when it opened."""
    store = MemoryStore()
    async with loop_on(store, reply("one")) as loop:
        session = (await loop.send("1")).session_id
    changed = replace(CONFIG, system_prompt="Be quick.")
    async with loop_on(store, reply("two"), config=changed) as loop:
        second = await loop.send("2", session)
        assert (await loop.replay(session, run=second.run_id)).identical
    assert await again(loop_on(store, config=changed), session) == (
        "ModelConfigured.system",
        "Be kind.",
        "Be quick.",
    )
    path, expected, actual = await again_of(loop_on(store), session, second.run_id)
    assert (path, expected, actual) == ("ModelConfigured.system", "Be quick.", "Be kind.")


async def again_of(loop: AgentLoop[Any], session: str, run: str) -> tuple[str, object, object]:
    """As `again`, of one run."""
    divergence = (await loop.replay(session, run=run)).divergence
    assert divergence is not None
    return divergence.path, divergence.expected, divergence.actual


async def test_a_fatal_error_and_a_fallback_replay() -> None:
    """The policies are asked again, with the errors that were recorded."""
    config = AgentConfig(
        retry=RetryPolicy(max_attempts=1), fallback=FallbackPolicy(models=("second",))
    )
    store = MemoryStore()
    answers = (ServerError("503", status=503), reply("from the second"))
    async with loop_on(store, *answers, config=config) as loop:
        session = (await loop.send("go")).session_id
        assert (await loop.replay(session)).identical
    lonely = replace(config, fallback=FallbackPolicy())
    path, expected, _ = await again(loop_on(store, config=lonely), session)
    assert path == "ModelAsked"
    assert isinstance(expected, dict)


async def test_typed_output_replays_with_its_type() -> None:
    """Wrong answers were given back; without the type that cannot be done again."""
    store = MemoryStore()
    async with loop_on(store, reply("three"), reply('{"value": 3}')) as loop:
        result = await loop.send("How many?", output_type=int)
        assert (await loop.replay(result.session_id, output_type=int)).identical
    path, _, _ = await again(loop_on(store), result.session_id)
    assert path in ("ModelConfigured.output_schema", "ModelConfigured.system")


async def test_a_call_that_waited_for_leave_to_be_tried_again_replays() -> None:
    """A retry is taken from the record, and what is asked for after it from the rule."""

    @tool
    async def pay(context: ToolContext[Any]) -> str:
        """Pays, the second time."""
        if context.attempt == 1:
            raise ConnectionError("no network")
        return "paid"

    hooks = careful()
    hooks.on(TOOL_ERROR, lambda _: Retry(), name="again")
    wanted = reply("", call("pay", id="a"), call("look", {"place": "hall"}, id="b"))
    loop = loop_on(None, wanted, reply("done"), hooks=hooks, tools=(look, pay))
    async with loop:
        result = await loop.send("Pay")
        tokens: set[str] = set()
        for _ in range(2):
            assert isinstance(result.outcome, AwaitingApproval)
            tokens.update(result.outcome.tokens)
            answers = [approve(token) for token in result.outcome.tokens]
            result = await loop.resume(result.session_id, answers=answers)
        assert result.status == "completed"
        assert len(tokens) == 2
        assert (await loop.replay(result.session_id)).identical


class _Halting(SlowStore):
    """A store that halts before it keeps the end of a model call."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()

    async def append(
        self, lease: Lease, expected_seq: int, records: Sequence[Stamped], **options: Any
    ) -> Appended:
        if any(isinstance(stamped.event, ModelEnded) for stamped in records):
            await self.gate.wait()
        return await super().append(lease, expected_seq, records, **options)


async def test_a_run_that_was_cancelled_before_its_error_came_out_replays_as_cancelled() -> None:
    """What it would have failed with is in the record of its model call, and did not end it."""
    store = _Halting()
    await store.create("s")
    llm = Scripted(fails(ServerError("down", retryable=False)))
    async with AgentLoop(llm, store=store) as loop, anyio.create_task_group() as tasks:

        async def go() -> None:
            assert (await loop.send("go", "s")).status == "cancelled"

        tasks.start_soon(go)
        with anyio.fail_after(10):
            await store.gate.reached.wait()
            await loop.cancel("s", "enough")
            store.gate.opened.set()
    ended, closed = [stamped.event for stamped in await store.read("s")][-2:]
    assert isinstance(ended, ModelEnded)
    assert isinstance(closed, RunClosed)
    assert (ended.status, closed.outcome) == ("failed", Cancelled("enough"))
    assert (await loop.replay("s")).divergence is None
