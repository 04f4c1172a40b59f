"""What both databases have alike of notes: the columns, and what is asked of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from power_loop.runtime.stores.notes import Note, NoteFilter, place_of

__all__ = ["Condition", "condition", "filled", "note_of", "older_than"]

_COLUMNS = "n.id, n.scope, n.person, n.agent, n.session, n.text, n.kind, n.created, n.run"
"""In the order in which `note_of` reads them."""
_NEWEST = "n.created DESC, n.id DESC"

Condition = tuple[str, Sequence[Any]]
"""SQL that is true or false of a note `n`, with its arguments."""


def filled(template: str, which: str) -> str:
    """A statement about notes `n`, with its COLUMNS, its order NEWEST, and WHICH are meant."""
    text = template.replace("COLUMNS", _COLUMNS).replace("NEWEST", _NEWEST)
    return text.replace("WHICH", which)


def condition(which: NoteFilter, mark: str) -> Condition:
    """What is true of the notes that are meant. `mark` stands for an argument in the dialect."""
    parts, values = ["true"], list[Any]()
    if which.owners is not None:
        places = [place_of(scope, owner) for scope, owner in which.owners.items()]
        parts.append(_among("n.place", len(places), mark))
        values += places
    for column, value in (("n.person", which.user), ("n.kind", which.kind)):
        if value is not None:
            parts.append(f"{column} = {mark}")
            values.append(value)
    if which.ids is not None:
        parts.append(_among("n.id", len(which.ids), mark))
        values += which.ids
    return " AND ".join(parts), values


def older_than(note: Note | None, mark: str) -> Condition:
    """What is true of notes that come after this one in the order of NEWEST."""
    if note is None:
        return "true", ()
    return f"(n.created, n.id) < ({mark}, {mark})", (note.created, note.id)


def _among(column: str, count: int, mark: str) -> str:
    return f"{column} IN ({', '.join([mark] * count)})" if count else "false"


def note_of(row: Sequence[Any]) -> Note:
    """A row of COLUMNS."""
    id, scope, person, agent, session, text, kind, created, run = row
    return Note(
        id=id,
        scope=scope,
        user=person,
        agent=agent,
        session=session,
        text=text,
        kind=kind,
        created=created,
        run=run,
    )
