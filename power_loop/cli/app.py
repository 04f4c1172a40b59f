"""Arguments, and which command runs."""

from __future__ import annotations

import io
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import anyio

from llm_client.errors import LLMError
from power_loop.cli import ask, chat, demo, doctor, sessions
from power_loop.cli.settings import CliSettings
from power_loop.errors import PowerLoopError
from power_loop.runtime.stores.sqlite import SQLiteStore

__all__ = ["main"]

_INTERRUPTED = 130
_BROKEN_PIPE = 141
"""As a shell reports it of a program that the closed pipe has ended."""

_LARGEST = 2**31 - 1

Command = Callable[[Namespace, SQLiteStore], Awaitable[int]]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status: 0 done, 1 failed, 2 wrong arguments."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        settings = CliSettings.from_env()
        args = _parser(settings).parse_args(argv)
        args.settings = settings
        status = anyio.run(_run, args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # What is still buffered has nowhere to go, and must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except (PowerLoopError, LLMError, OSError) as error:
        print(f"power-loop: {error}", file=sys.stderr)
        return 1
    return status


async def _run(args: Namespace) -> int:
    database: Path = args.db
    database.parent.mkdir(parents=True, exist_ok=True)
    store = SQLiteStore(database)
    command: Command = args.command
    try:
        return await command(args, store)
    finally:
        with anyio.CancelScope(shield=True):
            await store.aclose()


def _parser(settings: CliSettings) -> ArgumentParser:
    parser = ArgumentParser(
        prog="power-loop",
        description="An agent that survives anything, on the command line.",
        formatter_class=RawDescriptionHelpFormatter,
        epilog=(
            "Without --model the provider in the environment is used (POWER_LOOP_BASE_URL,\n"
            "POWER_LOOP_API_KEY, POWER_LOOP_MODEL), and if there is none, a small local model."
        ),
    )
    common = ArgumentParser(add_help=False)
    common.add_argument(
        "--db",
        type=Path,
        default=settings.database,
        metavar="FILE",
        help="where sessions are kept (%(default)s)",
    )
    common.add_argument(
        "--model",
        metavar="PROVIDER:NAME",
        help="for example openai:gpt-5, groq:llama-3.3-70b-versatile, local:smollm2",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_running(commands, common)
    _add_looking(commands, common)
    return parser


def _add_running(commands: Any, common: ArgumentParser) -> None:
    running = ArgumentParser(add_help=False)
    running.add_argument(
        "--workspace",
        type=Path,
        default=Path.cwd(),
        metavar="DIR",
        help="the directory whose files the agent may use (the current one)",
    )
    running.add_argument(
        "--write", action="store_true", help="let it also write and edit files there"
    )
    running.add_argument("--json", action="store_true", help="print events as JSON lines")
    running.add_argument(
        "--max-rounds",
        type=_positive,
        default=12,
        metavar="N",
        help="how often the model may be asked before it has to sum up (%(default)s)",
    )

    parser = commands.add_parser("ask", parents=[common, running], help="ask one question")
    parser.add_argument("question", nargs="+")
    parser.add_argument("--session", metavar="ID", help="go on in this session")
    parser.set_defaults(command=ask.ask)

    parser = commands.add_parser("chat", parents=[common, running], help="talk")
    parser.add_argument("--session", metavar="ID", help="go on in this session")
    parser.set_defaults(command=chat.chat)

    parser = commands.add_parser(
        "demo", parents=[common, running], help="a question about the files here, step by step"
    )
    parser.add_argument("question", nargs="*")
    parser.set_defaults(command=demo.demo)


def _add_looking(commands: Any, common: ArgumentParser) -> None:
    group = commands.add_parser("sessions", help="what is stored").add_subparsers(
        required=True, metavar="COMMAND"
    )
    parser = group.add_parser("list", parents=[common], help="newest first")
    parser.add_argument(
        "--limit", type=_positive, default=50, metavar="N", help="how many (%(default)s)"
    )
    parser.set_defaults(command=sessions.list_sessions)
    parser = group.add_parser("show", parents=[common], help="the timeline of one")
    parser.add_argument("session")
    parser.set_defaults(command=sessions.show)
    parser = group.add_parser("rm", parents=[common], help="delete one")
    parser.add_argument("session")
    parser.set_defaults(command=sessions.remove)

    parser = commands.add_parser("events", parents=[common], help="records of a session")
    parser.add_argument("session")
    parser.add_argument(
        "--after", type=_natural, default=0, metavar="N", help="from record N + 1 on"
    )
    parser.add_argument("--follow", action="store_true", help="go on with what is appended")
    parser.add_argument("--json", action="store_true", help="as JSON lines")
    parser.set_defaults(command=sessions.follow)

    parser = commands.add_parser("doctor", parents=[common], help="what is installed and answers")
    parser.set_defaults(command=doctor.doctor)


def _positive(text: str) -> int:
    return _number(text, 1)


def _natural(text: str) -> int:
    return _number(text, 0)


def _number(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if not least <= number <= _LARGEST:
        raise ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
    return number
