"""Messages in the wire form of the Messages protocol."""

from __future__ import annotations

import base64

import msgspec
import pytest

from llm_client.errors import LocalProtocolError, UnsupportedFeature
from llm_client.types import (
    Audio,
    CachePoint,
    Citation,
    File,
    Image,
    LLMRequest,
    Message,
    Opaque,
    Part,
    Seal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from tests.anthropic_bodies import NEW, OLD, blocks, body, called, wire

PNG = base64.b64encode(b"\x89P").decode()


def test_texts_images_and_files_are_blocks_in_their_order() -> None:
    """Each in the form that the protocol has for it."""
    parts: tuple[Part, ...] = (
        Text("Look:"),
        Image(b"\x89P", media_type="image/jpeg"),
        Image(url="https://example.org/a.png"),
        Image(url=f"data:image/gif;base64,{PNG}"),
        File(b"\x89P", media_type="application/pdf", name="a.pdf"),
        File(url="https://example.org/a.pdf"),
        File(id="file_1"),
        File(id="file_2", media_type="image/*"),
        File(b"\x89P", media_type="image/png"),
        File("Zeile é".encode(), media_type="text/csv"),
    )
    pdf = {"type": "base64", "media_type": "application/pdf", "data": PNG}
    plain = {"type": "text", "media_type": "text/plain", "data": "Zeile é"}
    assert blocks(Message("user", parts)) == [
        {"type": "text", "text": "Look:"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": PNG}},
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": PNG}},
        {"type": "document", "source": pdf, "title": "a.pdf"},
        {"type": "document", "source": {"type": "url", "url": "https://example.org/a.pdf"}},
        {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "image", "source": {"type": "file", "file_id": "file_2"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        {"type": "document", "source": plain},
    ]


@pytest.mark.parametrize(
    "part", [Image(), File(), File(b"x", media_type="application/zip"), Audio(b"x")]
)
def test_what_the_protocol_has_no_form_for_is_refused(part: Part) -> None:
    """Instead of being left out without a word."""
    with pytest.raises(UnsupportedFeature):
        blocks(Message("user", (Text("a"), part)))


def test_sound_is_sent_as_its_words() -> None:
    """The protocol takes no sound; a transcript says the same."""
    heard = Message("user", (Audio(b"x", transcript="Hello"),))
    assert blocks(heard) == [{"type": "text", "text": "Hello"}]


def test_an_assistant_message_keeps_the_order_of_its_blocks() -> None:
    """Rule A16: thinking, its signature, what the provider ran itself, and citations as they
    came."""
    cited = {"type": "char_location", "cited_text": "So.", "document_index": 0}
    use: dict[str, object] = {
        "type": "server_tool_use",
        "id": "srvtoolu_1",
        "name": "web_search",
        "input": {},
    }
    found: dict[str, object] = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1"}
    parts: tuple[Part, ...] = (
        Thinking("Hm ", Seal("anthropic", "one")),
        Opaque("anthropic", "server_tool_use", msgspec.json.encode(use).decode()),
        Opaque("anthropic", "web_search_tool_result", msgspec.json.encode(found).decode()),
        Thinking("", Seal("anthropic", "two")),
        Thinking("", Seal("anthropic", "three"), redacted=True),
        Text("So.", (Citation(msgspec.json.encode(cited).decode()),)),
        ToolCall("toolu_1", "f", '{"x": 1.50}'),
    )
    message = wire(Message("assistant", parts), Message.tool("toolu_1", "ok"))[0]
    assert message == {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "Hm ", "signature": "one"},
            use,
            found,
            {"type": "thinking", "thinking": "", "signature": "two"},
            {"type": "redacted_thinking", "data": "three"},
            {"type": "text", "text": "So.", "citations": [cited]},
            {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"x": 1.5}},
        ],
    }


def test_what_others_have_sealed_is_left_out() -> None:
    """R03: a blank or foreign signature is refused, thinking that is left out is not."""
    url = Citation('{"type":"url_citation","url":"https://example.org"}')
    parts: tuple[Part, ...] = (
        Thinking("unsigned"),
        Thinking("blank", Seal("anthropic", "")),
        Thinking("foreign", Seal("gemini", "sig")),
        Thinking("", Seal("openai", "sealed"), redacted=True),
        Opaque("openai", "reasoning", "{}"),
        Text("Hello", (url, Citation("not json")), Seal("openai", id="msg_1")),
        ToolCall("a", "f", "{}", Seal("gemini", "sig")),
    )
    message = wire(Message("assistant", parts), Message.tool("a", "ok"))[0]
    assert message["content"] == [
        {"type": "text", "text": "Hello"},
        {"type": "tool_use", "id": "a", "name": "f", "input": {}},
    ]


def test_signatures_go_to_whoever_serves_the_same_models_and_to_nobody_else() -> None:
    """R03: Anthropic's platforms accept each other's, another vendor's endpoint does not."""
    said = Message("assistant", (Thinking("Hm", Seal("anthropic", "sig")), Text("x")))
    for provider in ("anthropic", "bedrock", "vertex", "azure"):
        found = body(LLMRequest((said, Message.user("y")), model=OLD), provider)
        assert [one["type"] for one in found["messages"][0]["content"]] == ["thinking", "text"]
    for provider in ("llama.cpp", "minimax"):
        assert [one["type"] for one in blocks(said, provider=provider)] == ["text"]


def test_no_turn_ends_in_thinking_and_thinking_alone_is_no_turn() -> None:
    """Rule A18: "The final block in an assistant message cannot be thinking"."""
    seal = Seal("anthropic", "sig")
    cut_off = Message("assistant", (Text("a"), Thinking("b", seal)))
    messages = wire(cut_off, Message.user("c"), Message("assistant", (Thinking("d", seal),)))
    assert [message["content"] for message in messages] == [
        [{"type": "text", "text": "a"}],
        [{"type": "text", "text": "c"}],
    ]


def test_texts_come_before_the_calls_of_their_turn() -> None:
    """Rule A14: a text behind a call is refused."""
    parts = (Text("a"), ToolCall("x", "f"), Text("b"), Image(url="u"), ToolCall("y", "f"))
    message = wire(Message("assistant", parts), Message.tool("x", ""), Message.tool("y", ""))[0]
    assert [block.get("text", block.get("id")) for block in message["content"]] == [
        "a",
        "b",
        "[an image]",
        "x",
        "y",
    ]


def test_empty_and_blank_texts_are_left_out() -> None:
    """I02: "text content blocks must contain non-whitespace text"; a message of nothing else adds
    nothing."""
    messages = wire(
        Message.user("a"),
        Message("assistant", (Text(" \n"), Text(""))),
        Message("user", (Text(""), CachePoint())),
        Message("assistant", (Text(" "), ToolCall("x", "f"))),
        Message("tool", (ToolResult("x", (Text(" "),)),)),
        Message("system", (Text("\t"),)),
    )
    assert messages == [
        {"role": "user", "content": [{"type": "text", "text": "a"}]},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "x", "name": "f", "input": {}}],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x"}]},
    ]


def test_results_of_one_turn_form_one_user_turn_in_the_order_of_the_calls() -> None:
    """Rule A23: whatever order and messages they came in; what the user adds follows."""
    picture = ToolResult("b", (Text("seen"), Image(b"\x89P"), File(b"x", media_type="text/plain")))
    messages = wire(
        called(ToolCall("a", "f"), ToolCall("b", "f"), ToolCall("c", "f")),
        Message("tool", (ToolResult("c", (Text("3"),)), picture)),
        Message.tool("a", "1", is_error=True),
        Message.user("Go on."),
    )
    assert [message["role"] for message in messages] == ["assistant", "user", "user"]
    first, second, third = messages[1]["content"]
    told = [{"type": "text", "text": "1"}]
    assert first == {"type": "tool_result", "tool_use_id": "a", "content": told, "is_error": True}
    assert [block["type"] for block in second["content"]] == ["text", "image", "document"]
    assert third["tool_use_id"] == "c"
    assert messages[2]["content"] == [{"type": "text", "text": "Go on."}]


def test_results_hold_blocks_that_only_the_provider_knows() -> None:
    """References to tools and search results; those of another vendor are left out."""
    reference = {"type": "tool_reference", "tool_name": "g"}
    own = Opaque("anthropic", "tool_reference", msgspec.json.encode(reference).decode())
    foreign = Opaque("gemini", "functionResponse", "{}")
    result = ToolResult("a", (own, Text("found"), foreign))
    _, answer = wire(called(ToolCall("a", "f")), Message("tool", (result,)))
    (block,) = answer["content"]
    assert block["content"] == [reference, {"type": "text", "text": "found"}]


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ("", {}),
        ('{"a": ', {}),
        ('{"a": NaN}', {}),
        ('{"a": ' + "1" * 5000 + "}", {}),
        ("[" * 100_000, {}),
        ("[1, 2]", {"_": [1, 2]}),
        ("null", {"_": None}),
    ],
)
def test_arguments_always_go_out_as_an_object(arguments: str, sent: dict[str, object]) -> None:
    """A05, A07: what the model wrote stays in history; anything else is a 400 for every later
    turn."""
    message = called(ToolCall("a", "f", arguments))
    assert wire(message, Message.tool("a", ""))[0]["content"][0]["input"] == sent


def test_ids_and_names_of_other_vendors_are_mapped_on_both_sides() -> None:
    """Rule A13: the same id always becomes the same, so that call and result stay together."""
    odd, other = "functions.look_up:0", "functions.look_up:1"
    call, answer = wire(
        called(ToolCall(odd, "fs.read file!"), ToolCall(other, "x" * 80)),
        Message.tool(other, ""),
        Message.tool(odd, ""),
    )
    ids = [block["id"] for block in call["content"]]
    assert [block["tool_use_id"] for block in answer["content"]] == ids
    assert len(set(ids)) == 2
    assert all(id.replace("_", "").isalnum() for id in ids)
    assert [block["name"] for block in call["content"]] == ["fs_read_file_", "x" * 64]
    kept = wire(called(ToolCall("call_abc-1", "f")), Message.tool("call_abc-1", ""))
    assert kept[1]["content"][0]["tool_use_id"] == "call_abc-1"


def test_a_call_by_the_providers_code_says_whose_it_was() -> None:
    """As it came; the seal of another vendor says nothing."""
    seal = Seal("anthropic", id="srvtoolu_1", kind="code_execution_20250825")
    call = wire(called(ToolCall("a", "f", "{}", seal)), Message.tool("a", ""))[0]["content"][0]
    assert call["caller"] == {"type": "code_execution_20250825", "tool_id": "srvtoolu_1"}


def test_leading_system_messages_become_the_system_prompt() -> None:
    """Rule A07: after the request's own, in their order."""
    request = LLMRequest(
        (Message("system", (Text("One."),)), Message("system", (Text("Two."),)), Message.user("a")),
        "Zero.",
        model=OLD,
    )
    found = body(request)
    assert [block["text"] for block in found["system"]] == ["Zero.", "One.", "Two."]
    assert [message["role"] for message in found["messages"]] == ["user"]
    assert "system" not in body(LLMRequest((Message.user("a"),), " ", model=OLD))


def test_later_system_messages_are_turns_where_the_model_knows_such() -> None:
    """Rule A07: after a user turn, at the end or before an assistant turn; several are one."""
    note = Message("system", (Text("Be brief."),))
    messages = wire(Message.user("a"), note, note, model=NEW)
    assert [message["role"] for message in messages] == ["user", "system"]
    assert [block["text"] for block in messages[1]["content"]] == ["Be brief."] * 2
    went_on = wire(
        Message.user("a"), note, note, Message.assistant("b"), Message.user("c"), model=NEW
    )
    assert went_on[:2] == messages
    assert [message["role"] for message in went_on[2:]] == ["assistant", "user"]


@pytest.mark.parametrize(
    ("history", "model"),
    [
        ((Message.user("a"), Message.assistant("b")), NEW),
        ((Message.user("a"),), OLD),
        ((Message.user("a"), Message.assistant("b"), Message.user("c")), "unheard-of"),
    ],
)
def test_later_system_messages_are_said_in_a_user_turn_elsewhere(
    history: tuple[Message, ...], model: str
) -> None:
    """Rule A07: in their place, so that what came before stays as it was."""
    note = Message("system", (Text("Be brief."),))
    said = {"type": "text", "text": "<system>\nBe brief.\n</system>"}
    messages = wire(*history, note, Message.user("z"), model=model)
    assert messages[len(history)] == {"role": "user", "content": [said]}
    assert messages[-1]["content"] == [{"type": "text", "text": "z"}]
    assert messages[:-1] == wire(*history, note, model=model)


def test_tools_that_are_added_in_a_system_turn_go_there_only() -> None:
    """The provider's own blocks; older models cannot be told in words."""
    block = {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "f"}}
    note = Message(
        "system", (Opaque("anthropic", "tool_addition", msgspec.json.encode(block).decode()),)
    )
    assert wire(Message.user("a"), note, model=NEW)[1] == {"role": "system", "content": [block]}
    assert len(wire(Message.user("a"), note, model=OLD)) == 1
    with pytest.raises(LocalProtocolError, match="A06"):
        wire(note, Message.user("a"), model=NEW)


def test_a_prefill_has_no_blanks_at_its_end() -> None:
    """Rule A11: the model goes on from there; texts further up stay as they are."""
    spaced = (Message.assistant("x \n"), Message.user("b"), Message.assistant("{ \n"))
    messages = wire(Message.user("a"), *spaced, Message("assistant", ()))
    assert [message["content"][0]["text"] for message in messages] == ["a", "x \n", "b", "{"]


def test_an_opaque_part_that_is_damaged_is_named() -> None:
    """Instead of a body that no server can read."""
    broken = Message("assistant", (Opaque("anthropic", "compaction", "{["), Text("a")))
    with pytest.raises(LocalProtocolError, match="compaction"):
        wire(broken, Message.user("b"))


def test_text_that_is_no_unicode_is_refused() -> None:
    """No JSON text can carry it."""
    with pytest.raises(LocalProtocolError, match="X1"):
        wire(Message.user("a\ud83d"))


def test_blocks_of_the_provider_in_a_user_message_are_sent_as_they_are() -> None:
    """An upload to its container, for one."""
    block = {"type": "container_upload", "file_id": "file_1"}
    upload = Opaque("anthropic", "container_upload", msgspec.json.encode(block).decode())
    assert blocks(Message.user("Sum it up.", upload))[1] == block


def test_a_turn_goes_on_in_the_container_in_which_its_code_has_run() -> None:
    """While its calls are answered or it was paused; a later turn may find it expired."""
    container = Opaque("anthropic", "container", '{"id":"container_1","expires_at":"2026"}')
    seal = Seal("anthropic", id="srvtoolu_1", kind="code_execution_20250825")
    asked = Message("assistant", (ToolCall("a", "f", "{}", seal), container))
    paused = Message("assistant", (Opaque("anthropic", "odd", '{"type":"odd"}'), container))
    answered = (asked, Message.tool("a", "1"))
    for history in (answered, (paused,), (*answered, paused)):
        found = body(LLMRequest((Message.user("u"), *history), model=OLD))
        assert found["container"] == "container_1"
        assert "container_1" not in str(found["messages"])
    for history in ((*answered, Message.user("v")), (*answered, Message.assistant("done"))):
        assert "container" not in body(LLMRequest((Message.user("u"), *history), model=OLD))
    chosen = LLMRequest(answered, model=OLD, extra={"container": "another"})
    assert body(chosen)["container"] == "another"
    foreign = Message("assistant", (*asked.parts[:1], Opaque("other", "container", '{"id":"x"}')))
    assert "container" not in body(LLMRequest((foreign, answered[1]), model=OLD))
