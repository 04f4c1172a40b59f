"""A program that is killed at a point of its journal, and goes on when it is started again."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from sqlite3 import Connection
from typing import Any

import anyio
import anyio.lowlevel
from msgspec import Struct

from llm_client.types import LLMRequest, Message
from power_loop import AgentLoop, Hooks, Result, SQLiteStore, ToolContext, tool
from power_loop.errors import NothingToResume
from power_loop.events import Stamped
from power_loop.hooks import POINTS, HookPoint
from power_loop.runtime.stores.base import Appended, Lease
from power_loop.session.records import ToolSettled
from power_loop.tools import Reconciled
from tests.agent.scripted import Reply, Scripted, calls, says

__all__ = ["SESSION", "Case", "run"]

SESSION = "s"


class Case(Struct, frozen=True):
    """One start of the program.

    Attributes:
        folder: where its database, its journal of points and its effects are.
        kill_at: number of the point at which it dies, from 1; 0 for not at all.
        kill_on: name of a point at which it dies.
        hooks: whether handlers are registered everywhere, which makes every step a barrier.
        sql: whether each SQL statement of the writer is a point as well.
        seed: decides how the tools interleave.
        second: the other tools wait until the result of the first is durable.
    """

    folder: str
    kill_at: int = 0
    kill_on: str = ""
    hooks: bool = False
    sql: bool = False
    seed: int = 0
    second: bool = False


class _Journal:
    """Files outside of the store; what was written survives the death of the process."""

    def __init__(self, case: Case) -> None:
        folder = Path(case.folder)
        self.path = folder / "sessions.db"
        self._case = case
        self._lock = threading.Lock()
        self._count = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._points = os.open(folder / "points", flags)
        self._effects = os.open(folder / "effects", flags)

    def point(self, name: str) -> None:
        """The program is at this point; perhaps it dies here."""
        with self._lock:
            self._count += 1
            os.write(self._points, f"{name}\n".encode())
            if self._count == self._case.kill_at or name == self._case.kill_on:
                os.kill(os.getpid(), signal.SIGKILL)

    def has_happened(self, *words: object) -> bool:
        """Whether something has happened in the outer world, in whatever process."""
        line = " ".join(map(str, words))
        lines = (Path(self._case.folder) / "effects").read_text().splitlines()
        return any(each.startswith(f"{line} ") for each in lines)

    def effect(self, *words: object) -> None:
        """Something happened in the outer world."""
        os.write(self._effects, (" ".join(map(str, words)) + "\n").encode())


class _Store(SQLiteStore):
    def __init__(self, journal: _Journal, *, sql: bool) -> None:
        def trace(statement: str) -> None:
            if "writer" in threading.current_thread().name:
                journal.point(f"sql {statement.split(None, 1)[0]}")

        def prepare(connection: Connection) -> None:
            if sql:
                connection.set_trace_callback(trace)

        # Death of a process loses nothing that was committed, whatever the durability.
        super().__init__(journal.path, durability="normal", prepare=prepare)
        self._journal = journal

    async def append(
        self,
        lease: Lease,
        expected_seq: int,
        records: Sequence[Stamped],
        *,
        take: Sequence[str] = (),
        final: bool = False,
        refuse_if_inbox: bool = False,
    ) -> Appended:
        names = "+".join(type(stamped.event).__name__ for stamped in records)
        self._journal.point(f"before {names}")
        appended = await super().append(
            lease,
            expected_seq,
            records,
            take=take,
            final=final,
            refuse_if_inbox=refuse_if_inbox,
        )
        self._journal.point(f"after {names}")
        return appended


class _Deps:
    def __init__(self, journal: _Journal, case: Case) -> None:
        self.journal = journal
        self.rng = random.Random(case.seed)
        self.waits = case.second
        self.first_settled = anyio.Event()

    def hear(self, stamped: Stamped) -> None:
        """Hears of a record once it is durable."""
        event = stamped.event
        if isinstance(event, ToolSettled) and event.message.id == "a.result":
            self.first_settled.set()


async def _work(context: ToolContext[_Deps]) -> str:
    journal, id = context.deps.journal, context.call_id
    journal.effect("begin", context.tool, id, context.idempotency_key, context.attempt)
    journal.point(f"tool begins {id}")
    if context.deps.waits and id != "a":
        await context.deps.first_settled.wait()
    for _ in range(context.deps.rng.randint(1, 5)):
        await anyio.lowlevel.checkpoint()
    journal.effect("done", context.tool, id, context.idempotency_key, context.attempt)
    journal.point(f"tool ends {id}")
    return f"{context.tool} {id} done"


@tool
async def charge(context: ToolContext[_Deps]) -> str:
    """Takes money; must not be done twice."""
    return await _work(context)


@tool(idempotent=True)
async def look(context: ToolContext[_Deps]) -> str:
    """Looks something up; may be done again."""
    return await _work(context)


async def _booked(_: dict[str, Any], context: ToolContext[_Deps]) -> Reconciled:
    """Asks the outer world, which nothing is under way in: whoever booked is dead."""
    journal, id = context.deps.journal, context.call_id
    journal.effect("asked", context.tool, id, context.idempotency_key, context.attempt)
    journal.point(f"reconcile {id}")
    if journal.has_happened("done", context.tool, id, context.idempotency_key):
        return Result(f"{context.tool} {id} done")
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
    return says(f"answer to {last.text}")


def _look_everywhere(journal: _Journal) -> Hooks:
    def look_at(point: HookPoint[Any, Any]) -> Any:
        async def handler(context: Any) -> None:
            journal.point(f"hook {point.name}")

        return handler

    hooks = Hooks()
    for point in POINTS:
        hooks.on(point, look_at(point), name=point.name, on_error="raise")
    return hooks


def run(case: Case) -> None:
    """Runs the program until it is done or dies."""
    anyio.run(_main, case)


async def _main(case: Case) -> None:
    journal = _Journal(case)
    store = _Store(journal, sql=case.sql)
    llm = Scripted(by=_answer)
    hooks = _look_everywhere(journal) if case.hooks else None
    deps = _Deps(journal, case)
    async with AgentLoop[_Deps](llm, tools=[charge, look, book], store=store, hooks=hooks) as loop:
        loop.events.subscribe(deps.hear, types=[ToolSettled], inline=True)
        await store.create(SESSION)
        journal.point("created")
        await _go_on(loop, journal, deps)
        for text in ("first", "second", "third"):
            if text not in _said(await loop.get_messages(SESSION)):
                result = await loop.send(text, SESSION, deps=deps)
                journal.effect("answered", text, result.status)
                journal.point(f"answered {text}")
    for fault in llm.illegal:
        journal.effect("illegal", fault.replace(" ", "_"))
    await store.aclose()


async def _go_on(loop: AgentLoop[_Deps], journal: _Journal, deps: _Deps) -> None:
    """What a program does when it starts: what was begun is brought to its end."""
    try:
        result = await loop.resume(SESSION, deps=deps)
    except NothingToResume:
        return
    journal.effect("resumed", result.status)
    journal.point("resumed")


def _said(messages: Sequence[Message]) -> list[str]:
    return [message.text for message in messages if message.role == "user"]
