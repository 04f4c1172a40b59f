"""`sessions` and `events`: what is stored."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from datetime import UTC, datetime

from power_loop.agent.feed import EventStream
from power_loop.cli.display import JsonDisplay
from power_loop.cli.timeline import describe, timeline
from power_loop.events import Stamped
from power_loop.runtime.stores.sqlite import SQLiteStore

__all__ = ["follow", "list_sessions", "remove", "show"]


async def list_sessions(args: Namespace, store: SQLiteStore) -> int:
    """`sessions list`: newest first."""
    sessions = await store.list(limit=args.limit)
    if not sessions:
        print("no sessions yet; `power-loop ask …` makes one", file=sys.stderr)
    for session in sessions:
        when = datetime.fromtimestamp(session.updated, UTC).strftime("%Y-%m-%d %H:%M")
        print(f"{session.id}  {when}  {session.status:<18} {session.seq:>5}  {session.title}")
    return 0


async def show(args: Namespace, store: SQLiteStore) -> int:
    """`sessions show`: the timeline."""
    for line in timeline(await store.read(args.session)):
        print(line)
    return 0


async def remove(args: Namespace, store: SQLiteStore) -> int:
    """`sessions rm`: the session and those of its sub-agents."""
    count = await store.delete(args.session)
    print(f"deleted {count} session{'s' if count != 1 else ''}")
    return 0


async def follow(args: Namespace, store: SQLiteStore) -> int:
    """`events`: records after a cursor, and on with what any process appends."""
    as_json = JsonDisplay(sys.stdout) if args.json else None
    async for stamped in EventStream(store, args.session, args.after, follow=args.follow):
        if as_json is not None:
            as_json.show(stamped)
        else:
            print(_line(stamped), flush=True)
    return 0


def _line(stamped: Stamped) -> str:
    at = time.strftime("%H:%M:%S", time.gmtime(stamped.at))
    return f"{stamped.seq:>5}  {at}  {describe(stamped.event)}"
