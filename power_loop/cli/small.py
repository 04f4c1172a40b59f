"""What suits a model of 135 million parameters: few files, little of each, a short answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from power_loop.agent.config import AgentConfig
from power_loop.errors import UsageError
from power_loop.tools.base import Tool
from power_loop.tools.builtin import Workspace
from power_loop.tools.context import ToolContext
from power_loop.tools.json_tool import JsonSchemaTool

__all__ = ["small_config", "small_question", "small_tools"]

_PROMPT = "Read the file, then answer in one short sentence."
_ANSWER_TOKENS = 96
_EXCERPT = 500
_NAMES = 12
_LARGEST = 1_000_000
_DOCUMENTS = (".md", ".txt", ".rst")
_PREFERRED = ("LICENSE", "README")


def small_config(max_rounds: int) -> AgentConfig:
    """A prompt that such a model follows, and an end to its answers."""
    return AgentConfig(
        system_prompt=_PROMPT, max_rounds=max_rounds, max_output_tokens=_ANSWER_TOKENS
    )


def small_question(root: Path) -> str:
    """A question that such a model can answer from a file in `root`.

    Raises:
        UsageError: there is no text file.
    """
    names = _file_names(root)
    if not names:
        raise UsageError(f"there is no text file in {str(root)!r}; try another --workspace")
    if names[0].startswith("LICENSE"):
        return f"Which licence does the file {names[0]} contain?"
    return f"What does the file {names[0]} say?"


def small_tools(root: Path) -> tuple[Tool, ...]:
    """A tool that offers the names of the files in `root`; none if there are no text files."""
    workspace = Workspace(root)
    names = _file_names(root)

    def read(arguments: dict[str, Any], _: ToolContext[Any]) -> str:
        with workspace.entry(arguments["name"], "read") as entry:
            data = workspace.read(entry, _LARGEST)
        text = data.decode(errors="replace")
        return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]} …"

    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "enum": names}},
        "required": ["name"],
    }
    if not names:
        return ()
    return (JsonSchemaTool("read_file", "Reads a file.", schema, read, idempotent=True),)


def _file_names(root: Path) -> list[str]:
    found = [
        path.name
        for path in sorted(root.iterdir())
        if path.is_file() and not path.is_symlink() and not path.name.startswith(".")
    ]
    names = [name for name in found if _is_text(root / name)]
    documents = [n for n in names if n.startswith(_PREFERRED) or n.endswith(_DOCUMENTS)]
    return sorted(documents or names, key=lambda n: not n.startswith(_PREFERRED))[:_NAMES]


def _is_text(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return b"\x00" not in file.read(1024)
    except OSError:
        return False
