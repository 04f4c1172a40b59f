"""Killed with SIGKILL anywhere: what was finished is not done again, what is told is true."""

from __future__ import annotations

import random
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import anyio
import pytest

from llm_client.types import ToolResult
from power_loop import SQLiteStore
from power_loop.session.outcome import Completed, Crashed
from power_loop.session.records import Record, RunClosed, RunOpened, ToolSettled, ToolStarted
from tests.agent.stores import records_of
from tests.crash.program import SESSION, Case
from tests.crash.zygote import Zygote
from tests.session.checker import violations

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "SIGKILL"), reason="processes can be forked and killed on POSIX only"
)

VARIANTS = {
    "lean": {"hooks": False, "sql": False},
    "hooks": {"hooks": True, "sql": False},
    "sql": {"hooks": False, "sql": True},
}
STRIDES = {"lean": 1, "hooks": 3, "sql": 5}
"""Every how-many-th point is tried; 1 tries them all, in about 20 seconds."""


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as zygote:
        yield zygote


class Tried:
    """What is left of a program that was killed `deaths` times and started again."""

    def __init__(self, folder: Path, log: list[Record], deaths: int) -> None:
        self.deaths = deaths
        self.log = log
        self.points = (folder / "points").read_text().splitlines()
        self.effects = [line.split() for line in (folder / "effects").read_text().splitlines()]


def read_log(folder: Path) -> list[Record]:
    async def read() -> list[Record]:
        store = SQLiteStore(folder / "sessions.db")
        records = records_of(await store.read(SESSION))
        assert await store.check() == len(records)
        await store.aclose()
        return records

    return anyio.run(read)


def kill_and_restart(
    zygote: Zygote, folder: Path, variant: str, kills: tuple[int, ...], seed: int = 0
) -> Tried:
    """Starts the program; it is killed at each of these points in turn, then left alone."""
    folder.mkdir(exist_ok=True)
    options = VARIANTS[variant]
    deaths = 0
    for kill_at in kills:
        case = Case(str(folder), kill_at, "", options["hooks"], options["sql"], seed)
        status = zygote.run(case)
        assert status in (-signal.SIGKILL, 0)
        deaths += status != 0
    assert zygote.run(Case(str(folder), 0, "", options["hooks"], options["sql"], seed)) == 0
    return Tried(folder, read_log(folder), deaths)


def judge(tried: Tried, where: str) -> None:
    """Everything that must hold however the program was killed."""
    log, effects = tried.log, tried.effects
    assert violations(log, closed=True, idempotent=lambda name: name != "charge") == [], where
    assert [e for e in effects if e[0] == "illegal"] == [], where
    inputs = [m.text for r in log if isinstance(r, RunOpened) for m in r.input]
    assert inputs == ["first", "second", "third"], where
    answered = [e[1] for e in effects if e[0] == "answered"]
    assert len(answered) == len(set(answered)), where
    begun = Counter((e[1], e[2]) for e in effects if e[0] == "begin")
    done = {e[2] for e in effects if e[0] == "done"}
    assert all(n == 1 for (name, _), n in begun.items() if name == "charge"), where
    keys = {(e[2], e[3]) for e in effects if e[0] == "begin"}
    assert len(keys) == len(begun), where
    started = {r.call_id for r in log if isinstance(r, ToolStarted)}
    assert {call for _, call in begun} <= started, where
    hows = {
        part.call_id: r.how
        for r in log
        if isinstance(r, ToolSettled)
        for part in r.message.parts
        if isinstance(part, ToolResult)
    }
    assert set(hows) == {"a", "b", "c", "d"}, where
    for call, how in hows.items():
        assert how in ("finished", "unknown"), where
        assert how != "finished" or call in done, where
    assert hows["c"] == hows["d"] == "finished", where
    # The tool that can be asked has its effect exactly once, however often it had to be begun.
    assert [e[3] for e in effects if e[:3] == ["done", "book", "d"]] == ["s/d"], where
    assert {e[3] for e in effects if e[0] == "asked"} <= {"s/d"}, where
    closed = [r.outcome for r in log if isinstance(r, RunClosed)]
    assert isinstance(closed[-1], Completed), where
    assert all(isinstance(outcome, Completed | Crashed) for outcome in closed), where


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_program_killed_at_any_point_of_its_journal_goes_on(
    zygote: Zygote, tmp_path: Path, variant: str
) -> None:
    """Until it is to die at a point that it does not come to (D12)."""
    tried = 0
    for kill_at in count(1, STRIDES[variant]):
        folder = tmp_path / str(kill_at)
        result = kill_and_restart(zygote, folder, variant, (kill_at,))
        point = result.points[min(kill_at, len(result.points)) - 1]
        judge(result, f"{variant}: killed at {kill_at}, {point}")
        shutil.rmtree(folder)
        tried += 1
        if not result.deaths:
            break
    assert tried > 20


def test_a_program_killed_again_while_it_recovers_goes_on_all_the_same(
    zygote: Zygote, tmp_path: Path
) -> None:
    """Two or three deaths at random points, with random interleavings of the tools."""
    rng = random.Random(11)
    for n in range(12):
        variant = rng.choice(["lean", "hooks"])
        kills = tuple(rng.randint(1, 60) for _ in range(rng.randint(2, 3)))
        result = kill_and_restart(zygote, tmp_path / str(n), variant, kills, seed=n)
        judge(result, f"{variant}: killed at {kills}, seed {n}")


@pytest.mark.parametrize("variant", ["lean", "hooks"])
@pytest.mark.parametrize("point", ["tool begins d", "tool ends d"])
@pytest.mark.parametrize("again", [False, True], ids=["once", "while it asks"])
def test_sigkill_in_a_tool_that_can_be_asked(
    zygote: Zygote, tmp_path: Path, variant: str, point: str, again: bool
) -> None:
    """It is asked by its key; only what never happened is run, and what happened is its result.
    Killed while it is asked, it is asked again."""
    folder, hooks = str(tmp_path), VARIANTS[variant]["hooks"]
    dying = Case(folder, kill_on=point, hooks=hooks, second=True)
    assert zygote.run(dying) == -signal.SIGKILL
    if again:
        assert zygote.run(Case(folder, kill_on="reconcile d", hooks=hooks)) == -signal.SIGKILL
    assert zygote.run(Case(folder, hooks=hooks)) == 0
    after = Tried(tmp_path, read_log(tmp_path), 1)
    judge(after, point)
    asked = [e[3:] for e in after.effects if e[:3] == ["asked", "book", "d"]]
    assert asked == [["s/d", "1"]] * (2 if again else 1)
    attempts = [e[4] for e in after.effects if e[:3] == ["begin", "book", "d"]]
    assert attempts == (["1", "2"] if point == "tool begins d" else ["1"])
    assert Counter(e[2] for e in after.effects if e[0] == "begin")["a"] == 1


@pytest.mark.parametrize("variant", ["lean", "hooks"])
@pytest.mark.parametrize("killed_in", ["b", "c"])
def test_sigkill_in_the_second_of_two_parallel_tools_d12(
    zygote: Zygote, tmp_path: Path, variant: str, killed_in: str
) -> None:
    """The finished one is not run again; the other is told as unknown, unless it is idempotent
    (D12)."""
    options = VARIANTS[variant]
    folder, hooks = str(tmp_path), options["hooks"]
    dying = Case(folder, kill_on=f"tool ends {killed_in}", hooks=hooks, second=True)
    assert zygote.run(dying) == -signal.SIGKILL
    before = Tried(tmp_path, read_log(tmp_path), 1)
    settled = {r.message.id: r for r in before.log if isinstance(r, ToolSettled)}
    assert settled["a.result"].how == "finished"
    assert not isinstance(before.log[-1], RunClosed)
    assert zygote.run(Case(folder, hooks=hooks)) == 0
    after = Tried(tmp_path, read_log(tmp_path), 1)
    judge(after, f"killed in {killed_in}")
    assert after.log[: len(before.log)] == before.log
    crash, reopened = after.log[len(before.log) : len(before.log) + 2]
    assert isinstance(crash, RunClosed)
    assert isinstance(crash.outcome, Crashed)
    assert isinstance(reopened, RunOpened)
    assert reopened.resumes == crash.run
    begun = Counter(e[2] for e in after.effects if e[0] == "begin")
    how = {r.message.id: r.how for r in after.log if isinstance(r, ToolSettled)}
    assert begun["a"] == 1
    assert begun["b"] == 1
    if how["b.result"] == "unknown":
        (told,) = [r for r in after.log if isinstance(r, ToolSettled) and "b." in r.message.id]
        assert "Its outcome is unknown" in str(told.message)
    attempts = [e[3:] for e in after.effects if e[:3] == ["begin", "look", "c"]]
    assert attempts in ([["s/c", "1"]], [["s/c", "1"], ["s/c", "2"]])
    if killed_in == "b":
        assert how["b.result"] == "unknown"
    else:
        assert len(attempts) == 2
