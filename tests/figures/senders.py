"""A process that sends messages to one session, for figures in which several do.

python -m tests.figures.senders PLACE NAME COUNT LEASE EVERY DIARY

It sends COUNT messages named after NAME: all at once if EVERY is 0. Else one after the other, and
at about every EVERY-th point of a run it says `here` and stands still until it is told to go on.
What it does is noted in the file DIARY, which all of them share.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Sequence
from typing import Any

import anyio

from llm_client.types import LLMRequest
from power_loop import AgentConfig, AgentLoop, tool
from power_loop.errors import Fenced, NothingToResume, SessionPendingError
from power_loop.events import Stamped
from power_loop.runtime.stores.base import Appended, Lease
from power_loop.runtime.stores.postgres import PostgresStore
from power_loop.runtime.stores.sqlite import SQLiteStore
from power_loop.session.records import RunOpened
from power_loop.tools import ToolContext
from tests.agent.scripted import Reply, Scripted, calls, says

__all__ = ["SESSION"]

SESSION = "s"


class _Diary:
    """What this process does, in the order in which all of them do things."""

    def __init__(self, name: str, every: int, path: str) -> None:
        self._every = every
        self._rng = random.Random(name)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.name = name

    def note(self, *words: object) -> None:
        """Something has happened."""
        os.write(self._file, f"{self.name} {' '.join(map(str, words))}\n".encode())

    def point(self) -> None:
        """Here it may be stopped."""
        if self._every and self._rng.randrange(self._every) == 0:
            sys.stdout.write("here\n")
            sys.stdout.flush()
            sys.stdin.readline()


class _Noting:
    """What both stores do besides."""

    diary: _Diary

    def before_append(self, lease: Lease) -> None:
        """Perhaps stopped here, it appends when it is not the holder any more."""
        self.diary.point()
        self.diary.note("appending", lease.fence)


class _OnSQLite(_Noting, SQLiteStore):
    async def claim(self, session: str, **options: Any) -> Lease:
        lease = await super().claim(session, **options)
        self.diary.note("claimed", lease.fence)
        return lease

    async def append(
        self, lease: Lease, expected_seq: int, records: Sequence[Stamped], **options: Any
    ) -> Appended:
        self.before_append(lease)
        try:
            appended = await super().append(lease, expected_seq, records, **options)
        except Fenced:
            self.diary.note("refused", lease.fence)
            raise
        self.diary.note("appended", lease.fence)
        return appended


class _OnPostgres(_Noting, PostgresStore):
    async def claim(self, session: str, **options: Any) -> Lease:
        lease = await super().claim(session, **options)
        self.diary.note("claimed", lease.fence)
        return lease

    async def append(
        self, lease: Lease, expected_seq: int, records: Sequence[Stamped], **options: Any
    ) -> Appended:
        self.before_append(lease)
        try:
            appended = await super().append(lease, expected_seq, records, **options)
        except Fenced:
            self.diary.note("refused", lease.fence)
            raise
        self.diary.note("appended", lease.fence)
        return appended


def _store(place: str, diary: _Diary) -> SQLiteStore | PostgresStore:
    if place.startswith("postgresql:"):
        url, _, schema = place.partition("#")
        store: _OnSQLite | _OnPostgres = _OnPostgres(url, schema=schema)
    else:
        store = _OnSQLite(place, durability="normal")
    store.diary = diary
    return store


@tool
async def charge(context: ToolContext[_Diary]) -> str:
    """Takes money; must not be done twice."""
    context.deps.note("begin", context.call_id)
    context.deps.point()
    return "charged"


def _model(diary: _Diary) -> Scripted:
    def answer(request: LLMRequest) -> Reply:
        last = request.messages[-1]
        diary.note("asked", last.id if last.role == "tool" else last.text.replace(" ", "_"))
        diary.point()
        if last.role == "user" and last.text.endswith(("0", "4", "7")):
            return calls((f"call-{last.text.replace(' ', '-')}", "charge", {}))
        return says("yes")

    return Scripted(by=answer)


async def _main(place: str, name: str, count: str, lease: str, every: str, path: str) -> None:
    diary = _Diary(name, int(every), path)
    llm = _model(diary)
    config = AgentConfig(lease_seconds=float(lease))
    async with (
        _store(place, diary) as store,
        AgentLoop[_Diary](llm, tools=[charge], store=store, config=config) as loop,
    ):
        await store.create(SESSION)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        async with anyio.create_task_group() as tasks:
            for n in range(int(count)):
                if int(every):
                    await _deliver(loop, diary, f"{name} {n}")
                else:
                    tasks.start_soon(_deliver, loop, diary, f"{name} {n}")
    for fault in llm.illegal:
        diary.note("illegal", fault)


async def _deliver(loop: AgentLoop[_Diary], diary: _Diary, text: str) -> None:
    """Sends a message until it is stored, which its own run may not live to see."""
    while True:
        try:
            result = await loop.send(text, SESSION, deps=diary)
        except SessionPendingError:
            await _carry_on(loop, diary)
        except Fenced as error:
            diary.note("fenced", error.session_id, error.fence)
            if await _is_stored(loop, text):
                return
        else:
            diary.note("answered", text.replace(" ", "_"), result.status)
            return


async def _carry_on(loop: AgentLoop[_Diary], diary: _Diary) -> None:
    """Brings to its end what another process had begun."""
    try:
        await loop.resume(SESSION, deps=diary)
    except (NothingToResume, SessionPendingError):
        pass
    except Fenced as error:
        diary.note("fenced", error.session_id, error.fence)


async def _is_stored(loop: AgentLoop[_Diary], text: str) -> bool:
    records = [stamped.event for stamped in await loop.store.read(SESSION)]
    opened = [record for record in records if isinstance(record, RunOpened)]
    return any(message.text == text for record in opened for message in record.input)


if __name__ == "__main__":
    _place, _name, _count, _lease, _every, _path = sys.argv[1:]
    anyio.run(_main, _place, _name, _count, _lease, _every, _path)
