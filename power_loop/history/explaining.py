"""Makes an explanation of a session's records: which runs, how they ended, what was left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from power_loop.errors import SessionError, UsageError
from power_loop.events import Stamped, is_record
from power_loop.history.chain import Chain
from power_loop.history.endings import Ending, rule_of, under_way
from power_loop.history.explanation import Explanation, LimitLeft
from power_loop.history.words import cut
from power_loop.session.machine import IllegalRecord, Session
from power_loop.session.outcome import RoundLimit, status_of
from power_loop.session.records import Decided, Forked, Rewound, RunClosed, RunOpened
from power_loop.session.spent import Spent

__all__ = ["explanation_of"]

_UNDER_WAY = "wait for it, or follow its events; if its process has died, resume the session"
_UPGRADE = "upgrade power_loop, and have it explained again"


def explanation_of(
    session_id: str, stamped: Sequence[Stamped], run: str | None = None, *, unread: str = ""
) -> Explanation:
    """Why a session's runs ended as they did, of which `stamped` are all records.

    Args:
        session_id: the session's id.
        stamped: its records, from the first one on.
        run: the id of the only run to explain; None explains the last task, which is all runs since
            its input.
        unread: why there are no more records than these; "" if there are no more.

    Raises:
        UsageError: there is no such run.
        SessionError: the session has had no run.
    """
    first, end = _scope(session_id, stamped, run, unread)
    seen = _Seen(session_id)
    told, illegal = seen.take(stamped[:end])
    if told <= first:
        raise SessionError(f"no run of session {session_id!r} can be read: {illegal}", session_id)
    followed = next((e.event for e in stamped[end:] if isinstance(e.event, RunOpened)), None)
    unread = illegal or ("" if followed is not None else unread)
    start, opened = _last_opened(stamped[:told])
    ending = Ending(stamped[start:told], seen.chain, seen.session, seen.doing)
    outcome, rule = ending.outcome, rule_of(ending)
    if unread:
        rule = f"the log goes on after record {told}, but cannot be read; up to there: {rule}"
    return Explanation(
        session_id=session_id,
        run_id=opened.run,
        status="running" if outcome is None else status_of(outcome),
        outcome=outcome,
        resumable=followed is None and (outcome is None or outcome.resumable),
        recommended_action=_action(ending, followed, unread),
        rule=rule,
        limits=_limits(opened, ending, seen.rounds),
        steps=tuple([step for step in seen.chain.steps if step.seq >= stamped[first].seq]),
        unread=unread,
    )


def _scope(
    session_id: str, stamped: Sequence[Stamped], run: str | None, unread: str
) -> tuple[int, int]:
    """Where the records begin and end that are to be explained."""
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

    def __init__(self, session_id: str) -> None:
        self.session = Session(session_id)
        self.chain = Chain()
        self.doing = ""
        self.rounds = 0
        self._skipped = 0

    def take(self, stamped: Sequence[Stamped]) -> tuple[int, str]:
        """Reads records up to the first that is not legal; how many, and what is wrong with it."""
        session = self.session
        for place, each in enumerate(stamped):
            record = each.event
            assert is_record(record)
            if session.run is not None and isinstance(record, RunClosed | Forked):
                self.doing = under_way(session, self.chain)
            try:
                session.apply(record)
            except IllegalRecord as error:
                return place, f"record {each.seq} was written by another version: {error}"
            self.chain.see(each, self.doing)
            self._count(record)
        if session.run is not None:
            self.doing = under_way(session, self.chain)
        return len(stamped), ""

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
    return _UNDER_WAY if ending.outcome is None else ending.outcome.recommended_action


# ── limits ────────────────────────────────────────────────────────────────────────────────────────


def _limits(opened: RunOpened, ending: Ending, rounds: int) -> tuple[LimitLeft, ...]:
    at = [each.at for each in ending.records]
    closed = [each.at for each in ending.records if isinstance(each.event, RunClosed)]
    seconds = max(0.0, (closed or at)[-1] - at[0])
    found: list[LimitLeft] = []
    for name, allowed in opened.limits.items():
        scope, _, what = name.rpartition(".")
        if name == "rounds":
            # The last word is one more.
            most = allowed if isinstance(ending.outcome, RoundLimit) else float(rounds)
            found.append(_left(name, allowed, min(float(rounds), most)))
        elif name == "seconds":
            found.append(_left(name, allowed, seconds))
        else:
            found.append(_budgeted(name, allowed, _spent(ending.session, scope), what, opened))
    return tuple(found)


def _spent(session: Session, scope: str) -> Spent | None:
    """What counts for a budget, as far as it is the session's own."""
    asked, lost = session.asked, Spent()
    if asked is not None:
        output = asked.reserved_output
        lost = Spent(
            input_tokens=asked.reserved - output, output_tokens=output, cost=asked.reserved_cost
        )
    own: Mapping[str, Spent] = {"run": session.task_spent, "session": session.spent}
    return own[scope] + lost if scope in own else None


def _budgeted(
    name: str, allowed: float, spent: Spent | None, what: str, opened: RunOpened
) -> LimitLeft:
    used: float | None = None if spent is None else getattr(spent, what, None)
    if spent is None:
        return LimitLeft(
            name, allowed, None, None, "shared: what others have used is not in this log"
        )
    if used is None:
        return LimitLeft(name, allowed, None, None, "not known to this version")
    if opened.parent is not None:
        return LimitLeft(name, allowed, used, None, "without what the sessions above have used")
    return _left(name, allowed, used)


def _left(name: str, allowed: float, used: float) -> LimitLeft:
    return LimitLeft(name, allowed, used, max(0.0, allowed - used))
