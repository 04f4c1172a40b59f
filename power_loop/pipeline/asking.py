"""Calls that wait for a person: what exactly is asked, and what the answer is worth.

An approval is for what was shown: these arguments, under that version of a rule, with the world as
it was, and for its time. Once it has been given, all handlers of tool.before judge the call again,
and only the one that had asked lets it pass, and only for just that. What they leave of the call
must be what was approved: whoever rewrites it afterwards has it asked for anew. So has whoever is
too late, even where nobody asks any more.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
from msgspec.structs import replace

from power_loop.hooks import (
    APPROVAL_REQUESTED,
    TOOL_BEFORE,
    ApprovalRequested,
    Diverted,
    RequestInput,
    Suspend,
    ToolBefore,
)
from power_loop.pipeline.calls import settle_as
from power_loop.pipeline.decisions import heard, noted
from power_loop.pipeline.plan import Answer
from power_loop.pipeline.ports import Ports, Used
from power_loop.pipeline.progress import Progress, where
from power_loop.session.closing import settled_by_answer
from power_loop.session.machine import OpenCall
from power_loop.session.outcome import ApprovalDenied
from power_loop.session.records import CallAnswered, CallWaiting, Decided, ToolStarted
from power_loop.session.text import repaired_text

__all__ = [
    "TIME_IS_OVER",
    "WORLD_CHANGED",
    "arguments_digest",
    "ask_about_result",
    "asked",
    "judge",
    "take_answer",
]

WORLD_CHANGED = "the world has changed"
TIME_IS_OVER = "its time is over"
"""Why an approval is worth nothing any more, where that does not follow from the records."""


def arguments_digest(arguments: str) -> str:
    """What tells arguments from others, whatever their spelling.

    It is SHA-256 of their JSON with sorted keys and without white space, in hexadecimal, cut to 32
    digits. Of a repeated key the last value counts, as it does for the tool. What cannot be brought
    into that form, such as a number of 5,000 digits, counts as it is written.
    """
    from hashlib import sha256  # noqa: PLC0415  it loads OpenSSL, which most programs spare

    try:
        canonical = json.dumps(json.loads(arguments or "{}"), sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError):
        canonical = arguments
    return sha256(canonical.encode()).hexdigest()[:32]


async def judge(
    io: Ports, open_call: OpenCall, context: ToolBefore[Any], *, again: bool
) -> ToolBefore[Any] | Diverted[ToolBefore[Any], Any]:
    """What the handlers of tool.before make of a call; what has been approved passes.

    `again` says that the call is run as it is in `context`, whatever they make of it.
    """
    leave = _Leave(open_call, io.wall_clock() if open_call.grants else 0.0)
    result: ToolBefore[Any] | Diverted[ToolBefore[Any], Any] = context
    if io.listens(TOOL_BEFORE):
        result = await io.fire(TOOL_BEFORE, context, leave.passes)
    if isinstance(result, Diverted):
        result = replace(result, context=context) if again else result
    else:
        result = leave.missing(context if again else result) or result
    if isinstance(result, Diverted):
        call_id = open_call.call.id
        why = leave.void.get(result.by)
        if why is not None:
            await io.commit(Decided("approval", result.by, "void", why, call_id), later=True)
        await noted(io, TOOL_BEFORE, result, call_id)
    return result


class _Leave:
    """What approvals that have been given to a call are worth, while it is judged again.

    Attributes:
        void: why the newest one that a handler was given is worth nothing any more.
    """

    def __init__(self, open_call: OpenCall, now: float) -> None:
        self._grants = open_call.grants
        self._lapsed = open_call.lapsed
        self._now = now
        self._passed: list[Diverted[ToolBefore[Any], Any]] = []
        self.void: dict[str, str] = {}

    def passes(self, diverted: Diverted[ToolBefore[Any], Any]) -> bool:
        """Whether a handler that asks has been answered; what will run is looked at later."""
        asks, by = diverted.directive, diverted.by
        if not isinstance(asks, Suspend):
            return False
        for grant in self._grants:
            if grant.by == by:
                why = self._what_has_changed(grant, asks)
                if why is None:
                    self._passed.append(diverted)
                    return True
                self._void_for(grant, why)
        return False

    def missing(self, runs: ToolBefore[Any]) -> Diverted[ToolBefore[Any], Any] | None:
        """What must be asked for before the call may run like this; None if that was approved."""
        if not self._grants:
            # Whoever had asked may not be in this program: to be late must not be a way past it.
            return None if self._lapsed is None else self._again(self._lapsed, runs)
        digest = arguments_digest(runs.arguments)
        fitting = {g.by for g in self._grants if (g.name, g.args_hash) == (runs.name, digest)}
        for diverted in self._passed:
            if diverted.by not in fitting:
                return self._asked_anew(diverted.by, diverted.directive, runs)
        if self._passed or fitting:
            return None
        # Nobody asks any more, but this is not what a person was shown.
        return self._again(self._grants[-1], runs)

    def _again(self, last: CallWaiting, runs: ToolBefore[Any]) -> Diverted[ToolBefore[Any], Any]:
        ttl = None if last.expires is None else last.expires - last.created
        asks = Suspend(last.reason, last.version, last.world, ttl, last.end_on_denial)
        return self._asked_anew(last.by, asks, runs)

    def _asked_anew(
        self, by: str, asks: Suspend, runs: ToolBefore[Any]
    ) -> Diverted[ToolBefore[Any], Any]:
        for grant in self._grants:
            if grant.by == by:
                self._void_for(grant, "it was for another call")
        return Diverted(asks, by, runs)

    def _void_for(self, grant: CallWaiting, why: str) -> None:
        self.void[grant.by] = f"{grant.token!r} is worth nothing any more: {why}"

    def _what_has_changed(self, grant: CallWaiting, asks: Suspend) -> str | None:
        """Why a leave that was given is not for what is asked now; None if it may be."""
        if grant.version != repaired_text(asks.version):
            return "the rule has changed"
        if grant.world != repaired_text(asks.world):
            return WORLD_CHANGED
        if grant.expires is not None and self._now > grant.expires:
            return TIME_IS_OVER
        return None


async def asked(
    io: Ports,
    progress: Progress,
    open_call: OpenCall,
    diverted: Diverted[ToolBefore[Any], Any],
    *,
    at_once: bool,
) -> bool:
    """Has a call wait for what a handler wants to know; True if it has been approved at once.

    That is not tried unless `at_once`.
    """
    asks, found, call_id = diverted.directive, diverted.context, open_call.call.id
    now = io.wall_clock()
    if isinstance(asks, RequestInput):
        await io.commit(
            CallWaiting(
                call_id,
                "input",
                io.new_id(),
                repaired_text(asks.question),
                found.name,
                by=diverted.by,
                created=now,
                schema=""
                if asks.schema is None
                else msgspec.json.encode(asks.schema, order="sorted").decode(),
            )
        )
    else:
        assert isinstance(asks, Suspend)
        waiting = CallWaiting(
            call_id,
            "approval",
            io.new_id(),
            repaired_text(asks.reason),
            found.name,
            found.arguments or "{}",
            arguments_digest(found.arguments),
            diverted.by,
            repaired_text(asks.version),
            repaired_text(asks.world),
            now,
            None if asks.ttl is None else now + asks.ttl,
            asks.end_on_denial,
        )
        await io.commit(waiting)
        if io.listens(APPROVAL_REQUESTED):
            context = ApprovalRequested(
                **where(io), call=open_call.call, token=waiting.token, reason=waiting.reason
            )
            await heard(io, APPROVAL_REQUESTED, context, call_id)
    return at_once and await take_answer(io, progress, open_call)


async def ask_about_result(
    io: Ports, progress: Progress, open_call: OpenCall, started: ToolStarted, used: Used
) -> None:
    """A tool has asked for an answer that is to be its call's result."""
    assert used.question is not None
    waiting = CallWaiting(
        started.call_id,
        "input",
        io.new_id(),
        repaired_text(used.question),
        started.name,
        by=started.name,
        created=io.wall_clock(),
        schema=used.schema,
    )
    await io.commit(waiting)
    await take_answer(io, progress, open_call)


async def take_answer(io: Ports, progress: Progress, open_call: OpenCall) -> bool:
    """Takes what has been answered to a waiting call; True if it is to be decided on again.

    A call that is refused or answered is settled.
    """
    waiting = open_call.waiting
    assert waiting is not None
    answer = io.plan.answers.get(waiting.token)
    asks = io.responds and progress.denied is None
    if answer is None and asks and not _is_late(io, waiting):
        answer = await io.respond(waiting)
        if answer is None:
            # Also if its time is over meanwhile: nobody is asked about one thing for ever.
            return False
    if _is_late(io, waiting):
        # Committed before anything else, so that nobody can come with it again.
        await io.commit(CallAnswered(waiting.call_id, waiting.token, "expired"), later=True)
        if answer is None:
            return True
        why = f"{waiting.token!r} was answered too late"
        refused = Decided("approval", waiting.by, "refused", why, waiting.call_id)
        await io.commit(refused, later=True)
        progress.expired = waiting.token
        return False
    if answer is None:
        return False
    return await _answered(io, progress, open_call, waiting, answer)


def _is_late(io: Ports, waiting: CallWaiting) -> bool:
    return waiting.expires is not None and io.wall_clock() > waiting.expires


async def _answered(
    io: Ports, progress: Progress, open_call: OpenCall, waiting: CallWaiting, answer: Answer
) -> bool:
    record = CallAnswered(
        waiting.call_id,
        waiting.token,
        repaired_text(answer.text) if answer.kind == "answer" else answer.kind,
        repaired_text(answer.by),
        repaired_text(answer.note),
        answer.arguments,
        arguments_digest(answer.arguments) if answer.arguments else "",
    )
    # Committed before the settlement, so that no crash can make a refused call run.
    await io.commit(record, later=True)
    if open_call.state == "granted":
        return True
    await settle_as(io, settled_by_answer(open_call))
    if waiting.end_on_denial and waiting.kind == "approval":
        progress.denied = progress.denied or ApprovalDenied(waiting.token)
    return False
