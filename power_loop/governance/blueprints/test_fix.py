"""A test suite that fails is to be mended."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from power_loop.agent.extensions import Extension
from power_loop.agent.system_prompt import Section
from power_loop.driver.dispatch import Hooks
from power_loop.errors import ToolError
from power_loop.governance.blueprints.bytecode import remove_bytecode
from power_loop.governance.blueprints.failures import PYTEST, PytestFailureMetric
from power_loop.governance.exits import ExitCondition
from power_loop.governance.goals import GoalDriven
from power_loop.tools.base import Tool
from power_loop.tools.builtin.reading import ReadingTools
from power_loop.tools.builtin.workspace import Workspace
from power_loop.tools.builtin.writing import WritingTools
from power_loop.tools.function import tool

__all__ = ["TestFixBlueprint"]

_PROMPT = """\
The test suite of the repository in front of you fails. Mend the code until every test passes.
Before each step you are told which tests fail; that is measured, and nothing else counts as done.
Read what you mean to change. Change the code and not the tests, unless a test itself is wrong.
A test that is renamed, removed or skipped counts as one that fails."""


class TestFixBlueprint(Extension):
    """Three tools confined to a repository, and the goal that no test of it fails.

    run_tests runs the suite, or a part of it; read_file and edit_file are those of a workspace. The
    run ends `goal_reached` when pytest reports no failure and exits with 0, and every test that ran
    in the beginning has run.
    """

    __test__ = False
    name = "test_fix"

    def __init__(
        self,
        repo: str | os.PathLike[str],
        *,
        test_command: Sequence[str] = PYTEST,
        timeout: float = 300.0,
        window: int = 3,
        exits: Sequence[ExitCondition] = (),
    ) -> None:
        """Describes the task.

        Args:
            repo: the repository; no tool leaves it.
            test_command: pytest and its arguments; it is given more of them at the end.
            timeout: seconds that one run of the suite may take.
            window: steps in a row that change nothing, after which the run ends `no_progress`.
            exits: further conditions under which the run ends.

        Raises:
            UsageError: `repo` is no directory, the command empty, or a number not over 0; or this
                is no POSIX system.
        """
        workspace = Workspace(repo)
        metric = PytestFailureMetric(Path(repo), test_command, timeout)
        # Ending a suite that takes too long, and reading its report, come on top.
        bound = timeout + 30
        self._goal = GoalDriven(metric, window=window, exits=exits, timeout=bound)
        self._tools = _repository_tools(workspace, metric, bound)

    def hooks(self, hooks: Hooks) -> None:
        """Registers those of the goal."""
        self._goal.hooks(hooks)

    def tools(self) -> Sequence[Tool]:
        """Its tools."""
        return self._tools

    def prompt_sections(self) -> Sequence[Section]:
        """What the model is to do."""
        return (Section(self.name, _PROMPT),)


def _repository_tools(
    workspace: Workspace, metric: PytestFailureMetric, timeout: float
) -> tuple[Tool, ...]:
    writing = WritingTools(workspace)

    @tool(exclusive=True, idempotent=True, timeout=timeout)
    async def run_tests(only: str = "") -> str:
        """Runs the test suite and says which tests fail.

        Args:
            only: one test or file, as `tests/test_a.py::test_b`; everything if empty.
        """
        if not only:
            return (await metric.run()).text
        if only.startswith("-"):
            raise ToolError("only is a test or a file, not an option")
        with workspace.entry(only.split("::", maxsplit=1)[0], "test"):
            pass  # it is inside
        return (await metric.run(only)).text

    @tool(exclusive=True)
    def edit_file(path: str, old_text: str, new_text: str, *, replace_all: bool = False) -> str:
        """Replaces one passage of a text file that was read before. Returns the change as a diff.

        Args:
            path: the file, relative to the repository.
            old_text: the passage, quoted exactly as the file has it, without line numbers; quote
                enough for it to be there only once.
            new_text: what to put in its place.
            replace_all: replace it wherever it is.
        """
        told = writing.edit_file(path, old_text, new_text, replace_all=replace_all)
        remove_bytecode(workspace, path)
        return told

    return (run_tests, ReadingTools(workspace).read_file, edit_file)
