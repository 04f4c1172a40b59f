"""`ask`: one question, shown step by step."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from llm_client.service import LLMService
from power_loop.agent.config import AgentConfig, InDoubt
from power_loop.agent.loop import AgentLoop
from power_loop.agent.responding import Responder
from power_loop.cli.asking import AtTerminal, somebody_answers
from power_loop.cli.display import make_display
from power_loop.cli.settings import CliSettings
from power_loop.cli.small import small_config, small_tools
from power_loop.cli.turn import show_run, warm_up
from power_loop.errors import UsageError
from power_loop.governance.approval import RequireApproval
from power_loop.governance.policies import Policies
from power_loop.runtime.stores.base import Store
from power_loop.tools.builtin import workspace_tools

__all__ = ["SMALL", "ask", "checked_workspace", "loop_with", "open_loop", "same_as"]

SYSTEM_PROMPT = (
    "You answer questions about the files in the workspace. Look at the files with the tools "
    "before you answer, and say only what you found there."
)

_WRITING = ("write_file", "edit_file")

SMALL = (
    "(the local model is a very small one, good for trying things out; "
    "--model openai:gpt-5-mini, for one, takes a larger one)"
)


def open_loop(
    args: Namespace,
    store: Store,
    *,
    in_doubt: InDoubt = "tell",
    responder: Responder | None = None,
) -> AgentLoop[None]:
    """The loop that the arguments describe. `in_doubt` is as in `AgentConfig`.

    Raises:
        ConfigError: the model is unknown or not configured.
    """
    settings: CliSettings = args.settings
    checked_workspace(args)
    service = settings.service(args.model)
    return loop_with(args, store, service, in_doubt=in_doubt, responder=responder)


def loop_with(
    args: Namespace,
    store: Store,
    service: LLMService,
    *,
    in_doubt: InDoubt = "tell",
    responder: Responder | None = None,
) -> AgentLoop[None]:
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
    config = replace(config, in_doubt=in_doubt)
    rules = [Policies(RequireApproval(_WRITING, "it changes files"))] if args.confirm else []
    return AgentLoop[None](
        service, tools=tools, store=store, config=config, extensions=rules, responder=responder
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


def same_as(args: Namespace) -> Sequence[str]:
    """What a command was told that another one needs as well to have the same loop."""
    words = [option for option in ("--write", "--confirm") if getattr(args, option[2:])]
    if args.workspace != Path.cwd():
        words += ["--workspace", str(args.workspace.absolute())]
    return [*words, *(("--model", args.model) if args.model else ())]


async def ask(args: Namespace, store: Store) -> int:
    """`ask`: streams the answer; the session stays, to be gone on with."""
    display = make_display(json=args.json)
    asks = AtTerminal(display) if somebody_answers(args) else None
    loop = open_loop(args, store, responder=asks)
    question = " ".join(args.question)
    if args.settings.local_name(args.model) is not None:
        print(SMALL, file=sys.stderr)
    try:
        await warm_up(loop.llm)
        async with loop:
            result = await show_run(
                lambda on_busy: loop.stream(question, args.session, on_busy=on_busy),
                display,
                announce=not args.json,
            )
    finally:
        await loop.close_llm()
    if result.resumable and not args.json:
        words = ("resume", result.session_id, *same_as(args))
        again = args.settings.command(args.db, *words)
        print(f"to go on: {again}", file=sys.stderr)
    return 0 if result.status == "completed" else 1
