"""The door of the package: what it exports, what it loads, where it works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import power_loop.tools

ROOT = Path(__file__).resolve().parents[2]


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_exported_name_is_there() -> None:
    """Also the lazy ones; and each once."""
    names = power_loop.tools.__all__
    assert len(set(names)) == len(names)
    for name in names:
        assert getattr(power_loop.tools, name) is getattr(power_loop.tools, name)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    """As for any module."""
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = power_loop.tools.nonsense  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType, reportUnknownMemberType]


def test_speaking_of_tools_does_not_load_pydantic() -> None:
    """The driver and the registry do without it until a function becomes a tool."""
    assert (
        run(
            "import sys, power_loop.tools, power_loop.tools.base, power_loop.tools.registry\n"
            "power_loop.tools.registry.ToolRegistry()\n"
            "before = 'pydantic' in sys.modules\n"
            "power_loop.tools.tool\n"
            "named = 'pydantic' in sys.modules\n"
            "def f(x: int) -> int:\n"
            "    'Doubles.'\n"
            "    return 2 * x\n"
            "power_loop.tools.tool(f)\n"
            "used = 'pydantic' in sys.modules\n"
            "print(before, named, used, 'power_loop.tools.builtin' in sys.modules)"
        )
        == "False False True False"
    )


def test_a_system_that_is_not_posix_can_import_and_is_refused_a_workspace() -> None:
    """As on Windows, where directories cannot be opened."""
    assert "need a POSIX system" in run(
        "import os\n"
        "for name in ('O_NOFOLLOW', 'O_DIRECTORY', 'O_NONBLOCK', 'O_NOCTTY', 'O_CLOEXEC'):\n"
        "    delattr(os, name)\n"
        "os.supports_dir_fd.clear()\n"
        "from power_loop.errors import UsageError\n"
        "from power_loop.tools import workspace_tools\n"
        "try: workspace_tools('.')\n"
        "except UsageError as error: print(error)\n"
    )
