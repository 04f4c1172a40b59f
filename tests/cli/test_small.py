"""What a very small model is given, and that the demo works with the real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from power_loop import JsonSchemaTool
from power_loop.cli.small import small_question, small_tools
from power_loop.errors import UsageError
from tests.cli.support import run
from tests.local_weights import need_real_model


def names_offered(folder: Path) -> list[str]:
    (tool,) = small_tools(folder)
    assert isinstance(tool, JsonSchemaTool)
    names: list[str] = tool.spec.parameters["properties"]["name"]["enum"]
    return names


def test_the_names_of_documents_are_offered_the_licence_first(tmp_path: Path) -> None:
    """Twelve at most, none hidden, no links, only text; programs if there is no document.

    A link could lead out of the workspace.
    """
    (tmp_path / "main.py").write_text("print()")
    (tmp_path / "image.md").write_bytes(b"\x89PNG\x00")
    (tmp_path / ".secret.txt").write_text("x")
    (tmp_path / "link.txt").symlink_to(tmp_path / ".secret.txt")
    (tmp_path / "folder.md").mkdir()
    assert names_offered(tmp_path) == ["main.py"]
    assert small_question(tmp_path) == "What does the file main.py say?"
    for n in range(20):
        (tmp_path / f"a{n:02}.md").write_text("x")
    (tmp_path / "LICENSE").write_text("MIT")
    assert names_offered(tmp_path) == ["LICENSE", *(f"a{n:02}.md" for n in range(11))]
    assert small_question(tmp_path) == "Which licence does the file LICENSE contain?"


def test_a_directory_without_text_has_no_tool_and_no_question(tmp_path: Path) -> None:
    """The demo says so; a chat goes on without."""
    assert small_tools(tmp_path) == ()
    with pytest.raises(UsageError, match="no text file"):
        small_question(tmp_path)


def test_the_demo_calls_a_tool_on_a_real_file_and_answers(place: Path) -> None:
    """With the real model: a settled call, and an answer that is not empty, in three rounds."""
    cache = need_real_model().cache_dir
    (place / "LICENSE").write_text("MIT License\n\nPermission is hereby granted, free of charge.\n")
    done = run(place, "demo", variables={"POWER_LOOP_CACHE_DIR": str(cache)})
    assert done.returncode == 0, done.stderr
    assert "model      local:smollm2 on this machine" in done.stdout
    assert '→ read_file {"name": "LICENSE"}' in done.stdout
    assert "tool finished: MIT License" in done.stdout
    assert "assistant: " in done.stdout.rpartition("model answered")[2]
    assert "round 4" not in done.stdout
    assert "run closed: completed" in done.stdout
    again = run(place, "ask", "And now?", variables={"POWER_LOOP_CACHE_DIR": str(cache)})
    assert "very small one" in again.stderr
