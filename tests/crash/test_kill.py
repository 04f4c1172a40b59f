"""Killed with SIGKILL anywhere: what was finished is not done again, what is told is true."""

from __future__ import annotations

import random
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from msgspec.structs import replace

from power_loop.session.outcome import Crashed
from power_loop.session.records import RunClosed, RunOpened, ToolSettled
from tests.crash.journal import RECOVERY, Case
from tests.crash.judging import Tried, faults
from tests.crash.zygote import Zygote

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


def kill_and_restart(
    zygote: Zygote, folder: Path, variant: str, kills: tuple[int, ...], seed: int = 0
) -> tuple[Tried, int]:
    """Starts the program; it is killed at each of these points in turn, then left alone.

    What is left, and how often it died.
    """
    folder.mkdir(exist_ok=True)
    options = VARIANTS[variant]
    case = Case(str(folder), hooks=options["hooks"], sql=options["sql"], seed=seed)
    deaths = 0
    for kill_at in kills:
        status = zygote.run(replace(case, kill_at=kill_at))
        assert status in (-signal.SIGKILL, 0)
        deaths += status != 0
    assert zygote.run(case) == 0
    return Tried(case), deaths


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_program_killed_at_any_point_of_its_journal_goes_on(
    zygote: Zygote, tmp_path: Path, variant: str
) -> None:
    """Until it is to die at a point that it does not come to (D12)."""
    tried = 0
    for kill_at in count(1, STRIDES[variant]):
        folder = tmp_path / str(kill_at)
        result, deaths = kill_and_restart(zygote, folder, variant, (kill_at,))
        point = result.points[min(kill_at, len(result.points)) - 1]
        assert faults(result) == [], f"{variant}: killed at {kill_at}, {point}"
        shutil.rmtree(folder)
        tried += 1
        if not deaths:
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
        result, _ = kill_and_restart(zygote, tmp_path / str(n), variant, kills, seed=n)
        assert faults(result) == [], f"{variant}: killed at {kills}, seed {n}"


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
        asking = Case(folder, kill_on=f"{RECOVERY}reconcile d", hooks=hooks)
        assert zygote.run(asking) == -signal.SIGKILL
    assert zygote.run(Case(folder, hooks=hooks)) == 0
    after = Tried(Case(folder, hooks=hooks))
    assert faults(after) == []
    asked = [words[2:] for words in after.told("asked")]
    assert asked == [["s/d", "1"]] * (2 if again else 1)
    attempts = [words[3] for words in after.told("begin") if words[1] == "d"]
    assert attempts == (["1", "2"] if point == "tool begins d" else ["1"])
    assert Counter(words[1] for words in after.told("begin"))["a"] == 1


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
    before = Tried(Case(folder, hooks=hooks))
    settled = {r.message.id: r for r in before.log if isinstance(r, ToolSettled)}
    assert settled["a.result"].how == "finished"
    assert not isinstance(before.log[-1], RunClosed)
    assert zygote.run(Case(folder, hooks=hooks)) == 0
    after = Tried(Case(folder, hooks=hooks))
    assert faults(after) == []
    assert after.log[: len(before.log)] == before.log
    crash, reopened = after.log[len(before.log) : len(before.log) + 2]
    assert isinstance(crash, RunClosed)
    assert isinstance(crash.outcome, Crashed)
    assert isinstance(reopened, RunOpened)
    assert reopened.resumes == crash.run
    begun = Counter(words[1] for words in after.told("begin"))
    how = {r.message.id: r.how for r in after.log if isinstance(r, ToolSettled)}
    assert begun["a"] == begun["b"] == 1
    if how["b.result"] == "unknown":
        (told,) = [r for r in after.log if isinstance(r, ToolSettled) and "b." in r.message.id]
        assert "Its outcome is unknown" in str(told.message)
    attempts = [words[2:] for words in after.told("begin") if words[1] == "c"]
    assert attempts in ([["s/c", "1"]], [["s/c", "1"], ["s/c", "2"]])
    if killed_in == "b":
        assert how["b.result"] == "unknown"
    else:
        assert len(attempts) == 2


@pytest.mark.parametrize("point", ["asked for compaction", "after ModelEnded+ViewChanged"])
def test_sigkill_around_a_summary_asks_for_another_only_if_there_is_none_yet(
    zygote: Zygote, tmp_path: Path, point: str
) -> None:
    """One that is stored is what the session goes on with."""
    folder = str(tmp_path)
    assert zygote.run(Case(folder, "summary")) == 0
    undisturbed = Tried(Case(folder, "summary")).told("asked").count(["compaction"])
    shutil.rmtree(folder)
    tmp_path.mkdir()
    assert zygote.run(Case(folder, "summary", kill_on=point)) == -signal.SIGKILL
    assert zygote.run(Case(folder, "summary")) == 0
    after = Tried(Case(folder, "summary"))
    assert faults(after) == []
    lost = point == "asked for compaction"
    assert after.told("asked").count(["compaction"]) == undisturbed + lost


@pytest.mark.parametrize("point", ["asked for memory", "after fact is kept"])
def test_sigkill_while_a_run_is_remembered_remembers_it_once(
    zygote: Zygote, tmp_path: Path, point: str
) -> None:
    """The run goes on, so it is looked through again; what was kept of it before is the same."""
    folder = str(tmp_path)
    assert zygote.run(Case(folder, "summary", kill_on=point)) == -signal.SIGKILL
    before = Tried(Case(folder, "summary"))
    assert len(before.notes) == (1 if point == "asked for memory" else 2)
    assert zygote.run(Case(folder, "summary")) == 0
    after = Tried(Case(folder, "summary"))
    assert faults(after) == []
    assert len(after.told("asked")) > len(after.told("answered"))
