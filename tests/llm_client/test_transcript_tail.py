"""What follows a transcript for one request only: it is sent as if it were part of it, nothing of
it is kept, and a prompt cache is asked for what stands before it."""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from llm_client.codec import Codec
from llm_client.codecs.anthropic import AnthropicCodec
from llm_client.codecs.cohere import CohereCodec
from llm_client.codecs.gemini import GeminiCodec
from llm_client.codecs.ollama import OllamaCodec
from llm_client.codecs.openai_chat import OpenAIChatCodec, chat_dialect
from llm_client.codecs.openai_responses import OpenAIResponsesCodec
from llm_client.errors import LLMError, LocalProtocolError
from llm_client.tokens import ModelTokens
from llm_client.types import (
    CachePoint,
    LLMRequest,
    Message,
    Opaque,
    Seal,
    Text,
    Thinking,
    ToolCall,
    Transcript,
)
from tests.anthropic_bodies import NEW, OLD

MARK = re.compile(rb',"cache_control":\{"type":"ephemeral","ttl":"(5m|1h)"\}')


class Spoken(Struct, frozen=True):
    """A codec, and a model that it is asked for."""

    codec: Codec
    model: str

    def body(self, messages: Any, key: str | None, **fields: Any) -> bytes:
        """The body of a request of `messages`, or what it is refused with."""
        request = LLMRequest(messages, "Be brief.", model=self.model, cache_key=key, **fields)
        try:
            return b"".join(self.codec.encode(request, stream=False).body)
        except LLMError as error:
            return str(error).encode()


def protocols() -> dict[str, Spoken]:
    """All protocols, each from a codec that has seen nothing; some twice, where models differ."""
    return {
        "chat": Spoken(OpenAIChatCodec(), "m"),
        "chat with a bridge": Spoken(OpenAIChatCodec(chat_dialect("mistral")), "m"),
        "responses": Spoken(OpenAIResponsesCodec(), "m"),
        "messages": Spoken(AnthropicCodec(), NEW),
        "messages without system turns": Spoken(AnthropicCodec(), OLD),
        "gemini": Spoken(GeminiCodec(), "gemini-3-pro"),
        "gemini before 3": Spoken(GeminiCodec(), "gemini-2.5-pro"),
        "cohere": Spoken(CohereCodec(), "m"),
        "ollama": Spoken(OllamaCodec(), "m"),
    }


NAMES = list(protocols())

TEXT = st.sampled_from(["", " ", "a", "b\n", "long " * 8000])
PART = st.one_of(
    st.builds(Text, TEXT),
    st.just(Thinking("hm", Seal("anthropic", "s"))),
    st.just(CachePoint()),
    st.just(Opaque("anthropic", "odd", '{"type":"odd"}')),
)
CALL = st.builds(ToolCall, st.sampled_from(["x", "y"]), st.just("f"))
MESSAGE = st.one_of(
    st.builds(Message.user, TEXT),
    st.builds(Message, st.just("user"), st.tuples(st.builds(Text, TEXT), st.just(CachePoint()))),
    st.builds(Message, st.just("system"), st.tuples(st.builds(Text, TEXT))),
    st.builds(Message, st.just("assistant"), st.lists(PART | CALL, max_size=3).map(tuple)),
    st.builds(Message.tool, st.sampled_from(["x", "y"]), TEXT),
)


def called(number: int) -> list[Message]:
    """A round that makes two calls, whose results come in the other order."""
    first, second = ToolCall(f"a{number}", "f", '{"n":1}'), ToolCall(f"b{number}", "f")
    return [
        Message("assistant", (Text("so"), first, second)),
        Message.tool(second.id, "2" * 900),
        Message.tool(first.id, "1"),
    ]


@st.composite
def histories(draw: st.DrawFn) -> list[Message]:
    """Messages in any order, legal or not; most of them legal for a while."""
    found = [Message.user("go")]
    for number in range(draw(st.integers(0, 4))):
        found += called(number) if draw(st.booleans()) else draw(st.lists(MESSAGE, max_size=3))
    return found


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(max_examples=120, deadline=None)
def test_a_tail_is_encoded_as_if_it_were_part_of_the_history(
    name: str, data: st.DataObject
) -> None:
    """Wherever the history is cut, however it grows meanwhile, and refused for the same reasons."""
    history = data.draw(histories())
    keeping = protocols()[name]
    for _ in range(3):
        stop = data.draw(st.integers(0, len(history)))
        length = data.draw(st.integers(0, 3))
        tail = tuple(history[stop : stop + length])
        plain = (*history[:stop], *tail)
        transcript = Transcript(history, 0, stop, tail)
        key = data.draw(st.sampled_from(["k", None]))
        wanted = MARK.sub(b"", protocols()[name].body(plain, None))
        assert MARK.sub(b"", keeping.body(transcript, key)) == wanted
        if name.startswith("messages"):
            asked = keeping.body(transcript, key, cache="5m")
            assert MARK.sub(b"", asked) == wanted


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_the_prefix_stays_the_same_while_tails_come_and_go(name: str, data: st.DataObject) -> None:
    """Byte for byte up to the end of the history; the provider's cache compares bytes."""
    spoken = protocols()[name]
    backing: list[Message] = []
    before = b""
    for number in range(data.draw(st.integers(2, 12))):
        asked = [Message.user(f"question {number}")]
        backing += called(number) if number and data.draw(st.booleans()) else asked
        tail = data.draw(st.sampled_from([(), (Message.user("note"),), (Message.user("x"),) * 2]))
        now = spoken.body(Transcript(backing, tail=tail), "k")
        assert now.startswith(before)
        before = spoken.body(Transcript(backing), "k").removesuffix(b"]}")


@pytest.mark.parametrize("name", NAMES)
def test_a_late_round_with_a_tail_encodes_only_what_is_new(name: str) -> None:
    """The sealed blocks of the round before are handed out again, not built again."""
    spoken = protocols()[name]
    backing = [Message.user("go")]
    for number in range(600):
        backing += called(number)

    def pieces() -> list[bytes]:
        tail = (Message.user("remember"), Message.user("this"))
        transcript = Transcript(backing, tail=tail)
        request = LLMRequest(transcript, model=spoken.model, cache_key="k")
        return list(spoken.codec.encode(request, stream=False).body)

    first = pieces()
    backing += called(600)
    second = pieces()
    sealed = len(first) - 4
    assert sealed > 5
    assert all(a is b for a, b in zip(first[1 : 1 + sealed], second[1 : 1 + sealed], strict=True))
    assert b"remember" in second[-2]
    assert b"remember" not in b"".join(second[:-2])


def test_an_illegal_tail_does_not_cost_what_is_kept_of_the_history() -> None:
    """It is refused by its position, and the history is as good as before."""
    codec = OpenAIChatCodec()
    backing = [Message.user("x" * 100_000), Message.assistant("ok")]
    kept = codec.encode(LLMRequest(Transcript(backing), cache_key="k"), stream=False).body
    wrong = Transcript(backing, tail=(Message.tool("nobody", ""),))
    with pytest.raises(LocalProtocolError, match=r"messages\[2\] answers the call 'nobody'"):
        codec.encode(LLMRequest(wrong, cache_key="k"), stream=False)
    again = codec.encode(LLMRequest(Transcript(backing), cache_key="k"), stream=False).body
    assert again[1] is kept[1]


# ── the provider's cache ──────────────────────────────────────────────────────────────────────────


def marked(
    transcript: Transcript, model: str = NEW, cache: Literal["5m"] | None = "5m"
) -> list[str]:
    """The texts of all blocks that are breakpoints."""
    request = LLMRequest(transcript, model=model, cache_key="k", cache=cache)
    body = msgspec.json.decode(b"".join(AnthropicCodec().encode(request, stream=False).body))
    blocks = [block for message in body["messages"] for block in message["content"]]
    return [block.get("text", block["type"]) for block in blocks if "cache_control" in block]


def test_the_last_breakpoint_stands_before_the_tail() -> None:
    """What is kept up to a tail that is gone in the next round is never read."""
    history = [Message.user("go")]
    tail = (Message.user("memory"),)
    assert marked(Transcript(history, tail=tail)) == ["go"]
    assert marked(Transcript(history)) == ["go"]
    assert marked(Transcript([*history, *called(0)], tail=tail)) == ["tool_result"]
    assert marked(Transcript([], tail=tail)) == []


@pytest.mark.parametrize(("model", "alone"), [(NEW, "note"), (OLD, "<system>\nnote\n</system>")])
def test_a_note_that_waits_for_the_tail_stands_behind_the_breakpoint(
    model: str, alone: str
) -> None:
    """How it is said hangs on what follows, so that it may be said otherwise in the next round."""
    history = [Message.user("go"), Message("system", (Text("note"),))]
    assert marked(Transcript(history, tail=(Message.user("memory"),)), model) == ["go"]
    assert marked(Transcript(history), model) == [alone]


def test_a_tail_that_says_nothing_moves_no_breakpoint() -> None:
    """As if it were not there."""
    history = [Message.user("go"), Message("system", (Text("note"),))]
    assert marked(Transcript(history, tail=(Message.user(" "),))) == ["note"]


def test_cache_points_in_a_tail_are_left_out() -> None:
    """There are only four, and what these keep would never be read."""
    point = Message("user", (Text("memory"), CachePoint("1h")))
    history = [Message("user", (Text(str(number)), CachePoint())) for number in range(6)]
    for number in range(5, 0, -1):
        history.insert(number, Message.assistant("ok"))
    assert marked(Transcript(history, tail=(point,)), cache=None) == ["2", "3", "4", "5"]
    assert marked(Transcript(history, tail=(point,))) == ["4", "5"]
    assert marked(Transcript([Message.user("go")], tail=(point,))) == ["go"]


# ── the sequence, and its tokens ──────────────────────────────────────────────────────────────────


@given(st.data())
def test_a_transcript_with_a_tail_is_the_sequence_of_both(data: st.DataObject) -> None:
    """Its length, its members and all its slices; a slice shares the list and keeps the border."""
    backing = [Message.user(str(number)) for number in range(data.draw(st.integers(0, 5)))]
    tail = tuple(Message.user(f"t{n}") for n in range(data.draw(st.integers(0, 3))))
    start = data.draw(st.integers(0, len(backing)))
    stop = data.draw(st.integers(start, len(backing)))
    found, same = Transcript(backing, start, stop, tail), [*backing[start:stop], *tail]
    assert (len(found), list(found)) == (len(same), same)
    assert [found[at] for at in range(-len(same), len(same))] == same * 2
    border = st.integers(-9, 9) | st.none()
    part = data.draw(st.builds(slice, border, border, st.sampled_from([None, 1, 2, -1])))
    sliced = found[part]
    assert list(sliced) == same[part]
    if isinstance(sliced, Transcript):
        assert sliced.backing is backing
        assert set(map(id, sliced.tail)) <= set(map(id, tail))
        assert list(sliced.stable) == list(sliced)[: len(sliced) - len(sliced.tail)]


@given(histories(), st.data())
@settings(max_examples=60, deadline=None)
def test_a_tail_is_counted_as_if_it_were_part_of_the_history(
    history: list[Message], data: st.DataObject
) -> None:
    """And the count of the history does not remember it."""
    counter = ModelTokens("gpt-4o")
    for _ in range(3):
        stop = data.draw(st.integers(0, len(history)))
        tail = tuple(history[stop : stop + 2])
        found = counter.count_request(LLMRequest(Transcript(history, 0, stop, tail)))
        plain = LLMRequest((*history[:stop], *tail))
        assert found == ModelTokens("gpt-4o").count_request(plain)
