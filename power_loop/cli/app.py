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
from power_loop.cli import ask, chat, demo, doctor, history, sessions
from power_loop.cli.settings import CliSettings
from power_loop.errors import PowerLoopError
from power_loop.runtime.stores.sqlite import SQLiteStore

__all__ = ["main"]

_INTERRUPTED = 130
_BROKEN_PIPE = 141
"""As a shell reports it of a program that the closed pipe has ended."""

_LARGEST = 2**31 - 1

_EPILOG = """\
examples:
  power-loop ask "What does this project do?"
  power-loop ask --model openai:gpt-5-mini "..."   with the key in OPENAI_API_KEY
  power-loop chat                                  without a key, on a small local model

Without --model the provider in the environment is used (POWER_LOOP_BASE_URL,
POWER_LOOP_API_KEY, POWER_LOOP_MODEL, POWER_LOOP_PROVIDER), and if there is none,
the local model. COMMAND --help says more."""

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
        description="An agent that works on the files of a directory and stores every step.",
        formatter_class=RawDescriptionHelpFormatter,
        epilog=_EPILOG,
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
    _add_replay(commands, common)
    return parser


def _add_running(commands: Any, common: ArgumentParser) -> None:
    running = ArgumentParser(add_help=False)
    _add_workspace(running)
    running.add_argument("--json", action="store_true", help="print events as JSON lines")
    running.add_argument(
        "--max-rounds",
        type=_positive,
        default=12,
        metavar="N",
        help="how often the model may be asked before it has to sum up (%(default)s)",
    )

    parser = _command(commands, "ask", "ask one question about the files here", common, running)
    parser.add_argument("question", nargs="+", help="in words, with or without quotes")
    _add_write(parser)
    parser.add_argument("--session", metavar="ID", help="go on in this session")
    parser.set_defaults(command=ask.ask)

    parser = _command(commands, "chat", "talk with it about the files here", common, running)
    parser.add_argument("--session", metavar="ID", help="go on in this session")
    _add_write(parser)
    parser.set_defaults(command=chat.chat)

    parser = _command(
        commands, "demo", "answer a question about the files here, step by step", common, running
    )
    parser.add_argument("question", nargs="*", help="another one than the demo's own")
    parser.set_defaults(command=demo.demo, write=False)


def _add_write(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--write", action="store_true", help="let it also write and edit files there"
    )


def _add_looking(commands: Any, common: ArgumentParser) -> None:
    sessions_parser = _command(commands, "sessions", "list, show or delete what is stored")
    group = sessions_parser.add_subparsers(required=True, metavar="COMMAND")
    parser = _command(group, "list", "list sessions, newest first", common)
    parser.add_argument(
        "--limit", type=_positive, default=50, metavar="N", help="how many (%(default)s)"
    )
    parser.set_defaults(command=sessions.list_sessions)
    parser = _command(group, "show", "show a session, a line a record", common)
    parser.add_argument("session", metavar="ID")
    parser.set_defaults(command=sessions.show)
    parser = _command(group, "rm", "delete a session", common)
    parser.add_argument("session", metavar="ID")
    parser.set_defaults(command=sessions.remove)
    _add_history(group, common)

    parser = _command(commands, "events", "print the records of a session, and follow it", common)
    parser.add_argument("session", metavar="ID")
    parser.add_argument(
        "--after", type=_natural, default=0, metavar="N", help="from record N + 1 on"
    )
    parser.add_argument("--follow", action="store_true", help="go on with what is appended")
    parser.add_argument("--json", action="store_true", help="as JSON lines")
    parser.set_defaults(command=sessions.follow)

    parser = _command(
        commands, "doctor", "say what is installed, which model answers, what is cached", common
    )
    parser.add_argument(
        "--probe",
        action="store_true",
        help="ask the model what it can do: tools, schemas, images … (some 1,500 tokens)",
    )
    parser.set_defaults(command=doctor.doctor)


def _add_history(group: Any, common: ArgumentParser) -> None:
    parser = _command(group, "fork", "copy a session up to a record, and print the id", common)
    parser.add_argument("session", metavar="ID")
    parser.add_argument(
        "--at", type=_positive, metavar="N", help="the last record to copy (the last there is)"
    )
    parser.set_defaults(command=history.fork)
    parser = _command(group, "diff", "say where two sessions part; status 1 if they do", common)
    parser.add_argument("session", metavar="ID")
    parser.add_argument("other", metavar="ID")
    parser.set_defaults(command=history.diff)

    sealed = ArgumentParser(add_help=False)
    sealed.add_argument(
        "--key-file",
        type=Path,
        metavar="FILE",
        help="seal with the key in this file, so that nobody without it can alter anything",
    )
    parser = _command(group, "export", "write a session into a file", common, sealed)
    parser.add_argument("session", metavar="ID")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.set_defaults(command=history.export)
    parser = _command(
        group, "import", "store the session of a file, and print its id", common, sealed
    )
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--as", dest="as_id", metavar="ID", help="as a copy with another id")
    parser.set_defaults(command=history.import_file)


def _add_replay(commands: Any, common: ArgumentParser) -> None:
    parser = _command(
        commands, "replay", "do a session once more, without a model, and compare", common
    )
    parser.add_argument("session", metavar="ID")
    parser.add_argument("--run", metavar="RUN", help="only this run of it")
    _add_workspace(parser)
    _add_write(parser)
    # How many rounds a run was given is in its record.
    parser.set_defaults(command=history.replay, max_rounds=1)


def _add_workspace(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--workspace",
        type=Path,
        default=Path.cwd(),
        metavar="DIR",
        help="the directory whose files the agent may use (the current one)",
    )


def _command(group: Any, name: str, what: str, *parents: ArgumentParser) -> ArgumentParser:
    parser: ArgumentParser = group.add_parser(
        name, parents=parents, help=what, description=f"{what[0].upper()}{what[1:]}."
    )
    return parser


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
