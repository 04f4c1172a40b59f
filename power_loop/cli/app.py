"""Arguments, and which command runs."""

from __future__ import annotations

import io
import os
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import anyio

from llm_client.errors import LLMError
from power_loop.cli import (
    ask,
    chat,
    demo,
    doctor,
    explain,
    history,
    memory,
    resume,
    sessions,
    store,
    usage,
)
from power_loop.cli.database import Database, DurableStore
from power_loop.cli.settings import CliSettings
from power_loop.cli.values import (
    approval,
    decision,
    duration,
    natural,
    noted,
    pair,
    positive,
    status,
)
from power_loop.errors import PowerLoopError, SessionPendingError

__all__ = ["main"]

_INTERRUPTED = 130
_BROKEN_PIPE = 141
"""As a shell reports it of a program that the closed pipe has ended."""

_EPILOG = """\
examples:
  power-loop ask "What does this project do?"
  power-loop ask --model openai:gpt-5-mini "..."   with the key in OPENAI_API_KEY
  power-loop chat                                  without a key, on a small local model

Without --model the provider in the environment is used (POWER_LOOP_BASE_URL,
POWER_LOOP_API_KEY, POWER_LOOP_MODEL, POWER_LOOP_PROVIDER), and if there is none,
the local model. COMMAND --help says more."""

Command = Callable[[Namespace, DurableStore], Awaitable[int]]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status: 0 done, 1 failed, 2 wrong arguments."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        settings = CliSettings.from_env()
        args = _parser(settings).parse_args(argv)
        args.settings = settings
        exit_status = anyio.run(_run, args)
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
    return exit_status


async def _run(args: Namespace) -> int:
    database: Database = args.db
    opened = database.open(args.schema_policy, may_be_new=args.may_be_new)
    command: Command = args.command
    try:
        return await command(args, opened)
    except SessionPendingError as error:
        await resume.tell_open(args, opened, error.undecided or error.in_doubt)
        return 1
    finally:
        with anyio.CancelScope(shield=True):
            await opened.aclose()


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
        type=Database,
        default=settings.database,
        metavar="PLACE",
        help="where sessions are kept: a path, sqlite:///PATH or postgresql://… (%(default)s)",
    )
    common.set_defaults(schema_policy="create", may_be_new=False)
    common.add_argument(
        "--model",
        metavar="PROVIDER:NAME",
        help="for example openai:gpt-5, groq:llama-3.3-70b-versatile, local:smollm2",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_running(commands, common)
    _add_looking(commands, common)
    _add_replay(commands, common)
    memory_parser = _command(commands, "memory", "list, export or forget what agents remember")
    memory.add_memory(memory_parser.add_subparsers(required=True, metavar="COMMAND"), common)
    _add_store(commands, common)
    return parser


def _add_running(commands: Any, common: ArgumentParser) -> None:
    running = ArgumentParser(add_help=False)
    _add_workspace(running)
    running.add_argument("--json", action="store_true", help="print events as JSON lines")
    running.add_argument(
        "--max-rounds",
        type=positive,
        default=12,
        metavar="N",
        help="how often the model may be asked before it has to sum up (%(default)s)",
    )

    parser = _command(commands, "ask", "ask one question about the files here", common, running)
    parser.add_argument("question", nargs="+", help="in words, with or without quotes")
    _add_write(parser)
    parser.add_argument("--session", metavar="ID", help="go on in this session")
    parser.set_defaults(command=ask.ask, may_be_new=True)

    parser = _command(commands, "chat", "talk with it about the files here", common, running)
    parser.add_argument("--session", metavar="ID", help="go on in this session")
    _add_write(parser)
    parser.set_defaults(command=chat.chat, may_be_new=True)

    parser = _command(
        commands, "demo", "answer a question about the files here, step by step", common, running
    )
    parser.add_argument("question", nargs="*", help="another one than the demo's own")
    parser.set_defaults(command=demo.demo, write=False, confirm=False, may_be_new=True)
    _add_resume(commands, common, running)


def _add_resume(commands: Any, common: ArgumentParser, running: ArgumentParser) -> None:
    parser = _command(
        commands, "resume", "carry on a run that was interrupted or waits", common, running
    )
    parser.add_argument("session", metavar="ID")
    _add_answers(parser)
    parser.add_argument(
        "--decide",
        action="append",
        default=[],
        type=decision,
        metavar="CALL=rerun|unknown",
        help="of a call in doubt: run it again, or tell the model that its outcome is unknown",
    )
    parser.add_argument(
        "--result",
        action="append",
        default=[],
        type=pair,
        metavar="CALL=TEXT",
        help="what a call in doubt, or of another program's tool, came to",
    )
    _add_write(parser)
    parser.set_defaults(command=resume.resume)

    parser = _command(commands, "abort", "give up the calls that a session has open", common)
    parser.add_argument("session", metavar="ID")
    parser.add_argument(
        "--reason", default="given up", metavar="TEXT", help="what the model is told (%(default)s)"
    )
    parser.set_defaults(command=resume.abort)


def _add_answers(parser: ArgumentParser) -> None:
    for option, kind, what, metavar in (
        ("--approve", approval, "let the call run that waits with this token", "TOKEN[=JSON]"),
        ("--deny", noted, "forbid it, and say why", "TOKEN[=NOTE]"),
        ("--answer", pair, "answer the question with this token", "TOKEN=TEXT"),
    ):
        parser.add_argument(
            option, action="append", default=[], type=kind, metavar=metavar, help=what
        )
    parser.add_argument(
        "--by", default="command line", metavar="NAME", help="who says so (%(default)s)"
    )


def _add_write(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--write", action="store_true", help="let it also write and edit files there"
    )
    parser.add_argument(
        "--confirm", action="store_true", help="ask somebody before it writes or edits a file"
    )


def _add_looking(commands: Any, common: ArgumentParser) -> None:
    sessions_parser = _command(commands, "sessions", "find, show, copy or delete what is stored")
    group = sessions_parser.add_subparsers(required=True, metavar="COMMAND")
    parser = _command(group, "list", "list sessions, newest first", common)
    _add_limit(parser)
    parser.set_defaults(command=sessions.list_sessions)
    _add_finding(group, common)
    parser = _command(group, "show", "show a session, a line a record", common)
    parser.add_argument("session", metavar="ID")
    parser.set_defaults(command=sessions.show)
    parser = _command(group, "rm", "delete a session", common)
    parser.add_argument("session", metavar="ID")
    parser.set_defaults(command=sessions.remove)
    parser = _command(group, "usage", "say what a session took and cost", common)
    parser.add_argument("session", metavar="ID")
    parser.add_argument(
        "--children", action="store_true", help="with the sessions of its sub-agents"
    )
    parser.add_argument("--json", action="store_true", help="as one line of JSON")
    parser.set_defaults(command=usage.usage)
    _add_history(group, common)

    parser = _command(commands, "explain", "say why a session's last task ended as it did", common)
    parser.add_argument("session", metavar="ID")
    parser.add_argument("--run", metavar="RUN", help="only this run of it")
    parser.add_argument("--json", action="store_true", help="as one line of JSON")
    parser.set_defaults(command=explain.explain)

    parser = _command(commands, "events", "print the records of a session, and follow it", common)
    parser.add_argument("session", metavar="ID")
    parser.add_argument(
        "--after", type=natural, default=0, metavar="N", help="from record N + 1 on"
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
    parser.set_defaults(command=doctor.doctor, may_be_new=True)


def _add_finding(group: Any, common: ArgumentParser) -> None:
    finding = ArgumentParser(add_help=False)
    finding.add_argument(
        "--metadata",
        action="append",
        default=[],
        type=pair,
        metavar="KEY=VALUE",
        help="only those that have this",
    )
    finding.add_argument(
        "--status",
        type=status,
        metavar="STATUS",
        help="only those whose last run ended so: completed, cancelled …; or new, running",
    )
    parser = _command(group, "search", "find sessions, newest first", common, finding)
    parser.add_argument("text", nargs="?", default="", help="some message holds it")
    parser.add_argument("--parent", metavar="ID", help="only those directly below this one")
    _add_limit(parser)
    parser.set_defaults(command=sessions.search)

    parser = _command(group, "prune", "delete sessions that are old", common, finding)
    parser.add_argument(
        "--older-than",
        type=duration,
        required=True,
        metavar="TIME",
        help="unchanged for so long: 90s, 30m, 12h, 30d, 8w",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say which")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.set_defaults(command=sessions.prune_sessions)


def _add_limit(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--limit", type=positive, default=50, metavar="N", help="how many (%(default)s)"
    )


def _add_history(group: Any, common: ArgumentParser) -> None:
    parser = _command(group, "fork", "copy a session up to a record, and print the id", common)
    parser.add_argument("session", metavar="ID")
    parser.add_argument(
        "--at", type=positive, metavar="N", help="the last record to copy (the last there is)"
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
    parser.set_defaults(command=history.import_file, may_be_new=True)


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


def _add_store(commands: Any, common: ArgumentParser) -> None:
    store_parser = _command(commands, "store", "check, migrate or back up the whole store")
    group = store_parser.add_subparsers(required=True, metavar="COMMAND")
    parser = _command(
        group, "check", "read everything and compare checksums, changing nothing", common
    )
    parser.set_defaults(command=store.check, schema_policy="verify")
    parser = _command(group, "migrate", "bring the tables up to date", common)
    parser.set_defaults(command=store.migrate, may_be_new=True)
    parser = _command(group, "backup", "copy everything into a new file", common)
    parser.add_argument("target", type=Path, metavar="FILE")
    parser.set_defaults(command=store.backup, schema_policy="verify")
    parser = _command(group, "vacuum", "free the room of what was deleted", common)
    parser.set_defaults(command=store.vacuum, schema_policy="verify")


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
