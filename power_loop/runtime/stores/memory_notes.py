"""Notes in memory: what a note found by its words is worth, in the open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from math import log
from threading import Lock

from msgspec import Struct
from msgspec.structs import replace

from power_loop.errors import NotesFull
from power_loop.runtime.stores.notes import (
    Note,
    NoteFilter,
    WhenFull,
    check_note,
    check_text,
)
from power_loop.runtime.stores.words import terms_of, words_of

__all__ = ["MemoryNotes"]


class _Kept(Struct, frozen=True):
    note: Note
    words: str
    """Each once, between spaces: a look into a text is faster than one into a set of texts."""
    size: float
    """How many words these are."""


class MemoryNotes:
    """A `NoteStore` in this process only. No method suspends; any thread may use it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._notes: dict[str, _Kept] = {}

    async def add(
        self, note: Note, *, limit: int | None = None, when_full: WhenFull = "reject"
    ) -> None:
        """See `NoteStore.add`."""
        check_note(note, limit, when_full)
        with self._lock:
            if note.id in self._notes:
                return
            if limit is not None:
                owned = NoteFilter(owners={note.scope: note.owner}, kind=note.kind)
                kept = sorted(self._found(owned), key=_age)
                if len(kept) >= limit and when_full == "reject":
                    raise NotesFull(note.owner, limit)
                for old in kept[: max(0, len(kept) - limit + 1)]:
                    del self._notes[old.id]
            self._notes[note.id] = _kept(note)

    async def update(self, which: NoteFilter, text: str, created: float) -> int:
        """See `NoteStore.update`."""
        check_text(text)
        with self._lock:
            found = [*self._found(which)]
            for note in found:
                self._notes[note.id] = _kept(replace(note, text=text, created=created))
        return len(found)

    async def search(self, query: str, which: NoteFilter, *, limit: int = 10) -> Sequence[Note]:
        """See `NoteStore.search`."""
        with self._lock:
            kept = [self._notes[note.id] for note in self._found(which)]
        terms = [f" {term.word}" if term.prefix else f" {term.word} " for term in terms_of(query)]
        hits = [[term for term in terms if term in each.words] for each in kept]
        found = [(each, hit) for each, hit in zip(kept, hits, strict=True) if hit]
        if not found:
            return ()
        counts = Counter([term for _, hit in found for term in hit])
        worth = {term: _worth(len(kept), having) for term, having in counts.items()}
        mean = sum(each.size for each, _ in found) / len(found)
        ranked = sorted(
            found,
            key=lambda each: (
                sum(worth[term] for term in each[1]) / (1.3 + 0.9 * each[0].size / mean),
                *_age(each[0].note),
            ),
            reverse=True,
        )
        return [each.note for each, _ in ranked[: max(0, limit)]]

    async def list(
        self, which: NoteFilter, *, limit: int = 100, before: Note | None = None
    ) -> Sequence[Note]:
        """See `NoteStore.list`."""
        with self._lock:
            found = sorted(self._found(which), key=_age, reverse=True)
        older = (note for note in found if before is None or _age(note) < _age(before))
        return [*islice(older, max(0, limit))]

    async def count(self, which: NoteFilter) -> int:
        """See `NoteStore.count`."""
        with self._lock:
            return sum(1 for _ in self._found(which))

    async def delete(self, which: NoteFilter) -> int:
        """See `NoteStore.delete`."""
        with self._lock:
            found = [*self._found(which)]
            for note in found:
                del self._notes[note.id]
        return len(found)

    def drop_session(self, session: str) -> None:
        """Forgets what belongs to a session that is deleted."""
        with self._lock:
            for note in [*self._found(NoteFilter(owners={"session": session}))]:
                del self._notes[note.id]

    def _found(self, which: NoteFilter) -> Iterator[Note]:
        for kept in self._notes.values():
            note = kept.note
            if (
                (which.owners is None or which.owners.get(note.scope) == note.owner)
                and which.user in (None, note.user)
                and which.kind in (None, note.kind)
                and (which.ids is None or note.id in which.ids)
            ):
                yield note


def _age(note: Note) -> tuple[float, str]:
    return note.created, note.id


def _kept(note: Note) -> _Kept:
    words = dict.fromkeys(words_of(note.text))
    return _Kept(note, f" {' '.join(words)} ", len(words))


def _worth(notes: int, having: int) -> float:
    """What a term counts for that `having` of so many notes have: that of BM25."""
    return log(1 + (notes - having + 0.5) / (having + 0.5))
