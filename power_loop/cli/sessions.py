"""`sessions` and `events`: what is stored."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Iterable
from datetime import UTC, datetime

from power_loop.agent.feed import EventStream
from power_loop.cli.display import JsonDisplay
from power_loop.cli.keyboard import agreed
from power_loop.cli.timeline import counted, describe, timeline
from power_loop.events import Stamped
from power_loop.runtime.stores.base import SessionInfo, SessionQuery, Store
from power_loop.runtime.stores.pruning import prune

__all__ = ["follow", "list_sessions", "prune_sessions", "remove", "search", "show"]


async def list_sessions(args: Namespace, store: Store) -> int:
    """`sessions list`: newest first."""
    sessions = await store.list(limit=args.limit)
    if not sessions:
        print("no sessions yet; `power-loop ask …` makes one", file=sys.stderr)
    _print(sessions)
    return 0


async def search(args: Namespace, store: Store) -> int:
    """`sessions search`: those for which all holds that was said, newest first."""
    query = SessionQuery(
        text=args.text, metadata=dict(args.metadata), status=args.status, parent=args.parent
    )
    sessions = await store.list(query, limit=args.limit)
    if not sessions:
        print("no session is like that", file=sys.stderr)
    _print(sessions)
    return 0


async def prune_sessions(args: Namespace, store: Store) -> int:
    """`sessions prune`: asks before it deletes, unless it was told not to."""
    before = time.time() - args.older_than
    query = SessionQuery(metadata=dict(args.metadata), status=args.status)
    due = (await prune(store, before, query=query, preview=True)).sessions
    if not due:
        print("nothing is that old")
        return 0
    if args.dry_run:
        print(f"would delete {counted(len(due), 'session')}, with all below")
        print("".join(f"{session}\n" for session in due), end="")
        return 0
    question = f"Delete {counted(len(due), 'session')}, with all below?"
    if not args.yes and not await agreed(question):
        print("nothing was deleted", file=sys.stderr)
        return 1
    done = await prune(store, before, query=query)
    print(f"deleted {counted(done.deleted, 'session')}")
    for session in done.busy:
        print(f"not deleted, somebody is running it: {session}", file=sys.stderr)
    return 0


def _print(sessions: Iterable[SessionInfo]) -> None:
    for session in sessions:
        when = datetime.fromtimestamp(session.updated, UTC).strftime("%Y-%m-%d %H:%M")
        print(f"{session.id}  {when}  {session.status:<18} {session.seq:>5}  {session.title}")


async def show(args: Namespace, store: Store) -> int:
    """`sessions show`: the timeline."""
    for line in timeline(await store.read(args.session)):
        print(line)
    return 0


async def remove(args: Namespace, store: Store) -> int:
    """`sessions rm`: the session and those of its sub-agents."""
    count = await store.delete(args.session)
    print(f"deleted {counted(count, 'session')}")
    return 0


async def follow(args: Namespace, store: Store) -> int:
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
