"""`demo`: a question about real files, answered by a real model that calls tools, step by step."""

from __future__ import annotations

from argparse import Namespace

from power_loop.cli.ask import checked_workspace, open_loop
from power_loop.cli.database import Database
from power_loop.cli.display import make_display
from power_loop.cli.settings import CliSettings
from power_loop.cli.small import small_question
from power_loop.cli.timeline import timeline
from power_loop.cli.turn import show_run, warm_up
from power_loop.runtime.stores.base import Store

__all__ = ["demo"]

_QUESTION = "What is this project? Look at its files. Two sentences."


async def demo(args: Namespace, store: Store) -> int:
    """Asks, shows each call as it happens, and then what is stored."""
    settings: CliSettings = args.settings
    workspace = checked_workspace(args)
    is_local = settings.local_name(args.model) is not None
    question = " ".join(args.question) or (small_question(workspace) if is_local else _QUESTION)
    loop = open_loop(args, store)
    if not args.json:
        model = settings.model_in_words(args.model, loop.llm)
        print(f"model      {model}\nworkspace  {workspace}\nquestion   {question}\n", flush=True)
    try:
        await warm_up(loop.llm)
        async with loop:
            result = await show_run(
                lambda on_busy: loop.stream(question, on_busy=on_busy),
                make_display(json=args.json),
                announce=False,
            )
    finally:
        await loop.close_llm()
    if not args.json:
        await _tell_what_is_stored(store, args.db, result.session_id)
        if is_local:
            larger = settings.command(args.db, "demo", "--model", "openai:gpt-5-mini")
            print(f"\nwith a larger model, for which you have the key:\n  {larger}")
        again = settings.command(args.db, "sessions", "show", result.session_id)
        print(f"\nsee this session again:\n  {again}")
    return 0 if result.final_text.strip() else 1


async def _tell_what_is_stored(store: Store, database: Database, session: str) -> None:
    print(f"\nevery step is stored, as session {session} in {database}:\n")
    print("   #   seconds  what happened")
    print("\n".join(timeline(await store.read(session))))
