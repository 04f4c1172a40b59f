"""A program that is killed at a point of its journal, and goes on when it is started again."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from typing import Any

import anyio
import anyio.lowlevel

from llm_client.types import LLMRequest, Message
from power_loop import (
    AgentConfig,
    AgentLoop,
    Answer,
    Hooks,
    Result,
    RunResult,
    ToolContext,
    approve,
    tool,
)
from power_loop.errors import NothingToResume
from power_loop.events import Stamped
from power_loop.hooks import TOOL_BEFORE, Suspend
from power_loop.session.records import ToolSettled
from power_loop.tools import Reconciled
from tests.agent.scripted import Reply, Scripted, calls, says
from tests.crash.journal import Case, Journal, look_everywhere, store_of

__all__ = ["INPUTS", "STEERED", "UNSAFE", "run", "whole_output"]

INPUTS = ("first", "second", "third")
"""What it is told, in order; with hooks there is a "fourth", about a call that needs approval."""
STEERED = "steered"
"""What a tool says to the session in the middle of its run."""
UNSAFE = ("charge", "pay")
"""Tools that must not run twice."""


class _Deps:
    def __init__(self, journal: Journal, case: Case) -> None:
        self.journal = journal
        self.rng = random.Random(case.seed)
        self.case = case
        self.first_settled = anyio.Event()
        self.loop: AgentLoop[_Deps]

    def hear(self, stamped: Stamped) -> None:
        """Hears of a record once it is durable."""
        event = stamped.event
        if isinstance(event, ToolSettled) and event.message.id == "a.result":
            self.first_settled.set()


async def _work(context: ToolContext[_Deps]) -> str:
    journal, id = context.deps.journal, context.call_id
    journal.effect("begin", context.tool, id, context.idempotency_key, context.attempt)
    journal.point(f"tool begins {id}")
    if context.deps.case.second and id != "a":
        await context.deps.first_settled.wait()
    for _ in range(context.deps.rng.randint(1, 5)):
        await anyio.lowlevel.checkpoint()
    journal.effect("done", context.tool, id, context.idempotency_key, context.attempt)
    journal.point(f"tool ends {id}")
    return whole_output(context.tool, id)


def whole_output(name: str, call_id: str) -> str:
    """What a call of one of these tools gives: too long for the model's view."""
    return f"{name} {call_id} done{'.' * 500}"


@tool
async def charge(context: ToolContext[_Deps]) -> str:
    """Takes money; must not be done twice."""
    return await _work(context)


@tool(idempotent=True)
async def look(context: ToolContext[_Deps]) -> str:
    """Looks something up, and tells the session of it; may be done again."""
    deps = context.deps
    await deps.loop.steer(deps.case.session, STEERED, dedupe_key=STEERED)
    return await _work(context)


@tool
async def pay(context: ToolContext[_Deps]) -> str:
    """Pays, once somebody has approved it; must not be done twice."""
    return await _work(context)


async def _booked(_: dict[str, Any], context: ToolContext[_Deps]) -> Reconciled:
    """Asks the outer world, which nothing is under way in: whoever booked is dead."""
    journal, id = context.deps.journal, context.call_id
    journal.effect("asked", context.tool, id, context.idempotency_key, context.attempt)
    journal.point(f"reconcile {id}")
    if journal.has_happened("done", context.tool, id, context.idempotency_key):
        return Result(whole_output(context.tool, id))
    return "never_happened"


@tool(reconcile=_booked)
async def book(context: ToolContext[_Deps]) -> str:
    """Books something; must not be done twice, and can be looked up by its key."""
    return await _work(context)


def _answer(request: LLMRequest) -> Reply:
    last = request.messages[-1]
    if last.role == "tool":
        return says("all done")
    if last.text == "second":
        return calls(("a", "charge", {}), ("b", "charge", {}), ("c", "look", {}), ("d", "book", {}))
    if last.text == "fourth":
        return calls(("e", "pay", {}))
    return says(f"answer to {last.text}")


def _guarded(journal: Journal) -> Hooks:
    hooks = look_everywhere(journal)
    hooks.on(TOOL_BEFORE, lambda context: Suspend() if context.name == "pay" else None)
    return hooks


def run(case: Case) -> None:
    """Runs the program until it is done or dies."""
    logging.getLogger("psycopg").setLevel(logging.ERROR)  # it tells of every lost connection
    anyio.run(_main, case)


async def _main(case: Case) -> None:
    journal = Journal(case)
    store = store_of(case, journal)
    llm = Scripted(by=_answer)
    hooks = _guarded(journal) if case.hooks else None
    deps = _Deps(journal, case)
    tools = [charge, look, book, pay]
    loop = AgentLoop[_Deps](
        llm, tools=tools, store=store, hooks=hooks, config=AgentConfig(result_limit=100)
    )
    async with store, loop:
        deps.loop = loop
        loop.events.subscribe(deps.hear, types=[ToolSettled], inline=True)
        await store.create(case.session)
        journal.point("created")
        await _go_on(loop, deps)
        for text in (*INPUTS, "fourth") if case.hooks else INPUTS:
            if text not in _said(await loop.get_messages(case.session)):
                result = await _approved(loop, deps, await loop.send(text, case.session, deps=deps))
                journal.effect("answered", text, result.status)
                journal.point(f"answered {text}")
    for fault in llm.illegal:
        journal.effect("illegal", fault.replace(" ", "_"))


async def _go_on(loop: AgentLoop[_Deps], deps: _Deps) -> None:
    """What a program does when it starts: what was begun is brought to its end."""
    answers = await _answers(loop, deps)
    try:
        result = await loop.resume(deps.case.session, answers=answers, deps=deps)
    except NothingToResume:
        pass
    else:
        result = await _approved(loop, deps, result)
        deps.journal.effect("resumed", result.status)
        deps.journal.point("resumed")
    deps.journal.recovers = False


async def _approved(
    loop: AgentLoop[_Deps], deps: _Deps, result: RunResult[None]
) -> RunResult[None]:
    """Approves what waits for it, and has the run go on."""
    while result.status == "awaiting_approval":
        deps.journal.point("asked for approval")
        answers = await _answers(loop, deps)
        result = await loop.resume(deps.case.session, answers=answers, deps=deps)
    return result


async def _answers(loop: AgentLoop[_Deps], deps: _Deps) -> list[Answer]:
    pending = await loop.get_pending(deps.case.session)
    return [approve(call.token) for call in pending if call.token]


def _said(messages: Sequence[Message]) -> list[str]:
    return [message.text for message in messages if message.role == "user"]
