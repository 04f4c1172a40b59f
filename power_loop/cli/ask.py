"""`ask`: one question, shown step by step."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from power_loop.agent.config import AgentConfig
from power_loop.agent.loop import AgentLoop
from power_loop.agent.result import RunResult
from power_loop.cli.display import Display, make_display
from power_loop.errors import UsageError
from power_loop.runtime.stores.sqlite import SQLiteStore
from power_loop.tools.builtin import workspace_tools

__all__ = ["SYSTEM_PROMPT", "ask", "checked_workspace", "open_loop", "show_run"]

SYSTEM_PROMPT = (
    "You answer questions about the files in the workspace. Look at the files with the tools "
    "before you answer, and say only what you found there."
)


def open_loop(args: Namespace, store: SQLiteStore) -> AgentLoop[None]:
    """The loop that the arguments describe.

    Raises:
        ConfigError: the model is unknown or not configured.
    """
    workspace = checked_workspace(args)
    return AgentLoop[None](
        args.settings.service(args.model),
        tools=workspace_tools(workspace, read_only=not args.write),
        store=store,
        config=AgentConfig(system_prompt=SYSTEM_PROMPT, max_rounds=args.max_rounds),
    )


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
    try:
        async with loop:
            display = make_display(json=args.json)
            result = await show_run(loop, " ".join(args.question), args.session, display)
    finally:
        await loop.close_llm()
    if not args.json:
        print(f"session {result.session_id}", file=sys.stderr)
    return 0 if result.status == "completed" else 1


async def show_run(
    loop: AgentLoop[None], question: str, session: str | None, display: Display
) -> RunResult[None]:
    """Sends a message and shows what comes of it."""
    try:
        async with loop.stream(question, session) as run:
            async for stamped in run:
                display.show(stamped)
            return await run.result()
    finally:
        display.close()
