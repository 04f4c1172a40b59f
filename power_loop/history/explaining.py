"""Makes an explanation of a session's records: which runs, how they ended, what is below them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from msgspec import Struct

from power_loop.errors import SessionError, UsageError
from power_loop.events import Stamped, is_record
from power_loop.history.chain import Chain
from power_loop.history.endings import Ending, rule_of, under_way
from power_loop.history.explanation import CacheUse, Explanation
from power_loop.history.limits import Below, limits_left
from power_loop.history.words import cut
from power_loop.session.machine import IllegalRecord, Session
from power_loop.session.outcome import BudgetExhausted, status_of
from power_loop.session.records import (
    CallWaiting,
    Decided,
    Forked,
    ModelEnded,
    Rewound,
    RunClosed,
    RunOpened,
    ToolSettled,
)
from power_loop.session.spent import Spent
from power_loop.session.state import result_id

__all__ = ["Log", "explanation_of", "sessions_below"]

_UNDER_WAY = "wait for it, or follow its events; if its process has died, resume the session"
_UPGRADE = "upgrade power_loop, and have it explained again"


class Log(Struct, frozen=True):
    """What can be read of a session.

    Attributes:
        records: from the first one on.
        unread: why there are no more than these; "" if there are no more.
    """

    records: Sequence[Stamped]
    unread: str = ""


_NOTHING: Mapping[str, Log] = MappingProxyType({})


def explanation_of(
    session_id: str, log: Log, run: str | None = None, below: Mapping[str, Log] = _NOTHING
) -> Explanation:
    """Why a session's runs ended as they did.

    Args:
        session_id: the session's id.
        log: what can be read of it.
        run: the id of the only run to explain; None explains the last task, which is all runs since
            its input.
        below: what can be read of the sessions below it, by id; those that are not there are told
            of as the session itself has heard of them.

    Raises:
        UsageError: there is no such run.
        SessionError: the session has had no run.
    """
    return _explained(session_id, log, run, below)[0]


def sessions_below(session_id: str, log: Log, run: str | None = None) -> Sequence[str]:
    """The sessions below calls of what `explanation_of` would explain.

    Raises:
        UsageError: there is no such run.
        SessionError: the session has had no run.
    """
    first, end = _scope(session_id, log, run)
    return _opened_below(log.records[first:end])


def _explained(
    session_id: str, log: Log, run: str | None, logs: Mapping[str, Log]
) -> tuple[Explanation, Below]:
    """An explanation, and what the session has used, those below its open calls included."""
    stamped = log.records
    first, end = _scope(session_id, log, run)
    below = _explained_below(stamped[first:end], logs)
    explained = {id: told for id, (told, _) in below.items()}
    seen = _Seen(session_id, {id: each.status for id, each in explained.items()})
    told, illegal = seen.take(stamped[:end])
    if told <= first:
        raise SessionError(f"no run of session {session_id!r} can be read: {illegal}", session_id)
    followed = next((e.event for e in stamped[end:] if isinstance(e.event, RunOpened)), None)
    unread = illegal or ("" if followed is not None else log.unread)
    start, opened = _last_opened(stamped[:told])
    session, depth = seen.session, stamped[0].depth
    ending = Ending(stamped[start:told], seen.chain, session, seen.doing, depth, explained)
    outcome, rule = ending.outcome, rule_of(ending)
    if unread:
        rule = f"the log goes on after record {told}, but cannot be read; up to there: {rule}"
    unheard = _unheard(session, below)
    explanation = Explanation(
        session_id=session_id,
        run_id=opened.run,
        status="running" if outcome is None else status_of(outcome),
        outcome=outcome,
        resumable=followed is None and (outcome is None or outcome.resumable),
        recommended_action=_action(ending, followed, unread),
        rule=rule,
        limits=limits_left(opened, ending, seen.rounds, unheard),
        steps=tuple([step for step in seen.chain.steps if step.seq >= stamped[first].seq]),
        below=tuple(explained.values()),
        cache=_cache_use(stamped[first:told]),
        unread=unread,
    )
    return explanation, Below(session.spent + session.uncounted + unheard.spent, unheard.complete)


def _cache_use(records: Sequence[Stamped]) -> CacheUse | None:
    ended = [each.event.usage for each in records if isinstance(each.event, ModelEnded)]
    said = [usage for usage in ended if usage.cached_tokens is not None and usage.input_tokens]
    of = sum([usage.input_tokens or 0 for usage in said])
    return CacheUse(sum([usage.cached_tokens or 0 for usage in said]), of) if said else None


# ── the sessions below ────────────────────────────────────────────────────────────────────────────


def _opened_below(records: Sequence[Stamped]) -> Sequence[str]:
    waits = [each.event for each in records if isinstance(each.event, CallWaiting)]
    return list(dict.fromkeys([each.token for each in waits if each.kind == "child"]))


def _explained_below(
    records: Sequence[Stamped], logs: Mapping[str, Log]
) -> dict[str, tuple[Explanation, Below]]:
    """The sessions below these records, as they stood after the last of these; if their call has
    been settled by then, as they ended, because some are given up only afterwards.
    """
    settled = {each.event.message.id for each in records if isinstance(each.event, ToolSettled)}
    over = {
        each.event.token
        for each in records
        if isinstance(each.event, CallWaiting) and result_id(each.event.call_id) in settled
    }
    found: dict[str, tuple[Explanation, Below]] = {}
    for id in _opened_below(records):
        log = logs.get(id)
        if log is None:
            continue
        others = {other: each for other, each in logs.items() if other != id}
        try:
            known = log if id in over else _until(log, records[-1])
            found[id] = _explained(id, known, None, others)
        except SessionError:
            # It was to have its first run when the process died.
            continue
    return found


def _until(log: Log, last: Stamped) -> Log:
    """What a session's log was when another one of its tree had come to `last`."""
    kept = [each for each in log.records if each.root != last.root or _by(each, last)]
    return log if len(kept) == len(log.records) else Log(kept)


def _by(each: Stamped, last: Stamped) -> bool:
    return each.tree_seq <= last.tree_seq


def _unheard(session: Session, below: Mapping[str, tuple[Explanation, Below]]) -> Below:
    """What the sessions below open calls have used, which the session itself has not heard of."""
    spent, complete = Spent(), True
    for call in session.open_calls.values():
        if call.kind == "child" and call.state == "waiting":
            found = below[call.token][1] if call.token in below else Below(complete=False)
            spent, complete = spent + found.spent.without_times, complete and found.complete
    return Below(spent, complete)


# ── which runs ────────────────────────────────────────────────────────────────────────────────────


def _scope(session_id: str, log: Log, run: str | None) -> tuple[int, int]:
    """Where the records begin and end that are to be explained."""
    stamped, unread = log.records, log.unread
    starts = [n for n, each in enumerate(stamped) if isinstance(each.event, RunOpened)]
    if not starts:
        why = unread or "it has had none; send a message first"
        raise SessionError(f"session {session_id!r} has no run to explain: {why}", session_id)
    ends = [*starts[1:], len(stamped)]
    opened = [stamped[n].event for n in starts]
    if run is not None:
        for start, end, record in zip(starts, ends, opened, strict=True):
            if isinstance(record, RunOpened) and record.run == run:
                return start, end
        raise UsageError(
            f"session {session_id!r} has no run {run!r}; leave the run out to have the last task "
            "explained, or take an id from `usage`"
        )
    inputs = [
        start
        for start, record in zip(starts, opened, strict=True)
        if isinstance(record, RunOpened) and record.resumes is None
    ]
    return (inputs or starts)[-1], len(stamped)


def _last_opened(stamped: Sequence[Stamped]) -> tuple[int, RunOpened]:
    for place in range(len(stamped) - 1, -1, -1):
        event = stamped[place].event
        if isinstance(event, RunOpened):
            return place, event
    raise AssertionError("no run is explained that has not opened")


class _Seen:
    """A session while its records are read.

    Attributes:
        session: their fold.
        chain: their steps.
        doing: what the newest run was doing before it ended, or is doing.
        rounds: the rounds of it that count, also where the session was rewound since.
    """

    def __init__(self, session_id: str, below: Mapping[str, str]) -> None:
        """`below` are the statuses of sessions below this one, by id."""
        self.session = Session(session_id)
        self.chain = Chain(below)
        self.doing = ""
        self.rounds = 0
        self._skipped = 0

    def take(self, stamped: Sequence[Stamped]) -> tuple[int, str]:
        """Reads records up to the first that is not legal; how many, and what is wrong with it."""
        session, illegal, place = self.session, "", 0
        for each in stamped:
            record = each.event
            assert is_record(record)
            if session.run is not None and isinstance(record, RunClosed | Forked):
                self.doing = under_way(session, self.chain)
            try:
                session.apply(record)
            except IllegalRecord as error:
                illegal = f"record {each.seq} was written by another version: {error}"
                break
            place += 1
            self.chain.see(each, self.doing)
            self._count(record)
        if session.run is not None:
            self.doing = under_way(session, self.chain)
        return place, illegal

    def _count(self, record: object) -> None:
        if isinstance(record, RunOpened):
            self._skipped = 0
        elif isinstance(record, Decided) and (record.at, record.what) in _ROUNDS_NOT_ASKED:
            self._skipped += 1
        if not isinstance(record, Rewound) and self.session.run is not None:
            self.rounds = self.session.round + self._skipped


_ROUNDS_NOT_ASKED = (("round.start", "skip"), ("llm.before", "short_circuit"))
"""What uses up a round without a model call."""


def _action(ending: Ending, followed: RunOpened | None, unread: str) -> str:
    if unread:
        return _UPGRADE
    if followed is not None:
        what = "carried it on" if followed.resumes is not None else "came after it"
        return f"nothing: run {cut(followed.run)} {what}"
    outcome = ending.outcome
    here = (f"child.{ending.depth}.", "exit.", "policy.")
    if ending.depth and isinstance(outcome, BudgetExhausted) and not outcome.limit.startswith(here):
        # It was set for the whole tree, and goes on with that.
        return outcome.action_for(f"session {cut(ending.records[0].root)}, above this one,")
    return _UNDER_WAY if outcome is None else outcome.recommended_action
