"""What every index of vectors holds to, on SQLite and on PostgreSQL."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from power_loop.errors import (
    EmbedderMismatch,
    InvalidInput,
    StoreUnavailable,
    UsageError,
)
from power_loop.runtime.memory.vectors.base import ANYBODY, Found, Space, VectorIndex, Whose
from tests.memory.indexes import (
    KINDS,
    SPACE,
    Index,
    Kind,
    entry,
    memory,
    new_place,
    open_index,
    vector,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new place for an index."""
    kind: Kind = request.param
    return new_place(kind, tmp_path)


@pytest.fixture
async def index(place: str) -> AsyncGenerator[VectorIndex]:
    """An empty index."""
    async with open_index(place) as opened:
        yield opened


def ids(found: Sequence[Found]) -> list[str]:
    """Which memories were found, the nearest first."""
    return [one.memory.id for one in found]


async def test_the_nearest_come_first_with_their_cosine(index: VectorIndex) -> None:
    """Whatever the length of their vectors."""
    given = [entry("far", (-1, 0, 0)), entry("near", (9, 1, 0)), entry("half", (1, 1, 0))]
    assert await index.add(SPACE, given) == 3
    found = await index.search(SPACE, vector(5, 0, 0), 3)
    assert ids(found) == ["near", "half", "far"]
    expected = [9 / math.sqrt(82), 1 / math.sqrt(2), -1]
    assert [one.similarity for one in found] == pytest.approx(expected, abs=1e-6)
    assert ids(await index.search(SPACE, vector(5, 0, 0), 2)) == ["near", "half"]


async def test_a_memory_comes_back_as_it_was_given(index: VectorIndex) -> None:
    """Every field, in any script."""
    given = memory(
        "1", "Grüße, 你好 '; DROP TABLE memories -- 😀\n", user="ü'", agent="", session=""
    )
    await index.add(SPACE, [(given, vector(0, 1, 0))])
    assert (await index.search(SPACE, vector(0, 1, 0), 1))[0].memory == given
    assert await index.export() == [given]


async def test_equally_near_ones_come_in_the_order_of_their_coming(index: VectorIndex) -> None:
    """So that the same search finds the same."""
    await index.add(SPACE, [entry(id) for id in "cab"])
    assert ids(await index.search(SPACE, vector(1, 0, 0), 3)) == ["c", "a", "b"]


async def test_a_memory_that_is_there_is_left_as_it_is(index: VectorIndex) -> None:
    """In an index and within one call."""
    assert await index.add(SPACE, [entry("1", text="first"), entry("1", text="twice")]) == 1
    assert await index.add(SPACE, [entry("1", text="again"), entry("2")]) == 1
    assert [one.text for one in await index.export()] == ["first", "says 2"]
    assert await index.add(SPACE, []) == 0


async def test_only_those_are_meant_who_are_named(index: VectorIndex) -> None:
    """In searching, counting, listing and forgetting; an empty name is a name."""
    await index.add(
        SPACE,
        [
            entry("ann1", user="ann", session="s1"),
            entry("ann2", user="ann", session="s2", agent="other"),
            entry("bob1", user="bob", session="s1"),
            entry("nobody", user="", session="s3"),
        ],
    )
    meant = {
        Whose(user="ann"): ["ann1", "ann2"],
        Whose(user="ann", agent="other"): ["ann2"],
        Whose(session="s1"): ["ann1", "bob1"],
        Whose(user=""): ["nobody"],
        Whose(user="carl"): [],
        ANYBODY: ["ann1", "ann2", "bob1", "nobody"],
    }
    for whose, expected in meant.items():
        assert ids(await index.search(SPACE, vector(1, 0, 0), 9, whose)) == expected
        assert [one.id for one in await index.export(whose)] == expected
        assert await index.count(whose) == len(expected)
    assert await index.delete(Whose(session="s1"), ids=["bob1", "ann2", "none"]) == 1
    assert await index.delete(Whose(user="ann")) == 2
    assert await index.delete(ids=[]) == 0
    assert [one.id for one in await index.export()] == ["nobody"]
    assert await index.delete() == 1


async def test_memories_are_listed_page_by_page(index: VectorIndex) -> None:
    """Each once, even if the last of a page is gone meanwhile."""
    await index.add(SPACE, [entry(f"{n:02}") for n in range(7)])
    first = await index.export(limit=3)
    await index.delete(ids=["02"])
    second = await index.export(after="02", limit=3)
    assert [one.id for one in (*first, *second)] == ["00", "01", "02", "03", "04", "05"]
    assert [one.id for one in await index.export(after="05", limit=3)] == ["06"]


async def test_what_is_kept_is_there_when_it_is_opened_again(place: str) -> None:
    """By another handle, with its model."""
    async with open_index(place) as index:
        await index.add(SPACE, [entry("1")])
    async with open_index(place) as index:
        assert ids(await index.search(SPACE, vector(1, 0, 0), 1)) == ["1"]
        with pytest.raises(EmbedderMismatch):
            await index.search(Space("model", 4), vector(1, 0, 0, 0), 1)


async def test_vectors_of_another_model_are_refused_with_what_to_do(index: VectorIndex) -> None:
    """Of another name, or of another size; nothing is stored."""
    await index.add(SPACE, [entry("1")])
    for space, numbers in ((Space("new", 3), (1, 0, 0)), (Space("model", 2), (1, 0))):
        with pytest.raises(EmbedderMismatch, match="export the memories"):
            await index.add(space, [entry("2", numbers)])
        with pytest.raises(EmbedderMismatch, match="'model' with 3 dimensions"):
            await index.search(space, vector(*numbers), 1)
    assert await index.count() == 1


async def test_an_empty_index_takes_any_model(index: VectorIndex) -> None:
    """A new one, and one that has been emptied; a search finds nothing in it."""
    assert ids(await index.search(Space("any", 2), vector(1, 0), 5)) == []
    await index.add(SPACE, [entry("1")])
    await index.delete()
    assert ids(await index.search(Space("any", 2), vector(1, 0), 5)) == []
    assert await index.add(Space("new", 2), [entry("1", (1, 0))]) == 1


@pytest.mark.parametrize(
    "numbers",
    [(math.nan, 0, 0), (math.inf, 0, 0), (0, 0, 0), (1, 0), (1, 0, 0, 0), ()],
)
async def test_what_is_no_direction_is_refused(
    index: VectorIndex, numbers: Sequence[float]
) -> None:
    """NaN, infinity, zero, or of another size: neither kept nor searched for."""
    with pytest.raises(UsageError):
        await index.add(SPACE, [entry("good"), entry("bad", numbers)])
    with pytest.raises(UsageError):
        await index.search(SPACE, vector(*numbers), 1)
    with pytest.raises(UsageError, match="k must be at least 1"):
        await index.search(SPACE, vector(1, 0, 0), 0)
    assert await index.count() == 0


async def test_text_that_a_database_cannot_hold_is_refused(index: VectorIndex) -> None:
    """Wherever it stands."""
    for text in ("a\0b", "\ud800"):
        for given in (memory("1", text), memory("1", user=text), memory(text)):
            with pytest.raises(InvalidInput, match="replace it"):
                await index.add(SPACE, [(given, vector(1, 0, 0))])
    assert await index.count() == 0


async def test_a_megabyte_of_text_is_kept(index: VectorIndex) -> None:
    """What is worth keeping is not the index's business."""
    text = "Donaudampfschifffahrt " * 50_000
    await index.add(SPACE, [entry("1", text=text)])
    assert (await index.export())[0].text == text


async def test_a_closed_index_says_so(place: str) -> None:
    """Closing twice is fine; its name shows no secret."""
    index = open_index(place)
    await index.count()
    await index.aclose()
    await index.aclose()
    with pytest.raises(StoreUnavailable, match="is closed"):
        await index.count()
    assert "password" not in repr(index)


async def test_many_tasks_add_search_and_forget_at_once(place: str) -> None:
    """Through two handles: nothing is lost, nothing is doubled."""
    async with open_index(place) as one, open_index(place) as two:

        async def busy(index: Index, n: int) -> None:
            await index.add(SPACE, [entry(f"{n}.{m}", user=f"u{n}") for m in range(5)])
            await index.add(SPACE, [entry("shared")])
            await index.delete(ids=[f"{n}.4"])
            mine = await index.search(SPACE, vector(1, 0, 0), 99, Whose(user=f"u{n}"))
            assert ids(mine) == [f"{n}.{m}" for m in range(4)]

        async with anyio.create_task_group() as group:
            for n in range(20):
                group.start_soon(busy, (one, two)[n % 2], n)
        assert await one.count() == 20 * 4 + 1


async def test_a_call_cancelled_at_any_moment_leaves_the_index_whole(place: str) -> None:
    """Each batch is there as a whole or not at all, and the index works on."""
    async with open_index(place) as index:
        await index.add(SPACE, [entry("first")])
        for n in range(30):
            with anyio.move_on_after(random.uniform(0, 0.004)):
                await index.add(SPACE, [entry(f"{n}.{m}", user=f"u{n}") for m in range(20)])
            with anyio.move_on_after(random.uniform(0, 0.002)):
                await index.search(SPACE, vector(1, 0, 0), 3)
        counts = {await index.count(Whose(user=f"u{n}")) for n in range(30)}
        assert counts <= {0, 20}
        assert (await index.search(SPACE, vector(1, 0, 0), 1))[0].memory.id == "first"


async def test_of_two_models_that_come_at_once_one_is_taken(place: str) -> None:
    """Then all vectors are of that one."""
    for _ in range(5):
        async with open_index(place) as one, open_index(place) as two:
            taken: list[str] = []

            async def come(index: Index, model: str, into: list[str]) -> None:
                with suppress(EmbedderMismatch):
                    await index.add(Space(model, 3), [entry(f"{model}{n}") for n in range(3)])
                    into.append(model)

            async with anyio.create_task_group() as group:
                group.start_soon(come, one, "a", taken)
                group.start_soon(come, two, "b", taken)
            assert len(taken) == 1
            assert {memory.id[0] for memory in await one.export()} == set(taken)
            await two.delete()
