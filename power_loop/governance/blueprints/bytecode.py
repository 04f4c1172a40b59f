"""What Python has compiled from a file is removed when the file is changed.

Python takes compiled code for current if the source's size and whole second of change are as they
were: an edit can be quicker than that.
"""

from __future__ import annotations

import os
from contextlib import suppress

from power_loop.tools.builtin.paths import DIRECTORY, NO_FOLLOW
from power_loop.tools.builtin.workspace import Workspace

__all__ = ["remove_bytecode"]

_CACHE = "__pycache__"


def remove_bytecode(workspace: Workspace, path: str) -> None:
    """Removes what was compiled from the Python file `path`; follows no link on the way.

    Raises:
        ToolError: the path leads out of the workspace.
    """
    if not path.endswith(".py"):
        return
    with workspace.entry(path, "clean up behind") as entry, suppress(OSError):
        stem = entry.name.removesuffix(".py")
        cache = os.open(_CACHE, DIRECTORY | NO_FOLLOW, dir_fd=entry.directory)
        try:
            for name in os.listdir(cache):  # noqa: PTH208  it is open already, and stays the one it is
                if name.startswith(f"{stem}.") and name.endswith(".pyc"):
                    os.unlink(name, dir_fd=cache)
        finally:
            os.close(cache)
