"""Cohere's chat protocol: answers, requests, and what is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from llm_client.codecs.cohere import CohereCodec
from llm_client.errors import (
    IncompleteStream,
    LocalProtocolError,
    MalformedResponse,
    NotFound,
    ServerError,
    UnsupportedFeature,
)
from llm_client.stream import StreamEvent
from llm_client.types import (
    CachePoint,
    Citation,
    File,
    Image,
    LLMRequest,
    LLMResponse,
    Message,
    NamedTool,
    Opaque,
    OutputSchema,
    Seal,
    StopReason,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
)
from tests.cohere_streams import built_streams, call_start, content, end, frames, more_arguments
from tests.decoding import accumulate

TOOL = ToolSpec("look_up", "Looks.", {"type": "object", "properties": {"city": {}}})
PLAN = Seal("cohere", kind="tool_plan")


def read(body: bytes) -> LLMResponse:
    """The answer that a stream comes to."""
    decoder = CohereCodec().decoder()
    events: list[StreamEvent] = [*decoder.feed(body), *decoder.close()]
    return accumulate(events)


def decode(body: Any) -> LLMResponse:
    """A whole answer, decoded."""
    return CohereCodec().decode(200, {}, msgspec.json.encode(body))


def body(request: LLMRequest, *, stream: bool = False) -> dict[str, Any]:
    """The request's body."""
    encoded = CohereCodec().encode(request, stream=stream)
    assert encoded.path == "/v2/chat"
    return msgspec.json.decode(b"".join(encoded.body), type=dict[str, Any])


def wire(*messages: Message) -> list[dict[str, Any]]:
    """The messages in wire form."""
    found: list[dict[str, Any]] = body(LLMRequest(messages))["messages"]
    return found


def test_thinking_text_and_sources_are_parts() -> None:
    """Sources belong to the text; reasoning is sealed as Cohere's own."""
    answer = read(built_streams()[0])
    thinking, text = answer.parts
    assert thinking == Thinking("Let me see.", Seal("cohere"))
    assert isinstance(text, Text)
    assert text.text == "Héllo wörld \u2028🌍"
    (cited,) = text.citations
    assert (cited.quote, cited.title, cited.url) == ("Héllo", "facts", "https://e.org")
    assert msgspec.json.decode(cited.json)["end"] == 5
    assert (answer.stop_reason, answer.raw_finish) == (StopReason.END, "COMPLETE")
    assert answer.usage == Usage(65, 28, 16)
    assert answer.response_id == "c-1"


def test_a_plan_and_parallel_calls_are_parts() -> None:
    """A call without arguments has an empty object."""
    answer = read(built_streams()[1])
    assert answer.parts == (
        Thinking("I will look.", PLAN),
        ToolCall("look_1", "look_up", '{"city": "Paris"}'),
        ToolCall("look_2", "look_up", "{}"),
    )
    assert answer.stop_reason is StopReason.TOOL_CALLS


def test_a_whole_answer_is_what_its_stream_is() -> None:
    """One reading of each shape."""
    message = {
        "role": "assistant",
        "tool_plan": "I will look.",
        "tool_calls": [
            {
                "id": "look_1",
                "type": "function",
                "function": {"name": "look_up", "arguments": '{"city": "Paris"}'},
            },
            {"id": "look_2", "type": "function", "function": {"name": "look_up"}},
        ],
    }
    usage = {"tokens": {"input_tokens": 65, "output_tokens": 28}, "cached_tokens": 16}
    whole = {"id": "c-1", "message": message, "finish_reason": "TOOL_CALL", "usage": usage}
    assert decode(whole) == read(built_streams()[1])


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("MAX_TOKENS", StopReason.LENGTH),
        ("STOP_SEQUENCE", StopReason.STOP_SEQUENCE),
        ("ERROR_TOXIC", StopReason.CONTENT_FILTER),
        ("TOOL_CALL", StopReason.END),
        ("SOMETHING_NEW", StopReason.OTHER),
    ],
)
def test_endings_have_their_reasons(raw: str, reason: StopReason) -> None:
    """An announced call that never comes is a plain end (F02); an output limit is told (F04)."""
    answer = read(frames(content(0, text="x"), end(raw)))
    assert (answer.stop_reason, answer.raw_finish) == (reason, raw)


def test_arguments_cut_off_by_the_limit_are_not_made_whole() -> None:
    """What is run from them is for nobody to decide here (A03)."""
    answer = read(frames(call_start(0, "a", "f"), more_arguments(0, '{"x": '), end("MAX_TOKENS")))
    assert answer.tool_calls == (ToolCall("a", "f", '{"x": '),)
    assert answer.truncated


def test_a_failure_at_the_end_of_a_stream_is_an_error() -> None:
    """The answer ends, but not well (S08)."""
    with pytest.raises(ServerError, match="the engine failed"):
        read(built_streams()[2])
    with pytest.raises(ServerError, match="failed while answering"):
        read(frames(content(0, text="x"), end("ERROR")))


def test_a_stream_without_its_end_is_incomplete_s09() -> None:
    """Not even [DONE] is an end (S09)."""
    with pytest.raises(IncompleteStream):
        read(built_streams()[3])
    with pytest.raises(IncompleteStream):
        read(frames(content(0, text="x")))


def test_a_cut_behind_the_end_loses_nothing_s10() -> None:
    """The model was done (S10)."""
    assert read(frames(content(0, text="x"), end("COMPLETE"), done=False)).text == "x"


def test_what_is_no_answer_is_a_typed_error() -> None:
    """Version 1 of the protocol, a refusal with a status, a page."""
    with pytest.raises(MalformedResponse, match="v2"):
        decode({"response_id": "x", "text": "Arr"})
    with pytest.raises(MalformedResponse, match="not JSON"):
        CohereCodec().decode(200, {}, b"<html>")
    with pytest.raises(NotFound, match="model 'x' not found"):
        CohereCodec().decode(404, {}, b'{"id": "1", "message": "model \'x\' not found"}')


def test_messages_have_their_wire_form() -> None:
    """The plan and the reasoning go back, citations do not: the request has no place for them."""
    call = ToolCall("look_1", "look_up", '{"city":"Paris"}')
    found = wire(
        Message("system", (Text("Be brief."),)),
        Message.user("hi", CachePoint()),
        Message("assistant", (Thinking("I will look.", PLAN), call)),
        Message.tool("look_1", "sunny"),
        Message("assistant", (Thinking("So.", Seal("cohere")), Text("Sunny.", (Citation("{}"),)))),
        Message("user", (Text("and"), Image(b"\x01", media_type="image/png", detail="low"))),
    )
    function = {"name": "look_up", "arguments": '{"city":"Paris"}'}
    assert found == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "tool_plan": "I will look.",
            "tool_calls": [{"id": "look_1", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "look_1", "content": "sunny"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "So."},
                {"type": "text", "text": "Sunny."},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "and"},
                {
                    "type": "image_url",
                    "image_url": {"url": "data:image/png;base64,AQ==", "detail": "low"},
                },
            ],
        },
    ]


def test_what_other_vendors_made_is_left_out() -> None:
    """Foreign reasoning, seals and opaque parts mean nothing here (R03); Cohere's own go back."""
    found = wire(
        Message.user("hi"),
        Message(
            "assistant",
            (
                Thinking("foreign", Seal("anthropic", "sig")),
                Opaque("anthropic", "server_tool_use", "{}"),
                Opaque("cohere", "new", '{"type":"new"}'),
                Text("x"),
                Image(b"1"),
            ),
        ),
        Message("assistant", (Thinking("only thought", Seal("cohere")),)),
    )
    assert found[1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "new"},
                {"type": "text", "text": "x"},
                {"type": "text", "text": "[an image]"},
            ],
        }
    ]


def test_images_of_tools_follow_in_a_message_of_their_own() -> None:
    """Results hold text only."""
    result = ToolResult("a", (Image(url="https://e.org/x.png"),))
    found = wire(
        Message.user("hi"),
        Message.assistant("", ToolCall("a", "f")),
        Message("tool", (result,)),
    )
    assert found[2]["content"] == "(in the next message)"
    assert [block["type"] for block in found[3]["content"]] == ["text", "image_url"]


def test_parameters_have_their_own_names() -> None:
    """And a choice of one tool offers that one only."""
    other = ToolSpec("other", "", {})
    request = LLMRequest(
        (Message.user("hi"),),
        "Be brief.",
        "command-a",
        tools=(TOOL, other),
        tool_choice=NamedTool("look_up"),
        max_output_tokens=9,
        temperature=0.5,
        top_p=0.9,
        seed=7,
        stop=("a",),
        thinking_tokens=100,
        extra={"documents": ["x"]},
    )
    found = body(request, stream=True)
    assert [tool["function"]["name"] for tool in found.pop("tools")] == ["look_up"]
    assert found == {
        "stream": True,
        "model": "command-a",
        "max_tokens": 9,
        "temperature": 0.5,
        "p": 0.9,
        "seed": 7,
        "stop_sequences": ["a"],
        "thinking": {"type": "enabled", "token_budget": 100},
        "tool_choice": "REQUIRED",
        "documents": ["x"],
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "hi"},
        ],
    }


def test_an_answer_is_bound_to_a_schema_and_reasoning_switched() -> None:
    """In this vendor's words."""
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    request = LLMRequest((Message.user("hi"),), output_schema=OutputSchema("x", schema))
    assert body(request)["response_format"] == {"type": "json_object", "json_schema": schema}
    for effort, kind in (("none", "disabled"), ("high", "enabled")):
        found = body(LLMRequest((Message.user("hi"),), reasoning_effort=effort))
        assert found["thinking"] == {"type": kind}
    found = body(LLMRequest((Message.user("hi"),), tools=(TOOL,), tool_choice="none"))
    assert found["tool_choice"] == "NONE"


@pytest.mark.parametrize(
    ("request_", "match"),
    [
        (LLMRequest(()), "C09"),
        (LLMRequest((Message.user("x"),), stop=("a",) * 6), "C04"),
        (LLMRequest((Message.user("x"),), temperature=float("nan")), "NaN"),
        (LLMRequest((Message.user("x"),), tools=(TOOL, TOOL)), "C02"),
        (LLMRequest((Message.user("x"),), tools=(ToolSpec("a b", "", {}),)), "C01"),
        (LLMRequest((Message.user("x"), Message.assistant("", ToolCall("a", "f")))), "C20"),
        (LLMRequest((Message.user("x"), Message.tool("a", "x"))), "C07"),
        (LLMRequest((Message("user", (ToolCall("a", "f"),)),)), "C05"),
        (LLMRequest((Message.assistant("", ToolCall("", "f")),)), "C13"),
        (LLMRequest((Message("tool", ()),)), "C06"),
        (LLMRequest((Message.assistant("", ToolCall("a", "f")), Message.tool("", "x"))), "C06"),
    ],
)
def test_what_is_illegal_names_its_rule(request_: LLMRequest, match: str) -> None:
    """Before anything is sent."""
    with pytest.raises(LocalProtocolError, match=match):
        body(request_)


@pytest.mark.parametrize(
    "request_",
    [
        LLMRequest((Message.user("x", File(b"1")),)),
        LLMRequest((Message.user("x", Image()),)),
        LLMRequest((Message.user("x"),), server_tools=({"type": "web"},)),
        LLMRequest((Message.user("x"),), tools=(TOOL,), parallel_tool_calls=False),
        LLMRequest((Message.user("x"),), extra={"messages": []}),
    ],
)
def test_what_the_protocol_cannot_say_is_refused(request_: LLMRequest) -> None:
    """By name, before anything is sent."""
    with pytest.raises(UnsupportedFeature):
        body(request_)
