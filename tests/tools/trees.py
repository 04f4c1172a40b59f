"""Directory trees for tests of the workspace tools."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from power_loop.tools import Tool, ToolRegistry, workspace_tools

SECRET = "the secret of the outside"


def grow(root: Path, files: Mapping[str, str | bytes]) -> Path:
    """Writes files, making their directories."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def snapshot(root: Path) -> dict[str, bytes]:
    """Every entry below `root` with what it holds, or where it leads."""
    found: dict[str, bytes] = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            key = str(path.relative_to(root))
            if path.is_symlink():
                found[key] = os.fsencode(path.readlink())
            elif path.is_file():
                found[key] = path.read_bytes()
            else:
                found[key] = b""
    return found


def tools_of(root: Path) -> dict[str, Tool]:
    """The workspace tools of `root`, by name."""
    return {tool.name: tool for tool in ToolRegistry(workspace_tools(root))}
