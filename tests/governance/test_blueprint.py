"""A small repository whose tests fail is mended: real files, real pytest, a scripted model."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from llm_client.types import LLMRequest, Message, ToolResult
from power_loop import AgentConfig, AgentLoop, MemoryStore
from power_loop.errors import UsageError
from power_loop.governance import Exit
from power_loop.governance.blueprints.test_fix import TestFixBlueprint
from power_loop.governance.goals import GOAL_META
from power_loop.session.outcome import Cancelled, Crashed, GoalReached
from power_loop.session.records import Record, RunClosed
from tests.agent.crashed import write
from tests.agent.scripted import Gate, Reply, Scripted, calls, hangs, says
from tests.agent.stores import records_of
from tests.agent.support import check_log
from tests.governance.suites import QUICK, gone

pytestmark = pytest.mark.anyio

FILES = {
    "shop/__init__.py": "",
    "shop/prices.py": "def total(prices):\n    return sum(prices) - 1\n",
    "shop/words.py": "def title(text):\n    return text.lower()\n",
    "shop/bill.py": (
        "from shop.prices import total\nfrom shop.words import title\n\n\n"
        "def bill(name, prices):\n    return f'{title(name)}: {total(prices)}'\n\n\n"
        "def label(name):\n    return title(name)[:5]\n\n\n"
        "def count(prices):\n    return len(prices) + 1\n"
    ),
    "tests/test_prices.py": (
        "from shop.prices import total\n\n\ndef test_total():\n    assert total([1, 2]) == 3\n"
    ),
    "tests/test_words.py": (
        "from shop.words import title\n\n\n"
        "class TestTitle:\n    def test_title(self):\n        assert title('a tea') == 'A tea'\n"
    ),
    "tests/test_bill.py": (
        "from shop.bill import count, label\n\n\n"
        "def test_label():\n    assert label('milk').lower() == 'milk'\n\n\n"
        "def test_count():\n    assert count([1]) == 1\n"
    ),
    "conftest.py": "",
}


def repository(folder: Path) -> Path:
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def mend(repo: Path) -> None:
    """All of it, as somebody else would."""
    (repo / "shop/prices.py").write_text("total = sum\n")
    (repo / "shop/words.py").write_text("title = str.capitalize\n")
    bill = (repo / "shop/bill.py").read_text()
    (repo / "shop/bill.py").write_text(bill.replace("len(prices) + 1", "len(prices)"))


def read(n: int, path: str) -> Reply:
    return calls((f"r{n}", "read_file", {"path": path}))


def edit(n: int, path: str, old: str, new: str) -> Reply:
    return calls((f"e{n}", "edit_file", {"path": path, "old_text": old, "new_text": new}))


FIRST = [
    calls(("t1", "run_tests", {"only": "tests/test_words.py"})),
    read(1, "shop/prices.py"),
    edit(2, "shop/prices.py", "sum(prices) - 1", "sum(prices)"),
    read(3, "shop/words.py"),
    # Mends one test and breaks another.
    edit(4, "shop/words.py", "text.lower()", "'A tea'"),
]
THEN = [
    read(5, "shop/words.py"),
    edit(6, "shop/words.py", "'A tea'", "text.capitalize()"),
    says("Everything is mended now."),
    read(7, "shop/bill.py"),
    edit(8, "shop/bill.py", "len(prices) + 1", "len(prices)"),
]

COUNT, TITLE = "tests/test_bill.py::test_count", "tests/test_words.py::TestTitle::test_title"
OPEN = [
    f"3 open: {COUNT}, tests/test_prices.py::test_total, {TITLE}.",
    f"2 open: {COUNT}, {TITLE}.",
    f"2 open: {COUNT}, tests/test_bill.py::test_label.",
    f"1 open: {COUNT}.",
]


def loop_of(llm: Scripted, repo: Path, store: MemoryStore) -> AgentLoop[Any]:
    return AgentLoop(
        llm,
        store=store,
        extensions=[TestFixBlueprint(repo, test_command=QUICK)],
        config=AgentConfig(max_rounds=40),
    )


def told(messages: Sequence[Message]) -> list[str]:
    return [m.text for m in messages if m.meta is not None and GOAL_META in m.meta]


def states(messages: Sequence[Message]) -> list[str]:
    """What was open, each state once."""
    found: list[str] = []
    for text in told(messages):
        line = next(each for each in text.splitlines() if "The goal is not reached" in each)
        state = line.removeprefix("The goal is not reached yet: ")
        if found[-1:] != [state]:
            found.append(state)
    return found


async def test_a_suite_is_mended_step_by_step_through_a_regression(tmp_path: Path) -> None:
    """What the model says of it in between counts for nothing; pytest has the last word."""
    repo, llm = repository(tmp_path), Scripted(*FIRST, *THEN)
    with anyio.fail_after(120):
        async with loop_of(llm, repo, MemoryStore()) as loop:
            result = await loop.send("Make the tests pass.")
            await check_log(loop, result.session_id, does_the_same=False)
    assert result.outcome == GoalReached("nothing is open")
    assert llm.illegal == []
    seen = llm.requests[-1].messages
    assert states(seen) == OPEN
    regressed = told(seen)[5]
    assert "Newly broken since the last step: tests/test_bill.py::test_label." in regressed
    assert "Trend: regressing." in regressed
    assert 'edit_file({"new_text":"\'A tea\'","old_text":"text.lower()"' in told(seen)[-1]
    ran = next(p for m in seen for p in m.parts if isinstance(p, ToolResult))
    assert ran.text.startswith("exit status: 1\nfailing: 1\ntests/test_words.py::TestTitle")
    done = await anyio.run_process(QUICK, cwd=repo, check=False)
    assert done.returncode == 0
    assert llm.requests[0].system is not None
    assert "Mend the code" in llm.requests[0].system


def away_with(old: str, new: str) -> Callable[[Path], None]:
    """Mends everything but the test of the prices, in whose file `old` becomes `new`."""

    def done(repo: Path) -> None:
        mend(repo)
        (repo / "shop/prices.py").write_text(FILES["shop/prices.py"])
        file = repo / "tests/test_prices.py"
        file.write_text(file.read_text().replace(old, new))

    return done


def without_the_file(repo: Path) -> None:
    mend(repo)
    (repo / "tests/test_prices.py").unlink()


def deselected(repo: Path) -> None:
    away_with("", "")(repo)
    (repo / "pytest.ini").write_text('[pytest]\naddopts = -k "not test_total"\n')


_MARKED = "import pytest\n\n\n@pytest.mark.{}\ndef test_total"


@pytest.mark.parametrize(
    "cheat",
    [
        away_with("def test_total", "def skipped_total"),
        away_with("def test_total", "def test_sum"),
        away_with("def test_total", _MARKED.format("skip")),
        away_with("def test_total", _MARKED.format("xfail")),
        away_with("    assert", "    import pytest; pytest.skip()\n    assert"),
        without_the_file,
        deselected,
    ],
)
async def test_a_goal_is_not_reached_by_doing_away_with_a_test(
    tmp_path: Path, cheat: Callable[[Path], None]
) -> None:
    """Renamed, skipped, removed, left out: also where another process goes on, it is open; and not
    any more once it runs again and passes."""
    repo, store = repository(tmp_path), MemoryStore()
    test = FILES["tests/test_prices.py"]

    def cheats(request: LLMRequest) -> Reply:
        cheat(repo)
        return says("All tests pass.")

    def mends(request: LLMRequest) -> Reply:
        mend(repo)
        (repo / "tests/test_prices.py").write_text(test)
        (repo / "pytest.ini").unlink(missing_ok=True)
        return says("Now they do.")

    first = TestFixBlueprint(repo, test_command=QUICK, exits=[Exit.max_rounds(1)])
    llm, other = Scripted(by=cheats), Scripted(by=mends)
    with anyio.fail_after(60):
        async with AgentLoop(llm, store=store, extensions=[first]) as loop:
            result = await loop.send("Make the tests pass.")
        assert result.status == "budget_exhausted"
        async with loop_of(other, repo, store) as loop:
            result = await loop.resume(result.session_id)
            await check_log(loop, result.session_id, does_the_same=False)
    gone = "tests/test_prices.py::test_total (gone, or not run)"
    assert gone in told(other.requests[0].messages)[-1]
    assert result.outcome == GoalReached("nothing is open")
    assert len(other.requests) == 1


async def test_another_process_goes_on_where_one_has_died(tmp_path: Path) -> None:
    """In the middle of a model call, after a regression: what failed is still known."""
    repo, gate = repository(tmp_path), Gate()
    left: list[Record] = []
    with anyio.fail_after(120):
        dead, living = MemoryStore(), MemoryStore()
        async with (
            loop_of(Scripted(*FIRST, hangs(gate)), repo, dead) as loop,
            loop.stream("Make the tests pass.") as stream,
        ):
            await gate.reached.wait()
            # What is durable now is what a process that dies here leaves behind.
            left += records_of(await dead.read(stream.session_id))
        await living.create("s")
        await write(living, "s", left)
        llm = Scripted(*THEN)
        async with loop_of(llm, repo, living) as loop:
            result = await loop.resume("s")
            log = await check_log(loop, "s", does_the_same=False)
    assert [r.outcome for r in log if isinstance(r, RunClosed)] == [Crashed(), result.outcome]
    assert result.outcome == GoalReached("nothing is open")
    assert states(llm.requests[-1].messages) == OPEN
    assert "Approaches after which something broke" in told(llm.requests[0].messages)[-1]


async def test_a_cancelled_run_leaves_no_suite_running(tmp_path: Path) -> None:
    """Not even one that was being measured, nor what its tests have begun."""
    fifo = tmp_path / "pids"
    os.mkfifo(fifo)
    (tmp_path / "conftest.py").write_text("")
    (tmp_path / "test_slow.py").write_text(
        "import os, subprocess, time\n\ndef test_slow():\n"
        "    child = subprocess.Popen(['sleep', '999'])\n"
        f"    open({str(fifo)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "    time.sleep(999)\n"
    )
    llm, store = Scripted(), MemoryStore()
    with anyio.fail_after(60):
        async with loop_of(llm, tmp_path, store) as loop:
            async with loop.stream("Make the tests pass.") as stream:
                pids = (await anyio.to_thread.run_sync(fifo.read_text)).split()
                assert await loop.cancel(stream.session_id, "enough")
                result = await stream.result()
            for pid in pids:
                await gone(int(pid))
    assert result.outcome == Cancelled("enough")
    assert llm.requests == []


async def test_the_tools_do_not_leave_the_repository(tmp_path: Path) -> None:
    """Nor can an option be given to pytest in place of a test."""
    (tmp_path / "outside.py").write_text("secret = 1\n")
    repo = tmp_path / "repo"
    repo.mkdir()
    repository(repo)
    attempts = calls(
        ("a", "read_file", {"path": "../outside.py"}),
        ("b", "edit_file", {"path": "../outside.py", "old_text": "1", "new_text": "2"}),
        ("c", "run_tests", {"only": "../outside.py"}),
        ("d", "run_tests", {"only": "--version"}),
    )

    def reply(request: LLMRequest) -> Reply:
        if len(request.messages) > 3:
            mend(repo)
            return says("Somebody has mended it.")
        return attempts

    llm = Scripted(by=reply)
    with anyio.fail_after(60):
        async with loop_of(llm, repo, MemoryStore()) as loop:
            result = await loop.send("Make the tests pass.")
    assert result.status == "goal_reached"
    results = [p for m in llm.requests[-1].messages for p in m.parts if isinstance(p, ToolResult)]
    assert [r.is_error for r in results] == [True] * 4
    assert (tmp_path / "outside.py").read_text() == "secret = 1\n"


def test_a_blueprint_of_nothing_is_refused(tmp_path: Path) -> None:
    """No directory, no command, no time."""
    with pytest.raises(UsageError, match="is no directory"):
        TestFixBlueprint(tmp_path / "missing")
    with pytest.raises(UsageError, match="is a sequence"):
        TestFixBlueprint(tmp_path, test_command="pytest")
    with pytest.raises(UsageError, match="timeout"):
        TestFixBlueprint(tmp_path, timeout=0)
