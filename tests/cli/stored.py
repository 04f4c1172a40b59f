"""Sessions that other programs have left in the store of a command."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TypeVar

import anyio
import psycopg

from llm_client.types import Message, Text, ToolCall
from power_loop.events import is_record
from power_loop.pipeline.asking import arguments_digest
from power_loop.runtime.stores.base import Store
from power_loop.runtime.stores.sqlite import SQLiteStore
from power_loop.session.outcome import AwaitingApproval, Outcome, WaitingForInput
from power_loop.session.records import (
    CallWaiting,
    MessageAppended,
    ModelAsked,
    ModelEnded,
    Record,
    RunClosed,
    RunOpened,
)
from tests.agent.crashed import left_behind, write
from tests.postgres_server import shared_server

__all__ = ["asking_in", "died_in", "in_store", "new_database", "records_of", "sql", "waiting_for"]

T = TypeVar("T")

FAR = 32_503_680_000.0
"""The year 3000."""

_databases = count(1)


def in_store(place: Path, act: Callable[[Store], Awaitable[T]]) -> T:
    """What `act` gives, done with the store of the commands in `place`."""

    async def acting() -> T:
        database = place / "db" / "sessions.db"
        database.parent.mkdir(exist_ok=True)
        async with SQLiteStore(database) as store:
            return await act(store)

    return anyio.run(acting)


def died_in(place: Path, session: str, calls: Mapping[str, str]) -> None:
    """A session whose process died while it ran these calls: the names of the tools, by id."""
    in_store(place, lambda store: left_behind(store, session, calls, begun=[*calls]))


def waiting_for(place: Path, session: str, *names: str, arguments: str = "{}") -> None:
    """A session whose calls c1, c2 … of these tools wait for approval, with the tokens k1, k2 …"""
    asked = [_approval(n, name, arguments) for n, name in enumerate(names, 1)]
    tokens = tuple([each.token for each in asked])
    _left_open(place, session, asked, AwaitingApproval(tokens))


def asking_in(place: Path, session: str, question: str, schema: str = "") -> None:
    """A session in which a hook asks this, with the token k1, in place of a call of list_files."""
    asked = CallWaiting("c1", "input", "k1", question, "list_files", by="eyes", schema=schema)
    _left_open(place, session, [asked], WaitingForInput(("k1",)))


def _left_open(place: Path, session: str, asked: Sequence[CallWaiting], outcome: Outcome) -> None:
    calls = tuple([ToolCall(each.call_id, each.name, each.arguments or "{}") for each in asked])
    records: Sequence[Record] = (
        RunOpened("r1", (Message("user", (Text("go"),), id="u1"),)),
        ModelAsked("t1", 1, "m"),
        ModelEnded("t1", "ok"),
        MessageAppended(Message("assistant", calls, id="a1"), "t1"),
        *asked,
        RunClosed("r1", outcome),
    )

    async def leave(store: Store) -> None:
        await store.create(session)
        await write(store, session, records)

    in_store(place, leave)


def _approval(number: int, name: str, arguments: str) -> CallWaiting:
    return CallWaiting(
        f"c{number}",
        "approval",
        f"k{number}",
        "it looks around",
        name,
        arguments,
        arguments_digest(arguments),
        "guard",
        expires=FAR,
    )


def records_of(place: Path, session: str) -> Sequence[Record]:
    """All that happened to a session."""

    async def read(store: Store) -> Sequence[Record]:
        return [each.event for each in await store.read(session) if is_record(each.event)]

    return in_store(place, read)


def sql(query: str, url: str = "") -> None:
    """Tells the server something as its superuser."""
    with psycopg.connect(url or shared_server().url(), autocommit=True) as connection:
        connection.execute(query.encode())


def new_database() -> str:
    """The name of a database of its own on the server; its owner has that name too, and the
    password `hidden`."""
    name = f"command_{next(_databases)}"
    sql(f"CREATE ROLE {name} LOGIN PASSWORD 'hidden'")
    sql(f"CREATE DATABASE {name} OWNER {name}")
    return name
