"""What may become of a call, how a run may end, and what a commit is."""

from __future__ import annotations

import pytest

from llm_client.types import Message, Text, ToolResult
from power_loop.session.closing import (
    TRUTH,
    closing,
    closing_calls,
    result_message,
    settled_by_answer,
)
from power_loop.session.machine import IllegalRecord, Phase
from power_loop.session.outcome import (
    AwaitingApproval,
    BudgetExhausted,
    Completed,
    Crashed,
    PendingTools,
    RoundLimit,
    WaitingForInput,
)
from power_loop.session.records import (
    CallAnswered,
    CallWaiting,
    MessageAppended,
    Record,
    RunClosed,
    RunOpened,
    ToolSettled,
    ToolStarted,
    ViewChanged,
)
from power_loop.session.view import COMPACT_NOTE
from tests.session.samples import (
    CALLING,
    CANCELLED,
    HISTORIES,
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

# ── calls ─────────────────────────────────────────────────────────────────────────────────────────


def test_results_enter_the_view_together_in_call_order() -> None:
    """However they settle."""
    session = fold(*CALLING, started("c1"), started("c2"), settled("c2"))
    assert [message.id for message in session.view] == ["u1", "a1"]
    assert session.phase is Phase.TOOLS
    session.apply(settled("c1"))
    assert [message.id for message in session.view] == ["u1", "a1", "c1.result", "c2.result"]
    assert session.phase is Phase.MODEL


def test_a_call_settles_once_and_never_runs_after_that() -> None:
    """Invariant 4."""
    session = fold(*CALLING, started("c1"), settled("c1"))
    for record in (settled("c1", id="other"), started("c1", 2), waits("c1", "input")):
        assert refuses(session, record) == "no call 'c1' is open"
    assert refuses(session, started("c3")) == "no call 'c3' is open"


def test_a_settlement_is_one_result_of_an_open_call_under_a_new_id() -> None:
    """Anything else is no settlement."""
    session = fold(*CALLING, started("c1"), started("c2"), settled("c1"))
    result = ToolResult("c2", (Text("x"),))
    for message in (
        Message("tool", (), id="x"),
        Message("tool", (Text("x"),), id="x"),
        Message("tool", (result, result), id="x"),
        Message("user", (result,), id="x"),
    ):
        assert refuses(session, ToolSettled(message)) == "the message is not one tool result"
    for id in ("u1", "c2", "c1.result", ""):
        assert "message id" in refuses(session, ToolSettled(Message("tool", (result,), id=id)))


_LOST: tuple[Record, ...] = (
    started("c1"),
    RunClosed("r1", Crashed()),
    RunOpened("r2", resumes="r1"),
)

BEGUN: dict[str, tuple[bool, bool, tuple[Record, ...]]] = {
    "asked": (False, False, ()),
    "waiting for approval": (False, False, (waits("c1"),)),
    "granted": (False, False, (waits("c1"), answered("c1"))),
    "refused": (False, False, (waits("c1"), answered("c1", "deny"))),
    "started": (True, True, (started("c1"),)),
    "waiting for input": (True, False, (started("c1"), waits("c1", "input"))),
    "answered": (True, True, (started("c1"), waits("c1", "input"), answered("c1", "42"))),
    "in doubt": (
        True,
        True,
        _LOST,
    ),
    "in doubt, waiting for leave": (True, False, (*_LOST, waits("c1"))),
    "in doubt, granted": (True, True, (*_LOST, waits("c1"), answered("c1"))),
    "in doubt, refused": (True, True, (*_LOST, waits("c1"), answered("c1", "deny"))),
}
"""Each state of a call: whether its tool had begun, and whether it can have a result."""


@pytest.mark.parametrize("state", BEGUN)
def test_what_is_said_of_a_call_fits_what_it_has_been_through(state: str) -> None:
    """Never "finished" without a result, never "not run" of a call that had begun."""
    begun, can_finish, records = BEGUN[state]
    session = fold(*CALLING, *records)
    legal = {
        "finished": can_finish,
        "interrupted": begun,
        "unknown": begun,
        "not_run": not begun,
        "denied": not begun,
        "skipped": not begun,
    }
    for record in (
        settled("c1", "finished"),
        settled("c1", "interrupted"),
        settled("c1", "unknown"),
        settled("c1", "not_run"),
        settled("c1", "denied"),
        settled("c1", "skipped"),
    ):
        if legal[record.how]:
            session.check(record)
        else:
            refuses(session, record)


@pytest.mark.parametrize("state", BEGUN)
def test_closing_tells_the_truth_about_a_call_in_each_state(state: str) -> None:
    """The one repair there is must be legal, and honest, wherever a run is stopped."""
    begun, _, records = BEGUN[state]
    session = fold(*CALLING, *records)
    whole = ToolResult("c1", (Text("all of it"),))
    finished = {"c1": result_message(whole, {"output": "preserve"})}
    truth = {"refused": "denied", "answered": "finished"}
    truth |= dict.fromkeys([name for name in BEGUN if name.startswith("in doubt")], "unknown")
    expected = truth.get(state, "interrupted" if begun else "not_run")
    first = next(r for r in closing(session, CANCELLED, {}) if isinstance(r, ToolSettled))
    assert first.how == expected
    told = next(r for r in closing(session, CANCELLED, finished) if isinstance(r, ToolSettled))
    if state in ("started", "in doubt", "in doubt, granted"):
        assert told.how == "finished"
        assert told.message == finished["c1"]
    else:
        assert told.how == expected, "a result is not believed where none can exist"
    session.apply(*closing(session, CANCELLED, finished))
    assert session.phase is Phase.IDLE
    assert session.last_outcome == CANCELLED


def test_what_a_person_answered_is_the_result_of_a_call_that_asked() -> None:
    """It is durable, so it is not lost when the run is stopped before the call is settled."""
    _, _, records = BEGUN["answered"]
    session = fold(*CALLING, *records)
    first = next(r for r in closing(session, CANCELLED, {}) if isinstance(r, ToolSettled))
    assert first.message.parts == (ToolResult("c1", (Text("42"),)),)


@pytest.mark.parametrize("state", ["asked", "granted", "started", "in doubt", "in doubt, granted"])
def test_a_call_may_start_from_these_states(state: str) -> None:
    """Attempts are numbered, and another one runs the very same thing."""
    begun, _, records = BEGUN[state]
    session = fold(*CALLING, *records)
    attempt = 2 if begun else 1
    session.check(started("c1", attempt))
    refuses(session, started("c1", attempt + 1))
    refuses(session, started("c1", attempt - 1))
    if begun:
        other = ToolStarted("c1", "read", '{"other":1}', "s/c1", "h", attempt)
        refuses(session, other)
        refuses(session, ToolStarted("c1", "write", "{}", "s/c1", "hash", attempt))
        refuses(session, ToolStarted("c1", "read", "{}", "s/c1/2", "hash", attempt))


@pytest.mark.parametrize(
    "state",
    [
        "waiting for approval",
        "refused",
        "waiting for input",
        "answered",
        "in doubt, waiting for leave",
        "in doubt, refused",
    ],
)
def test_a_call_must_not_start_from_these_states(state: str) -> None:
    """Above all not when a person said no."""
    _, _, records = BEGUN[state]
    session = fold(*CALLING, *records)
    word = "waiting" if "waiting" in state else "answered"
    for attempt in (1, 2):
        assert refuses(session, started("c1", attempt)) == f"the call is {word}"


def test_a_refused_call_stays_refused_when_its_process_dies() -> None:
    """It is not in doubt: it never began, and must not be run by whoever comes next."""
    session = fold(*CALLING, waits("c1"), answered("c1", "deny"), RunClosed("r1", Crashed()))
    assert session.open_calls["c1"].state == "answered"
    session.apply(RunOpened("r2", resumes="r1"))
    refuses(session, started("c1", 1))
    session.check(settled("c1", "denied"))


def test_what_happens_to_each_state_of_a_call_when_its_process_dies() -> None:
    """Only what was running is in doubt; whatever was waited for is still waited for."""
    after = {
        "asked": "asked",
        "waiting for approval": "waiting",
        "granted": "granted",
        "refused": "answered",
        "started": "in_doubt",
        "waiting for input": "waiting",
        "answered": "answered",
    }
    for state, expected in after.items():
        session = fold(*CALLING, *BEGUN[state][2], RunClosed("r1", Crashed()))
        assert session.open_calls["c1"].state == expected
        assert session.phase is Phase.SUSPENDED


def test_a_call_waits_for_approval_before_it_starts_and_for_the_rest_after() -> None:
    """An approval is asked before any effect; children are part of the work; a question may stand
    in the place of the call."""
    session = fold(*CALLING)
    session.check(waits("c1", "approval"))
    session.check(waits("c1", "input"))
    refuses(session, waits("c1", "child"))
    session.apply(started("c1"))
    refuses(session, waits("c1", "approval"))
    session.check(waits("c1", "input"))
    session.check(waits("c1", "child"))


def test_a_call_in_doubt_may_wait_for_leave_to_run_again_and_for_nothing_else() -> None:
    """Only what was running in a dead process; one refusal and it never runs again."""
    session = fold(*CALLING, *_LOST)
    refuses(session, waits("c1", "input"))
    refuses(session, waits("c1", "child"))
    session.apply(waits("c1"), answered("c1", "deny"))
    refuses(session, started("c1", 2))
    told = settled_by_answer(session.open_calls["c1"])
    assert told.how == "unknown"
    assert "A person did not allow that" in str(told.message)


def test_leave_to_run_again_survives_another_death_and_holds_for_one_start() -> None:
    """The one who comes next runs it; what dies in that attempt is in doubt once more."""
    granted = (*_LOST, waits("c1"), answered("c1"))
    dies = (RunClosed("r2", Crashed()), RunOpened("r3", resumes="r2"))
    session = fold(*CALLING, *granted, *dies)
    assert session.open_calls["c1"].state == "granted"
    assert session.open_calls["c1"].lost
    session.apply(started("c1", 2))
    assert not session.open_calls["c1"].lost
    session.apply(RunClosed("r3", Crashed()))
    assert session.open_calls["c1"].state == "in_doubt"


def test_what_is_given_up_after_a_death_is_told_as_unknown() -> None:
    """The dead process was running it; the one that only waits is stopped by who gives it up."""
    records = (started("c1"), started("c2"), waits("c2", "input"))
    session = fold(*CALLING, *records)
    assert [r.how for r in closing_calls(session, {})] == ["interrupted", "interrupted"]
    assert [r.how for r in closing_calls(session, {}, died=True)] == ["unknown", "interrupted"]


def test_what_the_model_is_told_of_a_call_without_a_result_is_pinned() -> None:
    """Models are prompted with it, and people search for it."""
    assert TRUTH == {
        "interrupted": (
            "[interrupted] This call was stopped before it had finished. Its effects are unknown: "
            "none, some or all of them may have happened. It was not run again."
        ),
        "not_run": "[not run] This call was stopped before it had begun. It had no effect.",
        "unknown": (
            "[unknown] The program that ran this call died before the call had ended. Its outcome "
            "is unknown: none, some or all of its effects may have happened. It was not run again."
        ),
        "denied": "[denied] A person did not allow this call. It had no effect.",
    }


def test_a_token_is_answered_once_by_its_own_call_and_never_reused() -> None:
    """A replayed decision decides nothing."""
    session = fold(*CALLING, waits("c1"))
    for call, token in (("c1", "token-c2"), ("c2", "token-c1")):
        why = refuses(session, CallAnswered(call, token, "approve"))
        assert why == f"the call does not wait for {token!r}"
    for token in ("token-c1", ""):
        why = refuses(session, CallWaiting("c2", "approval", token))
        assert why == f"the token {token!r} is empty or was used before"
    session.apply(answered("c1"))
    assert refuses(session, answered("c1", "deny")) == "the call does not wait for 'token-c1'"
    session.apply(started("c1"), settled("c1"))
    why = refuses(session, CallWaiting("c2", "approval", "token-c1"))
    assert why == "the token 'token-c1' is empty or was used before"


def test_a_child_is_opened_and_comes_home_in_one_commit_each() -> None:
    """Started and waiting at once; answered and settled at once."""
    session = fold(*CALLING)
    session.apply(started("c1"), waits("c1", "child"))
    assert session.open_calls["c1"].state == "waiting"
    session.apply(answered("c1", "child is done"), settled("c1"))
    assert list(session.open_calls) == ["c2"]


def test_a_budget_leaves_open_what_is_worked_on_below_and_nothing_else() -> None:
    """Whoever has more carries it on."""
    session = fold(*CALLING, started("c1"), waits("c1", "child"))
    spent = RunClosed("r1", BudgetExhausted("run.tokens"))
    refuses(session, spent)
    session.apply(settled("c2", "not_run"), spent)
    assert session.phase is Phase.SUSPENDED
    session.apply(RunOpened("r2", resumes="r1"), answered("c1", "done"), settled("c1"))
    assert session.phase is Phase.MODEL
    refuses(fold(*CALLING, settled("c2", "not_run"), waits("c1")), spent)


# ── endings ───────────────────────────────────────────────────────────────────────────────────────


def test_a_run_completes_only_with_an_answer() -> None:
    """From SETTLE."""
    for phase in (Phase.MODEL, Phase.TOOLS):
        refuses(fold(*HISTORIES[phase]), RunClosed("r1", Completed("x")))
    fold(*HISTORIES[Phase.SETTLE]).check(RunClosed("r1", Completed("x")))


def test_only_endings_that_say_so_leave_calls_open() -> None:
    """Invariant 1."""
    session = fold(*CALLING)
    for outcome in (CANCELLED, RoundLimit(1)):
        assert refuses(session, RunClosed("r1", outcome)) == "calls are open"
    session.check(RunClosed("r1", Crashed()))


def test_a_run_does_not_suspend_over_nothing() -> None:
    """Somebody would wait for ever."""
    for phase in (Phase.MODEL, Phase.SETTLE):
        for outcome in (PendingTools(("c1",)), AwaitingApproval(("t",)), WaitingForInput(("t",))):
            session = fold(*HISTORIES[phase])
            assert refuses(session, RunClosed("r1", outcome)) == "no call is open"


def test_a_suspended_run_names_what_its_calls_wait_for() -> None:
    """No more than is true, and not nothing."""
    session = fold(*CALLING, waits("c1"), waits("c2"))
    session.check(RunClosed("r1", AwaitingApproval(("token-c1",))))
    for tokens in ((), ("token-c3",), ("token-c1", "x")):
        refuses(session, RunClosed("r1", AwaitingApproval(tokens)))
    for ids in ((), ("c3",), ("c1", "c3")):
        refuses(session, RunClosed("r1", PendingTools(ids)))
    half = fold(*CALLING, waits("c1"))
    refuses(half, RunClosed("r1", AwaitingApproval(("token-c1",))))
    half.check(RunClosed("r1", PendingTools(("c1", "c2"))))


def test_a_run_does_not_suspend_while_a_call_is_running() -> None:
    """Its siblings settle first."""
    session = fold(*CALLING, waits("c1"), started("c2"))
    why = refuses(session, RunClosed("r1", AwaitingApproval(("token-c1",))))
    assert why == "a call neither waits nor is in doubt"
    assert refuses(session, RunClosed("r1", PendingTools(("c1", "c2")))) == "a call is running"


def test_a_crash_can_always_be_recorded_and_a_successor_opened_in_the_same_commit() -> None:
    """Wherever the owner died."""
    for phase in (Phase.MODEL, Phase.TOOLS, Phase.SETTLE):
        session = fold(*HISTORIES[phase])
        session.apply(RunClosed("r1", Crashed()), RunOpened("r2", resumes="r1"))
        assert session.run == "r2"
        assert session.phase is phase


# ── commits ───────────────────────────────────────────────────────────────────────────────────────


def test_a_commit_is_legal_or_not_as_a_whole() -> None:
    """Each record stands in the state that the ones before it would give."""
    session = fold(opened())
    unit = (asked(), ended(), MessageAppended(calls("a1", "c1"), "t1"), started("c1"))
    session.check(*unit)
    for broken in range(len(unit) - 1):
        refuses(session, *unit[:broken], *unit[broken + 1 :])
    refuses(session, *unit, RunClosed("r1", Completed("too early")))
    session.apply(*unit)
    assert session.seq == 5


def test_ids_are_unique_within_a_commit_too() -> None:
    """A trial remembers what it has seen."""
    session = fold(opened())
    once = MessageAppended(user("u2"))
    for again in (MessageAppended(user("u2")), MessageAppended(calls("a1", "u2"))):
        assert refuses(session, once, again) == "the id 'u2' was used before"
    why = refuses(session, RunClosed("r1", CANCELLED), opened("r1", "u2"))
    assert why == "the run id 'r1' is empty or was used before"


def test_a_change_of_view_is_seen_by_the_rest_of_its_commit() -> None:
    """Two cuts in one commit: the second is judged by what the first leaves."""
    session = fold(opened(), MessageAppended(user("u2")), MessageAppended(user("u3")))
    note = Message("user", (Text("later"),), id="note2", name=COMPACT_NOTE)
    first, second = ViewChanged("u2", _NOTE), ViewChanged("u3", note)
    refuses(session, ViewChanged("u3", _NOTE), ViewChanged("u2", note))
    session.apply(first, second)
    assert [message.id for message in session.view] == ["note2", "u3"]


def test_a_commit_of_nothing_changes_nothing() -> None:
    """It is legal, and does not count."""
    session = fold(*CALLING)
    before = snapshot(session)
    session.check()
    session.apply()
    assert snapshot(session) == before


def test_a_snapshot_of_the_view_stays_what_it_was() -> None:
    """The session goes on behind it, also across a change of view."""
    session = fold(opened(), MessageAppended(user("u2")))
    before = session.view
    session.apply(MessageAppended(user("u3")), ViewChanged("u2", _NOTE))
    assert [message.id for message in before] == ["u1", "u2"]
    assert [message.id for message in session.view] == ["note1", "u2", "u3"]


def test_a_refused_record_says_what_where_and_why() -> None:
    """An illegal record is a defect of the program; its message must be enough to find it."""
    with pytest.raises(IllegalRecord) as caught:
        fold(*CALLING).apply(MessageAppended(user("u2")))
    assert str(caught.value) == (
        "MessageAppended is illegal in phase TOOLS: the phase does not allow it"
    )
    assert caught.value.record == MessageAppended(user("u2"))
