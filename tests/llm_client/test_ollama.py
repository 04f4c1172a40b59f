"""Ollama's own protocol: answers, requests, and what is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from llm_client.codecs.ollama import OllamaCodec
from llm_client.errors import (
    IncompleteStream,
    LLMError,
    LocalProtocolError,
    MalformedResponse,
    NotFound,
    ServerError,
    UnsupportedFeature,
)
from llm_client.ndjson import NDJSONParser
from llm_client.stream import StreamEvent
from llm_client.types import (
    Audio,
    CachePoint,
    File,
    Image,
    LLMRequest,
    LLMResponse,
    Message,
    Opaque,
    OutputSchema,
    Part,
    Seal,
    StopReason,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
)
from tests.decoding import accumulate
from tests.ollama_streams import built_streams, end, line, lines

TOOL = ToolSpec("look_up", "Looks.", {})


def read(body: bytes) -> LLMResponse:
    """The answer that a stream comes to."""
    decoder = OllamaCodec().decoder()
    events: list[StreamEvent] = [*decoder.feed(body), *decoder.close()]
    return accumulate(events)


def body(request: LLMRequest, *, stream: bool = False) -> dict[str, Any]:
    """The request's body."""
    encoded = OllamaCodec().encode(request, stream=stream)
    assert encoded.path == "/api/chat"
    return msgspec.json.decode(b"".join(encoded.body), type=dict[str, Any])


def wire(*messages: Message) -> list[dict[str, Any]]:
    """The messages in wire form."""
    found: list[dict[str, Any]] = body(LLMRequest(messages))["messages"]
    return found


def test_thinking_and_text_are_parts() -> None:
    """With the counts of the last line."""
    answer = read(built_streams()[0])
    assert answer.parts == (Thinking("Hm, so."), Text("Héllo 🌍"))
    assert (answer.stop_reason, answer.raw_finish) == (StopReason.END, "stop")
    assert answer.usage == Usage(17, 63)
    assert answer.model == "m-1"


def test_calls_come_whole_and_may_lack_an_id_s16() -> None:
    """Servers number each of them 0: two calls stay two (S16)."""
    answer = read(built_streams()[1])
    assert answer.tool_calls == (
        ToolCall("call_a", "look_up", '{"a":2}'),
        ToolCall("call_66ee466d_1", "look_up", "{}"),
    )
    assert answer.stop_reason is StopReason.TOOL_CALLS


def test_a_whole_answer_is_what_its_stream_is() -> None:
    """Only that it came at once."""
    whole = {**end("length"), "message": {"role": "assistant", "content": "ab", "thinking": None}}
    answer = OllamaCodec().decode(200, {}, msgspec.json.encode(whole))
    assert answer == read(lines(line("a"), line("b"), end("length")))
    assert answer.truncated


def test_older_servers_give_no_reason() -> None:
    """Then it is a plain end."""
    assert read(lines(line("a"), end(None))).stop_reason is StopReason.END


def test_an_error_in_the_stream_is_an_error_s04() -> None:
    """Whatever came before (S04)."""
    with pytest.raises(ServerError, match="the runner has stopped"):
        read(built_streams()[2])


def test_a_stream_without_its_last_line_is_incomplete() -> None:
    """Text alone is no answer (S09)."""
    with pytest.raises(IncompleteStream):
        read(built_streams()[3])


def test_a_last_line_without_its_newline_is_read() -> None:
    """The connection closed right behind it (S02)."""
    assert read(lines(line("a"), end()).removesuffix(b"\n")).text == "a"


@pytest.mark.parametrize(
    "stream",
    [b"not json\n", b"[1]\n", b'{"message":{"content":5}}\n', b'"x"\n', b"[" * 5000 + b"\n"],
)
def test_nonsense_is_a_typed_error(stream: bytes) -> None:
    """Never a crash."""
    with pytest.raises(LLMError):
        read(stream)


def test_refusals_have_their_type() -> None:
    """In the one table of all protocols."""
    with pytest.raises(NotFound, match="model 'x' not found"):
        OllamaCodec().decode(404, {}, b'{"error":"model \'x\' not found"}')
    with pytest.raises(MalformedResponse, match="no message"):
        OllamaCodec().decode(200, {}, b'{"models":[]}')
    with pytest.raises(MalformedResponse, match="neither a stream"):
        read(b"<html>Bad gateway</html>")


def test_a_line_without_an_end_is_given_up() -> None:
    """A server must not fill the memory."""
    parser = NDJSONParser(limit=100)
    assert parser.feed(b"x" * 60) == []
    with pytest.raises(MalformedResponse, match="larger than 100 bytes"):
        parser.feed(b"x" * 60)


def test_messages_have_their_wire_form() -> None:
    """Results are put into the order of their calls: older servers know them by nothing else."""
    first, second = ToolCall("a", "look_up", '{"n":1}'), ToolCall("b", "count", "broken")
    found = wire(
        Message("system", (Text("Be brief."),)),
        Message("user", (Text("What"), Text("is it?"), Image(b"\x01"), CachePoint())),
        Message("assistant", (Thinking("I look."), Text("Wait."), first, second)),
        Message.tool("b", "two"),
        Message("tool", (ToolResult("a", (Text("one"), Image(b"\x02"))),)),
        Message("assistant", (Thinking("Done."), Text("One and two."))),
    )
    assert found == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What\n\nis it?", "images": ["AQ=="]},
        {
            "role": "assistant",
            "content": "Wait.",
            "thinking": "I look.",
            "tool_calls": [
                {"id": "a", "function": {"name": "look_up", "arguments": {"n": 1}}},
                {"id": "b", "function": {"name": "count", "arguments": {}}},
            ],
        },
        {"role": "tool", "tool_name": "look_up", "tool_call_id": "a", "content": "one"},
        {"role": "tool", "tool_name": "count", "tool_call_id": "b", "content": "two"},
        {
            "role": "user",
            "content": "The images that the tools returned.",
            "images": ["Ag=="],
        },
        {"role": "assistant", "content": "One and two."},
    ]


def test_what_other_vendors_made_is_left_out() -> None:
    """And a message of nothing else with it (R03)."""
    foreign: tuple[Part, ...] = (Thinking("x", Seal("anthropic", "s")), Opaque("a", "b", "{}"))
    found = wire(
        Message.user("hi"),
        Message("assistant", foreign),
        Message("assistant", (*foreign, Text("y"), File(b"1"))),
        Message.user(""),
    )
    assert found[1:] == [{"role": "assistant", "content": "y[a file]"}]


def test_parameters_are_options_of_the_model() -> None:
    """With those in extra, such as the window's size."""
    request = LLMRequest(
        (Message.user("hi"),),
        "Be brief.",
        "llama3",
        tools=(TOOL,),
        max_output_tokens=9,
        temperature=0.0,
        top_p=0.5,
        seed=7,
        stop=("a",),
        reasoning_effort="low",
        output_schema=OutputSchema("x", {"type": "object"}),
        extra={"options": {"num_ctx": 8192}, "keep_alive": "5m"},
    )
    found = body(request, stream=True)
    assert [tool["function"]["name"] for tool in found.pop("tools")] == ["look_up"]
    assert [message["role"] for message in found.pop("messages")] == ["system", "user"]
    assert found == {
        "stream": True,
        "model": "llama3",
        "options": {
            "num_predict": 9,
            "temperature": 0.0,
            "top_p": 0.5,
            "seed": 7,
            "stop": ["a"],
            "num_ctx": 8192,
        },
        "think": "low",
        "format": {"type": "object"},
        "keep_alive": "5m",
    }


@pytest.mark.parametrize(
    ("effort", "think"), [("none", False), ("minimal", True), ("high", "high")]
)
def test_reasoning_is_switched_or_graded(effort: str, think: object) -> None:
    """As the models of this server know it."""
    assert body(LLMRequest((Message.user("x"),), reasoning_effort=effort))["think"] == think


def test_tools_are_left_out_when_none_may_be_called() -> None:
    """The protocol has no tool choice."""
    request = LLMRequest((Message.user("x"),), tools=(TOOL,), tool_choice="none")
    assert "tools" not in body(request)


@pytest.mark.parametrize(
    ("messages", "rule"),
    [
        ((), "C09"),
        ((Message.user("x"), Message.assistant("", ToolCall("a", "f"))), "C20"),
        ((Message.assistant("", ToolCall("a", "f")), Message.user("x")), "C10"),
        ((Message.user("x"), Message.tool("a", "x")), "C07"),
        (
            (
                Message.assistant("", ToolCall("a", "f")),
                Message("tool", (ToolResult("a", ()), ToolResult("a", ()))),
            ),
            "C08",
        ),
        ((Message("tool", ()),), "C06"),
        ((Message.assistant("", ToolCall("a", "f")), Message.tool("", "x")), "C06"),
        ((Message("user", (Thinking("x"),)),), "C05"),
        ((Message("assistant", (ToolResult("a", ()),)),), "C05"),
    ],
)
def test_illegal_transcripts_name_their_rule_o12(messages: tuple[Message, ...], rule: str) -> None:
    """Before anything is sent (O12)."""
    with pytest.raises(LocalProtocolError, match=rule):
        body(LLMRequest(messages))


@pytest.mark.parametrize(
    "request_",
    [
        LLMRequest((Message.user("x", Image(url="https://e.org/x.png")),)),
        LLMRequest((Message.user("x", Audio(b"1")),)),
        LLMRequest((Message.user("x"),), tools=(TOOL,), tool_choice="required"),
        LLMRequest((Message.user("x"),), thinking_tokens=5),
        LLMRequest((Message.user("x"),), tools=(TOOL,), parallel_tool_calls=False),
        LLMRequest((Message.user("x"),), server_tools=({},)),
    ],
)
def test_what_the_protocol_cannot_say_is_refused(request_: LLMRequest) -> None:
    """By name, before anything is sent."""
    with pytest.raises(UnsupportedFeature):
        body(request_)
