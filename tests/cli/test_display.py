"""How runs look: plain lines, JSON, and live on a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from llm_client.types import Message, Text, ToolCall, Usage
from power_loop import events
from power_loop.cli.display import JsonDisplay, PlainDisplay, make_display
from power_loop.cli.live import LiveDisplay
from power_loop.cli.timeline import one_line, timeline
from power_loop.events import Event, Stamped, decode_event
from power_loop.session.outcome import Completed

CALL = ToolCall("c1", "read_file", '{"path": "a.txt"}')
RUN: list[Event] = [
    events.RunOpened("r1", (Message("user", (Text("What is in a.txt?"),), id="m1"),)),
    events.ModelAsked("a1", 1, "m"),
    events.ThinkingDelta("a1", "hm"),
    events.TextDelta("a1", "Let me "),
    events.TextDelta("a1", "look."),
    events.RetryScheduled("a1", 0.5, "Overloaded", "busy"),
    events.ModelEnded("a1", "ok", Usage(3, 4)),
    events.MessageAppended(Message("assistant", (Text("Let me look."), CALL), id="m2"), "a1"),
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
        '→ read_file {"path": "a.txt"}',
        "  … 50% reading",
        "← read_file finished after 2.000 s: hello world",
        "[completed]",
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


def test_what_is_no_terminal_gets_plain_lines() -> None:
    """Pipes and files read well without escape codes."""
    assert isinstance(make_display(json=False, out=io.StringIO()), PlainDisplay)


def test_a_timeline_has_a_line_a_record() -> None:
    """Number, time since the first record, and what happened."""
    lines = timeline([each for each in stamped() if events.is_record(each.event)])
    assert lines[0] == "   1     0.000  run opened: What is in a.txt?"
    assert lines[-1].endswith("run closed: completed")
    assert any('tool started: read_file({"path": "a.txt"})' in line for line in lines)


def test_long_text_is_cut_to_one_line() -> None:
    """A line stays a line."""
    assert one_line("a\nb") == "a b"
    assert len(one_line("x" * 500, 40)) == 40
