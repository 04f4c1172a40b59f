"""The vendor-neutral values: frozen, lossless on the wire, cheap to look into."""

from __future__ import annotations

import msgspec
import pytest

from llm_client.types import (
    Audio,
    File,
    Image,
    LLMResponse,
    Message,
    Opaque,
    Part,
    Seal,
    StopReason,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Transcript,
    Usage,
    new_id,
)

PARTS: tuple[Part, ...] = (
    Text("hi\u2028"),
    Thinking("hm", Seal("anthropic", "sig")),
    Thinking("", Seal("anthropic", "sealed"), redacted=True),
    Image(b"\x00\xff", None, "image/png", "low"),
    Audio(b"\x01", "wav", "au_1", "spoken"),
    File(None, "https://example.org/a.pdf"),
    ToolCall("c1", "f", '{"a": 1'),
    ToolResult("c1", (Text("ok"), Image(url="https://example.org/x.png")), is_error=True),
    Opaque("openrouter", "reasoning_details", '[{"a":1}]'),
)


def test_a_message_survives_json_unchanged() -> None:
    """Every part, with bytes, invalid arguments and the provider's own JSON."""
    message = Message("assistant", PARTS, name="n", meta={"k": "v"})
    assert msgspec.json.decode(msgspec.json.encode(message), type=Message) == message


def test_a_message_cannot_be_changed() -> None:
    """What was said stays said: caches rely on it."""
    message = Message.user("hi")
    with pytest.raises(AttributeError):
        message.parts = ()  # pyright: ignore[reportAttributeAccessIssue] - the point of the test


def test_ids_are_new_each_time_and_carry_their_prefix() -> None:
    """Two messages with the same words are two messages."""
    assert new_id("m_").startswith("m_")
    assert Message.user("a").id != Message.user("a").id


def test_the_makers_of_messages_build_the_parts_that_they_say() -> None:
    """Text first, an empty text left out, results with their call's id."""
    image = Image(url="u")
    assert Message.user("look", image).parts == (Text("look"), image)
    call = ToolCall("c", "f")
    assert Message.assistant("", call).parts == (call,)
    assert Message.assistant("", call).tool_calls == (call,)
    result = Message.tool("c", "no", is_error=True).parts[0]
    assert isinstance(result, ToolResult)
    assert (result.text, result.is_error) == ("no", True)
    assert Message("user", (Text("a"), image, Text("b"))).text == "ab"


def test_a_transcript_is_a_window_that_later_appends_do_not_move() -> None:
    """Indexing, slicing and iteration see what was there."""
    backing = [Message.user(str(number)) for number in range(6)]
    view = Transcript(backing, 1, 5)
    backing.append(Message.user("later"))
    assert [message.text for message in view] == ["1", "2", "3", "4"]
    assert (view[0].text, view[-1].text, len(view)) == ("1", "4", 4)
    inner = view[1:3]
    assert isinstance(inner, Transcript)
    assert (inner.backing is backing, inner.start, inner.stop) == (True, 2, 4)
    assert [message.text for message in view[::2]] == ["1", "3"]
    assert len(Transcript(backing)) == 7
    assert repr(view) == "Transcript(4 messages)"


@pytest.mark.parametrize("index", [4, -5])
def test_a_message_outside_of_a_transcript_is_an_index_error(index: int) -> None:
    """Though the list behind it has one there."""
    view = Transcript([Message.user(str(number)) for number in range(9)], 2, 6)
    with pytest.raises(IndexError, match="of a transcript of 4"):
        view[index]


def test_a_slice_that_ends_before_it_starts_is_empty() -> None:
    """As with any sequence."""
    assert len(Transcript([Message.user("a")] * 4)[3:1]) == 0


def test_usage_adds_field_by_field_and_keeps_the_unknown_unknown() -> None:
    """None is not 0: a provider that does not say has not said nothing was used."""
    total = Usage(1, 2, cached_tokens=3) + Usage(10, None, None, 4)
    assert total == Usage(11, 2, 3, 4, None, None)
    assert (total.total_tokens, Usage().total_tokens) == (13, 0)


def test_the_cache_hit_rate_is_known_only_where_the_provider_tells() -> None:
    """A cache that held nothing is not one that nobody has told of."""
    assert Usage(200, 5, cached_tokens=150).cache_hit_rate == 0.75
    assert Usage(200, 5, cached_tokens=0).cache_hit_rate == 0.0
    assert Usage(200, 5).cache_hit_rate is None
    assert Usage(None, 5, cached_tokens=3).cache_hit_rate is None
    assert Usage(0, 0, cached_tokens=0).cache_hit_rate is None


@pytest.mark.parametrize("reason", list(StopReason))
def test_an_answer_is_truncated_when_something_cut_it_off(reason: StopReason) -> None:
    """A03: its last tool call may be half a call."""
    cut = {StopReason.LENGTH, StopReason.CONTENT_FILTER}
    assert LLMResponse((), reason).truncated is (reason in cut)


def test_an_answer_gives_its_text_and_calls_and_can_be_copied_with_changes() -> None:
    """The parts stay in order; the views pick from them."""
    call = ToolCall("c", "f")
    response = LLMResponse((Text("a"), call, Text("b")), StopReason.TOOL_CALLS)
    assert (response.text, response.tool_calls) == ("ab", (call,))
    changed = response.replace(model="m")
    assert (changed.model, changed.parts, response.model) == ("m", response.parts, None)
