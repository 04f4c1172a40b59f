"""What was asked is in the log: once for all requests, and where a hook changed one."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from llm_client.errors import RateLimited
from llm_client.testing import call, reply
from power_loop import AgentConfig, AgentLoop, Hooks, MemoryStore, tool
from power_loop.hooks import LLM_BEFORE, LlmBefore
from power_loop.session.machine import Session
from power_loop.session.records import (
    MessageAppended,
    ModelAsked,
    ModelConfigured,
    ModelEnded,
    Record,
    RunOpened,
)
from tests.agent.scripted import Scripted, fails, says
from tests.history.loops import CONFIG, log_of, look, loop_on

pytestmark = pytest.mark.anyio


def kinds(log: list[Record], kind: type[Any]) -> list[Any]:
    """The records of one type."""
    return [record for record in log if isinstance(record, kind)]


async def test_what_requests_hold_beside_messages_is_recorded_once() -> None:
    """With the opening of the run that changes it, in the same transaction."""
    store = MemoryStore()
    async with loop_on(store, reply("1"), reply("2")) as loop:
        session = (await loop.send("1")).session_id
        await loop.send("2", session)
    async with loop_on(store, reply("3"), config=replace(CONFIG, temperature=0.5)) as loop:
        await loop.send("3", session, model="other")
    log = await log_of(store, session)
    first, second = kinds(log, ModelConfigured)
    assert (first.system, first.model, [t.name for t in first.tools]) == (
        "Be kind.",
        None,
        ["look", "pay"],
    )
    assert (second.temperature, second.model) == (0.5, "other")
    opened = [log.index(record) for record in kinds(log, RunOpened)]
    assert [log.index(record) - 1 for record in (first, second)] == [opened[0], opened[2]]
    assert Session(session, log).configured == second


async def test_a_loop_without_prompt_and_tools_records_nothing_of_the_kind() -> None:
    """The defaults need no record."""
    store = MemoryStore()
    async with loop_on(store, reply("1"), config=AgentConfig(), tools=()) as loop:
        session = (await loop.send("1")).session_id
    log = await log_of(store, session)
    assert kinds(log, ModelConfigured) == []
    assert [asked.request for asked in kinds(log, ModelAsked)] == [""]


async def test_a_request_that_a_hook_changed_leaves_its_digest() -> None:
    """The same request the same digest, another one another, an unchanged one none."""
    marks = iter((0.1, 0.1, 0.2, None))
    hooks = Hooks()

    @hooks.on(LLM_BEFORE)
    def _(context: LlmBefore[Any]) -> LlmBefore[Any] | None:
        mark = next(marks)
        if mark is None:
            return None
        request = replace(context.request, messages=context.request.messages[:1], temperature=mark)
        return replace(context, request=request)

    store = MemoryStore()
    looks = [reply("", call("look", {"place": "a"}, id=f"c{n}")) for n in range(3)]
    async with loop_on(store, *looks, reply("done"), hooks=hooks) as loop:
        session = (await loop.send("go")).session_id
    first, second, third, fourth = [
        a.request for a in kinds(await log_of(store, session), ModelAsked)
    ]
    assert first == second
    assert len({first, third, fourth}) == 3
    assert (len(first), fourth) == (32, "")


async def test_a_request_without_a_json_form_has_no_digest() -> None:
    """It is refused by name where it is sent, and not here."""
    hooks = Hooks()

    @hooks.on(LLM_BEFORE)
    def _(context: LlmBefore[Any]) -> LlmBefore[Any]:
        return replace(context, request=replace(context.request, extra={"x": object()}))

    store = MemoryStore()
    async with loop_on(store, reply("ok"), hooks=hooks) as loop:
        session = (await loop.send("go")).session_id
    assert [a.request for a in kinds(await log_of(store, session), ModelAsked)] == [""]


async def test_a_steered_message_names_the_item_that_brought_it() -> None:
    """So that the log itself shows that nothing was delivered twice."""
    store = MemoryStore()
    posted: list[str] = []

    @tool
    async def listen() -> str:
        """Hears what is steered in meanwhile."""
        posted.append((await loop.steer("s", "In French, please.")).id)
        return "heard"

    await store.create("s")
    answers = (reply("", call("listen", {})), reply("Oui."))
    async with loop_on(store, *answers, tools=(look, listen)) as loop:
        await loop.send("go", "s")
        assert (await loop.replay("s")).identical
    items = [(r.message.text, r.item) for r in kinds(await log_of(store, "s"), MessageAppended)]
    assert [item for item in items if item[1]] == [("In French, please.", posted[0])]


async def test_what_a_provider_asked_to_wait_is_recorded() -> None:
    """A replay decides by it, as the run did."""
    store = MemoryStore()
    too_long = RateLimited("slow down", retry_after=900.0, status=429)
    async with AgentLoop(Scripted(fails(too_long), says("no")), store=store) as loop:
        result = await loop.send("go")
        assert result.status == "degraded"
        assert (await loop.replay(result.session_id)).identical
    (ended,) = kinds(await log_of(store, result.session_id), ModelEnded)
    assert ended.error.retry_after == 900.0
