"""One call of a batch: may it run, with what, and to which end does it come."""

from __future__ import annotations

from functools import partial
from typing import Any

from msgspec.structs import replace

from llm_client.types import Message, Text, ToolResult
from power_loop.errors import HookError
from power_loop.events import HookFailed
from power_loop.hooks import (
    TOOL_BEFORE,
    TOOL_ERROR,
    Break,
    Retry,
    Skip,
    ToolBefore,
    ToolErrorRaised,
)
from power_loop.pipeline.asking import ask_about_result, asked, judge, take_answer
from power_loop.pipeline.calls import settle, settle_after, settle_as, text_error
from power_loop.pipeline.decisions import heard
from power_loop.pipeline.doubt import may_run_again
from power_loop.pipeline.ports import Job, Ports, Used
from power_loop.pipeline.progress import Progress, arguments_fault, filtered, repaired, where
from power_loop.session.closing import not_again, settled_by_answer, told
from power_loop.session.machine import OpenCall
from power_loop.session.outcome import BudgetExhausted
from power_loop.session.records import (
    AT_BUDGET,
    CallAnswered,
    CallWaiting,
    Decided,
    ToolSettled,
    ToolStarted,
)
from power_loop.session.state import child_id, result_id
from power_loop.session.text import repaired_text

__all__ = ["admit"]

_ASKED_AT_ONCE = 3
"""How often one call is put to somebody in one go: a handler that never leaves it as it was
approved would have them say yes for ever."""


async def admit(io: Ports, progress: Progress, open_call: OpenCall) -> Job | None:
    """What is to be done about a call: a job that runs it, or None when it is settled or waits."""
    again = False
    paid = open_call.call.id in io.session.handed_over
    match open_call.state:
        case "answered":
            await settle_as(io, settled_by_answer(open_call))
            return None
        case "waiting" if open_call.kind == "child":
            return await _reopened(io, progress, open_call)
        case "waiting":
            if not await take_answer(io, progress, open_call):
                return None
        case _:
            pass
    if open_call.state == "in_doubt" and not open_call.failed:
        if not await may_run_again(io, progress, open_call):
            return None
        again = True
    return await _allowed(io, progress, open_call, again=again or open_call.begun, paid=paid)


async def _allowed(
    io: Ports, progress: Progress, open_call: OpenCall, *, again: bool, paid: bool
) -> Job | None:
    match await _judged(io, progress, open_call, again=again):
        case ToolBefore(name=name, arguments=arguments):
            return await _job(io, progress, open_call, name, arguments or "{}", paid=paid)
        case Skip(output=output):
            await _skipped(io, open_call, output)
        case Break() as broken:
            progress.ending = broken.ending
        case None:
            pass
    return None


async def _judged(
    io: Ports, progress: Progress, open_call: OpenCall, *, again: bool
) -> ToolBefore[Any] | Skip | Break | None:
    """A call as tool.before leaves it, or what a handler wants instead; None when it has been
    settled by an answer, or waits for one.

    `again` says that it had begun before: then it is run as it was, or not at all.
    """
    times = 0
    while True:
        context = _to_judge(io, open_call)
        unguarded = not open_call.grants and open_call.lapsed is None
        if unguarded and not io.listens(TOOL_BEFORE):
            return context
        result = await judge(io, open_call, context, again=again)
        if isinstance(result, ToolBefore):
            return _as_it_may_run(io, context, result, again=again)
        match result.directive:
            case Skip() | Break() as instead:
                return instead
            case _:
                times += 1
                now = times <= _ASKED_AT_ONCE
                if not await asked(io, progress, open_call, result, at_once=now):
                    return None


def _to_judge(io: Ports, open_call: OpenCall) -> ToolBefore[Any]:
    begun = open_call.started
    if begun is not None:
        # What ran before may run again, not what the model had asked for before hooks changed it.
        name, arguments = begun.name, begun.arguments
    else:
        name, arguments = open_call.call.name, open_call.call.arguments or "{}"
        arguments = open_call.edited or arguments
    return ToolBefore(
        **where(io),
        call=open_call.call,
        name=name,
        arguments=arguments,
        attempt=open_call.attempt + 1,
        messages=io.session.view,
        polling=io.plan.polling,
    )


def _as_it_may_run(
    io: Ports, given: ToolBefore[Any], left: ToolBefore[Any], *, again: bool
) -> ToolBefore[Any]:
    """The call as handlers have left it."""
    if again:
        if (left.name, left.arguments) != (given.name, given.arguments):
            why = f"call {given.call.id!r} is run again as it had begun; it was not rewritten"
            io.emit(HookFailed(TOOL_BEFORE.name, "", "HookError", why))
        return given
    why = arguments_fault(left.arguments)
    if why is not None:
        raise HookError(f"a handler of tool.before rewrote a call of {given.name!r}: {why}")
    return left


async def _skipped(io: Ports, open_call: OpenCall, output: str) -> None:
    if not open_call.begun:
        await settle(io, ToolResult(open_call.call.id, (Text(output),)), "skipped")
        return
    # Not "skipped": it may have had effects.
    detail = repaired_text(f"A hook forbade that, and says: {output}")
    await settle_as(io, not_again(open_call, detail))


async def _job(
    io: Ports, progress: Progress, open_call: OpenCall, name: str, arguments: str, *, paid: bool
) -> Job | None:
    """The job that runs a call; None if it is settled, or left to the program. `paid` says that it
    was left before.
    """
    call_id, traits = open_call.call.id, io.tool(name)
    if traits is None:
        gone = f"There is no tool {name!r}."
        if open_call.begun:
            await settle_as(io, not_again(open_call, gone))
        else:
            await settle(io, text_error(call_id, gone), "not_run")
        return None
    begun = open_call.started
    from hashlib import sha256  # noqa: PLC0415  it loads OpenSSL, which a program without tools spares

    started = ToolStarted(
        call_id,
        name,
        arguments,
        # A session that is a copy of another keeps the key of what has begun there.
        begun.idempotency_key if begun is not None else f"{io.session.id}/{call_id}",
        sha256(arguments.encode()).hexdigest()[:32],
        open_call.attempt + 1,
    )
    given = io.plan.decisions.get(call_id)
    if isinstance(given, ToolResult):
        if io.limited and not paid:
            # What has been done is told also where it could not be afforded: the next step cannot.
            io.spend_tool_call(call_id, child=False)
        (result,) = repaired(io, "tool", (given,))
        message = Message("tool", (result,), id=result_id(call_id))
        await io.commit(started, ToolSettled(await filtered(io, message)))
        return None
    short = await _over_budget(io, call_id) if traits.external and not paid else None
    if short is not None:
        return Job(partial(_refused, io, progress, call_id, short))
    if traits.external:
        return None
    run = _run_child if traits.child else _run_call
    return Job(partial(run, io, progress, open_call, started), traits.exclusive)


# ── running it ────────────────────────────────────────────────────────────────────────────────────


async def _run_call(
    io: Ports, progress: Progress, open_call: OpenCall, started: ToolStarted
) -> bool:
    """Runs one call to its settlement; False to have its siblings cancelled."""
    async with io.slot():
        if io.interrupted():
            return True
        short = await _over_budget(io, started.call_id)
        if short is not None:
            return await _refused(io, progress, started.call_id, short)
        await io.commit(started)
        used = await io.use(started)
    if used.error is not None and io.listens(TOOL_ERROR):
        return await _failed(io, progress, open_call, started, used, used.error)
    return await _ended(io, progress, open_call, started, used)


async def _ended(
    io: Ports, progress: Progress, open_call: OpenCall, started: ToolStarted, used: Used
) -> bool:
    if used.question is None:
        return await settle_after(io, progress, open_call, started, used)
    await ask_about_result(io, progress, open_call, started, used)
    return True


async def _failed(
    io: Ports,
    progress: Progress,
    open_call: OpenCall,
    started: ToolStarted,
    used: Used,
    error: Exception,
) -> bool:
    context = ToolErrorRaised(
        **where(io),
        call=open_call.call,
        name=started.name,
        arguments=started.arguments,
        error=error,
    )
    match await heard(io, TOOL_ERROR, context, started.call_id):
        case Skip(output=output):
            used = Used(ToolResult(started.call_id, (Text(output),)))
        case Retry() if not io.interrupted():
            # Whoever judges calls judges this one as well, and a leave was for one start.
            match await _judged(io, progress, open_call, again=True):
                case ToolBefore():
                    used = await _tried_again(io, started, used)
                case Break() as broken:
                    await settle(io, used.result, used.how, meta=used.meta)
                    progress.ending = broken.ending
                    return False
                case Skip():
                    pass  # what it came to is known: it has failed
                case None:
                    return True
        case _:
            pass
    return await _ended(io, progress, open_call, started, used)


async def _tried_again(io: Ports, started: ToolStarted, failed: Used) -> Used:
    """What another try of a call gives, or that it has failed if there can be none."""
    if io.interrupted() or await _over_budget(io, started.call_id) is not None:
        return failed
    again = replace(started, attempt=started.attempt + 1)
    async with io.slot():
        await io.commit(again)
        return await io.use(again)


async def _run_child(
    io: Ports, progress: Progress, open_call: OpenCall, started: ToolStarted
) -> bool:
    """Runs the session below a call, or carries it on, to the call's settlement if it has one."""
    async with io.slot():
        if io.interrupted():
            return True
        if open_call.state != "waiting":
            short = await _over_budget(io, started.call_id, child=True)
            if short is not None:
                return await _refused(io, progress, started.call_id, short)
            below = child_id(io.session.id, started.call_id)
            # In one unit: from its beginning the call is never in doubt.
            await io.commit(started, CallWaiting(started.call_id, "child", below))
        ended = await io.child(started)
    if ended.used is None:
        progress.below.append(ended.outcome)
        return True
    answered = CallAnswered(started.call_id, open_call.token, "", spent=ended.spent)
    return await settle_after(io, progress, open_call, started, ended.used, answered)


async def _reopened(io: Ports, progress: Progress, open_call: OpenCall) -> Job | None:
    """The job that carries the session below a call on; None if it is none of ours."""
    started = open_call.started
    assert started is not None
    why = "It is being worked on for the session that this one is a copy of."
    if open_call.token == child_id(io.session.id, started.call_id):
        traits = io.tool(started.name)
        if traits is not None and traits.child:
            return Job(partial(_run_child, io, progress, open_call, started))
        why = f"There is no agent {started.name!r}."
    await settle_as(io, told(started.call_id, "unknown", why))
    return None


async def _over_budget(io: Ports, call_id: str, *, child: bool = False) -> BudgetExhausted | None:
    short = io.spend_tool_call(call_id, child=child) if io.limited else None
    if short is not None:
        refused = Decided(AT_BUDGET, short.limit, "refused", short.reason, call_id)
        await io.commit(refused, later=True)
    return short


async def _refused(io: Ports, progress: Progress, call_id: str, short: BudgetExhausted) -> bool:
    """A call that nobody can pay for is not run; its siblings go on, and then the run ends."""
    progress.short = progress.short or short
    await settle_as(io, told(call_id, "not_run", f"The budget {short.limit} is used up."))
    return True
