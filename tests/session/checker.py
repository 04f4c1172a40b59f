"""Says what is wrong with a log of records or with a transcript, by rules of its own.

Nothing here uses the session machine: it is the second opinion on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from llm_client.types import Message, ToolCall, ToolResult
from power_loop.session.outcome import (
    ApprovalExpired,
    AwaitingApproval,
    BudgetExhausted,
    Completed,
    Crashed,
    PendingTools,
    WaitingForInput,
)
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
from tests.session.transcript import transcript_violations

__all__ = ["transcript_violations", "view_of", "violations"]

_KEEP_OPEN = (AwaitingApproval, ApprovalExpired, WaitingForInput, PendingTools, Crashed)


def violations(
    records: Sequence[Record],
    *,
    closed: bool = False,
    idempotent: Callable[[str], bool] = lambda _: True,
) -> list[str]:
    """What is wrong with a session's whole log; empty when nothing is.

    Args:
        records: the log, from its first record on.
        closed: a run that is still open at the end is a fault too.
        idempotent: whether a tool of this name may be run again by a later run.
    """
    log = _Log(idempotent)
    for number, record in enumerate(records, 1):
        log.number = number
        log.take(record)
    if closed and log.run is not None:
        log.bad(f"run {log.run!r} never closes")
    return log.found


def view_of(records: Sequence[Record]) -> list[Message]:
    """The messages that a model would be shown after these records."""
    log = _Log(lambda _: True)
    for record in records:
        log.take(record)
    return log.view


class _CallTrack:
    """What the log has said of one call."""

    def __init__(self, call: ToolCall) -> None:
        self.call = call
        self.starts: list[ToolStarted] = []
        self.runs: list[str] = []
        self.waiting: CallWaiting | None = None
        self.kind = ""
        self.answer: str | None = None
        self.leave = False
        self.retried = False
        self.settled: ToolSettled | None = None

    @property
    def granted(self) -> bool:
        return self.kind == "approval" and self.answer == "approve"


class _Log:
    def __init__(self, idempotent: Callable[[str], bool]) -> None:
        self.found: list[str] = []
        self.number = 0
        self.run: str | None = None
        self.last_run: str | None = None
        self.runs: set[str] = set()
        self.attempts: set[str] = set()
        self.tokens: set[str] = set()
        self.ids: set[str] = set()
        self.asked: str | None = None
        self.aside = False
        self.ended: ModelEnded | None = None
        self.view: list[Message] = []
        self.configured = ModelConfigured()
        self.batch: dict[str, _CallTrack] = {}
        self.last_role = ""
        self._idempotent = idempotent

    def bad(self, why: str) -> None:
        self.found.append(f"record {self.number}: {why}")

    @property
    def open(self) -> dict[str, _CallTrack]:
        return {id: track for id, track in self.batch.items() if track.settled is None}

    def take(self, record: Record) -> None:
        outside = RunOpened | ViewChanged | Rewound | Forked | Decided
        if self.run is None and not isinstance(record, outside):
            self.bad(f"{type(record).__name__} outside a run")
        if self.asked is not None and not isinstance(record, ModelEnded | RunClosed | Forked):
            self.bad(f"{type(record).__name__} while the model is being asked")
        _RULES[type(record)](self, record)

    def _new_id(self, id: str, what: str) -> None:
        if not id or id in self.ids:
            self.bad(f"the id {id!r} of a {what} is empty or not new")
        self.ids.add(id)

    def _between_calls(self, what: str) -> None:
        if self.open:
            self.bad(f"{what} between a call and its result")

    def _check_view(self) -> None:
        for fault in transcript_violations(self.view, stored=True):
            self.bad(f"the view is illegal: {fault}")

    def _opened(self, r: RunOpened) -> None:
        if self.run is not None:
            self.bad(f"run {self.run!r} is still open")
        if r.run in self.runs or not r.run:
            self.bad(f"the run id {r.run!r} is empty or not new")
        if bool(r.input) == (r.resumes is not None):
            self.bad("a run has either input or a run to resume")
        if r.resumes is not None and r.resumes != self.last_run:
            self.bad(f"it resumes {r.resumes!r}, the last run was {self.last_run!r}")
        if self.open and r.resumes is None:
            self.bad("new input while calls are open")
        self.runs.add(r.run)
        self.run = r.run
        for message in r.input:
            self._enter(message)

    def _enter(self, message: Message) -> None:
        self._new_id(message.id, "message")
        self.view.append(message)
        self.last_role = message.role

    def _appended(self, r: MessageAppended) -> None:
        self._between_calls("a message")
        message = r.message
        self._enter(message)
        if message.role == "assistant":
            ended = self.ended
            if r.attempt is not None and (ended is None or ended.attempt != r.attempt):
                self.bad(f"an answer of attempt {r.attempt!r}, which was not the last to end")
            elif r.attempt is not None and message.tool_calls and ended and ended.status != "ok":
                self.bad("calls from an attempt that did not end well")
            self.ended = None
        if message.tool_calls:
            self.batch = {call.id: _CallTrack(call) for call in message.tool_calls}
            for call in message.tool_calls:
                self._new_id(call.id, "call")

    def _model(self, r: ModelAsked | ModelEnded) -> None:
        self._between_calls(type(r).__name__)
        if isinstance(r, ModelEnded):
            if self.asked != r.attempt:
                self.bad(f"attempt {r.attempt!r} ends, {self.asked!r} is under way")
            self.asked = None
            if not self.aside:
                self.ended = r
            return
        self.aside = bool(r.purpose)
        if not self.aside and self.last_role == "assistant":
            self.bad("the model is asked although it has answered")
        if r.attempt in self.attempts or not r.attempt:
            self.bad(f"the attempt id {r.attempt!r} is empty or not new")
        self.attempts.add(r.attempt)
        self.asked = r.attempt
        self._check_view()

    def _track(self, call_id: str, what: str) -> _CallTrack | None:
        track = self.open.get(call_id)
        if track is None:
            self.bad(f"{what} of {call_id!r}, which is not an open call")
        return track

    def _started(self, r: ToolStarted) -> None:
        track = self._track(r.call_id, "a start")
        if track is None:
            return
        if track.waiting is not None:
            self.bad(f"{r.call_id!r} starts while it waits")
        if track.answer is not None and not track.granted:
            self.bad(f"{r.call_id!r} starts although it was answered {track.answer!r}")
        if r.attempt != len(track.starts) + 1:
            self.bad(f"{r.call_id!r} starts for the {r.attempt}th time, not in sequence")
        if track.starts:
            first = track.starts[0]
            if (first.idempotency_key, first.name, first.arguments) != (
                r.idempotency_key,
                r.name,
                r.arguments,
            ):
                self.bad(f"{r.call_id!r} starts again as something else")
            lost = self.run not in track.runs
            if lost and not track.leave and not self._idempotent(r.name):
                self.bad(f"{r.call_id!r} was in doubt and is run again")
        track.leave = track.retried = False
        track.starts.append(r)
        track.runs.append(self.run or "")

    def _settled(self, r: ToolSettled) -> None:
        results = [part for part in r.message.parts if isinstance(part, ToolResult)]
        if r.message.role != "tool" or len(results) != 1 or len(r.message.parts) != 1:
            self.bad("a settlement is not one result")
            return
        track = self._track(results[0].call_id, "a settlement")
        if track is None:
            return
        began = bool(track.starts)
        if r.how in ("not_run", "denied", "skipped") and began:
            self.bad(f"{r.how} said of {results[0].call_id!r}, which had begun")
        if r.how in ("finished", "interrupted", "unknown") and not began:
            self.bad(f"{r.how} said of {results[0].call_id!r}, which had not begun")
        if r.how == "finished" and track.waiting is not None:
            self.bad(f"finished said of {results[0].call_id!r}, which waits")
        track.settled = r
        if not self.open:
            # An id counts from when its message can be seen.
            for each in self.batch.values():
                assert each.settled is not None
                self._enter(each.settled.message)

    def _waits(self, r: CallWaiting | CallAnswered) -> None:
        track = self._track(r.call_id, "a wait")
        if track is None:
            return
        if isinstance(r, CallAnswered):
            if track.waiting is None or track.waiting.token != r.token:
                self.bad(f"{r.call_id!r} is answered under {r.token!r}, which it does not wait for")
            track.waiting, track.answer = None, r.answer
            if track.kind == "approval" and r.answer == "expired":
                # It is to be decided on anew.
                track.kind, track.answer = "", None
            # A person's leave to run again what was in doubt holds for one start.
            track.leave = bool(track.starts) and track.granted
            return
        if track.waiting is not None or (track.answer is not None and not track.granted):
            self.bad(f"{r.call_id!r} waits twice")
        runs = self.run in track.runs
        fits = not runs or track.retried
        right = {"approval": fits, "input": runs or not track.starts, "child": runs}
        if not right[r.kind]:
            self.bad(f"{r.call_id!r} waits for {r.kind} at the wrong time")
        if r.token in self.tokens or not r.token:
            self.bad(f"the token {r.token!r} is empty or not new")
        self.tokens.add(r.token)
        track.waiting, track.kind = r, r.kind

    def _recalled(self, r: Recalled) -> None:
        if any(message.role not in ("user", "system") for message in r.messages):
            self.bad("memory speaks for the assistant or a tool")
        self._between_calls("Recalled")

    def _changed(self, r: ViewChanged) -> None:
        self._between_calls("a change of view")
        head: list[Message] = []
        if r.cut is not None:
            start = next((i for i, m in enumerate(self.view) if m.id == r.cut), None)
            if start is None:
                self.bad(f"the cut {r.cut!r} is not in the view")
            else:
                kept = [m for m in self.view[:start] if m.id in r.kept]
                if [m.id for m in kept] != list(r.kept):
                    self.bad("what is kept does not stand before the cut")
                if any(m.role not in ("user", "system") for m in kept):
                    self.bad("what is kept is the assistant's or a tool's")
                head, self.view = kept, self.view[start:]
        self.view = [
            replace(m, parts=r.replaced[m.id]) if m.id in r.replaced else m for m in self.view
        ]
        if r.note is not None:
            self._new_id(r.note.id, "note")
            head = [*head, r.note]
        self.view = [*head, *self.view]
        if sum(m.name == "compact_note" for m in self.view) > 1:
            self.bad("two compact notes are in the view")
        self._check_view()

    def _configured(self, r: ModelConfigured) -> None:
        if r == self.configured:
            self.bad("it is configured like this already")
        self.configured = r

    def _decided(self, r: Decided) -> None:
        if not r.at or not r.what:
            self.bad("it says neither where nor what was decided")
        if (r.at, r.what) == ("tool.error", "retry") and r.call_id in self.open:
            self.open[r.call_id].retried = True

    def _rewound(self, r: Rewound) -> None:
        self._between_calls("a rewind")
        if self.run is not None:
            self.bad(f"a rewind while run {self.run!r} is open")
        self.bad_if_unknown(r.restored)
        self.view = [*self.view[: r.keep], *r.restored]
        self.last_role = self.view[-1].role
        self._check_view()

    def bad_if_unknown(self, messages: Sequence[Message]) -> None:
        for message in messages:
            if message.id not in self.ids:
                self.bad(f"the message {message.id!r} was never there")

    def _forked(self, r: Forked) -> None:
        if r.at != self.number - 1:
            self.bad(f"a copy of {r.at} records has {self.number - 1}")
        if self.run is not None:
            self.run, self.last_run, self.asked = None, self.run, None
        for track in self.open.values():
            if track.kind == "approval" and (track.waiting is not None or track.granted):
                # Leaves are the source's.
                track.waiting, track.kind, track.answer, track.leave = None, "", None, False

    def _closed(self, r: RunClosed) -> None:
        if r.run != self.run:
            self.bad(f"run {r.run!r} closes, {self.run!r} is open")
        outcome = r.outcome
        if self.asked is not None and not isinstance(outcome, Crashed):
            self.bad("the run closes while the model is being asked")
        below = all(t.waiting and t.waiting.kind == "child" for t in self.open.values())
        keeps = below if isinstance(outcome, BudgetExhausted) else isinstance(outcome, _KEEP_OPEN)
        if self.open and not keeps:
            self.bad(f"{type(outcome).__name__} leaves calls open: {', '.join(self.open)}")
        if isinstance(outcome, Completed) and (self.open or self.last_role != "assistant"):
            self.bad("completed without an answer")
        if isinstance(outcome, AwaitingApproval | WaitingForInput | PendingTools):
            self._suspends(outcome)
        self.run, self.last_run, self.asked = None, r.run, None
        if not self.open:
            self._check_view()

    def _suspends(self, outcome: AwaitingApproval | WaitingForInput | PendingTools) -> None:
        if not self.open:
            self.bad("the run suspends, but no call is open")
        waiting = {track.waiting.token for track in self.open.values() if track.waiting}
        if isinstance(outcome, PendingTools):
            named, known = set(outcome.call_ids), set(self.open)
        else:
            named, known = set(outcome.tokens), waiting
            if any(t.waiting and t.waiting.kind == "child" for t in self.open.values()):
                # The session below knows what it waits for.
                known = known | named
        if not named or not named <= known:
            self.bad(f"the run suspends for {sorted(named)}, open are {sorted(known)}")


_RULES: Mapping[type[Record], Callable[[_Log, Any], None]] = {
    RunOpened: _Log._opened,
    ModelConfigured: _Log._configured,
    Rewound: _Log._rewound,
    Forked: _Log._forked,
    MessageAppended: _Log._appended,
    ModelAsked: _Log._model,
    ModelEnded: _Log._model,
    ToolStarted: _Log._started,
    ToolSettled: _Log._settled,
    CallWaiting: _Log._waits,
    CallAnswered: _Log._waits,
    Decided: _Log._decided,
    Recalled: _Log._recalled,
    ViewChanged: _Log._changed,
    RunClosed: _Log._closed,
}
