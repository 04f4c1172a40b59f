"""What an operator does with a database now and then, on a connection of its own."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from sqlite3 import Connection
from typing import TypeVar

from msgspec.structs import replace

from power_loop.errors import UsageError
from power_loop.runtime.stores._sqlite_errors import translate
from power_loop.runtime.stores._sqlite_notes import rebuild_index
from power_loop.runtime.stores._sqlite_open import Settings, connect
from power_loop.runtime.stores._sqlite_schema import SCHEMA_VERSION, version_of

__all__ = ["back_up", "brought_up_to_date", "checkpoint", "vacuum"]

T = TypeVar("T")


def brought_up_to_date(settings: Settings) -> int:
    """See `SQLiteStore.migrate`."""
    before = 0
    if Path(settings.path).exists():
        before = _on(settings, lambda cx: version_of(cx, settings.path))
    with closing(connect(replace(settings, policy="create"))):
        return SCHEMA_VERSION - before


def back_up(settings: Settings, target: Path) -> None:
    """See `SQLiteStore.backup`."""
    if target.exists():
        raise UsageError(f"{target} exists already; a backup overwrites nothing")
    if not target.absolute().parent.is_dir():
        raise UsageError(f"there is no directory {target.absolute().parent}; create it first")
    unfinished = target.with_name(f"{target.name}.unfinished-{os.getpid()}")
    try:
        _on(settings, lambda cx: cx.execute("VACUUM INTO ?", (str(unfinished),)))
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        os.link(unfinished, target)
    except FileExistsError as error:
        raise UsageError(f"{target} exists by now; a backup overwrites nothing") from error
    finally:
        with suppress(FileNotFoundError):
            unfinished.unlink()


def vacuum(settings: Settings) -> None:
    """See `SQLiteStore.vacuum`."""
    _on(settings, rebuild_index)  # FTS5 keeps words of deleted notes until it happens to merge
    _on(settings, lambda cx: cx.execute("VACUUM"))
    checkpoint(settings)


def checkpoint(settings: Settings) -> bool:
    """See `SQLiteStore.checkpoint`."""
    row = _on(settings, lambda cx: cx.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone())
    return row[0] == 0


def _on(settings: Settings, act: Callable[[Connection], T]) -> T:
    with closing(connect(replace(settings, policy="as_is"))) as connection:
        try:
            return act(connection)
        except sqlite3.Error as error:
            raise translate(error, settings.path, settings.busy_timeout) from error
