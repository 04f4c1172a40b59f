"""Loops and sessions that the tests of this directory go back in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llm_client.errors import ServerError
from llm_client.retry import RetryPolicy
from llm_client.testing import ScriptedLLM, call, reply
from power_loop import (
    AgentConfig,
    AgentLoop,
    Extension,
    Hooks,
    MemoryStore,
    Store,
    ToolContext,
    approve,
    tool,
)
from power_loop.events import is_record
from power_loop.hooks import LLM_BEFORE, TOOL_BEFORE, LlmBefore, Suspend, ToolBefore, replace
from power_loop.session.records import Record

__all__ = ["CONFIG", "careful", "log_of", "look", "loop_on", "pay", "talk", "texts"]

CONFIG = AgentConfig(system_prompt="Be kind.", retry=RetryPolicy(initial=0.0, jitter=0.0))


@tool
async def look(place: str, context: ToolContext[Any]) -> str:
    """Looks somewhere."""
    if context.deps is not None:
        context.deps.append(place)
    return f"{place} is empty"


@tool
async def pay(amount: int) -> str:
    """Pays."""
    return f"paid {amount}"


def careful() -> Hooks:
    """Payments wait for a person; every request is marked."""
    hooks = Hooks()

    @hooks.on(TOOL_BEFORE, name="leave")
    def _(context: ToolBefore[Any]) -> Suspend | None:
        return Suspend("it costs") if context.name == "pay" else None

    @hooks.on(LLM_BEFORE)
    def _(context: LlmBefore[Any]) -> LlmBefore[Any]:
        return replace(context, request=replace(context.request, temperature=0.25))

    return hooks


def loop_on(
    store: Store | None = None,
    *answers: Any,
    config: AgentConfig = CONFIG,
    hooks: Hooks | None = None,
    tools: Any = (look, pay),
    extensions: Sequence[Extension] = (),
) -> AgentLoop[Any]:
    """A loop with a scripted model."""
    return AgentLoop(
        ScriptedLLM(*answers),
        tools=tools,
        store=store or MemoryStore(),
        config=config,
        hooks=hooks,
        extensions=extensions,
    )


async def talk(store: Store) -> str:
    """A session with a failed attempt, two tools, an approval and a second run; its id."""
    answers = (
        ServerError("503", status=503),
        reply(
            "I shall.", call("look", {"place": "a"}, id="c1"), call("pay", {"amount": 3}, id="c2")
        ),
        reply("It is done."),
        reply("You are welcome."),
    )
    async with loop_on(store, *answers, hooks=careful()) as loop:
        first = await loop.send("Look at a, and pay.")
        (pending,) = await loop.get_pending(first.session_id)
        await loop.resume(first.session_id, answers=[approve(pending.token)])
        await loop.send("Thanks.", first.session_id)
    return first.session_id


async def log_of(store: Store, session: str) -> list[Record]:
    """The records of a session."""
    return [each.event for each in await store.read(session) if is_record(each.event)]


async def texts(loop: AgentLoop[Any], session: str) -> list[str]:
    """The view of a session, as role and text."""
    return [f"{m.role}: {m.text}" for m in await loop.get_messages(session)]
