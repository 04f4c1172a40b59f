"""What a session holds, and how each record changes it. Whether it may is decided in rules.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any
from zlib import adler32, crc32

from llm_client.types import Message, StopReason, ToolResult, Transcript, Usage
from power_loop.session.calls import CallState, OpenCall
from power_loop.session.outcome import Crashed, Outcome, RoundLimit, Stopped
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
from power_loop.session.spent import Spent
from power_loop.session.view import changed_view

__all__ = [
    "CallState",
    "OpenCall",
    "Phase",
    "State",
    "child_id",
    "id_hash",
    "move",
    "result_id",
]


_RESULT = ".result"


def result_id(call_id: str) -> str:
    """The id of the message that carries a call's result: it follows from the call's."""
    return call_id + _RESULT


def child_id(session_id: str, call_id: str) -> str:
    """The id of the session that a call is worked on in: it follows from the call's."""
    return f"{session_id}/{call_id.replace('/', '%2F')}"


def id_hash(id: str) -> int:
    """64 bits of an id. Two ids may share them; then the second is not used."""
    data = id.encode("utf-8", "surrogatepass")
    return crc32(data) << 32 | adler32(data)


class Phase(Enum):
    """Where a session stands."""

    IDLE = "idle"
    """No run is open and no call is."""
    SUSPENDED = "suspended"
    """No run is open, but calls are."""
    MODEL = "model"
    """The model is to be asked, or is being asked."""
    TOOLS = "tools"
    """Calls are to be settled."""
    SETTLE = "settle"
    """The model has answered without calls."""


_NOTHING = ModelConfigured()


class State:
    """What the records so far have come to.

    Attributes:
        id: the session's id.
        seq: how many records have been applied.
        open_calls: calls without a result, by id, in call order.
        run: the open run's id, None between runs.
        last_run, last_outcome: the newest closed run.
        configured: what requests hold beside their messages.
        asked: the model call that is under way.
        round: number of the newest model round, from 1, counted over resumed runs.
        usage: tokens of all attempts so far; run_usage those since the task's input.
        limits: those of the newest run.
        reserved_lost: tokens reserved for calls whose end nobody saw.
        spent, task_spent: what all runs have used, and those since the task's input.
        task: ids of the messages that the newest task was given with.
        recalled: what memory brought up for the open run; recalled_front whether it stands before
            the view; recalled_before what stood there in the run before.
        tail: role of the newest message.
        messages: the view, an append-only list; replaced when the view changes.
        order, batch: the calls of the newest batch in call order, and the results so far.
        last_attempt, last_attempt_ok: the newest model call that has ended, until its answer is in.
        stop_reason: why the newest model call of the run stopped; None if it failed, or if its
            answer was made up by a hook.
        ids, base_ids: ids of all messages, calls, runs and attempts, and all tokens; a trial keeps
            its own apart.
        former: hashes of such ids, where a snapshot holds no more of them.
    """

    __slots__ = (
        "asked",
        "base_ids",
        "batch",
        "configured",
        "former",
        "id",
        "ids",
        "last_attempt",
        "last_attempt_ok",
        "last_outcome",
        "last_run",
        "limits",
        "messages",
        "open_calls",
        "order",
        "recalled",
        "recalled_before",
        "recalled_front",
        "reserved_lost",
        "round",
        "run",
        "run_usage",
        "seq",
        "spent",
        "stop_reason",
        "tail",
        "task",
        "task_spent",
        "usage",
    )

    def __init__(self, id: str) -> None:
        self.id = id
        self.seq: int = 0
        self.open_calls: dict[str, OpenCall] = {}
        self.run: str | None = None
        self.last_run: str | None = None
        self.limits: dict[str, float] = {}
        self.last_outcome: Outcome | None = None
        self.configured = _NOTHING
        self.asked: ModelAsked | None = None
        self.last_attempt: str | None = None
        self.last_attempt_ok = False
        self.stop_reason: StopReason | None = None
        self.round: int = 0
        self.usage = Usage()
        self.run_usage = Usage()
        self.reserved_lost = 0
        self.spent = Spent()
        self.task_spent = Spent()
        self.task: tuple[str, ...] = ()
        self.recalled: tuple[Message, ...] = ()
        self.recalled_before: tuple[Message, ...] = ()
        self.recalled_front = False
        self.tail: str | None = None
        self.messages: list[Message] = []
        self.ids: set[str] = set()
        self.base_ids: set[str] | None = None
        self.former: frozenset[int] = frozenset()
        self.order: tuple[str, ...] = ()
        self.batch: dict[str, Message] = {}

    @property
    def phase(self) -> Phase:
        """Where the session stands."""
        if self.run is None:
            return Phase.SUSPENDED if self.open_calls else Phase.IDLE
        if self.open_calls:
            return Phase.TOOLS
        return Phase.SETTLE if self.tail == "assistant" else Phase.MODEL

    @property
    def view(self) -> Transcript:
        """What the model sees, as an O(1) snapshot.

        While calls are open, its last message has calls without results.
        """
        return Transcript(self.messages)

    @property
    def last_message(self) -> Message | None:
        """The newest message of the view."""
        return self.messages[-1] if self.messages else None

    def knows(self, id: str) -> bool:
        """Whether this id has been used in the session, for whatever it was, or is kept for the
        result of an open call."""
        if self.open_calls and id.removesuffix(_RESULT) in self.open_calls:
            return True
        if id in self.ids or (self.base_ids is not None and id in self.base_ids):
            return True
        return bool(self.former) and id_hash(id) in self.former


# ── what a legal record changes ───────────────────────────────────────────────────────────────────


def _append(s: State, message: Message) -> None:
    s.messages.append(message)
    s.ids.add(message.id)
    s.tail = message.role


def _spend(s: State, spent: Spent) -> None:
    s.spent = s.spent + spent
    s.task_spent = s.task_spent + spent


def _move_opened(s: State, r: RunOpened) -> None:
    s.run, s.limits = r.run, r.limits
    s.ids.add(r.run)
    if r.resumes is None or isinstance(s.last_outcome, RoundLimit):
        s.round = 0
    if r.resumes is None:
        s.run_usage = Usage()
        s.task_spent = Spent()
        s.task = tuple([message.id for message in r.input])
    s.recalled_before = s.recalled if s.recalled_front else ()
    s.recalled = ()
    s.stop_reason = None
    for message in r.input:
        _append(s, message)


def _move_configured(s: State, r: ModelConfigured) -> None:
    s.configured = r


def _move_message(s: State, r: MessageAppended) -> None:
    _append(s, r.message)
    if r.when_idle:
        s.task = (r.message.id,)
    if r.message.role == "assistant":
        s.last_attempt = None
        if r.attempt is None:
            s.stop_reason = None
    calls = r.message.tool_calls
    if calls:
        s.open_calls = {call.id: OpenCall(call) for call in calls}
        s.order = tuple(s.open_calls)
        s.ids.update(s.order)
        s.batch = {}


_ROUND = Spent(rounds=1, llm_calls=1)
_CALL = Spent(llm_calls=1)
_TOOL_CALL = Spent(tool_calls=1)
_CHILD = Spent(children=1)


def _move_asked(s: State, r: ModelAsked) -> None:
    _spend(s, _CALL if r.round == s.round else _ROUND)
    s.asked = r
    s.round = r.round
    s.ids.add(r.attempt)


def _move_ended(s: State, r: ModelEnded) -> None:
    asked, s.asked = s.asked, None
    if asked is not None and not asked.purpose:
        s.last_attempt, s.last_attempt_ok = r.attempt, r.status == "ok"
        s.stop_reason = r.stop_reason
    s.usage = s.usage + r.usage
    s.run_usage = s.run_usage + r.usage
    used = r.usage
    _spend(
        s,
        Spent(
            input_tokens=used.input_tokens or 0,
            output_tokens=used.output_tokens or 0,
            cost=r.cost,
        ),
    )


def _move_started(s: State, r: ToolStarted) -> None:
    call = s.open_calls[r.call_id]
    call.state, call.attempt, call.started = "started", r.attempt, r
    # A leave is for one start.
    call.grants, call.lapsed, call.failed = (), None, False
    _spend(s, _TOOL_CALL)


def _move_settled(s: State, r: ToolSettled) -> None:
    result = r.message.parts[0]
    assert isinstance(result, ToolResult)
    del s.open_calls[result.call_id]
    s.batch[result.call_id] = r.message
    s.ids.add(r.message.id)
    if not s.open_calls:
        for call_id in s.order:
            _append(s, s.batch[call_id])
        s.batch = {}


def _move_waiting(s: State, r: CallWaiting) -> None:
    call = s.open_calls[r.call_id]
    call.wait_for(r, s.run or "")
    s.ids.add(r.token)
    if r.kind == "child":
        _spend(s, _CHILD)


def _move_answered(s: State, r: CallAnswered) -> None:
    s.open_calls[r.call_id].hear(r)
    if r.spent is not None:
        _spend(s, r.spent.without_times)


def _move_decided(s: State, r: Decided) -> None:
    call = s.open_calls.get(r.call_id)
    if call is not None and call.state == "started" and r.what == "retry":
        call.failed = True


def _move_recalled(s: State, r: Recalled) -> None:
    s.recalled, s.recalled_front = r.messages, r.front


def _move_view(s: State, r: ViewChanged) -> None:
    # A new list: snapshots of the old view stay what they were.
    s.messages = changed_view(s.messages, r)
    if r.note is not None:
        s.ids.add(r.note.id)


def _move_rewound(s: State, r: Rewound) -> None:
    s.messages = [*s.messages[: r.keep], *r.restored]
    s.tail = s.messages[-1].role
    # Whatever the newest run came to, what it came to is not in the view any more.
    s.last_outcome = Stopped(f"rewound to record {r.at}")
    s.last_attempt = s.stop_reason = None
    s.round = 0


def _move_forked(s: State, _: Forked) -> None:
    if s.run is not None:
        _move_closed(s, RunClosed(s.run, Crashed()))
    for call in s.open_calls.values():
        call.lose_leaves()


def _move_closed(s: State, r: RunClosed) -> None:
    s.run, s.last_run, s.last_outcome = None, r.run, r.outcome
    if s.asked is not None:
        asked, s.asked = s.asked, None
        s.reserved_lost += asked.reserved
        lost = Spent(
            input_tokens=asked.reserved - asked.reserved_output,
            output_tokens=asked.reserved_output,
            cost=asked.reserved_cost,
        )
        _spend(s, lost)
    if r.wall_seconds:
        _spend(s, Spent(wall_seconds=r.wall_seconds, working_seconds=r.working_seconds))
    if r.unheard is not None:
        _spend(s, r.unheard.without_times)
    for call in s.open_calls.values():
        # An answer that has come is durable: whoever resumes settles the call by it.
        if call.state == "started":
            call.state, call.failed = "in_doubt", False


_MOVES: Mapping[type[Record], Callable[[State, Any], None]] = {
    RunOpened: _move_opened,
    ModelConfigured: _move_configured,
    MessageAppended: _move_message,
    ModelAsked: _move_asked,
    ModelEnded: _move_ended,
    ToolStarted: _move_started,
    ToolSettled: _move_settled,
    CallWaiting: _move_waiting,
    CallAnswered: _move_answered,
    Decided: _move_decided,
    Recalled: _move_recalled,
    ViewChanged: _move_view,
    Rewound: _move_rewound,
    Forked: _move_forked,
    RunClosed: _move_closed,
}


def move(state: State, record: Record) -> None:
    """Takes a legal record in."""
    _MOVES[type(record)](state, record)
