"""`sessions fork|diff|export|import` and `replay`: what else can be done with what is stored."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from power_loop.agent import travel
from power_loop.cli.ask import loop_with
from power_loop.cli.silent import SilentService
from power_loop.errors import UsageError
from power_loop.events import ModelAsked, Stamped
from power_loop.history.archive import export_session, import_session
from power_loop.runtime.stores.base import Store

__all__ = ["diff", "export", "fork", "import_file", "replay"]


async def fork(args: Namespace, store: Store) -> int:
    """`sessions fork`: prints the id of the copy."""
    print(await travel.fork(store, args.session, args.at, {}, None))
    return 0


async def diff(args: Namespace, store: Store) -> int:
    """`sessions diff`: where two sessions part; 1 if they do."""
    found = await travel.diff(store, args.session, args.other)
    print(found)
    return 0 if found.identical else 1


async def export(args: Namespace, store: Store) -> int:
    """`sessions export`: into a file."""
    count = await export_session(store, args.session, args.file, key=_key(args))
    print(f"{count} records in {str(args.file)!r}", file=sys.stderr)
    return 0


async def import_file(args: Namespace, store: Store) -> int:
    """`sessions import`: prints the id of the session."""
    print(await import_session(store, args.file, key=_key(args), as_id=args.as_id))
    return 0


async def replay(args: Namespace, store: Store) -> int:
    """`replay`: does a session's runs once more; 1 if they differ from what is stored."""
    stamped = await store.read(args.session)
    loop = loop_with(args, store, SilentService(_model_of(stamped)))
    done = await loop.replay(args.session, run=args.run)
    if done.divergence is not None:
        print(done.divergence)
        return 1
    print(f"the same: {done.runs} runs, {done.rounds} rounds, {done.records} records")
    return 0


def _model_of(stamped: Sequence[Stamped]) -> str:
    """The model that was asked last."""
    asked = [each.event.model for each in stamped if isinstance(each.event, ModelAsked)]
    return asked[-1] if asked else "none"


def _key(args: Namespace) -> bytes | None:
    path: Path | None = args.key_file
    if path is None:
        return None
    key = path.read_bytes().strip()
    if not key:
        raise UsageError(f"the key file {str(path)!r} is empty")
    return key
