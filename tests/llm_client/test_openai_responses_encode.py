"""Messages in the wire form of Responses."""

from __future__ import annotations

from typing import Any

import pytest

from llm_client.errors import LocalProtocolError, UnsupportedFeature
from llm_client.types import (
    Audio,
    CachePoint,
    Citation,
    File,
    Image,
    Message,
    Opaque,
    Part,
    Seal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from tests.responses_bodies import opaque, sealed, wire

ASKED = Message.user("go")
RESULT = Message.tool("c1", "done")
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "done"}


def said(*parts: Part) -> Message:
    """What the model said."""
    return Message("assistant", parts)


def items(*parts: Part, store: bool = False, provider: str = "openai") -> list[dict[str, Any]]:
    """The items that the model's `parts` become, between a question and another."""
    return wire(ASKED, said(*parts), Message.user("on"), store=store, provider=provider)[1:-1]


def call(id: str = "c1", seal: Seal | None = None, arguments: str = "{}") -> ToolCall:
    """A call."""
    return ToolCall(id, "f", arguments, seal)


def with_result(*parts: Part, store: bool = False) -> list[dict[str, Any]]:
    """The items that `parts`, which call c1, become; its result follows."""
    found = wire(ASKED, said(*parts), RESULT, store=store)
    assert found[-1]["call_id"] == "c1"
    return found[1:-1]


def plain(text: str, **fields: Any) -> dict[str, Any]:
    """A message of the model."""
    content = [{"type": "output_text", "text": text}]
    return {"type": "message", "role": "assistant", **fields, "content": content}


def test_what_the_model_is_told() -> None:
    """Plain text as such, anything else in blocks; cache points mean nothing here."""
    blocks = (
        Text("Look:"),
        Text(""),
        Image(b"hi", media_type="image/jpeg", detail="low"),
        Image(url="https://example.org/a.png"),
        CachePoint(),
        File(b"hi", name="a.pdf", media_type="application/pdf"),
        File(url="https://example.org/a.pdf", name="a.pdf"),
        File(id="file-1"),
        Image(seal=sealed("file-2")),
    )
    assert wire(
        Message("system", (Text("Be "), CachePoint(), Text("brief."))), Message("user", blocks)
    ) == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Look:"},
                {
                    "type": "input_image",
                    "image_url": "data:image/jpeg;base64,aGk=",
                    "detail": "low",
                },
                {"type": "input_image", "image_url": "https://example.org/a.png"},
                {
                    "type": "input_file",
                    "filename": "a.pdf",
                    "file_data": "data:application/pdf;base64,aGk=",
                },
                {"type": "input_file", "file_url": "https://example.org/a.pdf"},
                {"type": "input_file", "file_id": "file-1"},
                {"type": "input_image", "file_id": "file-2"},
            ],
        },
    ]


def test_a_message_of_nothing_adds_nothing() -> None:
    """I02: no empty text is sent, whoever says it."""
    empty = Message.user(" \n"), said(Text("")), said(Text(" ")), Message("user", (CachePoint(),))
    assert wire(ASKED, *empty) == [{"role": "user", "content": "go"}]


@pytest.mark.parametrize(
    "part", [Image(), File(), Audio(b"x", "wav"), Image(seal=Seal("x", id="i"))]
)
def test_what_cannot_be_said_is_refused(part: Part) -> None:
    """With what to do instead."""
    with pytest.raises(UnsupportedFeature):
        wire(Message("user", (part,)))


@pytest.mark.parametrize(
    "message",
    [
        Message("system", (Image(b"x"),)),
        Message("user", (call(),)),
        Message("user", (Thinking("x"),)),
        Message("assistant", (ToolResult("a", ()),)),
        Message("tool", (Text("x"),)),
    ],
)
def test_a_part_in_the_wrong_place_is_refused(message: Message) -> None:
    """The message and the part are named."""
    with pytest.raises(LocalProtocolError, match="cannot hold a"):
        wire(message)


def test_results_hold_what_a_tool_returned() -> None:
    """Text as such; pictures and files as they are."""
    content = (Text("A map:"), Image(b"hi"), Text(""), File(id="file-1"))
    results = ToolResult("a", content), ToolResult("b", (Text("x"), Text("y"))), ToolResult("c", ())
    found = wire(ASKED, said(call("a"), call("b"), call("c")), Message("tool", results))
    assert [one["output"] for one in found[-3:]] == [
        [
            {"type": "input_text", "text": "A map:"},
            {"type": "input_image", "image_url": "data:image/png;base64,aGk="},
            {"type": "input_file", "file_id": "file-1"},
        ],
        "xy",
        "",
    ]


# ── without storing ───────────────────────────────────────────────────────────────────────────────


def test_reasoning_goes_back_encrypted_and_without_ids() -> None:
    """R08, R10: right before what it led to, in the order in which it came."""
    found = with_result(
        Thinking("Hm.", sealed("rs_1", "x")),
        Text("I look.", seal=sealed("msg_1", kind="commentary")),
        Thinking("", sealed("rs_2", "y")),
        call(seal=sealed("fc_1"), arguments='{"a":1}'),
    )
    assert found == [
        {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "Hm."}],
            "encrypted_content": "x",
        },
        plain("I look.", phase="commentary"),
        {"type": "reasoning", "summary": [], "encrypted_content": "y"},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":1}'},
    ]


def test_items_that_are_known_by_id_keep_the_ids_of_all() -> None:
    """The vendor checks that a search has its reasoning."""
    search = opaque("web_search_call", id="ws_1", action={"query": "q"})
    found = items(
        Thinking("", sealed("rs_1", "x")), search, Text("It rains.", seal=sealed("msg_1"))
    )
    assert found == [
        {"type": "reasoning", "summary": [], "id": "rs_1", "encrypted_content": "x"},
        {"type": "web_search_call", "id": "ws_1", "action": {"query": "q"}},
        plain("It rains.", id="msg_1", status="completed"),
    ]


def test_reasoning_that_cannot_go_back_takes_its_items_along() -> None:
    """R08: pairs are kept or both dropped; what can go without ids does."""
    search = opaque("web_search_call", id="ws_1")
    shortened = opaque("compaction", id="cmp_1", encrypted_content="z")
    found = with_result(
        Thinking("", sealed("rs_1")),
        search,
        Text("a", seal=sealed("msg_1")),
        shortened,
        Thinking("", sealed("rs_2", "x")),
        search,
        call(seal=sealed("fc_1")),
    )
    assert [(one["type"], one.get("id")) for one in found] == [
        ("message", None),
        ("compaction", "cmp_1"),
        ("reasoning", "rs_2"),
        ("web_search_call", "ws_1"),
        ("function_call", "fc_1"),
    ]


def test_reasoning_at_the_end_of_a_turn_is_left_out() -> None:
    """R08: it may not stand before a user, a result or the end."""
    thought = Thinking("", sealed("rs_1", "x"))
    assert items(Text("a"), thought) == [plain("a")]
    assert items(thought) == []
    assert wire(ASKED, said(call(), thought), RESULT)[1:] == [
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        OUTPUT,
    ]
    assert wire(ASKED, said(Text("a"), thought))[1:] == [plain("a")]


def test_reasoning_at_the_end_of_a_message_waits_for_the_rest_of_the_turn() -> None:
    """R08: a turn may be kept as several messages."""
    thought = Thinking("", sealed("rs_1", "x"))
    item: dict[str, Any] = {"type": "reasoning", "summary": [], "encrypted_content": "x"}
    assert wire(ASKED, said(thought), said(thought), Message.user(""), said(Text("a")))[1:] == [
        item,
        item,
        plain("a"),
    ]


def test_reasoning_of_others_is_left_out() -> None:
    """R03: unsealed, of another vendor, of the same model elsewhere."""
    azure = Seal("azure.responses", "x", "rs_1")
    for seal in (None, azure, Seal("anthropic", "x")):
        assert items(Thinking("Hm.", seal), Text("a", seal=azure)) == [plain("a")]
    assert items(Thinking("", azure), Text("a"), provider="azure")[0]["encrypted_content"] == "x"


def test_reasoning_of_open_weight_models_goes_back_as_text() -> None:
    """Together with its summary, as one item, under its id."""
    raw = sealed("rs_1", kind="reasoning_text")
    assert items(Thinking("Hm.", raw), Thinking("Thought.", sealed("rs_1")), Text("a"))[0] == {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "Thought."}],
        "id": "rs_1",
        "content": [{"type": "reasoning_text", "text": "Hm."}],
    }


# ── with storing ──────────────────────────────────────────────────────────────────────────────────


def test_a_vendor_that_stores_gets_ids() -> None:
    """Reasoning by its id alone."""
    found = with_result(
        Thinking("", sealed("rs_1")),
        Text("a", seal=sealed("msg_1")),
        Text("b", seal=sealed("msg_1")),
        call(seal=sealed("fc_1")),
        store=True,
    )
    assert found == [
        {"type": "reasoning", "summary": [], "id": "rs_1"},
        {
            "type": "message",
            "role": "assistant",
            "id": "msg_1",
            "status": "completed",
            "content": [
                {"type": "output_text", "text": "a"},
                {"type": "output_text", "text": "b"},
            ],
        },
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}", "id": "fc_1"},
    ]
    assert items(Thinking("", sealed()), Text("a"), store=True) == [plain("a")]


# ── calls and everything else ─────────────────────────────────────────────────────────────────────


def test_sources_go_back_with_their_text() -> None:
    """To whoever named them; damaged ones are left out."""
    sources = Citation('{"type":"url_citation","url":"u"}'), Citation("no json"), Citation("[]")
    (found,) = items(Text("a", sources, sealed("msg_1")))
    assert found["content"][0]["annotations"] == [{"type": "url_citation", "url": "u"}]
    assert items(Text("a", sources, Seal("gemini"))) == [plain("a")]


def test_arguments_are_an_object_whatever_the_model_wrote() -> None:
    """A05: one broken call must not make the history unsendable."""
    written = {'{"a":1}': '{"a":1}', "": "{}", '{"a": tru': "{}", "[1]": '{"_":[1]}'}
    for arguments, expected in written.items():
        assert with_result(call(arguments=arguments))[0]["arguments"] == expected


def test_ids_and_names_of_others_are_mapped_on_both_sides() -> None:
    """The call and its result still belong together."""
    long = "x" * 65
    made = Message.assistant("", ToolCall(long, "a tool!"))
    _, first, second = wire(ASKED, made, Message.tool(long, ""))
    assert first["call_id"] == second["call_id"]
    assert len(first["call_id"]) <= 64
    assert first["name"] == "a_tool_"


def test_a_call_of_a_custom_tool_is_sent_back_as_one() -> None:
    """And so is its result; under a foreign seal it is a call like any other."""
    kind = "custom_tool_call"
    made = call(seal=sealed("ctc_1", kind=kind), arguments='{"input":"SELECT 1"}')
    assert wire(ASKED, said(made), RESULT)[1:] == [
        {"type": kind, "call_id": "c1", "name": "f", "input": "SELECT 1"},
        {"type": "custom_tool_call_output", "call_id": "c1", "output": "done"},
    ]
    broken = call(seal=sealed(kind=kind), arguments='{"input":"SELE')
    assert with_result(broken)[0]["input"] == '{"input":"SELE'
    foreign = call(seal=Seal("x", kind=kind), arguments='{"input":"SELECT 1"}')
    assert wire(ASKED, said(foreign), RESULT)[2] == OUTPUT


def test_the_namespace_of_a_tool_goes_back() -> None:
    """Without it the vendor does not know the tool."""
    found = with_result(call(seal=sealed("fc_1", kind="namespace:crm")))
    assert found[0]["namespace"] == "crm"


def test_opaque_items_go_back_to_where_they_came_from_only() -> None:
    """Unchanged, wherever they stand."""
    ours, theirs = (
        opaque("mcp_call", name="f", output="x"),
        opaque("mcp_call", origin="xai.responses"),
    )
    assert items(ours, theirs, Text("a")) == [
        {"type": "mcp_call", "name": "f", "output": "x"},
        plain("a"),
    ]
    tools = opaque("additional_tools", role="developer", tools=[])
    assert wire(Message("user", (Text("a"), tools, theirs, Text("b")))) == [
        {"role": "user", "content": "a"},
        {"type": "additional_tools", "role": "developer", "tools": []},
        {"role": "user", "content": "b"},
    ]
    for json in ("no json", "[1]"):
        with pytest.raises(LocalProtocolError, match="drop it"):
            items(Opaque("openai.responses", "mcp_call", json))


def test_a_call_that_is_not_modelled_may_be_answered() -> None:
    """As a search among tools, which the caller may make itself."""
    search = opaque("tool_search_call", call_id="c1", execution="client")
    assert wire(ASKED, said(search), RESULT)[-1] == OUTPUT
    assert len(wire(ASKED, said(search), Message.user("on"))) == 3


def test_a_picture_goes_back_once() -> None:
    """As the vendor's own item, without what says how it was made; one of another vendor's is told
    in words."""
    made = opaque("image_generation_call", id="ig_1", result="aGk=", size="auto", action="edit")
    picture = Image(b"hi", seal=sealed("ig_1", kind="image_generation_call"))
    assert items(made, picture, Text("a")) == [
        {"type": "image_generation_call", "id": "ig_1", "result": "aGk="},
        plain("a"),
    ]
    assert items(Image(b"hi"), Text(" and "), Audio(transcript="a word"), File(id="f")) == [
        plain_of("[an image]", " and ", "a word", "[a file]")
    ]


def plain_of(*texts: str) -> dict[str, Any]:
    """A message of the model in several blocks."""
    content = [{"type": "output_text", "text": text} for text in texts]
    return {"type": "message", "role": "assistant", "content": content}
