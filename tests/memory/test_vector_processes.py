"""Several processes on one index of vectors: killed, forked, and all at once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from power_loop.runtime.memory.vectors.base import Whose
from tests.memory.indexes import KINDS, SPACE, Kind, entry, new_place, open_index, vector
from tests.memory.programs import BATCH, VectorProgram

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals"),
]


@pytest.fixture
def anyio_backend() -> str:
    """The other processes make the work here; one event loop is enough to watch them."""
    return "asyncio"


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new place for an index."""
    kind: Kind = request.param
    return new_place(kind, tmp_path)


async def test_what_a_killed_process_was_told_is_kept_is_there(place: str) -> None:
    """SIGKILL between and during adding: every acknowledged batch, and none in part."""
    for round in range(4):
        with VectorProgram("write", place, f"u{round}") as program:
            acknowledged = 0
            while acknowledged < 2 + 7 * round:
                acknowledged = int(program.says())
            acknowledged = int([str(acknowledged), *program.kill()][-1])
        async with open_index(place) as index:
            count = await index.count(Whose(user=f"u{round}"))
            assert count % BATCH == 0, "half a batch was kept"
            assert count >= acknowledged * BATCH
            found = await index.search(SPACE, vector(1, 0, 0), 10_000, Whose(user=f"u{round}"))
            assert len(found) == count
            assert await index.add(SPACE, [entry(f"after {round}")]) == 1


async def test_many_processes_lose_nothing_and_double_nothing(place: str) -> None:
    """Each opens the new place at the same moment; what all add is there once."""
    programs = [VectorProgram("many", place, f"u{n}", 6) for n in range(3)]
    try:
        assert [program.says() for program in programs] == ["ready"] * 3
        for program in programs:
            program.tell()
        assert [program.rest() for program in programs] == [""] * 3
    finally:
        for program in programs:
            program.__exit__()
    async with open_index(place) as index:
        counts = [await index.count(Whose(user=user)) for user in ("u0", "u1", "u2", "all")]
    assert counts == [6 * BATCH] * 3 + [6]


def test_a_forked_child_and_its_parent_both_go_on(place: str) -> None:
    """Neither uses the other's connection."""
    with VectorProgram("fork", place) as program:
        assert program.says() == "0"
        assert program.says() == "before child parent"
