"""Messages in Gemini's wire form."""

from __future__ import annotations

import base64
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
from tests.gemini_bodies import OLD, called, own, wire

SENTINEL = "skip_thought_signature_validator"
DATA, CODED = b"\xff\xfedata", base64.b64encode(b"\xff\xfedata").decode()


def said(*parts: Part) -> list[dict[str, Any]]:
    """The wire parts of an assistant message behind a user message; its calls are answered."""
    calls = [part for part in parts if isinstance(part, ToolCall)]
    results = [Message.tool(call.id, "ok") for call in calls]
    contents = wire(Message.user("hi"), Message("assistant", parts), *results)
    found: list[dict[str, Any]] = contents[1]["parts"] if len(contents) > 1 else []
    return found


def asked(*parts: Part) -> list[dict[str, Any]]:
    """The wire parts of a user message."""
    found: list[dict[str, Any]] = wire(Message("user", parts))[0]["parts"]
    return found


def test_a_conversation_has_two_roles() -> None:
    """User and model."""
    contents = wire(Message.user("hi"), Message.assistant("hello"), Message.user("bye"))
    assert contents == [
        {"role": "user", "parts": [{"text": "hi"}]},
        {"role": "model", "parts": [{"text": "hello"}]},
        {"role": "user", "parts": [{"text": "bye"}]},
    ]


def test_signatures_go_back_on_the_parts_they_came_with() -> None:
    """R05, R06: verbatim, on text, empty text, reasoning, calls and images."""
    parts = said(
        Thinking("hm", Seal("gemini", "MQ==")),
        Text("a", (Citation("{}"),), Seal("gemini", "Mg==")),
        Text("", (), Seal("gemini", "Mw==")),
        ToolCall("x", "f", '{"a":1}', Seal("gemini", "NA==", "fc_1")),
        ToolCall("y", "g"),
        Image(DATA, media_type="image/png", seal=Seal("gemini", "NQ==")),
    )
    assert parts == [
        {"text": "hm", "thought": True, "thoughtSignature": "MQ=="},
        {"text": "a", "thoughtSignature": "Mg=="},
        {"text": "", "thoughtSignature": "Mw=="},
        {
            "functionCall": {"id": "fc_1", "name": "f", "args": {"a": 1}},
            "thoughtSignature": "NA==",
        },
        {"functionCall": {"name": "g", "args": {}}},
        {"inlineData": {"mimeType": "image/png", "data": CODED}, "thoughtSignature": "NQ=="},
    ]


@pytest.mark.parametrize("seal", [None, Seal("anthropic", "foreign"), Seal("gemini", None, "id")])
def test_the_first_call_without_a_signature_of_geminis_own_gets_the_sentinel_r07(
    seal: Seal | None,
) -> None:
    """R07: history of another vendor, or of a model that gave none; later calls need none."""
    parts = said(ToolCall("x", "f", seal=seal), ToolCall("y", "g", seal=seal))
    assert [part.get("thoughtSignature") for part in parts] == [SENTINEL, None]


def test_seals_of_others_are_not_sent() -> None:
    """R03: a signature that Gemini did not make, reasoning that it did not sign, ids of others."""
    parts = said(
        Thinking("secret", Seal("anthropic", "foreign")),
        Thinking("summary"),
        Thinking("", Seal("anthropic", "blob"), redacted=True),
        Text("a", (), Seal("openai", "foreign", "msg_1")),
        Text("", (), Seal("openai", "foreign")),
        ToolCall("toolu_1", "f", seal=Seal("anthropic", "foreign", "toolu_1")),
    )
    assert parts == [
        {"text": "a"},
        {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": SENTINEL},
    ]


def test_opaque_parts_go_back_to_gemini_alone_and_sources_to_nobody() -> None:
    """Exactly as they came, in their place."""
    code = '{"executableCode":{"code":"1e400"},"thoughtSignature":"cw=="}'
    parts = said(
        Text("a"),
        Opaque("gemini", "executableCode", code),
        Opaque("gemini", "groundingMetadata", '{"webSearchQueries":["x"]}'),
        Opaque("openai", "web_search_call", "{}"),
        CachePoint(),
        Text("b"),
    )
    assert [list(part) for part in parts] == [
        ["text"],
        ["executableCode", "thoughtSignature"],
        ["text"],
    ]


def test_a_user_may_say_what_only_gemini_understands() -> None:
    """Parts of other vendors and marks for other caches are left out."""
    cut = '{"fileData":{"fileUri":"gs://b/f"},"videoMetadata":{"fps":1}}'
    parts = asked(
        Text("a"), CachePoint(), Opaque("gemini", "fileData", cut), Opaque("openai", "x", "{}")
    )
    assert [list(part) for part in parts] == [["text"], ["fileData", "videoMetadata"]]


@pytest.mark.parametrize("json", ["{", "5", "[]", ""])
def test_a_damaged_opaque_part_is_refused_and_breaks_no_body(json: str) -> None:
    """It names itself."""
    with pytest.raises(LocalProtocolError) as found:
        said(Opaque("gemini", "toolCall", json))
    assert "toolCall" in found.value.message


@pytest.mark.parametrize("parts", [(), (Text(""),), (Thinking("hm"),), (CachePoint(),)])
def test_a_message_that_comes_to_nothing_adds_nothing(parts: tuple[Part, ...]) -> None:
    """I02: neither an empty turn nor an empty text."""
    assert said(*parts) == []
    assert len(wire(Message.user("hi"), Message("user", ()))) == 1


def test_images_sounds_and_files_are_given_as_data_or_by_address() -> None:
    """The media type is told where the address tells it."""
    assert asked(
        Text("look"),
        Image(DATA, media_type="image/webp"),
        Image(DATA),
        Image(url="https://example.org/a.PNG"),
        Image(url=f"data:image/gif;base64,{CODED}"),
        Audio(DATA, "mp3"),
        Audio(DATA, "audio/x-wav"),
        Audio(DATA),
        File(DATA, media_type="application/pdf"),
        File(id="https://generativelanguage.googleapis.com/v1beta/files/x"),
        File(url="gs://bucket/film", media_type="video/mp4"),
    ) == [
        {"text": "look"},
        {"inlineData": {"mimeType": "image/webp", "data": CODED}},
        {"inlineData": {"mimeType": "image/png", "data": CODED}},
        {"fileData": {"mimeType": "image/png", "fileUri": "https://example.org/a.PNG"}},
        {"inlineData": {"mimeType": "image/gif", "data": CODED}},
        {"inlineData": {"mimeType": "audio/mpeg", "data": CODED}},
        {"inlineData": {"mimeType": "audio/x-wav", "data": CODED}},
        {"inlineData": {"mimeType": "audio/wav", "data": CODED}},
        {"inlineData": {"mimeType": "application/pdf", "data": CODED}},
        {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/x"}},
        {"fileData": {"mimeType": "video/mp4", "fileUri": "gs://bucket/film"}},
    ]


@pytest.mark.parametrize(
    "part",
    [
        Audio(id="x"),
        Image(),
        File(),
        Image(url="data:image/png,plain"),
        Image(url="data:image/png;base64,é"),
    ],
)
def test_what_has_no_form_on_the_wire_is_unsupported(part: Part) -> None:
    """It says what is missing."""
    with pytest.raises(UnsupportedFeature):
        asked(part)


def test_what_another_model_showed_or_said_is_told_in_words() -> None:
    """Gemini wants a signature on what it is said to have made itself."""
    parts = said(
        Image(DATA),
        Image(DATA, seal=Seal("openai", "x")),
        Audio(id="a", transcript="Hello."),
        File(DATA),
    )
    assert [part["text"] for part in parts] == ["[an image]", "[an image]", "Hello.", "[a file]"]


@pytest.mark.parametrize(
    ("arguments", "args"),
    [("{}", {}), ('{"a": [1]}', {"a": [1]}), ("", {}), ("{bad", {}), ("[1]", {"_": [1]})],
)
def test_arguments_on_the_wire_are_an_object_a05(arguments: str, args: object) -> None:
    """A05: however they are stored."""
    parts = said(own("x", "f", arguments))
    assert parts[0]["functionCall"]["args"] == args


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("look_up", "look_up"),
        ("look-up", "look-up"),
        ("9lives", "_9lives"),
        ("-x", "_-x"),
        ("a b", "a_b"),
        ("é", "_"),
        ("", "unnamed"),
        ("1" * 64, "_" + "1" * 63),
    ],
)
def test_a_name_that_no_function_can_have_is_mapped_on_both_sides(name: str, sent: str) -> None:
    """G01: a model can make one up, and the history must stay sendable."""
    contents = wire(Message.user("hi"), called(own("x", name)), Message.tool("x", "no such tool"))
    assert contents[1]["parts"][0]["functionCall"]["name"] == sent
    assert contents[2]["parts"][0]["functionResponse"]["name"] == sent


@pytest.mark.parametrize(
    ("result", "response"),
    [
        (ToolResult("x", (Text("sunny"),)), {"output": "sunny"}),
        (ToolResult("x", (Text('{"a": 1}'),)), {"a": 1}),
        (ToolResult("x", (Text('{"a": '), Text("1}"))), {"a": 1}),
        (ToolResult("x", (Text("[1]"),)), {"output": "[1]"}),
        (ToolResult("x", (Text("{bad"),)), {"output": "{bad"}),
        (ToolResult("x", ()), {"output": ""}),
        (ToolResult("x", (Text('{"a": 1}'),), is_error=True), {"error": '{"a": 1}'}),
    ],
)
def test_what_a_function_returned_is_an_object(result: ToolResult, response: object) -> None:
    """G08: JSON as it is, other text as its output, a failure as an error."""
    contents = wire(Message.user("hi"), called(own("x")), Message("tool", (result,)))
    assert contents[2]["parts"] == [{"functionResponse": {"name": "look_up", "response": response}}]


def test_images_of_a_result_are_in_it_where_the_model_can_read_them_there() -> None:
    """Older models get them in a turn of their own, right behind all results."""
    messages = (
        Message.user("hi"),
        called(own("x"), ToolCall("y", "other")),
        Message("tool", (ToolResult("y", (Image(DATA, media_type="image/png"), Text("done"))),)),
        Message("tool", (ToolResult("x", (File(url="gs://b/x.pdf"),)),)),
    )
    image = {"inlineData": {"mimeType": "image/png", "data": CODED}}
    file = {"fileData": {"mimeType": "application/pdf", "fileUri": "gs://b/x.pdf"}}
    first, second = wire(*messages)[2]["parts"]
    assert first["functionResponse"]["parts"] == [file]
    assert second["functionResponse"] == {
        "name": "other",
        "response": {"output": "done"},
        "parts": [image],
    }
    results, attached = wire(*messages, model=OLD)[2:]
    assert [list(part["functionResponse"]) for part in results["parts"]] == [
        ["name", "response"]
    ] * 2
    assert attached == {
        "role": "user",
        "parts": [{"text": "From look_up:"}, file, {"text": "From other:"}, image],
    }


def test_ids_that_gemini_gave_are_on_both_sides_and_others_on_none() -> None:
    """Results find their calls by place and name where there is no id."""
    given = ToolCall("fc_1", "f", seal=Seal("gemini", "c2ln", "fc_1"))
    renamed = ToolCall("other", "f", seal=Seal("gemini", None, "fc_2"))
    contents = wire(
        Message.user("hi"),
        called(given, renamed, ToolCall("call_made_up", "f")),
        Message.tool("call_made_up", "3"),
        Message.tool("other", "2"),
        Message.tool("fc_1", "1"),
    )
    calls = [part["functionCall"].get("id") for part in contents[1]["parts"]]
    answers = [part["functionResponse"] for part in contents[2]["parts"]]
    assert calls == ["fc_1", "fc_2", None]
    assert [(one.get("id"), one["response"]["output"]) for one in answers] == [
        ("fc_1", "1"),
        ("fc_2", "2"),
        (None, "3"),
    ]


@pytest.mark.parametrize(
    "message",
    [
        Message("user", (ToolCall("x", "f"),)),
        Message("user", (ToolResult("x", ()),)),
        Message("user", (Thinking("x"),)),
        Message("assistant", (ToolResult("x", ()),)),
        Message("system", (Image(b"x"),)),
        Message("tool", (Text("x"),)),
    ],
)
def test_a_part_in_a_message_that_cannot_hold_it_is_refused(message: Message) -> None:
    """G02: it names the message and the part."""
    with pytest.raises(LocalProtocolError) as found:
        wire(Message.user("hi"), message)
    assert found.value.rule == "G02"
    assert message.id in found.value.message


def test_text_that_is_no_unicode_is_refused() -> None:
    """Rule X1: no JSON could carry it."""
    for message in (Message.user("\ud800"), Message.assistant("\ud800")):
        with pytest.raises(LocalProtocolError) as found:
            wire(message)
        assert found.value.rule == "X1"
    contents = wire(Message.user("hi"), called(own("x", "f", '"\ud800"')), Message.tool("x", "ok"))
    assert contents[1]["parts"][0]["functionCall"]["args"] == {}
