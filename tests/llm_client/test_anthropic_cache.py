"""What the encoder of the Messages protocol keeps, and what it tells the provider to keep."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_client.codecs._json import is_array, is_object
from llm_client.codecs.anthropic import AnthropicCodec, anthropic_dialect
from llm_client.errors import LocalProtocolError
from llm_client.types import (
    CachePoint,
    Image,
    LLMRequest,
    Message,
    Opaque,
    Part,
    Seal,
    Text,
    Thinking,
    ToolCall,
    ToolSpec,
    Transcript,
)
from tests.anthropic_bodies import NEW, OLD, TOOL, ask, body, params

MARK = {"type": "ephemeral", "ttl": "5m"}


def encoded(
    codec: AnthropicCodec,
    messages: list[Message] | Transcript,
    key: str | None,
    model: str = NEW,
    **fields: Any,
) -> bytes:
    """The body of a request of `messages`."""
    request = LLMRequest(messages, "Be brief.", model=model, cache_key=key, **fields)
    return b"".join(codec.encode(request, stream=False).body)


def fresh(messages: list[Message] | Transcript, model: str = NEW) -> bytes:
    """The same from a codec that has seen nothing."""
    return encoded(AnthropicCodec(), list(messages), None, model)


def rounds(number: int, size: int = 900) -> list[Message]:
    """A history of `number` rounds with two tool calls each, some with a system message."""
    history = [Message.user("go")]
    for index in range(number):
        first, second = ToolCall(f"a{index}", "f", '{"a":1}'), ToolCall(f"b{index}", "f")
        history += [
            Message("assistant", (Thinking("hm", Seal("anthropic", "s")), first, second)),
            Message.tool(second.id, "x" * size),
            Message.tool(first.id, "y"),
        ]
        if index % 3 == 2:
            history.append(Message("system", (Text(f"note {index}"),)))
    return history


@pytest.mark.parametrize("model", [OLD, NEW])
def test_a_growing_transcript_is_encoded_as_if_it_were_new(model: str) -> None:
    """Round by round over one list, through several sealed blocks, with notes that wait."""
    codec = AnthropicCodec()
    history = rounds(100)
    backing: list[Message] = []
    for index, message in enumerate(history):
        backing.append(message)
        if index and "assistant" not in {message.role, history[index - 1].role}:
            found = encoded(codec, Transcript(backing), "k", model)
            if index % 20 == 0 or index > 310:
                assert found == fresh(backing, model)


def test_a_late_round_encodes_only_what_is_new() -> None:
    """The sealed blocks of the round before are handed out again, not built again."""
    codec = AnthropicCodec()
    backing = rounds(601)

    def pieces() -> list[bytes]:
        request = LLMRequest(Transcript(backing), model=NEW, cache_key="k", cache="5m")
        return list(codec.encode(request, stream=False).body)

    first = pieces()
    backing += [Message.assistant("done"), Message.user("more")]
    second = pieces()
    sealed = len(first) - 3
    assert sealed > 5
    assert all(a is b for a, b in zip(first[1 : 1 + sealed], second[1 : 1 + sealed], strict=True))


def test_the_prefix_of_a_request_is_that_of_the_one_before() -> None:
    """Byte for byte up to the end of what was there; the provider's cache compares bytes."""
    codec = AnthropicCodec()
    backing: list[Message] = []
    before = b""
    for message in rounds(12):
        backing.append(message)
        if message.role == "tool" and backing[-2].role == "tool":
            now = encoded(codec, Transcript(backing), "k")
            assert now.startswith(before.removesuffix(b"]}"))
            before = now


@given(st.data())
def test_any_change_of_the_view_is_noticed(data: st.DataObject) -> None:
    """Cut at the front, shortened, noted upon, or another list: identity decides."""
    codec = AnthropicCodec()
    history = rounds(12, size=9000)
    encoded(codec, Transcript(history), "k")
    starts = [place for place, message in enumerate(history) if message.role == "assistant"]
    for _ in range(data.draw(st.integers(1, 4))):
        start, stop = (
            data.draw(st.sampled_from([0, *starts[:4]])),
            data.draw(st.sampled_from([*starts[5:], len(history)])),
        )
        view = history[start:stop]
        if data.draw(st.booleans()):
            view.append(Message("system", (Text("note"),)))
        if data.draw(st.booleans()):
            view = [Message.user("summary"), *view]
        model = data.draw(st.sampled_from([OLD, NEW]))
        messages = Transcript(view) if data.draw(st.booleans()) else view
        assert encoded(codec, messages, "k", model) == fresh(view, model)


def test_an_illegal_message_does_not_spoil_the_conversation() -> None:
    """The next legal request is encoded as if nothing had happened."""
    codec = AnthropicCodec()
    history = rounds(3)
    encoded(codec, Transcript(history), "k")
    with pytest.raises(LocalProtocolError, match="A21"):
        encoded(codec, [*history, Message.tool("nobody", "")], "k")
    with pytest.raises(LocalProtocolError, match="A19"):
        encoded(codec, [*history, Message.assistant("", ToolCall("c9", "f"))], "k")
    assert encoded(codec, Transcript(history), "k") == fresh(history)


def test_conversations_and_tools_do_not_mix() -> None:
    """Bounded by number; what was forgotten is simply encoded again."""
    codec = AnthropicCodec(conversations=4)
    for number in range(20):
        tools = (ToolSpec(f"tool_{number % 10}", "", {}),)
        history = [Message.user(f"session {number % 10}"), *rounds(3)[1:]]
        for model in (OLD, NEW):
            found = encoded(codec, Transcript(history), f"k{number % 10}", model, tools=tools)
            alone = encoded(AnthropicCodec(), history, None, model, tools=tools)
            assert found == alone
    assert codec.kept_conversations <= 8


# ── the provider's cache ──────────────────────────────────────────────────────────────────────────


def marked(found: object) -> list[str]:
    """The texts, names or ids of all blocks that are breakpoints, in order."""
    if is_array(found):
        return [name for item in found for name in marked(item)]
    if not is_object(found):
        return []
    names = [
        name
        for place in ("tools", "system", "messages", "content")
        for name in marked(found.get(place))
    ]
    if "cache_control" in found:
        words = (found.get(word) for word in ("text", "name", "tool_use_id", "type"))
        names.append(next(word for word in words if word))
    return names


def test_a_cache_point_marks_the_block_before_it() -> None:
    """Or the nearest before that can carry it; without any, it says nothing."""
    seal = Seal("anthropic", "s")
    odd = Opaque("anthropic", "odd", '{"type":"odd"}')
    messages = (
        Message("user", (CachePoint(), Text("a"), CachePoint("1h"), Text("b"))),
        Message("assistant", (Text("c"), Thinking("t", seal), odd, CachePoint())),
        Message("user", (Image(url="u"), CachePoint(), CachePoint())),
    )
    found = body(LLMRequest(messages, model=OLD))["messages"]
    assert marked(found) == ["a", "c", "image"]
    assert found[0]["content"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}


def test_cache_points_stand_in_system_prompts_and_results_too() -> None:
    """Each on its block, wherever that goes."""
    messages = (
        Message("system", (Text("s"), CachePoint())),
        Message.user("u"),
        Message.assistant("", ToolCall("a", "f"), ToolCall("b", "f")),
        Message("tool", (*Message.tool("b", "2").parts, CachePoint())),
        Message.tool("a", "1"),
    )
    found = body(LLMRequest(messages, "first", model=OLD))
    assert marked(found["system"]) == ["s"]
    assert marked(found["messages"]) == ["b"]


def test_of_too_many_cache_points_the_last_ones_win() -> None:
    """The provider takes four, its own included."""
    history: list[Message] = []
    for number in range(9):
        parts: tuple[Part, ...] = (Text(str(number)), CachePoint())
        history += [Message("user", parts), Message.assistant("ok")]
    history[-1] = Message.user("end")
    plain = body(LLMRequest(history, "s", model=OLD, cache_key="k"))
    assert marked(plain) == ["5", "6", "7", "8"]
    cached = body(LLMRequest(history, "s", model=OLD, cache_key="k", cache="5m"))
    assert marked(cached) == ["s", "7", "8", "end"]


def test_a_request_for_caching_marks_the_prompt_and_the_end() -> None:
    """Behind the system prompt, which the tools come before, or behind the tools; and at the end,
    so that the next round finds all of this one."""
    found = body(ask(system="s", tools=(TOOL,), cache="1h"))
    assert marked(found) == ["s", "hi"]
    assert found["system"][0]["cache_control"]["ttl"] == "1h"
    server = ({"type": "web_search_20250305", "name": "search"},)
    assert marked(body(ask(tools=(TOOL,), cache="5m"))) == ["look_up", "hi"]
    assert marked(body(ask(tools=(TOOL,), server_tools=server, cache="5m"))) == ["search", "hi"]
    assert marked(body(ask(cache="5m"))) == ["hi"]
    note = Message("system", (Text("note"),))
    waiting = LLMRequest((Message.user("a"), note), model=NEW, cache="5m")
    assert marked(body(waiting)) == ["note"]


def lifetimes(request: LLMRequest) -> list[str]:
    """How long each breakpoint keeps what stands before it, in the order of the prompt."""
    found = body(request)
    blocks = [*found.get("tools", []), *found.get("system", [])]
    blocks += [block for message in found["messages"] for block in message["content"]]
    return [block["cache_control"]["ttl"] for block in blocks if "cache_control" in block]


@given(st.data())
def test_nothing_is_kept_longer_than_what_stands_before_it(data: st.DataObject) -> None:
    """ "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block"."""

    ttls: st.SearchStrategy[Literal["5m", "1h"] | None] = st.sampled_from(["5m", "1h", None])

    def some(*parts: Part) -> tuple[Part, ...]:
        ttl = data.draw(ttls)
        return parts if ttl is None else (*parts, CachePoint(ttl))

    messages = [
        Message("system", some(*some(Text("s")), Text("t"))),
        Message("user", some(*some(Text("a")), Text("b"))),
        Message("assistant", some(*some(ToolCall("x", "f")), ToolCall("y", "f"))),
        Message("tool", some(*Message.tool("y", "").parts)),
        Message("tool", some(*Message.tool("x", "").parts)),
    ]
    cache = data.draw(ttls)
    found = lifetimes(LLMRequest(messages, model=OLD, tools=(TOOL,), cache=cache))
    assert found == sorted(found)
    assert len(found) <= 4
    if cache is not None:
        assert found


def test_the_end_is_left_alone_where_it_cannot_be_marked() -> None:
    """A paused turn may end in a block that takes no mark, and a mark is set once."""
    odd = Opaque("anthropic", "odd", '{"type":"odd"}')
    paused = (Message.user("a"), Message.assistant("b", odd))
    assert marked(body(LLMRequest(paused, model=OLD, cache="5m"))) == []
    once = (Message("user", (Text("a"), CachePoint("1h"))),)
    found = body(LLMRequest(once, model=OLD, cache="5m"))["messages"][0]["content"]
    assert found == [
        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    ]


def test_arguments_that_look_like_a_mark_are_none() -> None:
    """What a model wrote is not taken for ours."""
    arguments = msgspec.json.encode({"x": 1, "cache_control": MARK}).decode()
    messages = (
        Message.user("u"),
        Message("assistant", (ToolCall("a", "f", arguments), CachePoint())),
        Message.tool("a", ""),
    )
    (call,) = body(LLMRequest(messages, model=OLD))["messages"][1]["content"]
    assert call["input"] == {"x": 1, "cache_control": MARK}
    assert call["cache_control"] == MARK


def test_where_there_is_no_such_cache_nothing_is_said_of_it() -> None:
    """The local server keeps its prompts by itself."""
    messages = (Message("user", (Text("a"), CachePoint())),)
    request = LLMRequest(messages, "s", model="m", tools=(TOOL,), cache="5m")
    encoded_body = AnthropicCodec(anthropic_dialect("llama.cpp")).encode(request, stream=False).body
    assert b"cache_control" not in b"".join(encoded_body)
    assert "cache_control" not in str(params(request, "llama.cpp"))
