"""What is legal when, row by row."""

from __future__ import annotations

import itertools

import pytest

from llm_client.types import Message, Part, Text, ToolCall, ToolResult, Usage
from power_loop.session.machine import LEGAL, Phase
from power_loop.session.outcome import (
    Cancelled,
    Completed,
    Crashed,
    Outcome,
    PendingTools,
    RoundLimit,
)
from power_loop.session.records import (
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
    ViewChanged,
)
from power_loop.session.view import COMPACT_NOTE
from tests.session.samples import (
    CALLING,
    CANCELLED,
    HISTORIES,
    answer,
    answered,
    asked,
    calls,
    ended,
    fold,
    opened,
    refuses,
    settled,
    snapshot,
    started,
    user,
    waits,
)

_NOTE = Message("user", (Text("so far"),), id="note1", name=COMPACT_NOTE)

ROWS: dict[Phase, tuple[Record, ...]] = {
    Phase.IDLE: (opened(), ViewChanged()),
    Phase.SUSPENDED: (RunOpened("r2", resumes="r1"),),
    Phase.MODEL: (
        MessageAppended(user("u2")),
        MessageAppended(answer("a2")),
        asked(),
        Recalled((user("memory"),)),
        ViewChanged(cut="u1", note=_NOTE),
        RunClosed("r1", CANCELLED),
    ),
    Phase.TOOLS: (
        started("c1"),
        settled("c1", "not_run"),
        waits("c1"),
        RunClosed("r1", PendingTools(("c1", "c2"))),
        RunClosed("r1", Crashed()),
    ),
    Phase.SETTLE: (MessageAppended(user("u2")), RunClosed("r1", Completed("done"))),
}
"""Records that are legal in a phase, each right after its sample history."""

EVERY: tuple[Record, ...] = (
    opened("r9", "u9"),
    MessageAppended(user("u9")),
    asked("t9", 1),
    ended("t1"),
    started("c1"),
    settled("c1"),
    waits("c1"),
    answered("c1"),
    Recalled(()),
    ViewChanged(),
    ModelConfigured(system="s"),
    Decided("tool.before", "guard", "skip"),
    Rewound(1, 1),
    Forked("source", 1),
    RunClosed("r1", CANCELLED),
)
"""One record of every type."""


@pytest.mark.parametrize("phase", list(Phase))
def test_each_sample_history_ends_in_its_phase(phase: Phase) -> None:
    """The samples are what the other tests take them for."""
    assert fold(*HISTORIES[phase]).phase is phase


def test_the_table_is_the_one_that_was_designed() -> None:
    """Row by row; a change here is a change of the design."""
    assert {phase.name: {record.__name__ for record in LEGAL[phase]} for phase in Phase} == {
        "IDLE": {"RunOpened", "ViewChanged", "Rewound", "Forked", "Decided"},
        "SUSPENDED": {"RunOpened", "Forked", "Decided"},
        "MODEL": {
            "ModelConfigured",
            "Decided",
            "Forked",
            "MessageAppended",
            "ModelAsked",
            "ModelEnded",
            "Recalled",
            "ViewChanged",
            "RunClosed",
        },
        "TOOLS": {
            "ModelConfigured",
            "ToolStarted",
            "ToolSettled",
            "CallWaiting",
            "CallAnswered",
            "Decided",
            "Forked",
            "RunClosed",
        },
        "SETTLE": {
            "ModelConfigured",
            "MessageAppended",
            "ModelAsked",
            "ModelEnded",
            "Decided",
            "Forked",
            "RunClosed",
        },
    }


@pytest.mark.parametrize(
    ("phase", "record"),
    [
        pytest.param(phase, record, id=f"{phase.name}-{type(record).__name__}")
        for phase, record in itertools.product(Phase, EVERY)
        if type(record) not in LEGAL[phase]
    ],
)
def test_a_record_outside_its_row_is_refused_and_changes_nothing(
    phase: Phase, record: Record
) -> None:
    """Every empty cell of the table."""
    assert refuses(fold(*HISTORIES[phase]), record) == "the phase does not allow it"


@pytest.mark.parametrize(
    ("phase", "record"),
    [
        pytest.param(phase, record, id=f"{phase.name}-{type(record).__name__}")
        for phase in Phase
        for record in ROWS[phase]
    ],
)
def test_a_record_in_its_row_is_taken_and_counted(phase: Phase, record: Record) -> None:
    """Every filled cell of the table, where a single record can fill it."""
    session = fold(*HISTORIES[phase])
    seq = session.seq
    before = snapshot(session)
    session.check(record)
    assert snapshot(session) == before, "check() changed the session"
    session.apply(record)
    assert session.seq == seq + 1


# ── runs ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_opens_with_input_or_as_the_continuation_of_the_last_one() -> None:
    """Neither without both, nor with both."""
    assert refuses(fold(), RunOpened("r1")) == "a run needs input, or a run to resume"
    assert "resumes" in refuses(fold(), RunOpened("r1", resumes="r0"))
    suspended = fold(*HISTORIES[Phase.SUSPENDED])
    assert "no input" in refuses(suspended, RunOpened("r2", (user("u2"),), "r1"))
    assert "the last run is 'r1'" in refuses(suspended, RunOpened("r2", resumes="r0"))
    assert "calls are open" in refuses(suspended, RunOpened("r2", (user("u2"),)))


@pytest.mark.parametrize("role", ["assistant", "tool"])
def test_a_run_takes_no_input_that_speaks_for_the_model(role: str) -> None:
    """Input is what people and programs say."""
    parts: tuple[Part, ...] = (Text("x"),)
    message = Message("assistant" if role == "assistant" else "tool", parts, id="u1")
    assert refuses(fold(), RunOpened("r1", (message,))) == (
        "input consists of user and system messages"
    )


def test_a_run_id_is_never_used_twice() -> None:
    """Not even one from before the last run; a closed run stays closed."""
    session = fold(
        opened(),
        RunClosed("r1", CANCELLED),
        opened("r2", "u2"),
        RunClosed("r2", CANCELLED),
    )
    for run in ("r1", "r2", ""):
        assert "was used before" in refuses(session, opened(run, "u3"))


def test_only_the_open_run_can_close_and_only_once() -> None:
    """Invariant 5."""
    session = fold(opened())
    assert refuses(session, RunClosed("r0", CANCELLED)) == "the open run is 'r1'"
    session.apply(RunClosed("r1", CANCELLED))
    refuses(session, RunClosed("r1", CANCELLED))


@pytest.mark.parametrize("outcome", [Completed("x"), RoundLimit(3), Cancelled()])
def test_what_can_be_resumed_is_what_the_ending_says(outcome: Outcome) -> None:
    """Without open calls, `resumable` decides."""
    session = fold(*HISTORIES[Phase.SETTLE], RunClosed("r1", outcome))
    record = RunOpened("r2", resumes="r1")
    if outcome.resumable:
        session.apply(record)
        assert session.phase is Phase.SETTLE
    else:
        assert refuses(session, record) == "the last run has nothing to resume"


def test_rounds_count_over_resumed_runs_but_anew_for_new_input_and_after_a_round_limit() -> None:
    """A run that is resumed again and again cannot outrun its limit."""
    base = (opened(), asked("t1", 1), ended("t1"), asked("t2", 2), ended("t2"))
    for outcome, expected in ((Cancelled(), 2), (Crashed(), 2), (RoundLimit(2), 0)):
        session = fold(*base, RunClosed("r1", outcome), RunOpened("r2", resumes="r1"))
        assert session.round == expected
    fresh = fold(*base, RunClosed("r1", Cancelled()), opened("r2", "u2"))
    assert fresh.round == 0


# ── messages and model calls ──────────────────────────────────────────────────────────────────────


def test_ids_of_messages_and_calls_are_unique_in_a_session() -> None:
    """Invariant 2: across kinds, and within one record."""
    session = fold(*HISTORIES[Phase.SETTLE])
    for id in ("u1", "a1", "r1"):
        assert refuses(session, MessageAppended(user(id))) == f"the id {id!r} was used before"
    assert refuses(session, MessageAppended(user(""))) == "an id is empty"
    model = fold(opened())
    for ids, twice in ((("c1", "c1"), "c1"), (("a1",), "a1"), (("u1",), "u1")):
        why = refuses(model, MessageAppended(calls("a1", *ids)))
        assert why == f"the id {twice!r} was used before"
    assert refuses(model, MessageAppended(calls("a1", ""))) == "an id is empty"
    why = refuses(fold(), RunOpened("r1", (user("u1"), user("u1"))))
    assert why == "the id 'u1' was used before"


def test_the_id_of_a_result_is_reserved_with_its_call() -> None:
    """Otherwise a run with such calls could not be closed."""
    why = "the id 'c1.result' was used before"
    assert refuses(fold(opened()), MessageAppended(calls("a1", "c1", "c1.result"))) == why
    assert refuses(fold(opened("r1", "c1.result")), MessageAppended(calls("a1", "c1"))) == why
    calling = fold(*CALLING)
    taken = "'c1.result' is empty or was used before"
    assert taken in refuses(calling, settled("c2", "not_run", "c1.result"))
    assert taken in refuses(calling, waits("c2", token="c1.result"))
    calling.check(settled("c1", "not_run"))


def test_a_call_id_is_not_reused_in_a_later_round_or_run() -> None:
    """Also not after its result is in."""
    session = fold(*CALLING, settled("c1", "not_run"), settled("c2", "not_run"))
    assert "c1" in refuses(session, MessageAppended(calls("a2", "c1")))
    session.apply(RunClosed("r1", CANCELLED))
    session.apply(opened("r2", "u2"))
    refuses(session, MessageAppended(calls("a2", "c2")))


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (Message("user", (), id="x"), "no parts"),
        (Message("assistant", (), id="x"), "no parts"),
        (Message("user", (ToolCall("c", "read"),), id="x"), "is not the assistant's"),
        (Message("assistant", (ToolResult("c", ()),), id="x"), "is not a tool's"),
        (Message("tool", (ToolResult("c", ()),), id="x"), "cannot be appended"),
        (Message("user", (Text("x"),), id="x", name=COMPACT_NOTE), "is kept for the note"),
    ],
)
def test_a_message_that_fits_into_no_transcript_is_refused(message: Message, why: str) -> None:
    """Invariant 9, as far as the machine can see it."""
    assert why in refuses(fold(opened()), MessageAppended(message))


def test_an_assistant_message_does_not_follow_another() -> None:
    """After an answer comes an ending, or somebody else's word."""
    session = fold(*HISTORIES[Phase.SETTLE])
    refuses(session, MessageAppended(answer("a2")))
    session.apply(MessageAppended(user("u2")))
    assert session.phase is Phase.MODEL


def test_nothing_happens_while_the_model_is_being_asked_but_its_end() -> None:
    """One attempt at a time; only a crash closes a run over it."""
    session = fold(opened(), asked())
    for record in (
        MessageAppended(user("u2")),
        MessageAppended(answer("a1")),
        asked("t2", 1),
        Recalled(()),
        ViewChanged(),
        RunClosed("r1", CANCELLED),
    ):
        assert refuses(session, record) == "a model call is under way"
    assert "no attempt 't2'" in refuses(session, ended("t2"))
    session.check(ended("t1"))
    session.check(RunClosed("r1", Crashed()))


def test_an_attempt_ends_once_and_its_id_is_not_reused() -> None:
    """Deltas are told apart by their attempt."""
    session = fold(opened(), asked("t1"), ended("t1"))
    refuses(session, ended("t1"))
    assert "was used before" in refuses(session, asked("t1"))
    assert "is empty" in refuses(session, asked(""))


def test_rounds_follow_each_other() -> None:
    """An attempt belongs to the round under way or to the next."""
    session = fold(opened(), asked("t1", 1), ended("t1"))
    refuses(session, asked("t2", 3))
    refuses(session, asked("t2", 0))
    session.check(asked("t2", 1))
    session.check(asked("t2", 2))


def test_an_answer_is_of_the_attempt_that_just_ended_and_enters_once() -> None:
    """An answer of another attempt, or the same answer twice, would be somebody else's words."""
    session = fold(opened(), asked("t1"), ended("t1"))
    refuses(session, MessageAppended(answer("a1"), "t0"))
    session.apply(MessageAppended(answer("a1"), "t1"), MessageAppended(user("u2")))
    refuses(session, MessageAppended(answer("a2"), "t1"))
    session.check(MessageAppended(answer("a2")))


@pytest.mark.parametrize("status", ["failed", "cancelled", "lost"])
def test_a_call_never_comes_from_an_attempt_that_did_not_end_well(status: str) -> None:
    """Its text may be kept, its calls may be halves."""
    record = ModelEnded("t1", "failed")
    if status == "cancelled":
        record = ModelEnded("t1", "cancelled")
    elif status == "lost":
        record = ModelEnded("t1", "lost")
    session = fold(opened(), asked("t1"), record)
    assert "did not end well" in refuses(session, MessageAppended(calls("a1", "c1"), "t1"))
    session.check(MessageAppended(answer("a1"), "t1"))


def test_usage_is_summed_over_all_attempts_and_reservations_survive_a_crash() -> None:
    """Failed attempts spent tokens too; what nobody saw the end of is charged as reserved."""
    session = fold(
        opened(),
        ModelAsked("t1", 1, "m", 50),
        ModelEnded("t1", "failed", Usage(3, None)),
        ModelAsked("t2", 1, "m", 60),
        ModelEnded("t2", "ok", Usage(4, 5)),
        ModelAsked("t3", 2, "m", 70),
        RunClosed("r1", Crashed()),
    )
    assert session.usage == Usage(7, 5)
    assert session.reserved_lost == 70
    session.apply(RunOpened("r2", resumes="r1"))
    assert session.run_usage == Usage(7, 5)
    session.apply(RunClosed("r2", CANCELLED), opened("r3", "u3"))
    assert session.run_usage == Usage()
    assert session.usage == Usage(7, 5)


def test_what_memory_brings_up_accompanies_one_run_and_is_no_history() -> None:
    """It is in no view, and gone with the next run."""
    session = fold(opened(), Recalled((user("memory"),)))
    assert [message.id for message in session.recalled] == ["memory"]
    assert [message.id for message in session.view] == ["u1"]
    session.apply(RunClosed("r1", CANCELLED), opened("r2", "u2"))
    assert session.recalled == ()
    for message in (answer("x"), Message("user", (), id="x")):
        refuses(session, Recalled((message,)))
