"""`memory list|export|forget`: what agents remember, and of whom."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime
from typing import Any

import msgspec

from power_loop.cli.database import DurableStore
from power_loop.cli.keyboard import agreed
from power_loop.cli.timeline import counted, one_line
from power_loop.cli.values import name, positive
from power_loop.runtime.stores.notes import NoteFilter, export_memory, forget_memory

__all__ = ["add_memory"]


def add_memory(group: Any, common: ArgumentParser) -> None:
    """Adds the commands to those of `memory`."""
    whose = ArgumentParser(add_help=False)
    whose.add_argument(
        "--user", type=name, required=True, metavar="NAME", help="the person whose memory is meant"
    )
    what = "list what is remembered, newest first"
    parser = group.add_parser("list", parents=[common], help=what, description=f"{what}.")
    parser.add_argument("text", nargs="?", default="", help="it has words of this; best first")
    parser.add_argument("--user", type=name, metavar="NAME", help="only of this person")
    parser.add_argument(
        "--limit", type=positive, default=50, metavar="N", help="how many (%(default)s)"
    )
    parser.set_defaults(command=list_notes)

    what = "print all that is remembered of a person, as JSON lines"
    parser = group.add_parser("export", parents=[common, whose], help=what, description=f"{what}.")
    parser.set_defaults(command=export)

    what = "delete for good all that is remembered of a person"
    parser = group.add_parser("forget", parents=[common, whose], help=what, description=f"{what}.")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.set_defaults(command=forget)


async def list_notes(args: Namespace, store: DurableStore) -> int:
    """`memory list`: a line a note."""
    which = NoteFilter(user=args.user)
    if args.text:
        found = await store.notes.search(args.text, which, limit=args.limit)
    else:
        found = await store.notes.list(which, limit=args.limit)
    if not found:
        print("nothing like that is remembered", file=sys.stderr)
    for note in found:
        when = datetime.fromtimestamp(note.created, UTC).strftime("%Y-%m-%d %H:%M")
        whose = f"{note.scope} {note.owner}"
        print(f"{note.id}  {when}  {note.kind}  {whose:<16}  {one_line(note.text)}")
    return 0


async def export(args: Namespace, store: DurableStore) -> int:
    """`memory export`: whole, and for another program to read."""
    for note in await export_memory(store.notes, args.user):
        print(msgspec.json.encode(note).decode())
    return 0


async def forget(args: Namespace, store: DurableStore) -> int:
    """`memory forget`: asks before it deletes, unless it was told not to."""
    count = await store.notes.count(NoteFilter(user=args.user))
    if count == 0:
        print(f"nothing is remembered of {args.user}")
        return 0
    question = f"Delete {counted(count, 'note')} of {args.user} for good?"
    if not args.yes and not await agreed(question):
        print("nothing was deleted", file=sys.stderr)
        return 1
    count = await forget_memory(store.notes, args.user)
    print(f"deleted {counted(count, 'note')} of {args.user}")
    return 0
