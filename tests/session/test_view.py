"""What a change of view may do."""

from __future__ import annotations

import pytest

from llm_client.types import Message, Text, ToolCall, ToolResult
from power_loop.session.machine import IllegalRecord, Session
from power_loop.session.records import MessageAppended, RunClosed, ViewChanged
from power_loop.session.view import COMPACT_NOTE
from tests.session.samples import CALLING, CANCELLED, fold, settled, started, user


def note(id: str = "n1", role: str = "user") -> Message:
    """A compact note."""
    if role == "system":
        return Message("system", (Text("so far"),), id=id, name=COMPACT_NOTE)
    return Message("user", (Text("so far"),), id=id, name=COMPACT_NOTE)


def worked() -> Session:
    """A session after one batch: u1, a1 (two calls), both results, u2."""
    return fold(
        *CALLING,
        started("c1"),
        settled("c1"),
        started("c2"),
        settled("c2"),
        MessageAppended(user("u2")),
    )


def ids(session: Session) -> list[str]:
    """The ids of the messages in view."""
    return [message.id for message in session.view]


NAMED = f"a note is a user or system message named {COMPACT_NOTE!r}"


def why_not(change: ViewChanged, session: Session | None = None) -> str:
    """Why a change is refused."""
    with pytest.raises(IllegalRecord) as caught:
        (session or worked()).apply(change)
    return caught.value.why


@pytest.mark.parametrize(
    ("cut", "left"),
    [
        ("u1", ["n1", "u1", "a1", "c1.result", "c2.result", "u2"]),
        ("a1", ["n1", "a1", "c1.result", "c2.result", "u2"]),
        ("u2", ["n1", "u2"]),
    ],
)
def test_the_note_stands_for_all_before_the_cut(cut: str, left: list[str]) -> None:
    """The cut itself stays."""
    session = worked()
    session.apply(ViewChanged(cut, note()))
    assert ids(session) == left


@pytest.mark.parametrize("cut", ["c1.result", "c2.result"])
def test_a_cut_never_falls_between_a_call_and_its_result(cut: str) -> None:
    """Invariant 7."""
    assert "between a call and its result" in why_not(ViewChanged(cut, note()))


def test_at_most_one_compact_note_is_in_the_view() -> None:
    """A second cut takes the first note away, and none may keep it."""
    session = worked()
    session.apply(ViewChanged("a1", note("n1")))
    assert "old note" in why_not(ViewChanged("n1", note("n2")), session)
    session.apply(ViewChanged("u2", note("n2")))
    assert ids(session) == ["n2", "u2"]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (Message("user", (Text("x"),), id="n1"), NAMED),
        (Message("assistant", (Text("x"),), id="n1", name=COMPACT_NOTE), NAMED),
        (Message("tool", (ToolResult("c1", ()),), id="n1", name=COMPACT_NOTE), NAMED),
        (Message("user", (), id="n1", name=COMPACT_NOTE), "has no parts"),
        (Message("user", (ToolCall("c9", "x"),), id="n1", name=COMPACT_NOTE), "has calls"),
        (Message("user", (Text("x"),), id="u1", name=COMPACT_NOTE), "was used before"),
        (Message("user", (Text("x"),), id="", name=COMPACT_NOTE), "is empty or was used before"),
    ],
    ids=["no name", "assistant", "tool", "empty", "calls", "known id", "no id"],
)
def test_a_note_is_a_named_message_with_an_id_of_its_own(bad: Message, why: str) -> None:
    """Anything else would not be recognised, or would not be legal."""
    assert why in why_not(ViewChanged("u2", bad))


def test_a_note_needs_a_cut_and_the_cut_a_message() -> None:
    """A note without a cut would stand for nothing."""
    told = "a note, or what is kept, without a cut"
    assert why_not(ViewChanged(None, note())) == told
    assert why_not(ViewChanged(kept=("u1",))) == told
    assert "not in the view" in why_not(ViewChanged("u9", note()))


def test_what_stays_can_be_shortened_but_keeps_its_calls_and_results() -> None:
    """Only content may shrink."""
    session = worked()
    short = (ToolResult("c1", (Text("[cut]"),)),)
    session.apply(ViewChanged(replaced={"c1.result": short, "u1": (Text("h"),)}))
    assert session.view[2].parts == short
    assert session.view[0].text == "h"
    assert ids(session) == ["u1", "a1", "c1.result", "c2.result", "u2"]
    for replaced in (
        {"c1.result": (ToolResult("c2", (Text("x"),)),)},
        {"c1.result": (Text("x"),)},
        {"a1": (ToolCall("c1", "read"),)},
        {"a1": (ToolCall("c1", "read"), ToolCall("c2", "write"))},
        {"u1": ()},
        {"u1": (ToolCall("c3", "read"),)},
    ):
        assert "does not keep" in why_not(ViewChanged(replaced=dict(replaced)))


def test_what_leaves_the_view_is_not_shortened() -> None:
    """A record that says so says something that does not happen."""
    change = ViewChanged("u2", note(), {"u1": (Text("h"),)})
    assert "does not stay" in why_not(change)
    worked().apply(ViewChanged("u2", note(), {"u2": (Text("h"),)}))


def test_a_view_changes_between_runs_but_not_while_calls_are_open() -> None:
    """Compaction by hand happens at rest."""
    session = fold(*CALLING)
    with pytest.raises(IllegalRecord):
        session.apply(ViewChanged("a1", note()))
    resting = worked()
    resting.apply(RunClosed("r1", CANCELLED))
    resting.apply(ViewChanged("u2", note(role="system")))
    assert ids(resting) == ["n1", "u2"]


def test_ids_stay_taken_after_their_messages_have_left_the_view() -> None:
    """Invariant 2: never reused."""
    session = worked()
    session.apply(ViewChanged("u2", note()))
    for id in ("u1", "a1", "c1", "n1"):
        with pytest.raises(IllegalRecord):
            session.check(MessageAppended(user(id)))
