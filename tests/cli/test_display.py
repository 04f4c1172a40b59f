"""How runs look: plain lines, JSON, and live on a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from llm_client.types import Message, Text, ToolCall, Usage
from power_loop import events
from power_loop.cli.display import JsonDisplay, PlainDisplay, Tally, make_display
from power_loop.cli.live import LiveDisplay
from power_loop.cli.timeline import describe, one_line, timeline
from power_loop.events import Event, Stamped, decode_event
from power_loop.session.outcome import Cancelled, Completed, RoundLimit
from power_loop.session.records import Decided

CALL = ToolCall("c1", "read_file", '{"path": "a.txt"}')
RUN: list[Event] = [
    events.RunOpened("r1", (Message("user", (Text("What is in a.txt?"),), id="m1"),)),
    events.ModelAsked("a1", 1, "m"),
    events.ThinkingDelta("a1", "hm"),
    events.TextDelta("a1", "Let me "),
    events.TextDelta("a1", "look."),
    events.RetryScheduled("a1", 0.5, "Overloaded", "busy"),
    events.FallbackTaken("m", "n", "Overloaded", "busy"),
    events.ModelEnded("a1", "ok", Usage(3, 4)),
    events.MessageAppended(Message("assistant", (Text("Let me look."), CALL), id="m2"), "a1"),
    events.ReconcileFailed("c1", "read_file", "OSError", "gone"),
    events.ToolLeftBehind("c1", "read_file"),
    events.SpillFailed("c1", "read_file", "StoreFull", "no space"),
    events.ToolStarted("c1", "read_file", CALL.arguments, "k", "h"),
    events.ToolProgress("c1", "reading", 0.5),
    events.ToolSettled(Message.tool("c1", "hello\nworld")),
    events.RoundEnded(1, Usage(3, 4)),
    events.RunClosed("r1", Completed("hello")),
]


def stamped() -> list[Stamped]:
    return [Stamped("s", i, 0, "s", i, 10.0 + i, "r1", 1, e) for i, e in enumerate(RUN, 1)]


def test_plain_lines_tell_the_story_in_order() -> None:
    """Text as it comes, then the call, its progress, its result with the time it took."""
    out = io.StringIO()
    display = PlainDisplay(out)
    for each in stamped():
        display.show(each)
    display.close()
    assert out.getvalue().splitlines() == [
        "Let me look.",
        "! Overloaded; next attempt in 0.5 s",
        "! Overloaded; n is asked in place of m",
        "! read_file cannot tell what became of a call: gone",
        "! read_file ignores that it was cancelled; the run ends without it",
        "! the output of read_file is not kept whole: no space",
        '→ read_file {"path": "a.txt"}',
        "  … 50% reading",
        "← read_file finished after 2.000 s: hello world",
        "[completed] tokens: 3 in, 4 out",
    ]


def test_json_lines_decode_to_the_same_events() -> None:
    """Nothing is lost on the way."""
    out = io.StringIO()
    display = make_display(json=True, out=out)
    assert isinstance(display, JsonDisplay)
    for each in stamped():
        display.show(each)
    display.close()
    assert [decode_event(line) for line in out.getvalue().splitlines()] == stamped()


def test_a_terminal_keeps_what_settled() -> None:
    """What moved is gone at the end; the text, the call and the usage stay."""
    console = Console(file=io.StringIO(), force_terminal=True, width=100, record=True)
    display = LiveDisplay(console)
    for each in stamped():
        display.show(each)
    display.close()
    shown = console.export_text()
    assert "Let me look." in shown
    assert "← read_file finished after 2.000 s: hello world" in shown
    assert "[completed] tokens: 3 in, 4 out" in shown


def test_a_run_that_was_cancelled_shows_what_it_is_known_to_have_used() -> None:
    """Also in the middle of a round; and why it ended, and what can be done."""
    cancelled: list[Event] = [
        *RUN[:-2],
        events.ModelAsked("a2", 2, "m"),
        events.ModelEnded("a2", "cancelled", Usage(5, None)),
        events.RunClosed("r1", Cancelled("Ctrl-C")),
    ]
    expected = (
        "[cancelled] Ctrl-C; resume the session, or send the next message. tokens: 8 in, 4 out"
    )
    out = io.StringIO()
    console = Console(file=io.StringIO(), width=200, record=True)
    for display in (PlainDisplay(out), LiveDisplay(console)):
        for event in cancelled:
            display.show(Stamped("s", 1, 0, "s", 1, 10.0, "r1", 1, event))
        display.close()
    assert out.getvalue().splitlines()[-1] == expected
    assert console.export_text().splitlines()[-1] == expected


def test_each_run_is_counted_for_itself_and_unknown_is_not_nothing() -> None:
    """A chat has many runs on one display; a provider may not tell."""
    tally = Tally()
    for event in RUN:
        tally.take(event)
    assert tally.closing_line(events.RunClosed("r1", Completed("x"))).endswith("3 in, 4 out")
    tally.take(RUN[0])
    assert tally.closing_line(events.RunClosed("r1", Completed("x"))).endswith("not reported")
    tally.take(events.ModelEnded("a1", "ok", Usage(None, 4)))
    limit = tally.closing_line(events.RunClosed("r1", RoundLimit(3, "so far")))
    assert "all 3 rounds are used up" in limit
    assert limit.endswith("tokens: ? in, 4 out")


def test_a_long_answer_moves_past_on_a_terminal_and_is_printed_whole() -> None:
    """While it is written, its end is what one sees."""
    console = Console(file=io.StringIO(), force_terminal=True, width=40, height=20, record=True)
    display = LiveDisplay(console)
    text = "\n".join(f"line {n}" for n in range(500))
    display.show(Stamped("s", 1, 0, "s", 1, 10.0, "r1", 1, RUN[0]))
    display.show(Stamped("s", 1, 1, "s", 1, 10.0, "r1", 1, events.TextDelta("a1", text)))
    seen = "".join(segment.text for segment in console.render(display.moving()))
    assert "line 499" in seen
    assert "line 400" not in seen
    message = Message("assistant", (Text(text),), id="m2")
    appended = events.MessageAppended(message, "a1")
    display.show(Stamped("s", 2, 0, "s", 2, 10.0, "r1", 1, appended))
    display.close()
    assert "line 0\n" in console.export_text()


def test_what_is_no_terminal_gets_plain_lines() -> None:
    """Pipes and files read well without escape codes."""
    assert isinstance(make_display(json=False, out=io.StringIO()), PlainDisplay)


def test_a_timeline_has_a_line_a_record() -> None:
    """Number, time since the first record, and what happened."""
    lines = timeline([each for each in stamped() if events.is_record(each.event)])
    assert lines[0] == "   1     0.000  run opened: What is in a.txt?"
    assert lines[-1].endswith("run closed: completed")
    assert any('tool started: read_file({"path": "a.txt"})' in line for line in lines)


def test_a_decision_is_told_with_who_made_it() -> None:
    """A hook, a policy, a limit, or nobody that has a name."""
    for decided, line in (
        (Decided("tool.before", "guard", "break", "no"), "hook tool.before guard: break: no"),
        (Decided("round.start", "policy:p:round", "break"), "policy:p at round.start: break"),
        (Decided("approval", "leave", "refused"), "approval (leave): refused"),
        (Decided("tool.after", "", "retry"), "tool.after: retry"),
    ):
        assert describe(decided) == line


def test_long_text_is_cut_to_one_line() -> None:
    """A line stays a line."""
    assert one_line("a\nb") == "a b"
    assert len(one_line("x" * 500, 40)) == 40
