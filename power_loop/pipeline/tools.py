"""One batch of calls: decide on each in call order, run them side by side, settle all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from llm_client.types import Message, Text, ToolResult
from power_loop.errors import HookError
from power_loop.hooks import (
    ROUND_DECIDE,
    TOOL_BEFORE,
    TOOL_ERROR,
    TOOLS_BATCH_AFTER,
    TOOLS_BATCH_BEFORE,
    Break,
    Retry,
    RoundDecide,
    Skip,
    Suspend,
    ToolBefore,
    ToolErrorRaised,
    ToolsBatchAfter,
    ToolsBatchBefore,
)
from power_loop.pipeline.calls import request_approval, settle, settle_after, settle_as, text_error
from power_loop.pipeline.doubt import may_run_again
from power_loop.pipeline.ports import Job, Ports, ToolTraits, Used
from power_loop.pipeline.progress import (
    Progress,
    arguments_fault,
    end_round,
    filtered,
    filtered_results,
    repaired,
    where,
)
from power_loop.session.closing import closing_calls, settled_by_answer, told
from power_loop.session.machine import OpenCall
from power_loop.session.outcome import (
    AwaitingApproval,
    Cancelled,
    Outcome,
    PendingTools,
    Stopped,
)
from power_loop.session.records import CallAnswered, ToolSettled, ToolStarted
from power_loop.session.state import result_id

__all__ = ["tools_phase"]


async def tools_phase(io: Ports, progress: Progress) -> Outcome | None:
    """Runs what is open of a batch: how the run ends, or None to go on."""
    s = io.session
    taken = await io.drain()
    if taken.cancel is not None:
        # Steering waits for the next round; a wish to cancel does not.
        await _give_up(io)
        return Cancelled(taken.cancel)
    if progress.suspended and not io.interrupted():
        # The run could not close at once; hooks have had their say about these calls.
        return _suspension(s.open_calls)
    order = s.order
    text = s.messages[-1].text
    if not io.interrupted() and all(call.state == "asked" for call in s.open_calls.values()):
        outcome = await _decide_batch(io, text)
        if outcome is not None:
            return outcome
    jobs = await _jobs(io, progress)
    if jobs:
        await io.each(jobs)
    if progress.stop_reason is not None or io.interrupted():
        await _give_up(io)
    if progress.stop_reason is not None:
        return Stopped(progress.stop_reason)
    if s.open_calls:
        progress.suspended = True
        return _suspension(s.open_calls)
    await _end_batch(io, order, text)
    return None


async def _decide_batch(io: Ports, text: str) -> Outcome | None:
    s = io.session
    calls = tuple([call.call for call in s.open_calls.values()])
    if io.listens(ROUND_DECIDE):
        context = RoundDecide(**where(io), tool_calls=calls, assistant_text=text)
        match await io.fire(ROUND_DECIDE, context):
            case Skip(output=output):
                await _answer_all(io, output)
            case Break(reason=reason):
                await _give_up(io)
                return Stopped(reason)
            case _:
                pass
    if s.open_calls and io.listens(TOOLS_BATCH_BEFORE):
        context = ToolsBatchBefore(**where(io), tool_calls=calls)
        result = await io.fire(TOOLS_BATCH_BEFORE, context)
        if isinstance(result, Skip):
            await _answer_all(io, result.output)
    return None


async def _answer_all(io: Ports, output: str) -> None:
    for call_id in list(io.session.open_calls):
        await settle(io, ToolResult(call_id, (Text(output),)), "skipped")


async def _give_up(io: Ports) -> None:
    settled = closing_calls(io.session, io.finished())
    if settled:
        await io.commit(*await filtered_results(io, settled))


def _suspension(calls: Mapping[str, OpenCall]) -> Outcome:
    tokens = tuple([call.token for call in calls.values() if call.state == "waiting"])
    if tokens and len(tokens) == len(calls):
        return AwaitingApproval(tokens)
    return PendingTools(tuple(calls))


async def _end_batch(io: Ports, order: Iterable[str], text: str) -> None:
    if io.listens(TOOLS_BATCH_AFTER):
        results = {
            part.call_id: part
            for message in io.session.messages[-len(tuple(order)) :]
            for part in message.parts
            if isinstance(part, ToolResult)
        }
        context = ToolsBatchAfter(**where(io), results=tuple([results[id] for id in order]))
        await io.fire(TOOLS_BATCH_AFTER, context)
    await end_round(io, text, has_tools=True)


async def _jobs(io: Ports, progress: Progress) -> list[Job]:
    """Jobs for the calls that are to run, after all others have settled or wait; none if a hook
    broke the batch off."""
    jobs: list[Job] = []
    for call in list(io.session.open_calls.values()):
        if io.interrupted() and not _given(io, call):
            continue
        job = await _admit(io, progress, call)
        if progress.stop_reason is not None:
            return []
        if job is not None:
            jobs.append(job)
    return jobs


def _given(io: Ports, call: OpenCall) -> bool:
    """Whether what is to become of a call has come from outside: that is not lost."""
    plan = io.plan
    return call.state == "answered" or call.call.id in plan.decisions or call.token in plan.answers


# ── one call ──────────────────────────────────────────────────────────────────────────────────────


async def _admit(io: Ports, progress: Progress, open_call: OpenCall) -> Job | None:
    """What is to be done about a call: a job that runs it, or None when it is settled or waits."""
    before = open_call.started
    if before is None:
        name, arguments = open_call.call.name, open_call.call.arguments or "{}"
    else:
        # What ran before may run again, not what the model had asked for before hooks changed it.
        name, arguments = before.name, before.arguments
    if not await _may_run(io, progress, open_call):
        return None
    if open_call.state == "asked" and io.listens(TOOL_BEFORE):
        rewritten = await _judged(io, open_call, name, arguments)
        if rewritten is None:
            return None
        name, arguments = rewritten.name, rewritten.arguments or "{}"
    return await _job(io, progress, open_call, io.tool(name), name, arguments)


async def _may_run(io: Ports, progress: Progress, open_call: OpenCall) -> bool:
    """Whether a call may run now, by what it has been through; settles it if it never will."""
    match open_call.state:
        case "answered":
            await settle_as(io, settled_by_answer(open_call))
            return False
        case "waiting":
            return await _answered(io, open_call)
        case "in_doubt":
            return await may_run_again(io, progress, open_call)
        case _:
            return True


async def _judged(
    io: Ports, open_call: OpenCall, name: str, arguments: str
) -> ToolBefore[Any] | None:
    """A call as tool.before leaves it; None when it is settled or waits."""
    call = open_call.call
    context: ToolBefore[Any] = ToolBefore(**where(io), call=call, name=name, arguments=arguments)
    match await io.fire(TOOL_BEFORE, context):
        case Skip(output=output):
            await settle(io, ToolResult(call.id, (Text(output),)), "skipped")
            return None
        case Suspend(reason=reason):
            await request_approval(io, open_call, reason)
            return None
        case ToolBefore() as rewritten:
            why = arguments_fault(rewritten.arguments)
            if why is not None:
                raise HookError(f"a handler of tool.before rewrote a call of {name!r}: {why}")
            return rewritten


async def _job(
    io: Ports,
    progress: Progress,
    open_call: OpenCall,
    traits: ToolTraits | None,
    name: str,
    arguments: str,
) -> Job | None:
    call_id = open_call.call.id
    if traits is None:
        gone = f"There is no tool {name!r}."
        if open_call.begun:
            await settle_as(io, told(call_id, "unknown", gone))
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
        (result,) = repaired(io, "tool", (given,))
        message = Message("tool", (result,), id=result_id(call_id))
        await io.commit(started, ToolSettled(await filtered(io, message)))
        return None
    if traits.external:
        return None
    return Job(partial(_run_call, io, progress, open_call, started), traits.exclusive)


async def _answered(io: Ports, open_call: OpenCall) -> bool:
    """Takes the answer a call waited for; True if the call may now run."""
    call_id = open_call.call.id
    answer = io.plan.answers.get(open_call.token)
    if answer is None:
        return False
    # Committed before the settlement, so that no crash can make a refused call run.
    await io.commit(CallAnswered(call_id, open_call.token, answer), later=True)
    answered = io.session.open_calls[call_id]
    if answered.state == "granted":
        return True
    await settle_as(io, settled_by_answer(answered))
    return False


async def _run_call(
    io: Ports, progress: Progress, open_call: OpenCall, started: ToolStarted
) -> bool:
    """Runs one call to its settlement; False to have its siblings cancelled."""
    async with io.slot():
        if io.interrupted():
            return True
        await io.commit(started)
        used = await io.use(started)
    if used.error is not None and io.listens(TOOL_ERROR):
        used = await _after_error(io, open_call, started, used, used.error)
    return await settle_after(io, progress, open_call, started, used)


async def _after_error(
    io: Ports, open_call: OpenCall, started: ToolStarted, used: Used, error: Exception
) -> Used:
    context = ToolErrorRaised(
        **where(io),
        call=open_call.call,
        name=started.name,
        arguments=started.arguments,
        error=error,
    )
    match await io.fire(TOOL_ERROR, context):
        case Skip(output=output):
            return Used(ToolResult(started.call_id, (Text(output),)))
        case Retry() if not io.interrupted():
            again = ToolStarted(
                started.call_id,
                started.name,
                started.arguments,
                started.idempotency_key,
                started.args_hash,
                started.attempt + 1,
            )
            async with io.slot():
                await io.commit(again)
                return await io.use(again)
        case _:
            return used
