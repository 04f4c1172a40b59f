"""`demo`: a question about real files, answered by a real model that calls tools, step by step."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from power_loop.agent.config import AgentConfig
from power_loop.agent.loop import AgentLoop
from power_loop.cli.ask import SYSTEM_PROMPT, checked_workspace
from power_loop.cli.display import make_display
from power_loop.cli.settings import CliSettings
from power_loop.cli.timeline import timeline
from power_loop.cli.turn import show_run
from power_loop.errors import UsageError
from power_loop.runtime.stores.sqlite import SQLiteStore
from power_loop.tools.base import Tool, ToolContext
from power_loop.tools.builtin import Workspace, workspace_tools
from power_loop.tools.json_tool import JsonSchemaTool

__all__ = ["demo"]

# What suits a model of 135 million parameters: few files, little of each, a short answer.
_LOCAL_PROMPT = "Read the file, then answer in one short sentence."
_ANSWER_TOKENS = 96
_EXCERPT = 500
_NAMES = 12
_LARGEST = 1_000_000
_DOCUMENTS = (".md", ".txt", ".rst")
_PREFERRED = ("LICENSE", "README")


async def demo(args: Namespace, store: SQLiteStore) -> int:
    """Asks, shows each call as it happens, and then what is stored."""
    settings: CliSettings = args.settings
    workspace = checked_workspace(args)
    question = " ".join(args.question)
    if settings.local_name(args.model) is not None:
        tools: tuple[Tool, ...] = (_file_reader(workspace),)
        question = question or _question(workspace)
        config = AgentConfig(
            system_prompt=_LOCAL_PROMPT,
            max_rounds=args.max_rounds,
            max_output_tokens=_ANSWER_TOKENS,
        )
    else:
        tools = workspace_tools(workspace, read_only=True)
        question = question or "What is this project? Look at its files. Two sentences."
        config = AgentConfig(system_prompt=SYSTEM_PROMPT, max_rounds=args.max_rounds)
    loop = AgentLoop[None](settings.service(args.model), tools=tools, store=store, config=config)
    if not args.json:
        print(f"model      {loop.llm.model}\nworkspace  {workspace}\nquestion   {question}\n")
    try:
        async with loop:
            result = await show_run(
                lambda on_busy: loop.stream(question, on_busy=on_busy),
                make_display(json=args.json),
                announce=False,
            )
    finally:
        await loop.close_llm()
    if not args.json:
        print(f"\nstored as session {result.session_id} in {args.db}:\n")
        print("\n".join(timeline(await store.read(result.session_id))))
        again = settings.command(args.db, "sessions", "show", result.session_id)
        print(f"\nsee it again:\n  {again}")
    return 0 if result.final_text.strip() else 1


def _file_reader(root: Path) -> Tool:
    """A tool that offers the names of the files there are, which a very small model needs."""
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
    return JsonSchemaTool("read_file", "Reads a file.", schema, read, idempotent=True)


def _file_names(root: Path) -> list[str]:
    found = [
        path.name
        for path in sorted(root.iterdir())
        if path.is_file() and not path.is_symlink() and not path.name.startswith(".")
    ]
    names = [name for name in found if _is_text(root / name)]
    if not names:
        raise UsageError(f"there is no text file in {str(root)!r}; try another --workspace")
    documents = [n for n in names if n.startswith(_PREFERRED) or n.endswith(_DOCUMENTS)]
    return sorted(documents or names, key=lambda n: not n.startswith(_PREFERRED))[:_NAMES]


def _is_text(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return b"\x00" not in file.read(1024)
    except OSError:
        return False


def _question(root: Path) -> str:
    name = _file_names(root)[0]
    if name.startswith("LICENSE"):
        return f"Which licence does the file {name} contain?"
    return f"What does the file {name} say?"
