"""One batch of calls: decide on each in call order, run them side by side, settle all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from llm_client.types import Text, ToolResult
from power_loop.hooks import (
    ROUND_DECIDE,
    TOOLS_BATCH_AFTER,
    TOOLS_BATCH_BEFORE,
    Break,
    RoundDecide,
    Skip,
    ToolsBatchAfter,
    ToolsBatchBefore,
)
from power_loop.pipeline.admission import admit
from power_loop.pipeline.calls import settle
from power_loop.pipeline.decisions import heard
from power_loop.pipeline.ports import Job, Ports
from power_loop.pipeline.progress import Progress, end_round, filtered_results, where
from power_loop.session.closing import closing_calls
from power_loop.session.machine import OpenCall
from power_loop.session.outcome import (
    ApprovalExpired,
    AwaitingApproval,
    BudgetExhausted,
    Cancelled,
    Outcome,
    PendingTools,
    WaitingForInput,
)

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
        return _suspension(progress, s.open_calls)
    # A message that could not wait may have taken a batch before this one out of its suspension.
    progress.suspended, progress.expired, progress.short = False, None, None
    progress.below.clear()
    order = s.order
    text = s.messages[-1].text
    if not io.interrupted() and all(call.state == "asked" for call in s.open_calls.values()):
        outcome = await _decide_batch(io, text)
        if outcome is not None:
            return outcome
    jobs = await _jobs(io, progress)
    if jobs:
        await io.each(jobs)
    progress.ending = progress.ending or progress.denied
    if not any(call.state == "waiting" for call in s.open_calls.values()):
        progress.ending = progress.ending or progress.short
    if progress.ending is not None or io.interrupted():
        await _give_up(io)
    if progress.ending is not None:
        return progress.ending
    if s.open_calls:
        progress.suspended = True
        return _suspension(progress, s.open_calls)
    await _end_batch(io, order, text)
    return None


async def _decide_batch(io: Ports, text: str) -> Outcome | None:
    s = io.session
    calls = tuple([call.call for call in s.open_calls.values()])
    if io.listens(ROUND_DECIDE):
        context = RoundDecide(**where(io), tool_calls=calls, assistant_text=text)
        match await heard(io, ROUND_DECIDE, context):
            case Skip(output=output):
                await _answer_all(io, output)
            case Break() as broken:
                await _give_up(io)
                return broken.ending
            case _:
                pass
    if s.open_calls and io.listens(TOOLS_BATCH_BEFORE):
        context = ToolsBatchBefore(**where(io), tool_calls=calls)
        result = await heard(io, TOOLS_BATCH_BEFORE, context)
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


def _suspension(progress: Progress, calls: Mapping[str, OpenCall]) -> Outcome:
    if progress.expired is not None:
        return ApprovalExpired(progress.expired)
    waiting = [call for call in calls.values() if call.state == "waiting"]
    approvals = [call.token for call in waiting if call.kind == "approval"]
    questions = [call.token for call in waiting if call.kind == "input"]
    others = len(calls) - len(waiting)
    for outcome in progress.below:
        match outcome:
            case AwaitingApproval(tokens=tokens):
                approvals += tokens
            case WaitingForInput(tokens=tokens):
                questions += tokens
            case BudgetExhausted():
                progress.short = outcome
            case _:
                others += 1
    if others:
        return PendingTools(tuple(calls))
    # In a replay each session below has come to what the whole run has: all of its tokens.
    if approvals:
        return AwaitingApproval(tuple(dict.fromkeys(approvals)))
    if questions or progress.short is None:
        return WaitingForInput(tuple(dict.fromkeys(questions)))
    return progress.short


async def _end_batch(io: Ports, order: Iterable[str], text: str) -> None:
    if io.listens(TOOLS_BATCH_AFTER):
        results = {
            part.call_id: part
            for message in io.session.messages[-len(tuple(order)) :]
            for part in message.parts
            if isinstance(part, ToolResult)
        }
        context = ToolsBatchAfter(**where(io), results=tuple([results[id] for id in order]))
        await heard(io, TOOLS_BATCH_AFTER, context)
    await end_round(io, text, has_tools=True)


async def _jobs(io: Ports, progress: Progress) -> list[Job]:
    """Jobs for the calls that are to run, after all others have settled or wait; none if a hook
    broke the batch off."""
    jobs: list[Job] = []
    for call in list(io.session.open_calls.values()):
        if io.interrupted() and not _given(io, call):
            continue
        job = await admit(io, progress, call)
        if progress.ending is not None:
            return []
        if job is not None:
            jobs.append(job)
    return jobs


def _given(io: Ports, call: OpenCall) -> bool:
    """Whether what is to become of a call has come from outside: that is not lost."""
    plan = io.plan
    return call.state == "answered" or call.call.id in plan.decisions or call.token in plan.answers
