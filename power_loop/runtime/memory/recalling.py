"""What is brought up of stored notes for a run, and whose they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import get_args

from llm_client.types import Message
from power_loop.errors import UsageError
from power_loop.runtime.memory.base import MemoryScope
from power_loop.runtime.memory.policy import NotesPolicy
from power_loop.runtime.memory.tagging import tag_as_memory
from power_loop.runtime.stores.notes import Note, NoteFilter, NoteScope, NoteStore

__all__ = ["check_scopes", "owners_in", "recalled"]


async def recalled(
    notes: NoteStore, which: NoteFilter, text: str, policy: NotesPolicy, *, source: str
) -> Sequence[Message]:
    """A message for each note that is brought up: those that share words with `text`, best first,
    then the newest, within what the policy allows."""
    limit = policy.recalled
    found = [*await notes.search(text, which, limit=limit)]
    if len(found) < limit:
        known = {note.id for note in found}
        newest = await notes.list(which, limit=limit)
        found += [note for note in newest if note.id not in known]
    messages: list[Message] = []
    room = policy.injected
    for note in found[:limit]:
        room -= len(note.text)
        if room < 0:
            break
        messages.append(tag_as_memory(_dated(note), source))
    return messages


def _dated(note: Note) -> str:
    return f"{datetime.fromtimestamp(note.created, UTC):%Y-%m-%d}: {note.text}"


def owners_in(scope: MemoryScope, scopes: Sequence[NoteScope]) -> Mapping[NoteScope, str]:
    """Those of the scopes that have a name in this run."""
    names: dict[NoteScope, str] = {each: getattr(scope, each) for each in scopes}
    return {each: name for each, name in names.items() if name}


def check_scopes(scopes: Sequence[NoteScope]) -> tuple[NoteScope, ...]:
    """The scopes, if they are some.

    Raises:
        UsageError: there is none, or one that is none.
    """
    legal = get_args(NoteScope)
    if not scopes or not {*scopes} <= {*legal}:
        raise UsageError(f"the scopes of a memory are some of {', '.join(legal)}, not {scopes!r}")
    return tuple(scopes)
