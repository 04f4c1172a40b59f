"""A stored run once more: the real pipeline, hooks and policies, and what was recorded of the rest.

No model is asked, no tool is run, nothing is written. What the run does now is compared with what
is stored, record by record, to the byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from llm_client.types import Message, Text
from power_loop.agent.opening import abandonment
from power_loop.driver.dispatch import Hooks
from power_loop.driver.run import MESSAGE_LIMIT
from power_loop.errors import UsageError
from power_loop.events import Stamped, is_record
from power_loop.history.decided import decided, given_answers
from power_loop.history.playing import ReplayPorts, Traits
from power_loop.history.script import Cut, Diverged, Divergence, Script
from power_loop.pipeline.plan import RunPlan
from power_loop.pipeline.run import run_pipeline
from power_loop.session.machine import Session
from power_loop.session.outcome import Cancelled, Crashed, Failed
from power_loop.session.records import (
    Forked,
    MessageAppended,
    ModelAsked,
    ModelConfigured,
    Record,
    RunClosed,
    RunOpened,
    ToolSettled,
)

__all__ = ["Divergence", "PlanOf", "Replayed", "replay_records"]

PlanOf = Callable[[ModelConfigured, RunOpened], RunPlan]
"""What a run is to do now that had opened so, with this configuration in force."""


class Replayed(Struct, frozen=True):
    """What became of a replay.

    Attributes:
        session_id: the session.
        runs: runs that were replayed, to where they differ.
        rounds: model rounds of them.
        records: records that were found to be the same.
        divergence: the first difference; None if there is none.
    """

    session_id: str
    runs: int
    rounds: int
    records: int
    divergence: Divergence | None = None

    @property
    def identical(self) -> bool:
        """Whether the replay did what is stored, to the byte."""
        return self.divergence is None


class _Piece(Struct):
    """A run, or records that stand between runs. `ends`: the last record closes the run."""

    stamped: list[Stamped]
    opened: RunOpened | None = None
    ends: bool = False


async def replay_records(
    session_id: str,
    stamped: Sequence[Stamped],
    plan_of: PlanOf,
    *,
    hooks: Hooks,
    traits: Traits,
    deps: Any = None,
    run: str | None = None,
    continue_prompt: str | None = None,
) -> Replayed:
    """Replays the runs of a session, or one of them, up to the first difference.

    Args:
        session_id: the session's id.
        stamped: all its records.
        plan_of: what a run is to do.
        hooks: the handlers.
        traits: what is known of a tool.
        deps: what hooks are handed.
        run: the only run to replay; all if None.
        continue_prompt: what is said when a run is resumed that had ended with a text; None leaves
            that to the pipeline.

    Raises:
        UsageError: there is no such run.
    """
    if run is not None and all(_run_of(each) != run for each in stamped):
        raise UsageError(f"session {session_id!r} has no run {run!r}")
    session = Session(session_id)
    names = _names(session_id, stamped)
    player = _Player(session, plan_of, hooks, traits, deps, continue_prompt)
    runs = rounds = records = 0
    for piece in _pieces(stamped):
        # A copy of another session did what it did under that one's name.
        session.id = names[piece.stamped[0].seq - stamped[0].seq]
        if piece.opened is None or run not in (None, piece.opened.run):
            session.apply(*_records(piece.stamped))
            continue
        before = session.seq
        divergence = await player.play(piece)
        runs += 1
        records += session.seq - before
        rounds += _rounds(piece.stamped[: session.seq - before])
        if divergence is not None:
            return Replayed(session_id, runs, rounds, records, divergence)
        player.catch_up(piece, before)
    return Replayed(session_id, runs, rounds, records)


class _Player:
    """Replays the runs of one session, one after the other."""

    def __init__(
        self,
        session: Session,
        plan_of: PlanOf,
        hooks: Hooks,
        traits: Traits,
        deps: Any,
        continue_prompt: str | None,
    ) -> None:
        self._session = session
        self._plan_of = plan_of
        self._hooks = hooks
        self._traits = traits
        self._deps = deps
        self._continue_prompt = continue_prompt
        self._is_below = False

    async def play(self, piece: _Piece) -> Divergence | None:
        """Replays a run: the first difference, if there is one."""
        assert piece.opened is not None
        records = _records(piece.stamped)
        if self._was_given_up(piece.opened, records):
            return None
        script = Script(self._session, piece.stamped, ends=piece.ends)
        ports = self._ports(piece.opened, records, script, piece.stamped[0])
        outcome = None
        try:
            await run_pipeline(ports, self._opening(piece.opened, records))
        except Cut:
            pass
        except Diverged as diverged:
            return diverged.divergence
        except Exception as error:  # noqa: BLE001  the driver closes such a run, and so it is compared
            # One that was stopped before its error came out did not fail.
            if not script.stopped_here():
                outcome = Failed(type(error).__name__, str(error)[:MESSAGE_LIMIT])
        return script.difference_of_ending(outcome)

    def catch_up(self, piece: _Piece, before: int) -> None:
        """Applies what is stored of a run beyond what its pipeline does."""
        rest = _records(piece.stamped)[self._session.seq - before :]
        if rest:
            self._session.apply(*rest)

    def _was_given_up(self, opened: RunOpened, records: list[Record]) -> bool:
        """Whether `abort_pending` has written the run, which needs no pipeline."""
        last = records[-1]
        if opened.resumes is None or not self._session.open_calls:
            return False
        if not isinstance(last, RunClosed) or not isinstance(last.outcome, Cancelled):
            return False
        given_up = abandonment(self._session, opened.run, last.outcome.reason, last.unheard)
        return given_up == tuple(records)

    def _depth(self, opened: RunOpened, first: Stamped) -> int:
        """How far a run was below another one."""
        if opened.resumes is None:
            self._is_below = opened.parent is not None
        # A copy is a root, whatever it was copied from; that it had been below is all it can tell.
        copied = first.session != self._session.id
        return int(self._is_below) if copied else first.depth

    def _ports(
        self, opened: RunOpened, records: list[Record], script: Script, first: Stamped
    ) -> ReplayPorts:
        configured = next((r for r in records[:4] if isinstance(r, ModelConfigured)), None)
        plan = self._plan_of(configured or self._session.configured, opened)
        answers = given_answers(self._session, records)
        decisions = decided(self._session, records, self._traits)
        depth = self._depth(opened, first)
        given = {message.id: message for message in opened.input}
        given |= {
            each.message.id: each.message
            for each in records
            if isinstance(each, ToolSettled) and each.how == "finished"
        }
        return ReplayPorts(
            self._session,
            replace(plan, answers=answers, decisions=decisions, depth=depth),
            script,
            hooks=self._hooks,
            traits=self._traits,
            deps=self._deps,
            given=given,
        )

    def _opening(self, opened: RunOpened, records: list[Record]) -> tuple[Record, ...]:
        """The records that the run is opened with, as `resume` makes them now."""
        first = records.index(opened)
        opening = tuple(records[: first + 1])
        following = [r for r in records[first + 1 : first + 3] if type(r) is not ModelConfigured]
        session, prompt = self._session, self._continue_prompt
        if opened.resumes is None or session.open_calls or session.tail != "assistant":
            return opening
        match following:
            case [MessageAppended(attempt=None, item="", message=said), *_] if prompt is not None:
                if first and said.text != prompt:
                    # A run is not told to go on whose process has died.
                    return opening
                return *opening, MessageAppended(Message("user", (Text(prompt),), id=said.id))
            case _:
                return opening


def _pieces(stamped: Sequence[Stamped]) -> Iterator[_Piece]:
    """The log, cut into runs and what stands between them."""
    piece = _Piece([])
    for each in stamped:
        event = each.event
        if piece.opened is not None and _is_from_outside(event):
            yield piece
            piece = _Piece([])
        piece.stamped.append(each)
        if isinstance(event, RunOpened):
            piece.opened = event
        # Whoever finds a run whose process has died closes it as the next one opens.
        elif piece.opened is not None or not _is_crash(event):
            piece.ends = isinstance(event, RunClosed)
            if piece.ends or piece.opened is None:
                yield piece
                piece = _Piece([])
    if piece.stamped:
        yield piece


def _is_from_outside(event: object) -> bool:
    """Whether it ends a run that has not closed itself."""
    return isinstance(event, Forked | RunOpened) or _is_crash(event)


def _is_crash(event: object) -> bool:
    return isinstance(event, RunClosed) and isinstance(event.outcome, Crashed)


def _records(stamped: Sequence[Stamped]) -> list[Record]:
    return [each.event for each in stamped if is_record(each.event)]


def _rounds(stamped: Sequence[Stamped]) -> int:
    return len({each.event.round for each in stamped if isinstance(each.event, ModelAsked)})


def _run_of(stamped: Stamped) -> str | None:
    return stamped.event.run if isinstance(stamped.event, RunOpened) else None


def _names(session_id: str, stamped: Sequence[Stamped]) -> list[str]:
    """Under which id each record was written."""
    names: list[str] = []
    name = session_id
    for each in reversed(stamped):
        names.append(name)
        if isinstance(each.event, Forked):
            name = each.event.source
    names.reverse()
    return names
