"""How much of what is relevant comes up: by meaning, with the local model, and by full text.

    python -m tests.memory.recall_quality

Of a set that this project wrote (recall_set.json), recall@5 is the share of a question's relevant
notes among the first five that are found, on average over the questions. Then 10,000 notes are
searched, to see how long that takes.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from array import array
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from statistics import mean, quantiles

import anyio
import msgspec
from msgspec import Struct

from llm_client import LocalEmbedder
from power_loop import Note as StoredNote
from power_loop import NoteFilter, SQLiteStore, SQLiteVectorIndex
from power_loop.runtime.memory.base import MemoryScope
from power_loop.runtime.memory.vectors.base import Remembered, Space

__all__ = ["RECALL_SET", "SIDES", "Note", "RecallSet", "recall_at_5", "seconds_per_search"]

MANY = 10_000


class Note(Struct, frozen=True):
    """Something worth remembering."""

    id: str
    text: str


class Question(Struct, frozen=True):
    """What somebody asks, how it relates to the notes, and those that are relevant."""

    kind: str
    text: str
    relevant: tuple[str, ...]


class RecallSet(Struct, frozen=True):
    """The labelled set."""

    notes: tuple[Note, ...]
    queries: tuple[Question, ...]


RECALL_SET = msgspec.json.decode(
    Path(__file__).with_name("recall_set.json").read_bytes(), type=RecallSet
)

Search = Callable[[str, int], Awaitable[Sequence[str]]]
"""The ids of so many notes, the best first, for a text."""

Side = Callable[[Sequence[Note], Path], AbstractAsyncContextManager[Search]]
"""Keeps notes in a folder, to be searched."""


@asynccontextmanager
async def by_meaning(notes: Sequence[Note], folder: Path) -> AsyncGenerator[Search]:
    """The index in a file, and the model inside a package. Filler gets vectors by chance, which
    takes no minutes and changes nothing of how long a search takes."""
    embedder = LocalEmbedder()
    space = Space(embedder.model, embedder.dimensions)
    chance = random.Random(5)
    told = [note for note in notes if not note.id.startswith("filler")]
    vectors = [*await embedder.embed([note.text for note in told], kind="document")]
    vectors += [
        array("f", [chance.gauss(0, 1) for _ in range(space.dimensions)])
        for _ in range(len(notes) - len(told))
    ]
    async with SQLiteVectorIndex(folder / "vectors.db") as index:
        memories = [
            Remembered(id=note.id, text=note.text, scope=MemoryScope(session=""), source="", at=0)
            for note in sorted(notes, key=lambda note: note.id.startswith("filler"))
        ]
        await index.add(space, list(zip(memories, vectors, strict=True)))

        async def search(text: str, k: int) -> Sequence[str]:
            [vector] = await embedder.embed([text], kind="query")
            found = await index.search(space, vector, k)
            return [one.memory.id for one in found if one.similarity >= embedder.floor]

        yield search


@asynccontextmanager
async def by_words(notes: Sequence[Note], folder: Path) -> AsyncGenerator[Search]:
    """The notes of a store in a file, with its full-text search."""
    which = NoteFilter(owners={"user": "ada"})
    async with SQLiteStore(folder / "words.db") as store:
        for note in notes:
            kept = StoredNote(id=note.id, scope="user", user="ada", text=note.text, created=0)
            await store.notes.add(kept)

        async def search(text: str, k: int) -> Sequence[str]:
            return [note.id for note in await store.notes.search(text, which, limit=k)]

        yield search


SIDES: Mapping[str, Side] = {"by meaning": by_meaning, "by words": by_words}


async def recall_at_5(side: Side, recall_set: RecallSet = RECALL_SET) -> dict[str, float]:
    """Recall@5 over all questions, as "all", and over those of each kind."""
    shares: dict[str, list[float]] = {"all": []}
    with tempfile.TemporaryDirectory() as folder:
        async with side(recall_set.notes, Path(folder)) as search:
            for question in recall_set.queries:
                found = set(await search(question.text, 5))
                share = len(found & set(question.relevant)) / min(5, len(question.relevant))
                shares["all"].append(share)
                shares.setdefault(question.kind, []).append(share)
    return {kind: mean(each) for kind, each in shares.items()}


async def seconds_per_search(side: Side, count: int, rounds: int = 3) -> list[float]:
    """How long each search of `count` notes took, for every question of the set so many times."""
    chance = random.Random(7)
    words = sorted({word for note in RECALL_SET.notes for word in note.text.split()})
    filler = [
        Note(f"filler{n}", " ".join(chance.choices(words, k=12)))
        for n in range(count - len(RECALL_SET.notes))
    ]
    taken: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        async with side([*RECALL_SET.notes, *filler], Path(folder)) as search:
            await search("warm", 5)
            for question in RECALL_SET.queries * rounds:
                begun = time.perf_counter()
                await search(question.text, 5)
                taken.append(time.perf_counter() - begun)
    return taken


async def main() -> None:
    """Prints both tables."""
    say = sys.stdout.write
    notes, queries = len(RECALL_SET.notes), len(RECALL_SET.queries)
    say(f"recall@5 of {queries} questions over {notes} notes\n")
    recalls = {name: await recall_at_5(side) for name, side in SIDES.items()}
    kinds = list(recalls["by meaning"])
    say(f"{'':12}{''.join(f'{kind:>12}' for kind in kinds)}\n")
    for name, recall in recalls.items():
        say(f"{name:12}{''.join(f'{recall[kind]:12.3f}' for kind in kinds)}\n")
    say(f"milliseconds of a recall over {MANY:,} notes\n")
    for name, side in SIDES.items():
        cuts = quantiles(await seconds_per_search(side, MANY), n=20)
        say(f"{name:12} p50 {cuts[9] * 1e3:6.1f}  p95 {cuts[18] * 1e3:6.1f}\n")


if __name__ == "__main__":
    anyio.run(main)
