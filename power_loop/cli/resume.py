"""`resume` and `abort`: what becomes of a run that was interrupted, and of the calls it left open.

Whoever needs a person's decision is told by `tell_open` what is open, and which commands decide it.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from llm_client.types import ToolResult, ToolSpec
from power_loop.agent.answers import answer, approve, by_token, deny
from power_loop.agent.below import check_not_below
from power_loop.agent.deciding import Decision
from power_loop.agent.loop import AgentLoop
from power_loop.agent.opening import PendingCall
from power_loop.agent.requests import ApprovalRequest, InputRequest
from power_loop.agent.terminal import plain, until
from power_loop.cli.ask import loop_with, open_loop, same_as
from power_loop.cli.asking import AtTerminal, somebody_answers
from power_loop.cli.display import make_display
from power_loop.cli.settings import CliSettings
from power_loop.cli.silent import SilentService
from power_loop.cli.timeline import counted, one_line
from power_loop.cli.turn import show_run, warm_up
from power_loop.errors import UsageError
from power_loop.pipeline.plan import Answer
from power_loop.runtime.stores.base import Store
from power_loop.session.records import ToolSettled
from power_loop.tools.base import Result, Tool

__all__ = ["abort", "resume", "tell_open"]

T = TypeVar("T")


async def resume(args: Namespace, store: Store) -> int:
    """`resume`: carries a run on, as `ask` shows it; 1 if it did not come to its answer.

    Raises:
        UsageError: it is one of a session below another one, or what was decided is not for it.
    """
    await check_not_below(store, args.session)
    display = make_display(json=args.json)
    asks = AtTerminal(display) if somebody_answers(args) else None
    loop = open_loop(args, store, in_doubt="ask", responder=asks)
    answers = _answers(args)
    results = [(call, Result(text)) for call, text in args.result]
    decisions: Mapping[str, Decision] = _once([*args.decide, *results])
    try:
        pending = await loop.get_pending(args.session)
        here = asks is not None and all(call.name in loop.tools.by_name() for call in pending)
        if pending and not (answers or decisions or here) and _all_wait(pending):
            await tell_open(args, store)
            return 1
        _check_tools(loop, pending, answers, decisions)
        await warm_up(loop.llm)
        async with loop:
            result = await show_run(
                lambda on_busy: loop.stream_resume(
                    args.session, on_busy=on_busy, answers=answers, decisions=decisions
                ),
                display,
                announce=not args.json,
            )
    finally:
        await loop.close_llm()
    if await loop.get_pending(args.session):
        await tell_open(args, store)
    return 0 if result.status == "completed" else 1


def _answers(args: Namespace) -> list[Answer]:
    yes = [approve(token, edited, by=args.by) for token, edited in args.approve]
    no = [deny(token, note, by=args.by) for token, note in args.deny]
    return [*yes, *no, *[answer(token, text, by=args.by) for token, text in args.answer]]


async def abort(args: Namespace, store: Store) -> int:
    """`abort`: gives open calls up, and says what the model is told of each."""
    before = (await store.info(args.session)).seq
    loop = AgentLoop[None](SilentService("none"), store=store)
    count = await loop.abort_pending(args.session, args.reason)
    print(f"gave up {counted(count, 'open call')}")
    for stamped in await store.read(args.session, before):
        match stamped.event:
            case ToolSettled(message=message):
                told = message.parts[0]
                assert isinstance(told, ToolResult)
                print(f"  {told.call_id}: {told.text}")
            case _:
                pass
    return 0


async def tell_open(args: Namespace, store: Store, undecided: Sequence[str] = ()) -> None:
    """Says which calls of the session are open, and which commands carry it on or give it up.

    `undecided` are calls in doubt that it cannot go on without, if that is known.
    """
    loop = loop_with(args, store, SilentService("none"))
    pending = await loop.get_pending(args.session)
    undecided = undecided or [call.call_id for call in pending if call.state == "in_doubt"]
    tools = loop.tools.by_name()
    print(f"session {args.session} has open calls:", file=sys.stderr)
    for call in pending:
        whose = "" if call.name in tools else " (a tool of another program)"
        state = _state(call, undecided)
        print(f"  {call.call_id}  {_what_runs(call)}{whose}  {state}", file=sys.stderr)
        for line in _told_request(call.request):
            print(f"      {line}", file=sys.stderr)
    settings: CliSettings = args.settings
    ways = _ways_on(tools, pending, undecided)
    print("one of these goes on:" if ways else "it can go on in that program", file=sys.stderr)
    for words in ways:
        way = ("resume", args.session, *words, *same_as(args))
        print(f"  {settings.command(args.db, *way)}", file=sys.stderr)
    print(
        f"or this gives them up:\n  {settings.command(args.db, 'abort', args.session)}",
        file=sys.stderr,
    )


def _state(call: PendingCall, undecided: Sequence[str]) -> str:
    if call.state == "in_doubt" or call.call_id in undecided:
        return "was running when its process died; nobody knows what became of it"
    if call.state == "waiting":
        return f"waits for an answer to {call.token}"
    return "is running" if call.state == "started" else "has not begun"


def _what_runs(call: PendingCall) -> str:
    if isinstance(call.request, ApprovalRequest):
        # Whole: somebody is to answer for it.
        arguments = plain(call.request.arguments).replace("\n", " ")
        return f"{plain(call.request.tool)}({arguments})"
    return f"{plain(call.name)}({one_line(plain(call.arguments))})"


def _told_request(request: ApprovalRequest | InputRequest | None) -> list[str]:
    """What a person is to know before they answer."""
    match request:
        case ApprovalRequest():
            why = one_line(plain(request.reason) or "no reason is given", 300)
            return [f"{why} (asked by {plain(request.by) or 'a hook'}){until(request.expires)}"]
        case InputRequest():
            lines = [one_line(plain(request.question), 1000)]
            if request.schema is not None:
                lines.append(f"to fit {plain(json.dumps(request.schema, ensure_ascii=False))}")
            return lines
        case None:
            return []


def _ways_on(
    tools: Mapping[str, Tool | ToolSpec], pending: Sequence[PendingCall], undecided: Sequence[str]
) -> Sequence[Sequence[str]]:
    """What to say to `resume`: each is whole, and decides about everything."""
    if any(call.name not in tools and _begins(call) for call in pending):
        return []
    asked = [call for call in pending if isinstance(call.request, ApprovalRequest)]
    told = [
        word
        for call in pending
        if isinstance(call.request, InputRequest)
        for word in ("--answer", f"{call.token}=TEXT")
    ]
    yes = [word for call in asked for word in ("--approve", call.token)] + told
    no = [word for call in asked for word in ("--deny", call.token)] + told
    answers: list[list[str]] = [yes, no] if asked else [told]
    if any(call.name not in tools for call in asked):
        answers = [no]
    if not undecided:
        return answers
    doubted = [call for call in pending if call.call_id in undecided]
    decided = [_for_each(doubted, "--decide", "unknown"), _for_each(doubted, "--result", "TEXT")]
    if all(isinstance(tools.get(call.name), Tool) for call in doubted):
        decided.insert(0, _for_each(doubted, "--decide", "rerun"))
    return [[*answer, *words] for words in decided for answer in answers]


def _for_each(calls: Iterable[PendingCall], option: str, value: str) -> list[str]:
    return [word for call in calls for word in (option, f"{call.call_id}={value}")]


def _begins(call: PendingCall) -> bool:
    """Whether its tool is needed as soon as the session is carried on."""
    works_below = call.state == "waiting" and call.request is None
    return works_below or call.state in ("asked", "granted")


def _all_wait(pending: Iterable[PendingCall]) -> bool:
    return all(call.state == "waiting" for call in pending)


def _once(pairs: Iterable[tuple[str, T]]) -> dict[str, T]:
    found: dict[str, T] = {}
    for name, value in pairs:
        if name in found:
            raise UsageError(f"{name!r} is decided twice; say what holds")
        found[name] = value
    return found


def _check_tools(
    loop: AgentLoop[None],
    pending: Iterable[PendingCall],
    answers: Sequence[Answer],
    decisions: Mapping[str, Decision],
) -> None:
    """Raises UsageError: a call would begin here whose tool is another program's.

    The model would be told that there is no such tool, and the call would be lost.
    """
    tools = loop.tools.by_name()
    granted = {token for token, each in by_token(answers).items() if each.kind == "approve"}
    for call in pending:
        approved = call.state == "waiting" and call.token in granted
        if (approved or _begins(call)) and call.call_id not in decisions and call.name not in tools:
            raise UsageError(
                f"call {call.call_id!r} needs the tool {call.name!r}, which is not one of this "
                "command's: resume the session in the program that has it (--write brings the "
                f"tools that write), give its result (--result {call.call_id}=TEXT), or give it "
                "up with `abort`"
            )
