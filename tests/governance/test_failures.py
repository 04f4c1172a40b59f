"""Which tests fail, by identity; and a suite that takes too long leaves nothing behind."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from power_loop.errors import ToolError
from power_loop.governance.blueprints.bytecode import remove_bytecode
from power_loop.governance.blueprints.failures import PytestFailureMetric
from power_loop.governance.blueprints.processes import run_command
from power_loop.tools import Workspace
from tests.governance.suites import QUICK, alive, gone

pytestmark = pytest.mark.anyio


def suite(folder: Path, **files: str) -> PytestFailureMetric:
    (folder / "conftest.py").write_text("")
    for name, text in files.items():
        (folder / f"test_{name}.py").write_text(text)
    return PytestFailureMetric(folder, QUICK, timeout=60)


async def test_failures_are_named_as_pytest_names_them(tmp_path: Path) -> None:
    """With classes and parameters; errors of set-up and of collection are failures too."""
    metric = suite(
        tmp_path,
        a=(
            "import pytest\n\n"
            "class TestB:\n"
            "    class TestC:\n"
            "        @pytest.mark.parametrize('x', ['1', 'a - b'])\n"
            "        def test_d(self, x):\n"
            "            print('FAILED test_a.py::test_made_up - no')\n"
            "            assert x == '1'\n\n"
            "@pytest.fixture\n"
            "def broken():\n"
            "    raise ValueError\n\n"
            "def test_e(broken):\n"
            "    pass\n\n"
            "@pytest.mark.xfail\n"
            "def test_f():\n"
            "    assert False\n"
        ),
        b="def test_g():\n    pass\n",
    )
    with anyio.fail_after(60):
        snapshot = await metric.measure()
        assert snapshot.items == {"test_a.py::TestB::TestC::test_d[a - b]", "test_a.py::test_e"}
        assert not metric.is_success(snapshot)
        (tmp_path / "test_b.py").write_text("import nothing_of_that_name\n")
        again = await metric.measure()
    assert again.items == snapshot.items | {"test_b.py"}
    assert "exit status: 1" in again.detail


async def test_what_has_run_is_known_by_test_and_file(tmp_path: Path) -> None:
    """Not what was skipped, by whatever name; one that could not be collected is there as well."""
    skips = "import pytest\n\n@pytest.mark.{}\ndef test_{}():\n    assert False\n"
    metric = suite(
        tmp_path,
        a="def test_a():\n    pass\n\ndef test_b():\n    assert False\n",
        b=skips.format("skip", "c"),
        c=skips.format("xfail", "d"),
        d="import nothing_of_that_name\n",
    )
    with anyio.fail_after(60):
        snapshot = await metric.measure()
    assert snapshot.items == {"test_a.py::test_b", "test_d.py"}
    assert snapshot.there == {"test_a.py", "test_a.py::test_a", "test_a.py::test_b", "test_d.py"}


async def test_whatever_keeps_a_suite_from_its_end_is_a_failure(tmp_path: Path) -> None:
    """No tests at all, a process that dies, a command that is no pytest, too little time."""
    metric = suite(tmp_path)
    with anyio.fail_after(60):
        assert (await metric.measure()).items == {"<pytest ended with status 5>"}
        (tmp_path / "test_a.py").write_text("import os\n\ndef test_a():\n    os.abort()\n")
        died = await metric.measure()
        assert died.items == {f"<pytest ended with status {-signal.SIGABRT}>"}
        assert died.there is None
        other = PytestFailureMetric(tmp_path, (sys.executable, "-c", "raise SystemExit(1)"))
        assert (await other.measure()).items == {"<pytest ended with status 1>"}
        (tmp_path / "test_a.py").write_text("import time\n\ndef test_a():\n    time.sleep(999)\n")
        slow = PytestFailureMetric(tmp_path, QUICK, timeout=0.2)
        assert (await slow.measure()).items == {"<the suite did not end in time>"}
    missing = PytestFailureMetric(tmp_path, ("/nonexistent/pytest",))
    with pytest.raises(OSError, match="nonexistent"):
        await missing.measure()


async def test_a_suite_is_run_again_only_if_something_has_changed(tmp_path: Path) -> None:
    """Whatever changed it; asked to run it, it is run."""
    count = tmp_path.parent / f"{tmp_path.name}.count"
    text = f"def test_a():\n    with open({str(count)!r}, 'a') as f:\n        f.write('x')\n"
    metric = suite(tmp_path, a=text)
    with anyio.fail_after(60):
        for _ in range(3):
            assert metric.is_success(await metric.measure())
        assert count.read_text() == "x"
        (tmp_path / "test_a.py").write_text(text + "    assert False\n")
        assert not metric.is_success(await metric.measure())
        await metric.run()
    assert count.read_text() == "xxx"


# ── processes ─────────────────────────────────────────────────────────────────────────────────────

STUBBORN = 'trap "" TERM; sleep 999 & echo $$ $! > "$0"; wait; sleep 999'


def _said(fifo: Path) -> list[int]:
    return [int(each) for each in fifo.read_text().split()]


async def test_a_command_that_is_cancelled_takes_its_group_with_it(tmp_path: Path) -> None:
    """Also what ignores the first signal, and what it has begun in the background."""
    fifo = tmp_path / "pids"
    os.mkfifo(fifo)
    pids: list[int] = []
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:

            async def running() -> None:
                command = ("sh", "-c", STUBBORN, str(fifo))
                await run_command(command, cwd=tmp_path, seconds=99, grace=0.05)

            group.start_soon(running)
            pids += await anyio.to_thread.run_sync(_said, fifo)
            assert len(pids) == 2
            assert all(map(alive, pids))
            group.cancel_scope.cancel()
        for pid in pids:
            await gone(pid)


async def test_a_command_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    """First asked to, then made to; it has no status then, but what it said is kept."""
    command = ("sh", "-c", 'trap "" TERM; echo begun; sleep 999; sleep 999')
    with anyio.fail_after(30):
        ran = await run_command(command, cwd=tmp_path, seconds=0.3, grace=0.05)
    assert (ran.status, ran.output) == (None, "begun\n")


async def test_what_a_command_leaves_running_is_ended_with_it(tmp_path: Path) -> None:
    """It would hold the output open for ever."""
    command = ("sh", "-c", "sleep 999 & echo $!; exit 3")
    with anyio.fail_after(30):
        ran = await run_command(command, cwd=tmp_path, seconds=20)
        assert ran.status == 3
        await gone(int(ran.output))


async def test_of_much_output_the_end_is_kept(tmp_path: Path) -> None:
    """However much it is."""
    command = (sys.executable, "-c", "for n in range(100_000): print(n)")
    with anyio.fail_after(30):
        ran = await run_command(command, cwd=tmp_path, seconds=20, most=100)
    assert ran.status == 0
    assert ran.output.endswith("99998\n99999\n")
    assert len(ran.output) + ran.left_out == sum(len(f"{n}\n") for n in range(100_000))


# ── bytecode ──────────────────────────────────────────────────────────────────────────────────────


def test_only_what_was_compiled_from_the_file_is_removed(tmp_path: Path) -> None:
    """For every version of Python; and no link is followed."""
    cache = tmp_path / "pkg" / "__pycache__"
    cache.mkdir(parents=True)
    for name in ("a.cpython-311.pyc", "a.cpython-312.opt-1.pyc", "ab.cpython-311.pyc", "a.txt"):
        (cache / name).write_bytes(b"")
    workspace = Workspace(tmp_path)
    remove_bytecode(workspace, "pkg/a.py")
    remove_bytecode(workspace, "pkg/a.txt")
    remove_bytecode(workspace, "a.py")
    assert sorted(p.name for p in cache.iterdir()) == ["a.txt", "ab.cpython-311.pyc"]
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "__pycache__").symlink_to(cache)
    remove_bytecode(workspace, "linked/ab.py")
    assert (cache / "ab.cpython-311.pyc").exists()
    with pytest.raises(ToolError):
        remove_bytecode(workspace, "../a.py")
