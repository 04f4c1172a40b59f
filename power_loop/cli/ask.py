"""`ask`: one question, shown step by step."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from llm_client.service import LLMService
from power_loop.agent.config import AgentConfig
from power_loop.agent.loop import AgentLoop
from power_loop.cli.display import make_display
from power_loop.cli.settings import CliSettings
from power_loop.cli.small import small_config, small_tools
from power_loop.cli.turn import show_run, warm_up
from power_loop.errors import UsageError
from power_loop.runtime.stores.sqlite import SQLiteStore
from power_loop.tools.builtin import workspace_tools

__all__ = ["SMALL", "ask", "checked_workspace", "loop_with", "open_loop"]

SYSTEM_PROMPT = (
    "You answer questions about the files in the workspace. Look at the files with the tools "
    "before you answer, and say only what you found there."
)

SMALL = (
    "(the local model is a very small one, good for trying things out; "
    "--model openai:gpt-5-mini, for one, takes a larger one)"
)


def open_loop(args: Namespace, store: SQLiteStore) -> AgentLoop[None]:
    """The loop that the arguments describe.

    Raises:
        ConfigError: the model is unknown or not configured.
    """
    settings: CliSettings = args.settings
    checked_workspace(args)
    return loop_with(args, store, settings.service(args.model))


def loop_with(args: Namespace, store: SQLiteStore, service: LLMService) -> AgentLoop[None]:
    """The loop that the arguments describe, with this service.

    Raises:
        UsageError: the workspace is no directory.
    """
    settings: CliSettings = args.settings
    workspace = checked_workspace(args)
    if settings.local_name(args.model) is not None and not args.write:
        tools, config = small_tools(workspace), small_config(args.max_rounds)
    else:
        tools = workspace_tools(workspace, read_only=not args.write)
        config = AgentConfig(system_prompt=SYSTEM_PROMPT, max_rounds=args.max_rounds)
    return AgentLoop[None](service, tools=tools, store=store, config=config)


def checked_workspace(args: Namespace) -> Path:
    """The directory that `--workspace` names.

    Raises:
        UsageError: it is none.
    """
    workspace: Path = args.workspace
    if not workspace.is_dir():
        raise UsageError(f"the workspace {str(workspace)!r} is not a directory")
    return workspace.resolve()


async def ask(args: Namespace, store: SQLiteStore) -> int:
    """`ask`: streams the answer; the session stays, to be gone on with."""
    loop = open_loop(args, store)
    question = " ".join(args.question)
    if args.settings.local_name(args.model) is not None:
        print(SMALL, file=sys.stderr)
    try:
        await warm_up(loop.llm)
        async with loop:
            result = await show_run(
                lambda on_busy: loop.stream(question, args.session, on_busy=on_busy),
                make_display(json=args.json),
                announce=not args.json,
            )
    finally:
        await loop.close_llm()
    if result.resumable and not args.json:
        again = args.settings.command(args.db, "chat", "--session", result.session_id)
        print(f"to go on: {again}, then /resume", file=sys.stderr)
    return 0 if result.status == "completed" else 1
