"""**Protocol** NoteStore: what agents remember across sessions, kept beside the sessions.

A note belongs to a person, to an agent or to one session, and says of whose run it came. Those of a
session are deleted with it; the others stay until they are forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Literal, Protocol, get_args

from msgspec import Struct

from llm_client.types import Text
from power_loop.errors import UsageError
from power_loop.runtime.stores.base import Store
from power_loop.session.text import is_sound

__all__ = [
    "EVERY_NOTE",
    "LONGEST_NOTE",
    "Note",
    "NoteFilter",
    "NoteKind",
    "NoteScope",
    "NoteStore",
    "StoreWithNotes",
    "WhenFull",
    "all_notes",
    "check_note",
    "check_text",
    "export_memory",
    "forget_memory",
    "place_of",
]

NoteScope = Literal["user", "agent", "session"]
"""To whom a note belongs."""
NoteKind = Literal["note", "fact"]
"""Who has made it: the agent, by its own decision; or whoever looked through what was said."""
WhenFull = Literal["reject", "fifo"]
"""What becomes of one note more than there may be: it is refused, or the oldest gives way."""

LONGEST_NOTE = 20_000
"""Characters that any store holds as one note."""
_PAGE = 200


class Note(Struct, frozen=True, kw_only=True):
    """Something to be remembered.

    Attributes:
        id: unique in the store.
        scope: which of the following it belongs to, and is found for.
        user: the person in whose run it was written; "" if nobody said.
        agent: the name of the agent that wrote it.
        session: the session in which.
        text: what is remembered.
        kind: see `NoteKind`.
        created: when its text was written, in seconds since the epoch.
        run: the run in which it was written.
    """

    id: str
    scope: NoteScope
    user: str = ""
    agent: str = ""
    session: str = ""
    text: str
    kind: NoteKind = "note"
    created: float
    run: str = ""

    @property
    def owner(self) -> str:
        """The name of the person, agent or session that it belongs to."""
        name: str = getattr(self, self.scope)
        return name


class NoteFilter(Struct, frozen=True, kw_only=True):
    """Which notes are meant: those for which all of it holds. None asks for nothing.

    Attributes:
        owners: they belong to one of these: a name for each scope.
        user: they come of this person's runs, whomever they belong to.
        kind: see `NoteKind`.
        ids: they are some of these.
    """

    owners: Mapping[NoteScope, str] | None = None
    user: str | None = None
    kind: NoteKind | None = None
    ids: Sequence[str] | None = None


EVERY_NOTE = NoteFilter()


class NoteStore(Protocol):
    """**Protocol**: where notes are. Safe for use by many runs, tasks and processes at once.

    All methods raise `power_loop.errors.StoreError` subclasses when the store itself fails. One
    that changes something does so whole or not at all, also when the call is cancelled.
    """

    async def add(
        self, note: Note, *, limit: int | None = None, when_full: WhenFull = "reject"
    ) -> None:
        """Keeps a note. Does nothing if there is one of that id, so it may be made again.

        `limit` is how many of its kind its owner may have: the one to whom it belongs.

        Raises:
            NotesFull: its owner has `limit` of them, and none gives way.
            UsageError: the note belongs to nobody, says nothing, or is not valid text.
        """
        ...

    async def update(self, which: NoteFilter, text: str, created: float) -> int:
        """Gives the notes another text, of another time; returns how many there were.

        Raises:
            UsageError: the text says nothing, is not valid, or is too long.
        """
        ...

    async def search(self, query: str, which: NoteFilter, *, limit: int = 10) -> Sequence[Note]:
        """Notes that have a word of the query, best first, and of equals the newest.

        The query is anything that a person or a model may write. Words that few notes have count
        most; see `power_loop.runtime.stores.words` for what a word is.
        """
        ...

    async def list(
        self, which: NoteFilter, *, limit: int = 100, before: Note | None = None
    ) -> Sequence[Note]:
        """Notes, newest first; `before` pages on: the last of the page before."""
        ...

    async def count(self, which: NoteFilter) -> int:
        """How many there are."""
        ...

    async def delete(self, which: NoteFilter) -> int:
        """Deletes notes for good; returns how many."""
        ...


class StoreWithNotes(Store, Protocol):
    """**Protocol**: a store that keeps notes beside its sessions, as all that come with us do."""

    @property
    def notes(self) -> NoteStore:
        """The notes; released with the store."""
        ...


async def all_notes(notes: NoteStore, which: NoteFilter) -> list[Note]:
    """Every note that is meant, newest first, however many there are."""
    found: list[Note] = []
    while True:
        page = await notes.list(which, limit=_PAGE, before=found[-1] if found else None)
        found += page
        if len(page) < _PAGE:
            return found


async def export_memory(notes: NoteStore, user: str) -> list[Note]:
    """All that is remembered of a person: their notes and facts, and those of agents and sessions
    that come of their runs; newest first.

    Raises:
        UsageError: the name is empty.
    """
    return await all_notes(notes, _of_person(user))


async def forget_memory(notes: NoteStore, user: str) -> int:
    """Deletes for good all that `export_memory` gives; returns how many notes that were.

    Raises:
        UsageError: the name is empty.
    """
    return await notes.delete(_of_person(user))


def _of_person(user: str) -> NoteFilter:
    if not user:
        raise UsageError("name the person whose memory is meant; nobody has an empty name")
    return NoteFilter(user=user)


def place_of(scope: NoteScope, owner: str) -> str:
    """One word for an owner, which no other owner has."""
    return sha256(f"{scope}\0{owner}".encode(errors="surrogatepass")).hexdigest()[:32]


def check_note(note: Note, limit: int | None, when_full: WhenFull) -> None:
    """Refuses what no store can keep.

    Raises:
        UsageError: the note belongs to nobody, says nothing, is not valid text or too long; or the
            limit cannot be one.
    """
    for what, value, legal in (
        ("the scope of a note", note.scope, NoteScope),
        ("the kind of a note", note.kind, NoteKind),
        ("when_full", when_full, WhenFull),
    ):
        if value not in get_args(legal):
            raise UsageError(f"{what} is one of {', '.join(get_args(legal))}, not {value!r}")
    if limit is not None and limit < 1:
        raise UsageError(f"the limit of notes is a number from 1, not {limit}")
    if not note.id or not note.owner:
        raise UsageError(f"a note of scope {note.scope!r} needs an id and a {note.scope}")
    for what, value in (
        ("id", note.id),
        ("user", note.user),
        ("agent", note.agent),
        ("session", note.session),
        ("run", note.run),
    ):
        if not is_sound(Text(value)):
            raise UsageError(f"the {what} of a note, {value!r}, holds a NUL or a lone surrogate")
    check_text(note.text)


def check_text(text: str) -> None:
    """Refuses a text that no note can have.

    Raises:
        UsageError: it is blank, not valid text, or too long.
    """
    if not text.strip():
        raise UsageError("a note must say something")
    if not is_sound(Text(text)):
        raise UsageError("the text of a note holds a NUL or a lone surrogate; remove it")
    if len(text) > LONGEST_NOTE:
        raise UsageError(
            f"a note has at most {LONGEST_NOTE:,} characters, this one {len(text):,}; shorten it"
        )
