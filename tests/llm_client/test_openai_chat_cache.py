"""What the encoder keeps: a round costs the same early and late, and nothing kept is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_client.codecs.openai_chat import OpenAIChatCodec, chat_dialect
from llm_client.errors import LocalProtocolError
from llm_client.types import LLMRequest, Message, Text, Thinking, ToolCall, ToolSpec, Transcript


def encoded(codec: OpenAIChatCodec, messages: list[Message] | Transcript, key: str | None) -> bytes:
    """The body of a request of `messages`."""
    request = LLMRequest(messages, "Be brief.", cache_key=key)
    return b"".join(codec.encode(request, stream=False).body)


def fresh(messages: list[Message] | Transcript, provider: str = "compatible") -> bytes:
    """The same from a codec that has seen nothing."""
    return encoded(OpenAIChatCodec(chat_dialect(provider)), list(messages), None)


def rounds(number: int, size: int = 900) -> list[Message]:
    """A history of `number` rounds with one tool call each."""
    history = [Message.user("go")]
    for index in range(number):
        call = ToolCall(f"c{index}", "f", '{"a":1}')
        history += [
            Message("assistant", (Thinking("hm"), call)),
            Message.tool(call.id, "x" * size),
        ]
    return history


@pytest.mark.parametrize("provider", ["compatible", "deepseek", "mistral"])
def test_a_growing_transcript_is_encoded_as_if_it_were_new(provider: str) -> None:
    """Round by round over one list, through several sealed blocks."""
    codec = OpenAIChatCodec(chat_dialect(provider))
    history = rounds(200)
    backing: list[Message] = []
    for index, message in enumerate(history):
        backing.append(message)
        if message.role != "assistant":
            found = encoded(codec, Transcript(backing), "k")
            if index % 40 == 0 or index > 390:
                assert found == fresh(backing, provider)


def test_a_late_round_encodes_only_what_is_new() -> None:
    """The sealed blocks of the round before are handed out again, not built again."""
    codec = OpenAIChatCodec()
    backing = rounds(1000)
    first = codec.encode(LLMRequest(Transcript(backing), cache_key="k"), stream=False).body
    backing += rounds(1)[1:]
    second = codec.encode(LLMRequest(Transcript(backing), cache_key="k"), stream=False).body
    sealed = len(first) - 3
    assert sealed > 10
    assert all(a is b for a, b in zip(first[1 : 1 + sealed], second[1 : 1 + sealed], strict=True))
    assert len(b"".join(second[1 + sealed :])) < 2 * 64 * 1024


@given(st.data())
def test_any_change_of_the_view_is_noticed(data: st.DataObject) -> None:
    """Cut at the front, rewritten in the middle, shortened, or another list: identity decides."""
    codec = OpenAIChatCodec()
    history = rounds(12, size=9000)
    encoded(codec, Transcript(history), "k")
    for _ in range(data.draw(st.integers(1, 4))):
        # Each start is before a call, each stop after a result.
        start = data.draw(st.sampled_from([0, 1, 3, 9]))
        stop = data.draw(st.sampled_from([len(history), 11, 15]))
        view = history[start:stop]
        if data.draw(st.booleans()):
            view[data.draw(st.sampled_from([0, len(view)])) :] = [Message.user("note")]
        if data.draw(st.booleans()):
            view = [Message.user("summary"), *view]
        messages = Transcript(view) if data.draw(st.booleans()) else view
        assert encoded(codec, messages, "k") == fresh(view)


def test_equal_messages_that_are_not_the_same_object_are_encoded_each() -> None:
    """Identity, never an id or equality: two messages may carry one id by mistake."""
    codec = OpenAIChatCodec()
    for key in ("k", None):
        assert b"first" in encoded(codec, [Message("user", (Text("first"),), id="m1")], key)
        assert b"second" in encoded(codec, [Message("user", (Text("second"),), id="m1")], key)


def test_the_memory_of_a_message_is_not_taken_for_another_at_the_same_address() -> None:
    """The cache holds the message, so that its address cannot pass to a new one."""
    codec = OpenAIChatCodec()
    for number in range(6000):
        assert f'"{number}"'.encode() in encoded(codec, [Message.user(str(number))], None)


def test_a_list_that_the_caller_changes_in_place_is_read_again() -> None:
    """Only a Transcript promises not to change."""
    codec = OpenAIChatCodec()
    history = [Message.user("old")]
    encoded(codec, history, "k")
    history[0] = Message.user("new")
    assert encoded(codec, history, "k") == fresh(history)


def test_an_illegal_message_does_not_spoil_the_conversation() -> None:
    """The next legal request is encoded as if nothing had happened."""
    codec = OpenAIChatCodec()
    history = rounds(3)
    encoded(codec, Transcript(history), "k")
    with pytest.raises(LocalProtocolError, match="C07"):
        encoded(codec, [*history, Message.tool("nobody", "")], "k")
    with pytest.raises(LocalProtocolError, match="C20"):
        encoded(codec, [*history, Message.assistant("", ToolCall("c9", "f"))], "k")
    assert encoded(codec, Transcript(history), "k") == fresh(history)


def test_the_rules_hold_across_what_was_checked_before() -> None:
    """A call in the sealed part, its missing result in the new part."""
    codec = OpenAIChatCodec()
    history = rounds(100)
    backing = [*history, Message.assistant("", ToolCall("a", "f"), ToolCall("b", "f"))]
    backing.append(Message.tool("a", "x" * 100_000))
    for _ in range(2):
        with pytest.raises(LocalProtocolError, match="C20"):
            encoded(codec, Transcript(backing), "k")
    backing.append(Message.tool("b", ""))
    assert encoded(codec, Transcript(backing), "k") == fresh(backing)


def test_conversations_do_not_mix_and_the_least_used_are_forgotten() -> None:
    """Bounded by number and by bytes; what was forgotten is simply encoded again."""
    codec = OpenAIChatCodec(conversations=4, cache_bytes=100_000)
    for _ in range(3):
        for number in range(10):
            history = [Message.user(f"session {number}"), *rounds(20)[1:]]
            assert encoded(codec, Transcript(history), f"k{number}") == fresh(history)
    assert 1 <= codec.kept_conversations <= 4


def test_tools_are_encoded_once_per_tuple() -> None:
    """And another tuple is another set of tools."""
    codec = OpenAIChatCodec()
    for number in range(200):
        tools = (ToolSpec(f"tool_{number}", "", {}),)
        for _ in range(2):
            request = LLMRequest((Message.user("a"),), tools=tools)
            assert f"tool_{number}".encode() in codec.encode(request, stream=False).body[0]
