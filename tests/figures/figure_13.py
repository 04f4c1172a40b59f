"""Figure 13: damaged stores give a typed error or a correct prefix; nothing is silently wrong.

SQLite: bits flipped, pages overwritten and files cut short, in the database and in its write-ahead
log; a log that is missing, or another's. PostgreSQL: rows changed, lost and doubled behind the
store's back.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import anyio
import psycopg

from power_loop.errors import SessionBusy, SessionNotFound, StoreError
from power_loop.runtime.stores.postgres import PostgresStore
from power_loop.runtime.stores.sqlite import SQLiteStore
from tests.figures.result import FigureResult
from tests.postgres_server import new_schema, shared_server
from tests.stores.places import DurableStore
from tests.stores.support import say, texts

_SESSIONS = ("a", "b", "c")
_WORDS = [f"word {n} " + "x" * (n * 37 % 900) for n in range(40)]

_Damage = Callable[[Path, random.Random], None]


def run(full: bool) -> FigureResult:
    """Opens, reads, claims and checks each damaged store."""
    seen, failures = anyio.run(_on_sqlite, 1600 if full else 160)
    on_postgres, wrong = anyio.run(_on_postgres, 400 if full else 60)
    told = ", ".join(f"{name} {count}" for name, count in (seen + on_postgres).most_common())
    cases = seen.total() + on_postgres.total()
    return FigureResult(cases, (*failures, *wrong), f"SQLite and PostgreSQL: {told}")


async def _fill(store: DurableStore, words: list[str]) -> None:
    for session in _SESSIONS:
        await store.create(session)
        lease = await store.claim(session)
        seq = lease.seq
        for word in words:
            seq = await say(store, lease, seq, word)
        await store.release(lease)


class _Wrong(Exception):
    """Something was silently wrong, or was told badly."""


async def _judged(store: DurableStore, place: str) -> str:
    """What became of it."""
    outcomes: set[str] = set()
    failure: StoreError | None = None
    try:
        for session in _SESSIONS:
            try:
                said = texts(await store.read(session))
                await store.release(await store.claim(session))
            except SessionNotFound:
                outcomes.add("no session")
                continue
            except SessionBusy:  # a log that ends where this process held the lease
                said = texts(await store.read(session))
            if said != _WORDS[: len(said)]:
                raise _Wrong(f"what was read of session {session} was never written")
            outcomes.add("whole" if len(said) == len(_WORDS) else "correct prefix")
        await store.check()
    except StoreError as error:
        failure = error
    if failure is None:
        return min(outcomes)
    if place not in str(failure) or len(str(failure).split(". ")) < 2:
        raise _Wrong(f"the error does not say where, or what to do: {failure}")
    return type(failure).__name__


# ── SQLite ────────────────────────────────────────────────────────────────────────────────────────


def _flip(path: Path, dice: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    path.write_bytes(data)


def _overwrite(path: Path, dice: random.Random) -> None:
    data = bytearray(path.read_bytes())
    start = dice.randrange(len(data))
    length = min(dice.choice((1, 16, 512, 4096)), len(data) - start)
    data[start : start + length] = dice.choice((bytes(length), dice.randbytes(length)))
    path.write_bytes(data)


def _cut(path: Path, dice: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: dice.randrange(path.stat().st_size)])


def _lose(path: Path, dice: random.Random) -> None:
    path.unlink()


def _swap(path: Path, dice: random.Random) -> None:
    """Pages change places, as after a repair that guessed."""
    data, size = bytearray(path.read_bytes()), 4096
    pages = len(data) // size
    a, b = (dice.randrange(1, pages) * size for _ in range(2))
    data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]
    path.write_bytes(data)


_IN_DATABASE: tuple[_Damage, ...] = (_flip, _overwrite, _cut, _swap)
_IN_LOG: tuple[_Damage, ...] = (_flip, _overwrite, _cut, _lose)


async def _on_sqlite(count: int) -> tuple[Counter[str], list[str]]:
    outcomes: Counter[str] = Counter()
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        whole = await _with_a_log(Path(name))
        for case in range(count):
            dice = random.Random(case)
            path = Path(name) / "case" / "s.db"
            path.parent.mkdir()
            for suffix in ("", "-wal"):
                shutil.copy(f"{whole}{suffix}", f"{path}{suffix}")
            in_log = case % 2 == 1
            damage = dice.choice(_IN_LOG if in_log else _IN_DATABASE)
            damage(Path(f"{path}-wal") if in_log else path, dice)
            store = SQLiteStore(path, durability="normal", busy_timeout=0.2)
            try:
                outcomes[await _judged(store, str(path))] += 1
            except _Wrong as error:
                outcomes["wrong"] += 1
                failures.append(f"SQLite, case {case}, {damage.__name__}: {error}")
            await store.aclose()
            shutil.rmtree(path.parent)
    return outcomes, failures


async def _with_a_log(directory: Path) -> Path:
    """A database half of which is in its write-ahead log, as a killed program leaves it."""
    path, copy = directory / "live.db", directory / "whole.db"
    store = SQLiteStore(path, durability="normal")
    await _fill(store, _WORDS[:20])
    keeper = sqlite3.connect(path)
    keeper.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    keeper.execute("SELECT count(*) FROM records").fetchone()
    await _fill(store, _WORDS[20:])
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
    keeper.close()
    await store.aclose()
    return copy


# ── PostgreSQL ────────────────────────────────────────────────────────────────────────────────────

_CHANGES = (
    "DELETE FROM {s}.records WHERE seq = {n}",
    "DELETE FROM {s}.records WHERE seq > {n}",
    "DELETE FROM {s}.records WHERE seq = {n} AND sid = {sid}",
    "UPDATE {s}.records SET body = set_byte(body, {byte}, 65) WHERE seq = {n} AND sid = {sid}",
    "UPDATE {s}.records SET body = set_bit(body, {byte}, 1 - get_bit(body, {byte}))",
    "UPDATE {s}.records SET body = body || 'x' WHERE seq = {n}",
    "UPDATE {s}.records SET at = at + 1 WHERE seq = {n} AND sid = {sid}",
    "UPDATE {s}.records SET run = 'another' WHERE seq = {n}",
    "UPDATE {s}.records SET round = round + 1 WHERE seq = {n}",
    "UPDATE {s}.records SET crc = crc + 1 WHERE seq = {n}",
    "UPDATE {s}.records SET seq = seq + 1000 WHERE seq = {n}",
    "UPDATE {s}.records SET sid = sid + 1000 WHERE sid = {sid}",
    "UPDATE {s}.sessions SET seq = {n} WHERE sid = {sid}",
    "UPDATE {s}.sessions SET seq = seq + {n} WHERE sid = {sid}",
    "UPDATE {s}.sessions SET root = 9999 WHERE sid = {sid}",
    "DELETE FROM {s}.sessions WHERE sid = {sid}",
    "UPDATE {s}.records a SET body = b.body FROM {s}.records b WHERE a.seq = {n} AND b.seq = 1",
    "ALTER TABLE {s}.records DROP COLUMN crc",
    "ALTER TABLE {s}.sessions RENAME COLUMN seq TO place",
    "DROP FUNCTION {s}.claim_session",
    "DROP TABLE {s}.inbox",
    "UPDATE {s}.meta SET value = 999",
)


async def _on_postgres(count: int) -> tuple[Counter[str], list[str]]:
    outcomes: Counter[str] = Counter()
    failures: list[str] = []
    server = shared_server()
    with psycopg.connect(server.url(), autocommit=True) as connection:
        for case in range(count):
            dice, schema = random.Random(case), new_schema()
            async with PostgresStore(server.url(), schema=schema) as store:
                await _fill(store, _WORDS)
            change = _CHANGES[case % len(_CHANGES)].format(
                s=schema, n=dice.randrange(1, 41), sid=dice.randrange(1, 4), byte=dice.randrange(60)
            )
            connection.execute(change.encode())
            async with PostgresStore(server.url(), schema=schema) as store:
                try:
                    outcomes[await _judged(store, "postgresql://")] += 1
                except _Wrong as error:
                    outcomes["wrong"] += 1
                    failures.append(f"PostgreSQL, case {case}, {change}: {error}")
            connection.execute(f"DROP SCHEMA {schema} CASCADE".encode())
    return outcomes, failures
