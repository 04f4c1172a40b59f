"""Random records at a session, legal and illegal: whatever it takes is right, whatever it refuses
leaves it as it was.

Ids come from small pools, so that they collide.
"""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from llm_client.types import Message, Part, Seal, Text, Thinking, ToolCall, ToolResult, Usage
from power_loop.session.closing import closing
from power_loop.session.machine import LEGAL, IllegalRecord, Phase, Session
from power_loop.session.outcome import (
    AwaitingApproval,
    BudgetExhausted,
    Cancelled,
    Completed,
    Crashed,
    Degraded,
    Failed,
    Outcome,
    PendingTools,
    RoundLimit,
    Stopped,
    WaitingForInput,
)
from power_loop.session.records import (
    CallAnswered,
    CallWaiting,
    MessageAppended,
    ModelAsked,
    ModelEnded,
    Recalled,
    Record,
    RunClosed,
    RunOpened,
    Settlement,
    ToolSettled,
    ToolStarted,
    ViewChanged,
    WaitKind,
)
from power_loop.session.view import COMPACT_NOTE
from tests.session.checker import transcript_violations, view_of, violations
from tests.session.samples import CALLING, HISTORIES, snapshot
from tests.session.test_machine_exhaustive import alphabet, takes

RECORD: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)

MESSAGE_IDS = st.sampled_from([f"m{i}" for i in range(40)] + ["", "c1", "c1.result"])
CALL_IDS = st.sampled_from(["c1", "c2", "c3", "c4", "c5", "m1", "c1.result", ""])
ATTEMPTS = st.sampled_from([f"t{i}" for i in range(20)] + [""])
RUNS = st.sampled_from([f"r{i}" for i in range(12)] + [""])
TOKENS = st.sampled_from([f"k{i}" for i in range(6)] + [""])
SETTLEMENTS: st.SearchStrategy[Settlement] = st.sampled_from(
    ["finished", "interrupted", "not_run", "unknown", "denied", "skipped"]
)
WAITS: st.SearchStrategy[WaitKind] = st.sampled_from(["approval", "input", "child"])
TEXTS = st.sampled_from(["", "hello", "ünïcode 🎈", '{"a": 1}'])
ENDINGS: st.SearchStrategy[Outcome] = st.sampled_from(
    [
        Cancelled(),
        Stopped("hook"),
        RoundLimit(3, "last word"),
        BudgetExhausted("tokens"),
        Degraded("no answer", 3),
        Failed("ValueError", "x"),
        Completed("done"),
        Crashed(),
    ]
)


@st.composite
def answers(draw: st.DrawFn) -> Message:
    """An assistant message: text, reasoning, calls, or nothing."""
    parts: list[Part] = []
    if draw(st.booleans()):
        parts.append(Thinking("hm", Seal("anthropic", "signature")))
    if draw(st.booleans()):
        parts.append(Text(draw(TEXTS)))
    ids = draw(st.lists(CALL_IDS, max_size=3))
    parts.extend([ToolCall(id, "read", draw(TEXTS)) for id in ids])
    return Message("assistant", tuple(parts), id=draw(MESSAGE_IDS))


@st.composite
def words(draw: st.DrawFn) -> Message:
    """A message of anybody but the model; now and then one that is none."""
    role = draw(st.sampled_from(["user", "user", "user", "system", "tool"]))
    part: Part = Text(draw(TEXTS))
    if draw(st.integers(0, 9)) == 0:
        part = ToolCall("c1", "read")
    name = draw(st.sampled_from([None, None, None, COMPACT_NOTE]))
    parts = (part,) if draw(st.integers(0, 9)) else ()
    if role == "tool":
        return Message("tool", parts, id=draw(MESSAGE_IDS), name=name)
    kind = "user" if role == "user" else "system"
    return Message(kind, parts, id=draw(MESSAGE_IDS), name=name)


def round_trip(record: Record) -> Record:
    """A record as a store would give it back."""
    return RECORD.decode(msgspec.json.encode(record))


class SessionMachine(RuleBasedStateMachine):
    """A session, its log, and everything that may be tried on it."""

    def __init__(self) -> None:
        super().__init__()
        self.session = Session("s")
        self.log: list[Record] = []
        self.states = [snapshot(self.session)]
        self.taken = 0

    def attempt(self, *records: Record) -> bool:
        """Tries a commit. True if it was taken."""
        before = snapshot(self.session)
        stored = tuple([round_trip(record) for record in records])
        assert stored == records, "a record does not survive its wire form"
        try:
            self.session.check(*stored)
        except IllegalRecord as refusal:
            self._refused(refusal, stored, before)
            return False
        assert snapshot(self.session) == before, "check() changed the session"
        if len(stored) == 1:
            assert type(stored[0]) in LEGAL[self.session.phase]
        self.session.apply(*stored)
        self.log.extend(stored)
        self.states.extend([dict[str, str]()] * (len(stored) - 1))
        self.states.append(snapshot(self.session))
        self.taken += 1
        return True

    def _refused(
        self, refusal: IllegalRecord, records: tuple[Record, ...], before: dict[str, str]
    ) -> None:
        assert snapshot(self.session) == before, "a refused check() changed the session"
        try:
            self.session.apply(*records)
        except IllegalRecord as again:
            if (again.why, again.phase) != (refusal.why, refusal.phase):
                raise AssertionError("apply() and check() disagree") from again
        else:
            raise AssertionError("apply() took what check() refused")
        assert snapshot(self.session) == before, "a refused record changed the session"

    @initialize(start=st.sampled_from([(), CALLING, CALLING, *HISTORIES.values()]))
    def begin(self, start: tuple[Record, ...]) -> None:
        """Somewhere in the middle, half of the time among open calls."""
        for record in start:
            assert self.attempt(record)

    @rule(data=st.data(), steps=st.integers(1, 6), close=st.integers(0, 5))
    def go_on(self, data: st.DataObject, steps: int, close: int) -> None:
        """A few legal steps, so that the machine gets anywhere at all."""
        for _ in range(steps):
            legal = [r for r in alphabet(self.session, len(self.log)) if takes(self.session, r)]
            working = [r for r in legal if close == 0 or not isinstance(r, RunClosed | ViewChanged)]
            assert self.attempt(data.draw(st.sampled_from(working or legal)))

    # ── records, as they come ─────────────────────────────────────────────────────────────────────

    @rule(run=RUNS, input=st.lists(words(), max_size=2), resumes=st.booleans())
    def open(self, run: str, input: list[Message], resumes: bool) -> None:
        """A run begins, somehow."""
        previous = self.session.last_run if resumes else None
        self.attempt(RunOpened(run, tuple(input), previous, limits={"rounds": 3.0}))

    @rule(message=words())
    def say(self, message: Message) -> None:
        """Somebody says something."""
        self.attempt(MessageAppended(message))

    @rule(message=answers(), attempt=st.one_of(st.none(), ATTEMPTS))
    def answer(self, message: Message, attempt: str | None) -> None:
        """The model answers, or somebody in its place."""
        self.attempt(MessageAppended(message, attempt))

    @rule(message=answers())
    def answer_the_last(self, message: Message) -> None:
        """The model answers in the attempt that just ended."""
        self.attempt(MessageAppended(message, self.session.last_attempt))

    @rule(calls=st.integers(0, 3))
    def answer_properly(self, calls: int) -> None:
        """The model asks for tools under new ids."""
        n = len(self.log)
        parts = tuple([ToolCall(f"call{n}-{i}", "read") for i in range(calls)]) or (Text("ok"),)
        self.attempt(MessageAppended(Message("assistant", parts, id=f"answer{n}")))

    @rule(attempt=ATTEMPTS, ahead=st.integers(-1, 2), reserved=st.integers(0, 9))
    def ask(self, attempt: str, ahead: int, reserved: int) -> None:
        """The model is asked."""
        self.attempt(ModelAsked(attempt, self.session.round + ahead, "m", reserved))

    @rule(
        attempt=st.one_of(st.none(), ATTEMPTS),
        status=st.sampled_from(["ok", "ok", "failed", "cancelled", "lost"]),
        tokens=st.integers(0, 9),
    )
    def end(self, attempt: str | None, status: Any, tokens: int) -> None:
        """A model call ends."""
        open_one = self.session.asked.attempt if self.session.asked else "t0"
        usage = Usage(tokens, None if status == "lost" else tokens)
        self.attempt(ModelEnded(attempt or open_one, status, usage, partial="so f"))

    def _call(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from([*self.session.open_calls, "c1", "nobody"]))

    @rule(data=st.data(), ahead=st.integers(0, 2))
    def start(self, data: st.DataObject, ahead: int) -> None:
        """A tool starts."""
        id = self._call(data)
        call = self.session.open_calls.get(id)
        attempt = (call.attempt if call else 0) + ahead
        self.attempt(ToolStarted(id, "read", "{}", f"s/{id}", "h", attempt))

    @rule(data=st.data(), how=SETTLEMENTS, text=TEXTS, error=st.booleans(), own=st.booleans())
    def settle(
        self, data: st.DataObject, how: Settlement, text: str, error: bool, own: bool
    ) -> None:
        """A call settles."""
        id = self._call(data)
        result = ToolResult(id, (Text(text),), error)
        message_id = f"{id}.result" if own else data.draw(MESSAGE_IDS)
        self.attempt(ToolSettled(Message("tool", (result,), id=message_id), how))

    @rule(data=st.data(), kind=WAITS, token=TOKENS, fresh=st.booleans())
    def wait(self, data: st.DataObject, kind: WaitKind, token: str, fresh: bool) -> None:
        """A call waits."""
        name = f"token{len(self.log)}" if fresh else token
        self.attempt(CallWaiting(self._call(data), kind, name, "because"))

    @rule(data=st.data(), token=TOKENS, own=st.booleans(), yes=st.booleans())
    def reply(self, data: st.DataObject, token: str, own: bool, yes: bool) -> None:
        """What a call waited for comes."""
        id = self._call(data)
        call = self.session.open_calls.get(id)
        name = call.token if own and call else token
        self.attempt(CallAnswered(id, name, "approve" if yes else "no"))

    @rule(data=st.data())
    def child(self, data: st.DataObject) -> None:
        """A sub-agent is opened for a call: one commit of two records."""
        id = self._call(data)
        call = self.session.open_calls.get(id)
        start = ToolStarted(id, "read", "{}", f"s/{id}", "h", (call.attempt if call else 0) + 1)
        self.attempt(start, CallWaiting(id, "child", f"child{len(self.log)}"))

    @rule(messages=st.lists(words(), max_size=2))
    def recall(self, messages: list[Message]) -> None:
        """Memory brings something up."""
        self.attempt(Recalled(tuple(messages)))

    @rule(data=st.data(), note=st.one_of(st.none(), words()), proper=st.booleans())
    def change_view(self, data: st.DataObject, note: Message | None, proper: bool) -> None:
        """The view shrinks."""
        ids = [message.id for message in self.session.messages] or ["m1"]
        cut = data.draw(st.one_of(st.none(), st.sampled_from([*ids, "nowhere"])))
        if proper:
            note = Message("user", (Text("n"),), id=f"note{len(self.log)}", name=COMPACT_NOTE)
        short = data.draw(st.one_of(st.none(), st.sampled_from(ids)))
        replaced: dict[str, tuple[Part, ...]] = {}
        if short is not None:
            replaced[short] = data.draw(st.sampled_from([(Text("…"),), (), self._shorter(short)]))
        self.attempt(ViewChanged(cut, note, replaced))

    def _shorter(self, id: str) -> tuple[Part, ...]:
        parts = next((m.parts for m in self.session.messages if m.id == id), ())
        return tuple(
            [
                ToolResult(part.call_id, (Text("…"),)) if isinstance(part, ToolResult) else part
                for part in parts
                if not isinstance(part, Thinking)
            ]
        )

    @rule(outcome=ENDINGS, own=st.booleans(), run=RUNS)
    def close(self, outcome: Outcome, own: bool, run: str) -> None:
        """The run closes."""
        self.attempt(RunClosed((self.session.run or run) if own else run, outcome))

    @rule(kind=st.integers(0, 2), true=st.booleans())
    def suspend(self, kind: int, true: bool) -> None:
        """The run closes with calls open."""
        calls = self.session.open_calls
        tokens = tuple([call.token for call in calls.values() if call.state == "waiting"])
        outcomes: tuple[Outcome, ...] = (
            AwaitingApproval(tokens if true else ("k0",)),
            WaitingForInput(tokens if true else ()),
            PendingTools(tuple(calls) if true else ("c1",)),
        )
        self.attempt(RunClosed(self.session.run or "r0", outcomes[kind]))

    @rule(again=RUNS)
    def die_and_be_succeeded(self, again: str) -> None:
        """Always possible while a run is open, under an id that was never used."""
        if self.session.run is not None:
            successor = f"{again}/{len(self.log)}"
            crash = RunClosed(self.session.run, Crashed())
            assert self.attempt(crash, RunOpened(successor, resumes=self.session.run))

    @rule(outcome=ENDINGS, data=st.data())
    def end_truthfully(self, outcome: Outcome, data: st.DataObject) -> None:
        """The one repair: it must be taken as it is."""
        if isinstance(outcome, Completed | Crashed):
            return
        known = [*self.session.open_calls]
        done = data.draw(st.sets(st.sampled_from(known))) if known else set[str]()
        finished = {id: Message.tool(id, "late") for id in done}
        was_open = self.session.run is not None
        ending = closing(self.session, outcome, finished, "par")
        assert bool(ending) is was_open
        if was_open:
            assert self.attempt(*ending)
            assert self.session.phase is Phase.IDLE
            assert self.session.last_outcome == outcome

    # ── what must hold at every step ──────────────────────────────────────────────────────────────

    @invariant()
    def the_log_is_right(self) -> None:
        """By a checker that shares no code with the machine."""
        assert violations(self.log) == []

    @invariant()
    def the_view_is_legal_and_is_the_records(self) -> None:
        """At every point at which a model could be asked, or a caller look."""
        assert list(self.session.view) == view_of(self.log)
        if self.session.phase in (Phase.IDLE, Phase.MODEL, Phase.SETTLE):
            assert transcript_violations(self.session.view, stored=True) == []

    @invariant()
    def every_open_run_can_be_closed_and_succeeded(self) -> None:
        """Without doing it."""
        s = self.session
        if s.run is not None:
            s.check(*closing(s, Cancelled(), {}))
            s.check(RunClosed(s.run, Crashed()), RunOpened("successor", resumes=s.run))

    @invariant()
    def ids_are_unique(self) -> None:
        """Invariant 2, over the whole log and not only the view."""
        messages = [record.message for record in self.log if isinstance(record, MessageAppended)]
        opened = [m for record in self.log if isinstance(record, RunOpened) for m in record.input]
        ids = [m.id for m in (*messages, *opened)]
        ids += [call.id for m in messages for call in m.tool_calls]
        assert len(ids) == len(set(ids))

    def teardown(self) -> None:
        """Every prefix of the log folds to what the session was then."""
        for stop, state in enumerate(self.states):
            if state:
                assert snapshot(Session("s", self.log[:stop])) == state
        decoded = [round_trip(record) for record in self.log]
        assert snapshot(Session("s", decoded)) == snapshot(self.session)


TestSessionMachine = SessionMachine.TestCase
TestSessionMachine.settings = settings(
    max_examples=120,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
