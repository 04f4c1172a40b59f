"""`store check|migrate|backup|vacuum`: what an operator does with a database now and then."""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace

from power_loop.cli.database import DurableStore
from power_loop.cli.timeline import counted
from power_loop.errors import StoreSchemaError
from power_loop.runtime.stores.base import EVERY_SESSION
from power_loop.runtime.stores.pruning import all_sessions
from power_loop.runtime.stores.sqlite import SQLiteStore

__all__ = ["backup", "check", "migrate", "vacuum"]

_WRONG_ARGUMENTS = 2


async def check(args: Namespace, store: DurableStore) -> int:
    """`store check`: reads everything; of a schema that is missing or old, prints what mends it."""
    try:
        records = await store.check()
        sessions = len(await all_sessions(store, EVERY_SESSION))
    except StoreSchemaError as error:
        # What is to be run goes alone to where a pipe takes it from.
        print(f"power-loop: {error.args[0]}:", file=sys.stderr)
        print(error.ddl, end="")
        return 1
    print(
        f"{args.db} is sound: {counted(sessions, 'session')}, {counted(records, 'record')}, "
        f"schema version {store.schema_version}"
    )
    return 0


async def migrate(args: Namespace, store: DurableStore) -> int:
    """`store migrate`: says from which version to which."""
    steps, version = await store.migrate(), store.schema_version
    if steps == 0:
        print(f"nothing to do: the schema of {args.db} is of version {version}")
    elif steps == version:
        print(f"made the schema of {args.db}, version {version}")
    else:
        print(f"migrated {args.db} from version {version - steps} to {version}")
    return 0


async def backup(args: Namespace, store: DurableStore) -> int:
    """`store backup`: a file as it is now; a server has a tool of its own for that."""
    if isinstance(store, SQLiteStore):
        await store.backup(args.target)
        print(f"all of {args.db} is in {args.target}")
        return 0
    command = ("pg_dump", f"--schema={store.schema}", "--format=custom")
    print(
        "power-loop: PostgreSQL has a tool of its own for backups; run\n  "
        + shlex.join((*command, f"--file={args.target}", str(args.db))),
        file=sys.stderr,
    )
    return _WRONG_ARGUMENTS


async def vacuum(args: Namespace, store: DurableStore) -> int:
    """`store vacuum`: makes use of the room of what was deleted."""
    await store.vacuum()
    print(f"the room of what was deleted from {args.db} is free again")
    return 0
