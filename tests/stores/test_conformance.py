"""All stores keep every promise of the protocol, and the suite that says so notices liars."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from power_loop.runtime.stores.base import Store
from power_loop.runtime.stores.memory import MemoryStore
from power_loop.runtime.stores.postgres import PostgresStore
from power_loop.runtime.stores.sqlite import SQLiteStore
from power_loop.testing import (
    STORE_CHECKS,
    StoreCheck,
    StoreDefect,
    check_store,
    run_store_check,
)
from tests.postgres_server import new_schema, shared_server
from tests.stores.mutants import MEMORY_MUTANTS, SQLITE_MUTANTS

pytestmark = pytest.mark.anyio

_BY_NAME = {check.name: check for check in STORE_CHECKS}


def _name(value: object) -> str:
    return value.name if isinstance(value, StoreCheck) else getattr(value, "__name__", str(value))


async def _memory() -> Store:
    return MemoryStore()


@pytest.mark.parametrize(
    "check", [check for check in STORE_CHECKS if not check.needs_reopen], ids=_name
)
async def test_the_memory_store_keeps_the_promise(check: StoreCheck) -> None:
    """Every promise that does not need a second handle."""
    await run_store_check(check, _memory)


@pytest.mark.parametrize("check", STORE_CHECKS, ids=_name)
async def test_the_sqlite_store_keeps_the_promise(check: StoreCheck, tmp_path: Path) -> None:
    """Every promise, with full durability."""
    await run_store_check(check, *_sqlite(tmp_path, SQLiteStore))


@pytest.mark.parametrize("check", STORE_CHECKS, ids=_name)
async def test_the_postgres_store_keeps_the_promise(check: StoreCheck) -> None:
    """Every promise, on a real server."""

    async def make() -> Store:
        store = PostgresStore(shared_server().url(), schema=(schema := new_schema()))
        schemas[id(store)] = schema
        return store

    async def reopen(other: Store) -> Store:
        store = PostgresStore(shared_server().url(), schema=schemas[id(other)])
        schemas[id(store)] = schemas[id(other)]
        return store

    schemas: dict[int, str] = {}
    await run_store_check(check, make, reopen)


@pytest.mark.parametrize(("mutant", "promise"), MEMORY_MUTANTS, ids=_name)
async def test_a_wrong_store_is_noticed(mutant: Callable[[], MemoryStore], promise: str) -> None:
    """The check that names the broken promise fails, within a moment."""

    async def make() -> Store:
        return mutant()

    with pytest.raises(StoreDefect, match=promise):
        await run_store_check(_BY_NAME[promise], make, patience=1.0)


@pytest.mark.parametrize(("mutant", "promise"), SQLITE_MUTANTS, ids=_name)
async def test_a_store_that_is_wrong_about_others_is_noticed(
    mutant: Callable[[Any], SQLiteStore], promise: str, tmp_path: Path
) -> None:
    """Faults that only a second handle on the same file can show."""
    with pytest.raises(StoreDefect, match=promise):
        await run_store_check(_BY_NAME[promise], *_sqlite(tmp_path, mutant), patience=1.0)


async def test_the_whole_suite_names_every_broken_promise() -> None:
    """`check_store` goes on after a failure, and says all there is to say."""
    ran = await check_store(_memory)
    assert len(ran) == sum(not check.needs_reopen for check in STORE_CHECKS)
    mutants = [mutant for mutant, _ in MEMORY_MUTANTS if mutant.__name__ == "EndsPastTheInbox"]

    async def make() -> Store:
        return mutants[0]()

    with pytest.raises(StoreDefect, match="a_run_cannot_end_past_its_inbox"):
        await check_store(make)


def test_every_check_has_caught_somebody() -> None:
    """A check that no wrong store fails proves nothing."""
    caught = {promise for _, promise in MEMORY_MUTANTS} | {promise for _, promise in SQLITE_MUTANTS}
    assert caught == set(_BY_NAME)


def _sqlite(directory: Path, store: Callable[[Path], SQLiteStore]) -> tuple[Any, Any]:
    """How to open a new store, and another handle on it."""
    files = iter(range(100))

    async def make() -> Store:
        return store(directory / f"{next(files)}.db")

    async def reopen(other: Store) -> Store:
        assert isinstance(other, SQLiteStore)
        return store(other.path)

    return make, reopen
