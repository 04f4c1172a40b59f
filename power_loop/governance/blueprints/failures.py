"""Which tests of a suite fail, by identity: what pytest itself reports, not what it prints."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import anyio.to_thread
from msgspec import Struct

from power_loop.errors import UsageError
from power_loop.governance.blueprints.processes import Ran, run_command
from power_loop.governance.checks import over_zero
from power_loop.governance.progress import MetricSnapshot

__all__ = ["PYTEST", "PytestFailureMetric", "Report"]

PYTEST: tuple[str, ...] = (sys.executable, "-m", "pytest", "-q")
"""pytest, as it is installed beside this program."""

_SHOWN = 4_000
_IGNORED = frozenset({".git", ".hg", ".svn", "__pycache__", "node_modules", ".pytest_cache"})
_HEALTHY = (0, 1)
"""Statuses with which pytest says that it ran: all passed, or some failed."""


class Report(Struct, frozen=True):
    """One run of the suite.

    Attributes:
        failing: tests that fail and files that cannot be collected, each as pytest names it; and
            `<…>` for whatever kept the suite from running to its end.
        ran: what became of the process.
        there: tests that were run and not skipped, and their files; None if the suite did not run
            to its end.
    """

    failing: frozenset[str]
    ran: Ran
    there: frozenset[str] | None = None

    @property
    def text(self) -> str:
        """The report for a model: what fails, and the end of the output."""
        names = "\n".join(sorted(self.failing)) or "none"
        output = self.ran.output[-_SHOWN:]
        return f"exit status: {self.ran.status}\nfailing: {len(self.failing)}\n{names}\n\n{output}"


class PytestFailureMetric:
    """A `GoalMetric`: a suite is mended when nothing fails and pytest exits with 0.

    It is run again only if a file of the repository has changed since. A test that ran when the
    task began and is renamed, removed or skipped since is open until it runs again and passes.
    """

    def __init__(
        self, repo: str | os.PathLike[str], command: Sequence[str] = PYTEST, timeout: float = 300.0
    ) -> None:
        """Describes the suite.

        Args:
            repo: where it is run.
            command: pytest and its arguments; it is given more of them at the end.
            timeout: seconds that one run may take.

        Raises:
            UsageError: `repo` is no directory, the command empty, or the timeout not over 0.
        """
        self.repo = Path(repo).resolve()
        if not self.repo.is_dir():
            raise UsageError(f"the repository {str(repo)!r} is no directory")
        if not command or isinstance(command, str):
            raise UsageError("the test command is a sequence: the program, then its arguments")
        self._command = tuple(command)
        self._timeout = over_zero("timeout", timeout, "seconds")
        self._last: tuple[frozenset[tuple[str, int, int]], Report] | None = None

    async def measure(self) -> MetricSnapshot:
        """Which tests fail now.

        Raises:
            OSError: the command cannot be begun.
        """
        before = await anyio.to_thread.run_sync(_tree, self.repo)
        if self._last is None or self._last[0] != before:
            report = await self.run()
        else:
            report = self._last[1]
        failing = report.failing
        return MetricSnapshot(float(len(failing)), failing, report.text, report.there)

    def is_success(self, snapshot: MetricSnapshot) -> bool:
        """Whether nothing fails; an exit status other than 0 is a failure of its own."""
        return not snapshot.items

    async def run(self, *only: str) -> Report:
        """Runs the suite, or `only` those tests or files of it.

        Raises:
            OSError: the command cannot be begun.
        """
        before = await anyio.to_thread.run_sync(_tree, self.repo)
        with tempfile.TemporaryDirectory() as folder:
            found = Path(folder) / "report.xml"
            # With the older family each test comes with its file. One file that cannot be read must
            # not hide which tests there are in the others.
            options = ("-o", "junit_family=xunit1", "--continue-on-collection-errors")
            command = (*self._command, *options, f"--junitxml={found}", *only)
            ran = await run_command(command, cwd=self.repo, seconds=self._timeout)
            failing, there = _told(found)
        mishaps = _mishaps(ran, failing)
        report = Report(failing | mishaps, ran, None if mishaps else there)
        if not only:
            self._last = (before, report)
        return report


def _mishaps(ran: Ran, failing: frozenset[str]) -> frozenset[str]:
    """What else is wrong than that tests fail."""
    if ran.status is None:
        return frozenset({"<the suite did not end in time>"})
    if ran.status not in _HEALTHY or (ran.status == 1 and not failing):
        # Collection that fails is status 2, and what failed there has a name.
        return frozenset() if failing and ran.status == 2 else frozenset({_ended(ran.status)})
    return frozenset()


def _ended(status: int) -> str:
    return f"<pytest ended with status {status}>"


def _told(found: Path) -> tuple[frozenset[str], frozenset[str]]:
    """What fails, and what was run."""
    failing, there = set[str](), set[str]()
    try:
        root = ET.parse(found).getroot()  # noqa: S314  written by the suite, whose code runs anyway
    except (OSError, ET.ParseError):
        return frozenset(), frozenset()
    for case in root.iter("testcase"):
        name = _identity(case)
        if case.find("failure") is not None or case.find("error") is not None:
            failing.add(name)
        elif case.find("skipped") is not None:
            continue
        there |= {name, case.get("file") or name}
    return frozenset(failing), frozenset(there)


def _identity(case: ET.Element) -> str:
    """A test as pytest names it: `tests/test_a.py::TestB::test_c[1]`."""
    name, place, file = case.get("name", ""), case.get("classname", ""), case.get("file", "")
    if not place:
        # A file that could not be collected: its name is all there is.
        return file or f"{name.replace('.', '/')}.py"
    if not file:
        return f"{place}::{name}"
    module = file.removesuffix(".py").replace("/", ".").replace(os.sep, ".")
    classes = [each for each in place.removeprefix(module).split(".") if each]
    return "::".join([file, *classes, name])


def _tree(root: Path) -> frozenset[tuple[str, int, int]]:
    """What tells a state of the files from another: where, when changed, how long."""
    found: set[tuple[str, int, int]] = set()
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in _IGNORED]
        for name in files:
            try:
                status = os.lstat(os.path.join(folder, name))  # noqa: PTH118  a Path for each is slow
            except OSError:
                continue  # gone while we were looking
            found.add((f"{folder}/{name}", status.st_mtime_ns ^ status.st_ino, status.st_size))
    return frozenset(found)
