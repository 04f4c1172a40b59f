"""The rule that decided how a run ended, in one sentence: one function an outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

from msgspec import Struct

from llm_client.types import StopReason
from power_loop.events import Stamped
from power_loop.history.chain import Chain, decider, told_error
from power_loop.history.explanation import Explanation
from power_loop.history.words import clock, counted, cut
from power_loop.session.machine import OpenCall, Session
from power_loop.session.outcome import (
    ApprovalDenied,
    ApprovalExpired,
    AwaitingApproval,
    BudgetExhausted,
    Cancelled,
    Completed,
    Crashed,
    Degraded,
    Failed,
    GoalReached,
    NoProgress,
    Outcome,
    PendingTools,
    PlanFailed,
    RoundLimit,
    Stopped,
    WaitingForInput,
    status_of,
)
from power_loop.session.records import (
    AT_BUDGET,
    CallAnswered,
    Decided,
    Forked,
    MessageAppended,
    ModelAsked,
    ModelEnded,
    Rewound,
    RunClosed,
)

__all__ = ["Ending", "rule_of", "under_way"]

T = TypeVar("T")
_SHOWN = 3
"""Calls or requests that a rule names one by one."""


class Ending(Struct, frozen=True):
    """What a rule is told from.

    Attributes:
        records: those of the run, from the one that opened it.
        chain: what has been told of the session so far.
        session: as it is after these records.
        doing: what the run was doing before it was closed, or is doing.
        depth: how deep the session is below the root of its tree.
        below: the sessions below calls, as they stood then, by id.
    """

    records: Sequence[Stamped]
    chain: Chain
    session: Session
    doing: str
    depth: int
    below: Mapping[str, Explanation]

    @property
    def outcome(self) -> Outcome | None:
        """How the run ended; None while no end is stored."""
        return None if self.session.run is not None else self.session.last_outcome

    def of(self, kind: type[T]) -> list[T]:
        """The records of one type, in order."""
        return [each.event for each in self.records if isinstance(each.event, kind)]

    def answers(self) -> list[ModelEnded]:
        """How the model calls of the conversation ended, in order."""
        asides = {each.attempt for each in self.of(ModelAsked) if each.purpose}
        return [each for each in self.of(ModelEnded) if each.attempt not in asides]


def under_way(session: Session, chain: Chain) -> str:
    """What an open run is doing, to follow the word `while`."""
    if session.asked is not None:
        return f"model {cut(session.asked.model)} was being asked"
    calls = list(session.open_calls.values())
    running = [call.call.id for call in calls if call.state == "started"]
    if running:
        tools = ", ".join([chain.tool(id) for id in running[:_SHOWN]])
        if len(running) == 1:
            return f"tool {tools} was running: its outcome is unknown"
        more = f" and {len(running) - _SHOWN} more" if len(running) > _SHOWN else ""
        return f"tools {tools}{more} were running: their outcomes are unknown"
    if calls:
        waits = any(call.state == "waiting" for call in calls)
        what = "waited for somebody" if waits else "was about to run"
        return f"tool {chain.tool(calls[0].call.id)} {what}"
    if session.tail == "assistant":
        return "the run was about to end with the model's answer"
    return "the model was about to be asked"


def rule_of(ending: Ending) -> str:
    """What decided that the run ended so, in one sentence."""
    outcome = ending.outcome
    if outcome is None:
        return (
            "no end of the run is stored: it is under way, or its process has died; when it was "
            f"last heard of, {ending.doing}"
        )
    match _ended_by(ending.records):
        case Rewound(at=at):
            told = f"the session was rewound to what it was after record {at}"
            closed = ending.of(RunClosed)[-1:]
            how = [f"; before that, it had ended {status_of(each.outcome)}" for each in closed]
            return "".join([told, *how])
        case Forked(source=source, at=at):
            return (
                f"the session is a copy of {cut(source)} to its record {at}, made in the middle of "
                f"this run: then, {ending.doing}. It has not been carried on here"
            )
        case _:
            return _RULES[type(outcome)](ending, outcome)


def _ended_by(records: Sequence[Stamped]) -> RunClosed | Rewound | Forked | None:
    """The record that says last how a run stands."""
    found: RunClosed | Rewound | Forked | None = None
    for each in records:
        match each.event:
            case RunClosed() | Rewound():
                found = each.event
            case Forked() if found is None:
                # Of a run that had ended, a copy says nothing new.
                found = each.event
            case _:
                pass
    return found


# ── one an outcome ────────────────────────────────────────────────────────────────────────────────


def _completed(ending: Ending, _: Completed) -> str:
    answers = [each for each in ending.of(MessageAppended) if each.message.role == "assistant"]
    if answers and answers[-1].attempt is None:
        made_up = [each for each in ending.of(Decided) if each.what == "short_circuit"]
        who = decider(made_up[-1]) if made_up else "a hook"
        return f"{who} answered in the model's place, and nobody objected"
    ended = [each.stop_reason for each in ending.answers()]
    how = _CUT_OFF.get(ended[-1]) if ended else None
    bounded = _bounded(ending)
    if ended and ended[-1] is StopReason.LENGTH and bounded is not None:
        left = f"limit {cut(bounded.by)} had left for it ({cut(bounded.reason, 300)})"
        how = f"was cut off at what {left}"
    return f"the model answered{'' if how is None else f', but {how}'}, and nobody objected"


def _bounded(ending: Ending) -> Decided | None:
    """What a budget has said of the newest model call, if it had bounded that."""
    of_call = said = None
    for each in ending.records:
        match each.event:
            case Decided() as decided if decided.at == AT_BUDGET and not decided.call_id:
                said = decided
            case ModelAsked(purpose=""):
                of_call, said = said, None
            case _:
                pass
    return of_call


def _by_hook(ending: Ending, outcome: Any) -> str:
    """An ending that hooks and policies give."""
    reason = cut(getattr(outcome, "reason", ""), 300)
    breaks = [each for each in ending.of(Decided) if each.what == "break"]
    if not breaks:
        return f"{_NAMES[type(outcome)]}: {reason}" if reason else _NAMES[type(outcome)]
    said = f"break: {reason}" if reason else "break"
    as_what = "" if isinstance(outcome, Stopped) else f" ({_NAMES[type(outcome)]})"
    return f"{decider(breaks[-1])}: {said}{as_what}"


def _round_limit(ending: Ending, outcome: RoundLimit) -> str:
    del ending
    word = "has said" if outcome.text.strip() else "had nothing to say about"
    rounds = f"{outcome.limit:,} of {outcome.limit:,} used"
    return f"limit rounds: {rounds}; the model {word} where things stand"


def _budget(ending: Ending, outcome: BudgetExhausted) -> str:
    said = str(outcome)
    breaks = [d for d in ending.of(Decided) if d.what == "break" and said.startswith(d.reason)]
    limit = f"limit {cut(outcome.limit)}"
    told = f"{limit}: {cut(outcome.reason, 400)}" if outcome.reason else f"{limit} is used up"
    return f"{decider(breaks[-1])}: break: {told}" if breaks else told


def _awaiting(ending: Ending, outcome: AwaitingApproval | WaitingForInput) -> str:
    thing = "approval" if isinstance(outcome, AwaitingApproval) else "question"
    # A session below may wait under several of them.
    told = list(dict.fromkeys([_waits(ending, thing, token) for token in outcome.tokens]))
    more = len(told) - _SHOWN
    return "; ".join([*told[:_SHOWN], f"and {more} more"] if more > 0 else told)


def _waits(ending: Ending, thing: str, token: str) -> str:
    waits = ending.chain.waits.get(token)
    if waits is None:
        found = _told_below(ending, token)
        return found or f"{thing} {cut(token)} waits in a session below this one"
    since = clock(waits.created)
    told = f"{thing} {cut(token)} of tool {ending.chain.tool(waits.call_id)} waits"
    told += f" since {since}" if since else ""
    told += f", asked for by {cut(waits.by)}" if waits.by else ""
    return f"{told}: {cut(waits.reason)}" if waits.reason else told


def _denied(ending: Ending, outcome: ApprovalDenied) -> str:
    answers = [each for each in ending.of(CallAnswered) if each.token == outcome.token]
    if not answers:
        return _by_hook(ending, outcome)
    answer = answers[-1]
    by = f" by {cut(answer.by)}" if answer.by else ""
    note = f": {cut(answer.note)}" if answer.note else ""
    name = ending.chain.tool(answer.call_id)
    return f"approval {cut(outcome.token)} of tool {name} was denied{by}{note}"


def _expired(ending: Ending, outcome: ApprovalExpired) -> str:
    waits = ending.chain.waits.get(outcome.token)
    found = _told_below(ending, outcome.token) if waits is None else ""
    if found:
        return found
    until = "" if waits is None else clock(waits.expires or 0.0)
    name = "" if waits is None else f" of tool {ending.chain.tool(waits.call_id)}"
    return (
        f"approval {cut(outcome.token)}{name} was answered too late"
        f"{f': it had expired at {until}' if until else ''}"
    )


def _pending(ending: Ending, outcome: PendingTools) -> str:
    calls = [ending.session.open_calls.get(id) for id in outcome.call_ids]
    told = [_open(ending, call) for call in calls if call is not None and call.state != "waiting"]
    told = told or [_open(ending, call) for call in calls if call is not None]
    more = len(told) - _SHOWN
    shown = told[:_SHOWN] or [f"{counted(len(outcome.call_ids), 'call')} were left to the program"]
    return "; ".join([*shown, f"and {more} more"] if more > 0 else shown)


def _open(ending: Ending, call: OpenCall) -> str:
    name = ending.chain.tool(call.call.id)
    if call.state == "in_doubt":
        return f"tool {name} was running when its process died, and only the program may decide"
    if call.state == "waiting":
        found = ending.below.get(call.token)
        if found is not None:
            return _below(ending, found)
        return f"tool {name} waits for a session below this one that has not come to its end"
    return f"tool {name} is not run here: its result is to come from the program"


def _cancelled(ending: Ending, outcome: Cancelled) -> str:
    del ending
    reason = cut(outcome.reason, 300)
    return f"cancelled: {reason}" if reason else "cancelled, and no reason was given"


def _degraded(ending: Ending, outcome: Degraded) -> str:
    failed = list(_last_failures(ending))
    error = next((each.error for each in failed if each.error is not None), None)
    why = cut(outcome.reason) if error is None else told_error(error)
    times = f"{outcome.attempts:,} times, the last time" if outcome.attempts > 1 else "once,"
    return f"the provider failed {times} with {why}; the retry policy gave up"


def _failed(ending: Ending, outcome: Failed) -> str:
    error = next((each.error for each in _last_failures(ending)), None)
    if error is not None and error.type == outcome.error_type:
        return f"the model call failed for a reason that no retry mends: {told_error(error)}"
    for each in ending.below.values():
        if each.outcome == outcome:
            return _below(ending, each)
    return f"an error ended the run: {cut(outcome.error_type)}: {cut(outcome.message, 300)}"


def _told_below(ending: Ending, token: str) -> str:
    """The rule of the session below that waits under `token`; empty where none is known to."""
    for each in ending.below.values():
        match each.outcome:
            case AwaitingApproval(tokens=tokens) | WaitingForInput(tokens=tokens):
                waits = token in tokens
            case ApprovalExpired(token=late):
                waits = token == late
            case _:
                waits = False
        if waits:
            return _below(ending, each)
    return ""


def _below(ending: Ending, told: Explanation) -> str:
    of = [waits.call_id for waits in ending.chain.waits.values() if waits.token == told.session_id]
    name = ending.chain.tool(of[-1]) if of else "?"
    session = cut(told.session_id)
    return f"session {session}, below tool {name}, is {told.status}: {cut(told.rule, 400)}"


def _last_failures(ending: Ending) -> Iterator[ModelEnded]:
    for each in reversed(ending.answers()):
        if each.status != "failed":
            return
        yield each


def _crashed(ending: Ending, _: Crashed) -> str:
    return f"the process died while {ending.doing}"


_CUT_OFF: Mapping[StopReason | None, str] = MappingProxyType(
    {
        StopReason.LENGTH: "was cut off at the output limit",
        StopReason.CONTENT_FILTER: "the provider's filter withheld some of it",
        StopReason.REFUSAL: "declined",
    }
)
_NAMES: Mapping[type[Any], str] = MappingProxyType(
    {
        GoalReached: "the goal is reached",
        Stopped: "stopped by a hook",
        NoProgress: "no progress was seen",
        PlanFailed: "no valid plan was made",
        ApprovalDenied: "a person said no",
    }
)
_RULES: Mapping[type[Any], Callable[[Ending, Any], str]] = MappingProxyType(
    {
        Completed: _completed,
        GoalReached: _by_hook,
        Stopped: _by_hook,
        RoundLimit: _round_limit,
        BudgetExhausted: _budget,
        NoProgress: _by_hook,
        PlanFailed: _by_hook,
        AwaitingApproval: _awaiting,
        ApprovalDenied: _denied,
        ApprovalExpired: _expired,
        WaitingForInput: _awaiting,
        PendingTools: _pending,
        Cancelled: _cancelled,
        Degraded: _degraded,
        Failed: _failed,
        Crashed: _crashed,
    }
)
