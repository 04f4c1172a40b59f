"""A program that is killed at a point of its journal, and goes on when it is started again."""

from __future__ import annotations

import logging
import os
import random
import re
import signal
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from sqlite3 import Connection
from typing import Any, Literal

import anyio
import anyio.lowlevel
from msgspec import Struct

from llm_client.types import LLMRequest, Message
from power_loop import (
    AgentConfig,
    AgentLoop,
    Answer,
    Hooks,
    Result,
    RunResult,
    SQLiteStore,
    ToolContext,
    approve,
    tool,
)
from power_loop.errors import NothingToResume
from power_loop.events import Stamped
from power_loop.hooks import POINTS, TOOL_BEFORE, HookPoint, Suspend
from power_loop.runtime.stores.base import Appended, Lease, Posted
from power_loop.runtime.stores.postgres import PostgresStore
from power_loop.session.records import ToolSettled
from power_loop.tools import Reconciled
from tests.agent.scripted import Reply, Scripted, calls, says
from tests.stores.places import DurableStore

__all__ = ["INPUTS", "RECOVERY", "SESSION", "STEERED", "UNSAFE", "Case", "run", "whole_output"]

SESSION = "s"
INPUTS = ("first", "second", "third")
"""What it is told, in order; with hooks there is a "fourth", about a call that needs approval."""
STEERED = "steered"
"""What a tool says to the session in the middle of its run."""
UNSAFE = ("charge", "pay")
"""Tools that must not run twice."""
RECOVERY = "recovery: "
"""How the names of points begin that come while a program started again brings to an end what the
one before it had begun."""


class Case(Struct, frozen=True):
    """One start of the program.

    Attributes:
        folder: where its database, its journal of points and its effects are.
        kill_at: number of the point at which it dies, from 1; 0 for not at all.
        kill_on: name of a point at which it dies.
        nth: it dies when it comes to `kill_on` for the nth time.
        hooks: whether handlers are registered everywhere, which makes every step a barrier, and one
            has a call wait for an approval.
        sql: whether each SQL statement of the writer is a point as well; on SQLite.
        seed: decides how the tools interleave.
        second: the other tools wait until the result of the first is durable.
        place: a database and schema on a PostgreSQL server instead of the folder's own database.
        session: the id of its session.
        how: whether it dies there, or stops until it is told to go on.
    """

    folder: str
    kill_at: int = 0
    kill_on: str = ""
    nth: int = 1
    hooks: bool = False
    sql: bool = False
    seed: int = 0
    second: bool = False
    place: str = ""
    session: str = SESSION
    how: Literal["dies", "stops"] = "dies"


class _Journal:
    """Files outside of the store; what was written survives the death of the process."""

    def __init__(self, case: Case) -> None:
        folder = Path(case.folder)
        self._case = case
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._signal = signal.SIGKILL if case.how == "dies" else signal.SIGSTOP
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        points = folder / "points"
        self.recovers = points.exists()
        self._points = os.open(points, flags)
        self._effects = os.open(folder / "effects", flags)

    def point(self, name: str) -> None:
        """The program is at this point; perhaps it dies here."""
        name = f"{RECOVERY}{name}" if self.recovers else name
        with self._lock:
            self._counts[name] += 1
            os.write(self._points, f"{name}\n".encode())
            on = name == self._case.kill_on and self._counts[name] == self._case.nth
            if on or self._counts.total() == self._case.kill_at:
                os.kill(os.getpid(), self._signal)

    def has_happened(self, *words: object) -> bool:
        """Whether something has happened in the outer world, in whatever process."""
        line = " ".join(map(str, words))
        lines = (Path(self._case.folder) / "effects").read_text().splitlines()
        return any(each.startswith(f"{line} ") for each in lines)

    def effect(self, *words: object) -> None:
        """Something happened in the outer world."""
        os.write(self._effects, (" ".join(map(str, words)) + "\n").encode())

    @asynccontextmanager
    async def around(self, what: str) -> AsyncGenerator[None]:
        """A point before something is asked of the store, and one after it was granted."""
        self.point(f"before {what}")
        yield
        self.point(f"after {what}")

    @asynccontextmanager
    async def appending(
        self, expected_seq: int, records: Sequence[Stamped]
    ) -> AsyncGenerator[None]:
        """Points around an append, and a note of what was acknowledged, for the judge."""
        names = "+".join(type(stamped.event).__name__ for stamped in records)
        self.point(f"before {names}")
        yield
        self.effect("acknowledged", expected_seq, names)
        self.point(f"after {names}")


class _OnSQLite(SQLiteStore):
    def __init__(self, journal: _Journal, case: Case) -> None:
        def trace(statement: str) -> None:
            if "writer" in threading.current_thread().name:
                journal.point(f"sql {_kind_of(statement)}")

        def prepare(connection: Connection) -> None:
            if case.sql:
                connection.set_trace_callback(trace)

        # Death of a process loses nothing that was committed, whatever the durability.
        path = Path(case.folder) / "sessions.db"
        super().__init__(path, durability="normal", prepare=prepare)
        self._journal = journal

    async def create(self, session: str, **options: Any) -> None:
        async with self._journal.around("create"):
            await super().create(session, **options)

    async def claim(self, session: str, **options: Any) -> Lease:
        async with self._journal.around("claim"):
            return await super().claim(session, **options)

    async def release(self, lease: Lease) -> None:
        async with self._journal.around("release"):
            await super().release(lease)

    async def post(self, session: str, item: Any, **options: Any) -> Posted:
        async with self._journal.around("post"):
            return await super().post(session, item, **options)

    async def put_artifact(self, session: str, handle: str, text: str) -> None:
        async with self._journal.around("put_artifact"):
            await super().put_artifact(session, handle, text)

    async def append(
        self, lease: Lease, expected_seq: int, records: Sequence[Stamped], **options: Any
    ) -> Appended:
        async with self._journal.appending(expected_seq, records):
            return await super().append(lease, expected_seq, records, **options)


class _OnPostgres(PostgresStore):
    def __init__(self, journal: _Journal, case: Case) -> None:
        url, _, schema = case.place.partition("#")
        super().__init__(url, schema=schema)
        self._journal = journal

    async def create(self, session: str, **options: Any) -> None:
        async with self._journal.around("create"):
            await super().create(session, **options)

    async def claim(self, session: str, **options: Any) -> Lease:
        async with self._journal.around("claim"):
            return await super().claim(session, **options)

    async def release(self, lease: Lease) -> None:
        async with self._journal.around("release"):
            await super().release(lease)

    async def post(self, session: str, item: Any, **options: Any) -> Posted:
        async with self._journal.around("post"):
            return await super().post(session, item, **options)

    async def put_artifact(self, session: str, handle: str, text: str) -> None:
        async with self._journal.around("put_artifact"):
            await super().put_artifact(session, handle, text)

    async def append(
        self, lease: Lease, expected_seq: int, records: Sequence[Stamped], **options: Any
    ) -> Appended:
        async with self._journal.appending(expected_seq, records):
            return await super().append(lease, expected_seq, records, **options)


def _kind_of(statement: str) -> str:
    """What a statement does, and to which table."""
    table = re.search(r"\b(?:INTO|FROM|UPDATE)\s+(\w+)", statement)
    verb = statement.split(None, 1)[0]
    return f"{verb} {table[1]}" if table else verb


class _Deps:
    def __init__(self, journal: _Journal, case: Case) -> None:
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


def _look_everywhere(journal: _Journal) -> Hooks:
    def look_at(point: HookPoint[Any, Any]) -> Any:
        async def handler(context: Any) -> None:
            journal.point(f"hook {point.name}")

        return handler

    hooks = Hooks()
    for point in POINTS:
        hooks.on(point, look_at(point), name=point.name, on_error="raise")
    hooks.on(TOOL_BEFORE, lambda context: Suspend() if context.name == "pay" else None)
    return hooks


def run(case: Case) -> None:
    """Runs the program until it is done or dies."""
    logging.getLogger("psycopg").setLevel(logging.ERROR)  # it tells of every lost connection
    anyio.run(_main, case)


async def _main(case: Case) -> None:
    journal = _Journal(case)
    store: DurableStore = _OnPostgres(journal, case) if case.place else _OnSQLite(journal, case)
    llm = Scripted(by=_answer)
    hooks = _look_everywhere(journal) if case.hooks else None
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
