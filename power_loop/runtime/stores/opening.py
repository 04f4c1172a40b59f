"""A store by its URL, for programs that are told by their configuration where sessions live."""

from __future__ import annotations

from importlib import import_module
from urllib.parse import unquote, urlsplit

from power_loop.errors import UsageError
from power_loop.runtime.stores.memory import MemoryStore
from power_loop.runtime.stores.notes import StoreWithNotes

__all__ = ["open_store"]

_FORMS = (
    "sqlite:///relative.db, sqlite:////absolute/path.db, postgresql://user@host/database or memory:"
)


def open_store(url: str) -> StoreWithNotes:
    """The store that `url` names; nothing is opened before its first use. Close it after the last.

    `sqlite:///agent.db` is a file beside the program, `sqlite:////var/lib/agent.db` one by its
    absolute path; `postgresql://…` is passed to the driver as it is; `memory:` is gone with the
    process. Everything that can be set otherwise is an argument of the stores themselves.

    Raises:
        UsageError: the URL names no store, or one whose extra is not installed.
    """
    scheme = urlsplit(url).scheme
    match scheme:
        case "memory" if url == "memory:":
            return MemoryStore()
        case "sqlite" if url.startswith("sqlite:///") and len(url) > len("sqlite:///"):
            path = unquote(url.removeprefix("sqlite:///"))
            module = import_module("power_loop.runtime.stores.sqlite")
            sqlite: StoreWithNotes = module.SQLiteStore(path)
            return sqlite
        case "postgresql" | "postgres":
            module = import_module("power_loop.runtime.stores.postgres")
            postgres: StoreWithNotes = module.PostgresStore(url)
            return postgres
        case _:
            # Not the whole of it, which may hold a password.
            raise UsageError(f"no store has a URL of scheme {scheme!r}; write {_FORMS}")
