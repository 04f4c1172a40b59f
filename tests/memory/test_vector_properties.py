"""Whatever is kept, forgotten and searched for, an index finds what measuring all would find."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from llm_client.embedding import Vector
from power_loop.runtime.memory.vectors.base import ANYBODY, Entry, Found, Space, Whose
from tests.memory.indexes import KINDS, Kind, memory, new_place, open_index, vector

DIMENSIONS = 4
SPACE = Space("model", DIMENSIONS)


class Adding(Struct, frozen=True):
    """Memories of these numbers, users, sessions and directions are added."""

    rows: list[tuple[int, str, str, list[float]]]


class Deleting(Struct, frozen=True):
    """Memories are forgotten, those of these numbers only if they are given."""

    whose: Whose
    numbers: list[int] | None


class Searching(Struct, frozen=True):
    """Somebody looks for memories."""

    whose: Whose
    direction: list[float]
    k: int


Step = Adding | Deleting | Searching

coordinates = st.integers(-8, 8).map(lambda n: n / 4)
directions = st.lists(coordinates, min_size=DIMENSIONS, max_size=DIMENSIONS).filter(any)
names = st.sampled_from(["", "ann", "bob", "käthe"])
numbers = st.integers(0, 30)
whoses = st.builds(Whose, user=st.none() | names, session=st.none() | names)
rows = st.lists(st.tuples(numbers, names, names, directions), max_size=12)
scripts = st.lists(
    st.builds(Adding, rows)
    | st.builds(Deleting, whoses, st.none() | st.lists(numbers, max_size=5))
    | st.builds(Searching, whoses, directions, st.integers(1, 12)),
    max_size=10,
)


def cosine(a: Vector, b: Vector) -> float:
    """How alike two vectors are."""
    product = sum(x * y for x, y in zip(a, b, strict=True))
    return product / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


class Model:
    """The same, in the simplest way there is."""

    def __init__(self) -> None:
        self.kept: dict[str, Entry] = {}

    def add(self, entries: Sequence[Entry]) -> int:
        """Keeps those whose id is new; returns how many."""
        before = len(self.kept)
        for one in entries:
            self.kept.setdefault(one[0].id, one)
        return len(self.kept) - before

    def meant(self, whose: Whose) -> list[Entry]:
        """Those of whoever is named, in the order of their coming."""
        named = whose.named()
        return [
            one
            for one in self.kept.values()
            if all(getattr(one[0].scope, name) == value for name, value in named.items())
        ]

    def delete(self, whose: Whose, ids: Sequence[str] | None) -> int:
        """Forgets; returns how many."""
        gone = [one[0].id for one in self.meant(whose) if ids is None or one[0].id in ids]
        for id in gone:
            del self.kept[id]
        return len(gone)

    def search(self, wanted: Vector, k: int, whose: Whose) -> list[Found]:
        """Measures all."""
        found = [Found(one, cosine(wanted, numbers)) for one, numbers in self.meant(whose)]
        return sorted(found, key=lambda one: -one.similarity)[:k]


async def agree(place: str, script: Sequence[Step]) -> int:
    """Does `script` with an index and the model, and compares each answer; how many agreed."""
    model, agreed = Model(), 0
    async with open_index(place) as index:
        await index.delete()
        for step in script:
            match step:
                case Adding(rows):
                    entries = [
                        (memory(f"{number:02}", user=user, session=session), vector(*direction))
                        for number, user, session, direction in rows
                    ]
                    assert await index.add(SPACE, entries) == model.add(entries)
                case Deleting(whose, numbers):
                    ids = None if numbers is None else [f"{number:02}" for number in numbers]
                    assert await index.delete(whose, ids=ids) == model.delete(whose, ids)
                case Searching(whose, direction, k):
                    found = await index.search(SPACE, vector(*direction), k, whose)
                    same(found, model, vector(*direction), k, whose)
            listed = [one for one, _ in model.meant(ANYBODY)]
            assert list(await index.export()) == sorted(listed, key=lambda one: one.id)
            agreed += 1
    return agreed


def same(found: Sequence[Found], model: Model, wanted: Vector, k: int, whose: Whose) -> None:
    """Two that are equally near may change places: sums of 32 bits depend on their order."""
    expected = model.search(wanted, k, whose)
    near = pytest.approx([one.similarity for one in expected], abs=1e-5)
    assert [one.similarity for one in found] == near
    every = {one.memory.id: one for one in model.search(wanted, len(model.kept) + 1, whose)}
    assert len({one.memory.id for one in found}) == len(found)
    for one in found:
        assert every[one.memory.id].memory == one.memory
        assert every[one.memory.id].similarity == pytest.approx(one.similarity, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_search_finds_what_measuring_all_finds(kind: Kind) -> None:
    """Over random memories of random owners, with forgetting in between."""
    with tempfile.TemporaryDirectory() as folder:
        place = new_place(kind, Path(folder))

        @settings(max_examples=100, deadline=None)
        @given(scripts)
        def agrees(script: Sequence[Step]) -> None:
            assert anyio.run(agree, place, script) == len(script)

        agrees()
