"""The fold of stream events into a response."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from llm_client.stream import (
    Accumulator,
    AttemptVoided,
    Finished,
    PartCompleted,
    PartSealed,
    RefusalDelta,
    ResponseStarted,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStarted,
    UsageReported,
)
from llm_client.types import (
    Citation,
    Opaque,
    Part,
    Seal,
    StopReason,
    Text,
    Thinking,
    ToolCall,
    Usage,
)
from tests.decoding import accumulate


def parts(*events: StreamEvent) -> tuple[Part, ...]:
    """The parts that `events` come to."""
    return accumulate(events).parts


def test_deltas_of_one_kind_become_one_part_and_kinds_keep_their_order() -> None:
    """Thinking, text and thinking again are three parts."""
    assert parts(
        ThinkingDelta("a"), ThinkingDelta("b"), TextDelta("c"), TextDelta("d"), ThinkingDelta("e")
    ) == (Thinking("ab"), Text("cd"), Thinking("e"))


def test_a_signature_seals_its_block() -> None:
    """What is thought after it is another block, with a signature of its own."""
    assert parts(
        ThinkingDelta("a"),
        PartSealed(Seal("x", "s1")),
        ThinkingDelta("b"),
        PartSealed(Seal("x", "s2")),
    ) == (Thinking("a", Seal("x", "s1")), Thinking("b", Seal("x", "s2")))


def test_sources_belong_to_the_text_before_them() -> None:
    """And text after them is another part, with sources of its own or none."""
    cited = Citation("{}", url="https://example.org")
    assert parts(
        TextDelta("a"), PartSealed(), TextDelta("b"), PartSealed(None, (cited,)), TextDelta("c")
    ) == (Text("a"), Text("b", (cited,)), Text("c"))


def test_a_seal_keeps_a_text_that_is_empty() -> None:
    """Gemini signs empty text; without a seal it would be nothing."""
    seal = Seal("gemini", "s")
    assert parts(TextDelta(""), PartSealed(seal), TextDelta("")) == (Text("", (), seal),)


def test_arguments_go_to_the_call_of_their_index() -> None:
    """S18: interleaved fragments are not mixed up."""
    assert parts(
        ToolCallStarted(0, "a", "f"),
        ToolCallStarted(1, "b", "g"),
        ToolCallDelta(0, "{"),
        ToolCallDelta(1, "[1"),
        ToolCallDelta(0, "}"),
        ToolCallDelta(1, "]"),
    ) == (ToolCall("a", "f", "{}"), ToolCall("b", "g", "[1]"))


def test_text_after_a_call_is_a_part_of_its_own() -> None:
    """And so is text after a part that came whole."""
    opaque = Opaque("p", "k", "{}")
    assert parts(
        TextDelta("a"),
        ToolCallStarted(0, "c", "f"),
        TextDelta("b"),
        PartCompleted(opaque),
        TextDelta("c"),
    ) == (Text("a"), ToolCall("c", "f", ""), Text("b"), opaque, Text("c"))


def test_empty_runs_leave_no_part() -> None:
    """An empty text block would be illegal to send back."""
    assert parts(TextDelta(""), ThinkingDelta("")) == ()


def test_everything_else_that_is_said_is_in_the_response() -> None:
    """The newest usage, the refusal, the ids, the end."""
    accumulator = Accumulator()
    for event in (
        ResponseStarted("r1", "m"),
        UsageReported(Usage(1)),
        RefusalDelta("I "),
        RefusalDelta("won't"),
        UsageReported(Usage(1, 2)),
    ):
        accumulator.add(event)
    assert not accumulator.finished
    assert accumulator.response().stop_reason is StopReason.OTHER
    accumulator.add(Finished(StopReason.REFUSAL, "stop"))
    response = accumulator.response("req_1")
    assert accumulator.finished
    assert accumulator.usage == response.usage == Usage(1, 2)
    assert (response.refusal, response.model, response.response_id) == ("I won't", "m", "r1")
    assert (response.stop_reason, response.raw_finish) == (StopReason.REFUSAL, "stop")
    assert response.request_id == "req_1"


SAID: list[StreamEvent] = [
    ResponseStarted("r1", "m"),
    TextDelta("a"),
    ThinkingDelta("b"),
    PartSealed(Seal("x", "s")),
    RefusalDelta("no"),
    ToolCallStarted(0, "c", "f"),
    PartCompleted(Opaque("p", "k", "{}")),
    UsageReported(Usage(1, 2)),
    Finished(StopReason.END, "stop"),
]


@given(st.lists(st.sampled_from(SAID)), st.lists(st.sampled_from(SAID)))
def test_of_a_void_attempt_nothing_is_left(
    void: list[StreamEvent], good: list[StreamEvent]
) -> None:
    """The answer is what came after it, as if the stream had begun there (X12)."""
    accumulator = Accumulator()
    for event in (*void, AttemptVoided(1, "Overloaded", "busy"), *good):
        accumulator.add(event)
    assert accumulator.response() == accumulate(good)
    assert accumulator.finished is any(isinstance(event, Finished) for event in good)


@given(st.lists(st.sampled_from(["a", "é", "🌍"]), min_size=1), st.integers(0, 10))
def test_how_text_is_cut_into_deltas_does_not_matter(texts: list[str], at: int) -> None:
    """Merged events mean what single ones mean: readers may merge."""
    cut = at % len(texts)
    merged = [TextDelta("".join(texts[:cut])), TextDelta("".join(texts[cut:]))]
    assert accumulate([TextDelta(text) for text in texts]) == accumulate(merged)


def test_stream_events_survive_json() -> None:
    """They are handed to other processes."""
    events: list[StreamEvent] = [
        ResponseStarted("r", "m"),
        ThinkingDelta("t"),
        PartSealed(Seal("x", "s"), (Citation("{}", title="t"),)),
        ToolCallStarted(0, "c", "f"),
        ToolCallDelta(0, "{}"),
        PartCompleted(Opaque("p", "k", "{}")),
        UsageReported(Usage(1, 2)),
        Finished(StopReason.END, "stop"),
        AttemptVoided(1, "Overloaded", "busy", Usage(1)),
    ]
    wire = msgspec.json.encode(events)
    assert msgspec.json.decode(wire, type=list[StreamEvent]) == events
