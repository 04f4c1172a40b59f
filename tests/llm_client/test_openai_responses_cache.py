"""What the encoder of Responses keeps: late rounds cost what early ones do, and nothing kept is
wrong."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_client.codecs.openai_responses import OpenAIResponsesCodec, responses_dialect
from llm_client.errors import LocalProtocolError
from llm_client.types import LLMRequest, Message, Part, Text, Thinking, ToolCall, Transcript
from tests.responses_bodies import opaque, sealed

OPENAI = responses_dialect("openai")


def encoded(codec: OpenAIResponsesCodec, messages: list[Message] | Transcript, key: str) -> bytes:
    """The body of a request of `messages`."""
    request = LLMRequest(messages, "Be brief.", cache_key=key)
    return b"".join(codec.encode(request, stream=False).body)


def fresh(messages: list[Message] | Transcript) -> bytes:
    """The same from a codec that has seen nothing."""
    return encoded(OpenAIResponsesCodec(OPENAI), list(messages), "k")


def rounds(number: int, size: int = 900) -> list[Message]:
    """A history of `number` rounds with reasoning and one tool call each."""
    history = [Message.user("go")]
    for index in range(number):
        call = ToolCall(f"c{index}", "f", '{"a":1}', sealed(f"fc_{index}"))
        history += [
            Message("assistant", (Thinking("hm", sealed(f"rs_{index}", "x")), call)),
            Message.tool(call.id, "x" * size),
        ]
    return history


def test_a_growing_transcript_is_encoded_as_if_it_were_new() -> None:
    """Round by round over one list, and its beginning stays the same to the byte."""
    codec = OpenAIResponsesCodec(OPENAI)
    backing: list[Message] = []
    before = b""
    for index, message in enumerate(rounds(200)):
        backing.append(message)
        if message.role != "assistant":
            found = encoded(codec, Transcript(backing), "k")
            assert found.startswith(before.removesuffix(b"]}"))
            before = found
            if index % 40 == 0 or index > 390:
                assert found == fresh(backing)


def test_a_late_round_encodes_only_what_is_new() -> None:
    """The sealed blocks of the round before are handed out again, not built again."""
    codec = OpenAIResponsesCodec(OPENAI)
    backing = rounds(1000)
    first = codec.encode(LLMRequest(Transcript(backing), cache_key="k"), stream=False).body
    backing += rounds(1)[1:]
    second = codec.encode(LLMRequest(Transcript(backing), cache_key="k"), stream=False).body
    kept = len(first) - 3
    assert kept > 10
    assert all(a is b for a, b in zip(first[1 : 1 + kept], second[1 : 1 + kept], strict=True))


PARTS: st.SearchStrategy[Part] = st.sampled_from(
    [
        Text("a"),
        Text("b", seal=sealed("msg_1")),
        Text(""),
        Thinking("x", sealed("rs_1", "s")),
        Thinking("x", sealed("rs_2")),
        Thinking("x"),
        opaque("web_search_call", id="ws_1"),
        opaque("mcp_call", origin="xai.responses"),
        ToolCall("c1", "f", "{}", sealed("fc_1")),
    ]
)


@given(st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.lists(PARTS, max_size=4))))
def test_any_history_is_written_the_same_at_once_and_in_steps(
    turns: list[tuple[str, list[Part]]],
) -> None:
    """R08: and no reasoning ends up before a user's item, before a result or at the end."""
    codec = OpenAIResponsesCodec(OPENAI)
    backing = [Message.user("go")]
    for role, parts in turns:
        if role == "user":
            backing.append(Message.user("on"))
            continue
        calls = [part for part in parts if isinstance(part, ToolCall)]
        others = [part for part in parts if not isinstance(part, ToolCall)]
        backing.append(Message("assistant", (*others, *calls[:1])))
        backing += [Message.tool(call.id, "done") for call in calls[:1]]
        found = encoded(codec, Transcript(backing), "k")
        assert found == fresh(backing)
        items = msgspec.json.decode(found)["input"]
        kinds = [item.get("type") or item["role"] for item in items]
        for kind, follower in zip(kinds, [*kinds[1:], "the end"], strict=True):
            if kind == "reasoning":
                assert follower not in ("function_call_output", "user", "the end")


def test_an_illegal_message_does_not_spoil_the_conversation() -> None:
    """The next legal request is encoded as if nothing had happened."""
    codec = OpenAIResponsesCodec(OPENAI)
    history = rounds(3)
    encoded(codec, Transcript(history), "k")
    with pytest.raises(LocalProtocolError, match="R06"):
        encoded(codec, [*history, Message.tool("nobody", "")], "k")
    with pytest.raises(LocalProtocolError, match="R12"):
        encoded(codec, [*history, Message.assistant("", ToolCall("c9", "f"))], "k")
    assert encoded(codec, Transcript(history), "k") == fresh(history)


def test_the_same_history_may_go_on_in_two_ways() -> None:
    """With and without what the provider holds: what is legal for one is not for the other."""
    codec = OpenAIResponsesCodec(OPENAI)
    backing = [Message.tool("c1", "done")]
    extra = {"previous_response_id": "resp_1"}
    held = LLMRequest(Transcript(backing), cache_key="k", extra=extra)
    codec.encode(held, stream=False)
    with pytest.raises(LocalProtocolError, match="R06"):
        encoded(codec, Transcript(backing), "k")
    codec.encode(held, stream=False)
    assert codec.kept_conversations == 1
