"""Tools that come with the package: the files of a workspace, and a question to the user.

paths.py      from a path that a model wrote to an open directory, never outside the root
workspace.py  reading, writing and looking around on such descriptors
reading.py    list_files, read_file, glob, grep      (matching.py, searching.py)
writing.py    write_file, edit_file                  (editing.py, diff.py)
asking.py     request_user_input
"""

from __future__ import annotations

import os

from power_loop.tools.base import Tool
from power_loop.tools.builtin.asking import ask_user_tool
from power_loop.tools.builtin.reading import ReadingTools
from power_loop.tools.builtin.workspace import Workspace
from power_loop.tools.builtin.writing import WritingTools

__all__ = ["Workspace", "ask_user_tool", "workspace_tools"]


def workspace_tools(
    root: str | os.PathLike[str] | Workspace, *, read_only: bool = False
) -> tuple[Tool, ...]:
    """The file tools of one directory tree, which they cannot leave.

    list_files, read_file, glob and grep are idempotent; write_file (idempotent too) and edit_file
    run alone.

    Args:
        root: the directory, or a Workspace that several sets of tools share.
        read_only: leave write_file and edit_file out.

    Raises:
        UsageError: `root` is no directory, or the system is not POSIX.
    """
    workspace = root if isinstance(root, Workspace) else Workspace(root)
    reading = ReadingTools(workspace)
    tools: tuple[Tool, ...] = (reading.list_files, reading.read_file, reading.glob, reading.grep)
    if read_only:
        return tools
    writing = WritingTools(workspace)
    return (*tools, writing.write_file, writing.edit_file)
