"""A session as a pure state machine. This table alone knows which record is legal when.

    IDLE ──RunOpened(input)──► MODEL ◄──────────────┐ all calls settled
      ▲                         │ assistant message │
      │                         ├── with calls ──► TOOLS ──RunClosed(keeps calls)──► SUSPENDED
      │                         │                                                       │
      └──RunClosed── SETTLE ◄───┘ without calls            RunOpened(resumes) ──► TOOLS ┘

Rules:
 1. The phase is derived from what the session holds; it is never stored.
 2. `apply` is the only thing that changes a session; a record that is not legal changes nothing.
 3. A commit is checked as a unit: each record against the state that the ones before it would give.
 4. Call ids and message ids are unique in a session and never reused.
 5. Results enter the view together, in call order, when the last call of a message has settled.
 6. A run that ends leaves no call open, unless its ending says what the calls wait for: somebody,
    or a budget that sessions below have come to the end of.
 7. A call that had started when its run ended is in doubt, until it is settled or started again;
    it may wait for a person's leave to be started again.
 8. A leave is for what was shown, and used up by the answer to it; one that comes too late puts the
    call back to where it is to be decided on.
 9. A model call that has a purpose of its own enters nothing into the view; only such a call may
    follow an answer.
10. A copy of a session has no leave that was asked for or given in the session it was made of; its
    calls are to be asked for anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from power_loop.session.outcome import PendingTools
from power_loop.session.records import (
    CallAnswered,
    CallWaiting,
    Decided,
    Forked,
    MessageAppended,
    ModelAsked,
    ModelConfigured,
    ModelEnded,
    Recalled,
    Record,
    Rewound,
    RunClosed,
    RunOpened,
    ToolSettled,
    ToolStarted,
    ViewChanged,
)
from power_loop.session.rules import fault
from power_loop.session.spent import Spent
from power_loop.session.state import CallState, OpenCall, Phase, State, move

__all__ = ["LEGAL", "CallState", "IllegalRecord", "OpenCall", "Phase", "Session"]

LEGAL: Mapping[Phase, frozenset[type[Record]]] = {
    Phase.IDLE: frozenset({RunOpened, ViewChanged, Rewound, Forked, Decided}),
    Phase.SUSPENDED: frozenset({RunOpened, Forked, Decided}),
    Phase.MODEL: frozenset(
        {
            ModelConfigured,
            MessageAppended,
            ModelAsked,
            ModelEnded,
            Recalled,
            ViewChanged,
            Decided,
            Forked,
            RunClosed,
        }
    ),
    Phase.TOOLS: frozenset(
        {
            ModelConfigured,
            ToolStarted,
            ToolSettled,
            CallWaiting,
            CallAnswered,
            Decided,
            Forked,
            RunClosed,
        }
    ),
    Phase.SETTLE: frozenset(
        {ModelConfigured, MessageAppended, ModelAsked, ModelEnded, Decided, Forked, RunClosed}
    ),
}


class IllegalRecord(Exception):
    """A record that the session's rules do not allow. Always a defect of the program."""

    def __init__(self, record: Record, phase: Phase, why: str) -> None:
        super().__init__(f"{type(record).__name__} is illegal in phase {phase.name}: {why}")
        self.record = record
        self.phase = phase
        self.why = why


class Session(State):
    """The fold of a session's records. See `State` for what it holds."""

    __slots__ = ()

    def __init__(self, id: str, records: Iterable[Record] = ()) -> None:
        super().__init__(id)
        for record in records:
            self.apply(record)

    @property
    def handed_over(self) -> frozenset[str]:
        """Ids of calls that the run which was closed last has left to the program, and that are
        where they were: they have been paid for.
        """
        if not isinstance(self.last_outcome, PendingTools):
            return frozenset()
        named = [self.open_calls.get(id) for id in self.last_outcome.call_ids]
        left = [each for each in named if each is not None and each.state in ("asked", "granted")]
        return frozenset([each.call.id for each in left])

    @property
    def uncounted(self) -> Spent:
        """What counts as used although no record says so yet: all that was set aside for a model
        call during which the process died, and calls that the program is to make.
        """
        calls = len(self.handed_over) if self.run is None else 0
        asked = self.asked
        if asked is None:
            return Spent(tool_calls=calls)
        output = asked.reserved_output
        return Spent(
            tool_calls=calls,
            input_tokens=asked.reserved - output,
            output_tokens=output,
            cost=asked.reserved_cost,
        )

    def check(self, *records: Record) -> None:
        """Checks `records` as one unit; changes nothing.

        Raises:
            IllegalRecord: one of them is not legal where it would stand.
        """
        if len(records) == 1:
            _check(self, records[0])
            return
        trial = self._trial(records)
        for record in records:
            _check(trial, record)
            move(trial, record)

    def apply(self, *records: Record) -> None:
        """Checks `records` as one unit and takes them in.

        Raises:
            IllegalRecord: one of them is not legal where it would stand; nothing has changed.
        """
        self.check(*records)
        for record in records:
            move(self, record)
        self.seq += len(records)

    def _trial(self, records: tuple[Record, ...]) -> Session:
        """A copy of the control state. History is shared or left out: it only ever grows, and only
        a change of view looks at it.
        """
        trial = object.__new__(Session)
        for name in _CONTROL:
            setattr(trial, name, getattr(self, name))
        trial.open_calls = {key: replace(call) for key, call in self.open_calls.items()}
        trial.batch = dict(self.batch)
        changes_view = any(type(record) in (ViewChanged, Rewound) for record in records)
        trial.messages = list(self.messages) if changes_view else []
        trial.ids = set()
        trial.base_ids = self.ids
        return trial


def _check(state: State, record: Record) -> None:
    phase = state.phase
    if phase not in _PHASES[type(record)]:
        raise IllegalRecord(record, phase, "the phase does not allow it")
    why = fault(state, record)
    if why is not None:
        raise IllegalRecord(record, phase, why)


_PHASES: Mapping[type[Record], tuple[Phase, ...]] = {
    kind: tuple([phase for phase in LEGAL if kind in LEGAL[phase]])
    for kinds in LEGAL.values()
    for kind in kinds
}
"""The same table by record: to look a phase up in LEGAL is to call a hash written in Python."""

_CONTROL = tuple(
    name for name in State.__slots__ if name not in ("messages", "ids", "batch", "open_calls")
)
