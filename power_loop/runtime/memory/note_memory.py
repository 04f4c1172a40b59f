"""NoteMemory: what agents write down themselves, found again by its words."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from uuid import uuid4

from llm_client.types import Message
from power_loop.errors import UsageError
from power_loop.runtime.asking import Ask
from power_loop.runtime.memory.base import MemoryScope, MemorySnapshot, RecallQuery
from power_loop.runtime.memory.policy import NotesPolicy
from power_loop.runtime.memory.recalling import check_scopes, owners_in, recalled
from power_loop.runtime.stores.notes import (
    Note,
    NoteFilter,
    NoteScope,
    NoteStore,
)

__all__ = ["NoteMemory"]


class NoteMemory:
    """A `MemoryProvider` of notes in a store; the tools of `note_tools` let the model write them.

    `NoteMemory(store.notes)` remembers for each person; with `scopes=("user", "session")`, what is
    written is the person's, and what is brought up is theirs and the session's. Where a scope has
    no name in a run (nobody said who the user is), it has no notes there: none is read, and none is
    written, so that what strangers say never meets.

    For a run, those notes are brought up that share words with what was said last, best first, then
    the newest: what matters is not always said in the same words. The policy says how many.

    Args:
        notes: where they are: `SQLiteStore.notes`, `PostgresStore.notes` or `MemoryStore.notes`.
        scopes: whose notes are brought up; new ones belong to the first.
        policy: see `NotesPolicy`.
        now: gives seconds since the epoch.

    Raises:
        UsageError: there is no scope, or one that is none.
    """

    def __init__(
        self,
        notes: NoteStore,
        *,
        scopes: Sequence[NoteScope] = ("user",),
        policy: NotesPolicy | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._notes = notes
        self._scopes = check_scopes(scopes)
        self.policy = policy or NotesPolicy()
        self._now = now

    async def recall(self, query: RecallQuery) -> Sequence[Message]:
        """See `MemoryProvider.recall`."""
        which = self._which(query.scope)
        return await recalled(self._notes, which, query.text, self.policy, source="notes")

    async def remember(self, snapshot: MemorySnapshot, ask: Ask | None) -> None:
        """See `MemoryProvider.remember`. Does nothing: the model writes its notes as it works."""

    async def write(self, scope: MemoryScope, text: str, *, run: str = "", key: str = "") -> Note:
        """Writes a note down and gives it back.

        `key` names the attempt: made again with the same one, it comes to one note.

        Raises:
            UsageError: the scope has no name in this run, or the text is blank or too long.
            NotesFull: there are as many notes as may be, and none gives way.
        """
        first = self._scopes[0]
        self._check(text)
        if not getattr(scope, first):
            raise UsageError(f"nobody has said who the {first} is, so nothing is remembered")
        id = sha256(key.encode()).hexdigest() if key else uuid4().hex
        note = Note(
            id=f"n{id[:15]}",
            scope=first,
            user=scope.user,
            agent=scope.agent,
            session=scope.session,
            text=text,
            kind="note",
            created=self._now(),
            run=run,
        )
        limit, when_full = self.policy.notes, self.policy.when_full
        await self._notes.add(note, limit=limit, when_full=when_full)
        return note

    async def rewrite(self, scope: MemoryScope, id: str, text: str) -> bool:
        """Gives a note another text, of now; False if there is no such note in these scopes.

        Raises:
            UsageError: the text is blank or too long.
        """
        self._check(text)
        return await self._notes.update(self._which(scope, id), text, self._now()) > 0

    async def search(self, scope: MemoryScope, text: str, *, limit: int = 10) -> Sequence[Note]:
        """Notes that share words with `text`, best first; the newest if it is blank."""
        which = self._which(scope)
        if not text.strip():
            return await self._notes.list(which, limit=limit)
        return await self._notes.search(text, which, limit=limit)

    async def forget(self, scope: MemoryScope, id: str) -> bool:
        """Deletes a note for good; False if there is no such note in these scopes."""
        return await self._notes.delete(self._which(scope, id)) > 0

    def _which(self, scope: MemoryScope, id: str | None = None) -> NoteFilter:
        ids = None if id is None else (id,)
        return NoteFilter(owners=owners_in(scope, self._scopes), kind="note", ids=ids)

    def _check(self, text: str) -> None:
        if len(text) > self.policy.characters:
            raise UsageError(
                f"a note has at most {self.policy.characters:,} characters, this one "
                f"{len(text):,}; shorten it, or write several"
            )
