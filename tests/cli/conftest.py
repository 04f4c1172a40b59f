"""What the tests of the command line share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with one file, to be the workspace."""
    (tmp_path / "notes.txt").write_text("The meeting is on Tuesday.\n")
    return tmp_path
